//! Scenarios that come with the program.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::read;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What to write behind `run`.
    pub name: &'static str,
    /// The TOML text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        [$(Shipped { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) }),+]
    };
}

/// All of them, the shortest first.
pub const SHIPPED: [Shipped; 9] =
    shipped!["smoke", "cancel-storm", "chat-1k", "fan-out", "slow-readers", "reconnect-storm", "idle-10k", "idle-100k", "soak"];

/// The scenarios that ship, and what they are for.
#[derive(Args, Clone, Debug)]
pub struct ScenariosArgs {
    /// Prints the TOML text of this one, to begin one of your own with.
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
    /// Reads this file and says what is wrong with it, without running it.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// Prints what was asked for; false where a scenario has mistakes.
///
/// # Errors
/// There is no such scenario or file.
#[allow(clippy::print_stdout, reason = "the list is the program's output")]
pub fn list(args: &ScenariosArgs) -> anyhow::Result<bool> {
    if let Some(name) = &args.show {
        let shipped = SHIPPED.iter().find(|shipped| shipped.name == name);
        let names = SHIPPED.map(|shipped| shipped.name).join(", ");
        print!("{}", shipped.with_context(|| format!("{name:?} is none of {names}"))?.text);
        return Ok(true);
    }
    if let Some(file) = &args.check {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        return Ok(match read(&text) {
            Ok(scenario) => {
                println!("{}: good; {} sockets, {} sessions", file.display(), scenario.sockets(), scenario.sessions());
                true
            }
            Err(mistakes) => {
                println!("{}: {mistakes}", file.display());
                false
            }
        });
    }
    for shipped in &SHIPPED {
        println!("{:<18}{}", shipped.name, read(shipped.text)?.about);
    }
    Ok(true)
}
