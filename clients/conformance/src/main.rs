//! The conformance kit as a program.
#![allow(clippy::print_stdout, reason = "verdicts are the program's output")]

use std::process::ExitCode;

use agent_hub_conformance::{
    client,
    driver::DriverCommand,
    network::{self, NetworkArgs},
    rust_driver,
    server::{self, ServerArgs},
    suite::Selection,
    verdict::{Outcome, Verdict},
};
use clap::{Args, Parser, Subcommand};
use tokio::{
    io::BufReader,
    signal::unix::{SignalKind, signal},
};

/// Tests clients and servers of the protocol agent-hub.v1.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Writes one JSON document instead of lines for people.
    #[arg(long, global = true)]
    json: bool,
    /// Shows what failed or was skipped, and the sum.
    #[arg(long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Plays a faulty server against a client.
    Client(ClientArgs),
    /// Plays a client against a server.
    Server(ServerArgs),
    /// Lets a client work with a real hub through a network that breaks.
    Network(NetworkArgs),
    /// The driver of the Rust client, on standard input and output.
    #[command(hide = true)]
    RustDriver,
}

#[derive(Args, Debug)]
struct ClientArgs {
    /// The command that starts the client's driver, see DRIVER.md.
    #[arg(long, value_name = "COMMAND")]
    driver: String,
    #[command(flatten)]
    selection: Selection,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if matches!(arguments.part, Part::RustDriver) {
        rust_driver::run(BufReader::new(tokio::io::stdin()), tokio::io::stdout()).await?;
        // A runtime waits for the thread that reads standard input, and that one for a line.
        std::process::exit(0);
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // What was started, a hub and drivers, is ended where it is dropped, so a signal must not end the process before that.
    tokio::select! {
        kept = test(arguments) => Ok(if kept? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        _ = terminate.recv() => Ok(ExitCode::from(128 + 15)),
        _ = interrupt.recv() => Ok(ExitCode::from(128 + 2)),
    }
}

/// Whether everything held.
async fn test(Arguments { json, quiet, part }: Arguments) -> anyhow::Result<bool> {
    // Whoever reads while it runs sees each verdict at once; a program reads the document at the end.
    let show = |verdict: &Verdict| {
        let hidden = quiet && verdict.outcome == Outcome::Passed;
        if !json && !hidden {
            println!("{verdict}");
        }
    };
    match part {
        Part::Client(args) => {
            let verdicts = client::run(&DriverCommand::Program(args.driver), &args.selection, show).await?;
            sum_up(&verdicts, json)
        }
        Part::Server(args) => {
            let verdicts = server::run(&args, show).await?;
            sum_up(&verdicts, json)
        }
        Part::Network(args) => {
            let report = network::run(&args).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{report}");
            }
            Ok(report.kept())
        }
        // Has its own way out, above.
        Part::RustDriver => Ok(true),
    }
}

fn sum_up(verdicts: &[Verdict], json: bool) -> anyhow::Result<bool> {
    let failed = verdicts.iter().filter(|verdict| !verdict.kept()).count();
    if json {
        println!("{}", serde_json::to_string_pretty(verdicts)?);
    } else {
        println!("{} scripts, {failed} failed", verdicts.len());
    }
    Ok(failed == 0)
}
