//! Scripts of a client, played against a server.

mod check;
mod play;
mod script;
mod socket;

use std::time::Duration;

use agent_hub_client::Target;
use anyhow::Context;

pub use self::script::Script;
use crate::{
    pattern::Names,
    suite::{self, Selection, Side},
    verdict::{Outcome, Verdict},
};

/// Which server, as whom, and what its model is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The server: ws://host:port or wss://host:port. Scripts connect to /ws/agents there.
    #[arg(long)]
    pub url: String,
    /// A token of a user with generous quotas: the scripts make about fifty sessions.
    #[arg(long, env = "AGENT_HUB_TOKEN", hide_env_values = true)]
    pub token: String,
    /// A token of another user. Without it scripts about other people's objects are skipped.
    #[arg(long, env = "AGENT_HUB_OTHER_TOKEN", hide_env_values = true)]
    pub other_token: Option<String>,
    /// A prompt that lets the model stream for about two seconds, or longer.
    #[arg(long, default_value = "/pace 20 /tokens 150")]
    pub prompt_long: String,
    /// A prompt with a short answer.
    #[arg(long, default_value = "/pace 1 /tokens 12")]
    pub prompt_short: String,
    /// Which scripts, and how they are played.
    #[command(flatten)]
    pub selection: Selection,
}

/// Plays the selected scripts against the server. Each verdict is shown as soon as it is there.
///
/// # Errors
/// A script cannot be read, or the URL is none.
pub async fn run(args: &ServerArgs, show: impl FnMut(&Verdict)) -> anyhow::Result<Vec<Verdict>> {
    let target: Target = args.url.parse().context("the server's URL")?;
    let scripts = suite::read::<Script>(Side::Server, &args.selection)?;
    let patience = Duration::from_secs(args.selection.patience);
    let mut names = Names::default();
    names.set("token", args.token.as_str());
    names.set("long", args.prompt_long.as_str());
    names.set("short", args.prompt_short.as_str());
    if let Some(token) = &args.other_token {
        names.set("other_token", token.as_str());
    }
    let (target, names) = (&target, &names);
    let play = |script: Script, transcript| async move {
        if let Some(missing) = script.needs.iter().find(|name| names.get(name).is_none()) {
            return Outcome::Skipped { reason: format!("it needs --{}", missing.replace('_', "-")) };
        }
        match play::play(target, names.clone(), script, patience, transcript).await {
            Ok(()) => Outcome::Passed,
            Err(failure) => Outcome::Failed(failure),
        }
    };
    Ok(suite::play(scripts, args.selection.jobs, play, show).await)
}
