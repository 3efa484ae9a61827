//! Load, soak and benchmark programs for agent-hub.

use std::process::ExitCode;

use agent_hub_load::{
    bare::{self, BareArgs},
    bench::{self, BenchArgs},
    soak::{self, SoakArgs},
};
use clap::{Parser, Subcommand};
use tokio::task::LocalSet;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    /// The server that only sends, to compare with.
    Bare(BareArgs),
    /// Figures against the goals; fails if a floor is not reached.
    Bench(BenchArgs),
    /// Promises under load; fails if one is broken.
    Soak(SoakArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    let kept = match Arguments::parse().program {
        // As many threads as cores it may use, like the hub.
        Program::Bare(args) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bare::run(args)).map(|()| true)?
        }
        Program::Bench(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(LocalSet::new().run_until(bench::run(args)))?
        }
        Program::Soak(args) => tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(soak::run(args))?,
    };
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
