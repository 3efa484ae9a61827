//! `agent-hub-load vendor` as a small program of its own: `cargo run -p agent-hub-load --release --bin fake-vendor -- --port 4010`.

use agent_hub_load::vendor::{self, VendorArgs};
use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    vendor: VendorArgs,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    vendor::run(Arguments::parse().vendor).await
}
