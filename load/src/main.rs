//! Load, soak and benchmark programs for agent-hub.

use std::process::ExitCode;

use agent_hub_load::{
    bare::{self, BareArgs},
    bench::{
        self, BenchArgs,
        scale::{self, ScaleArgs},
    },
    peers::{self, PeersArgs},
    results::{self, CompareArgs},
    run::{self, RunArgs},
    scenario::{self, ScenariosArgs},
    soak::{self, SoakArgs},
    vendor::{self, VendorArgs},
};
use clap::{Parser, Subcommand};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    /// A scenario against a hub; fails if a threshold is not kept.
    Run(RunArgs),
    /// The scenarios that ship.
    Scenarios(ScenariosArgs),
    /// Two results of `run --json`, side by side; fails if something got worse by more than the margin.
    Compare(CompareArgs),
    /// A scripted model vendor, to feed hubs and other servers the same stream.
    Vendor(VendorArgs),
    /// The same hub at more and more sessions: does a token stay as cheap?
    Scale(ScaleArgs),
    /// The hub beside servers people would otherwise write.
    Peers(PeersArgs),
    /// The server that only sends, to compare with.
    Bare(BareArgs),
    /// Figures against the goals; fails if a floor is not reached.
    Bench(BenchArgs),
    /// Promises under load; fails if one is broken.
    Soak(SoakArgs),
    /// A load process of `run`.
    #[command(hide = true)]
    Worker,
}

fn main() -> anyhow::Result<ExitCode> {
    let many = || Builder::new_multi_thread().enable_all().build();
    let one = || Builder::new_current_thread().enable_all().build();
    let kept = match Arguments::parse().program {
        Program::Run(args) => one()?.block_on(unless_ended(run::run(args)))?,
        Program::Scenarios(args) => scenario::list(&args)?,
        Program::Compare(args) => results::run_compare(&args)?,
        Program::Vendor(args) => many()?.block_on(unless_ended(vendor::run(args))).map(|()| true)?,
        Program::Peers(args) => one()?.block_on(LocalSet::new().run_until(unless_ended(peers::run(args))))?,
        Program::Scale(args) => one()?.block_on(LocalSet::new().run_until(unless_ended(scale::run(args)))).map(|()| true)?,
        // As many threads as cores it may use, like the hub.
        Program::Bare(args) => many()?.block_on(bare::run(args)).map(|()| true)?,
        Program::Bench(args) => one()?.block_on(LocalSet::new().run_until(unless_ended(bench::run(args))))?,
        Program::Soak(args) => many()?.block_on(unless_ended(soak::run(args)))?,
        Program::Worker => run::worker::as_process().map(|()| true)?,
    };
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Until its end, or until this program is to end: what it started then ends with it, because dropping it kills it.
async fn unless_ended<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut told = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = told.recv() => anyhow::bail!("ended from outside (SIGTERM)"),
    }
}
