//! A fake model vendor as a process of its own, for benchmarks: `cargo run -p agent-hub-load --release --bin fake-vendor -- --port 4010`.
//!
//! Point `OPENAI_BASE_URL` or `ANTHROPIC_BASE_URL` at it. Prompts steer it with `/pace`, `/tokens`, `/stamp` and more; see
//! `agent_hub_load::vendor::Script::directed_by`.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use agent_hub_load::vendor::{FakeVendor, FakeVendorConfig, Script};
use clap::Parser;

/// A scripted model vendor: OpenAI's and Anthropic's wire formats, no model.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The only key accepted; any if absent.
    #[arg(long)]
    key: Option<String>,
    /// Milliseconds per token when a prompt does not say.
    #[arg(long, default_value_t = 20.0)]
    pace: f64,
    /// Tokens per answer when a prompt does not say.
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    /// Tokens tell the time they were made.
    #[arg(long)]
    stamp: bool,
    /// Prints the totals every so many seconds; 0: only at the end.
    #[arg(long, default_value_t = 0)]
    report: u64,
    /// How many calls to remember. Nobody looks at them here, and bodies take memory.
    #[arg(long, default_value_t = 0)]
    remember: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let pace = Duration::try_from_secs_f64(args.pace / 1000.0)?;
    let script = Script { pace, tokens: args.tokens, stamp: args.stamp, ..Script::default() };
    let vendor = FakeVendor::start(FakeVendorConfig {
        bind: SocketAddr::new(args.host, args.port),
        api_key: args.key,
        script,
        remembered_calls: args.remember,
        ..FakeVendorConfig::default()
    })
    .await?;
    // The first line is for whoever started it and wants to know the port.
    writeln!(std::io::stdout(), "{}", vendor.base_url())?;
    std::io::stdout().flush()?;
    let mut report = tokio::time::interval(Duration::from_secs(args.report.max(1)));
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                break;
            }
            _ = report.tick(), if args.report > 0 => writeln!(std::io::stderr(), "{:?}", vendor.counters())?,
        }
    }
    writeln!(std::io::stderr(), "{:?}", vendor.counters())?;
    Ok(())
}
