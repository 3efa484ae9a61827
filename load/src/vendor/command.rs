//! The fake vendor as a process of its own: `agent-hub-load vendor`, and the program `fake-vendor`.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context;
use clap::Args;

use super::{FakeVendor, FakeVendorConfig, Fault, FaultChance, Script};

/// A scripted model vendor: OpenAI's and Anthropic's wire formats, no model.
///
/// Point `OPENAI_BASE_URL` or `ANTHROPIC_BASE_URL` at the URL it prints. Prompts steer it with `/pace`, `/tokens`, `/stamp` and more.
#[derive(Args, Clone, Debug)]
pub struct VendorArgs {
    /// Where to listen.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The only key accepted; any if absent.
    #[arg(long)]
    key: Option<String>,
    /// Milliseconds per token when a prompt does not say; 0: as fast as the socket takes them.
    #[arg(long, default_value_t = 20.0)]
    pace: f64,
    /// Tokens come late by up to this share of the pace, at random: 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    jitter: f64,
    /// Tokens per answer when a prompt does not say.
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    /// Tokens tell the time they were made.
    #[arg(long)]
    stamp: bool,
    /// A fault of some answers: name, then tokens before it, then the share of the answers, as in `cut:10:0.05`. May be given several
    /// times. Names: endless-error, hang-headers, cut-headers, web-page, hang, cut, cut-token, cut-char, end-early, broken-json,
    /// garbage-line, not-utf8, error-event, long-line, drip, comments, unavailable, rate-limited.
    #[arg(long, value_parser = fault_chance, verbatim_doc_comment)]
    fault: Vec<FaultChance>,
    /// Prints the totals every so many seconds; 0: only at the end.
    #[arg(long, default_value_t = 0)]
    report: u64,
    /// How many calls to remember. Nobody looks at them here, and bodies take memory.
    #[arg(long, default_value_t = 0)]
    remember: usize,
}

impl VendorArgs {
    /// From a command line without the program's name.
    ///
    /// # Errors
    /// It is none.
    pub fn parsed(arguments: &[String]) -> anyhow::Result<Self> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            vendor: VendorArgs,
        }
        let line = std::iter::once("vendor").chain(arguments.iter().map(String::as_str));
        Ok(<Line as clap::Parser>::try_parse_from(line)?.vendor)
    }
}

fn fault_chance(text: &str) -> Result<FaultChance, String> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let fault = Fault::named(name).ok_or_else(|| format!("{name:?} is none of {}", Fault::NAMES.join(", ")))?;
    let after = parts.next().unwrap_or("0").parse().map_err(|_| "expected name:tokens:share, as in cut:10:0.05".to_owned())?;
    let share: f64 = parts.next().unwrap_or("1").parse().map_err(|_| "expected name:tokens:share, as in cut:10:0.05".to_owned())?;
    if !(0.0..=1.0).contains(&share) || parts.next().is_some() {
        return Err("expected name:tokens:share with a share from 0 to 1, as in cut:10:0.05".to_owned());
    }
    Ok(FaultChance { fault, after, share })
}

/// Serves until Ctrl-C. The first line on stdout is the base URL, the last on stderr the totals.
///
/// # Errors
/// It cannot listen, or an argument is out of range.
pub async fn run(args: VendorArgs) -> anyhow::Result<()> {
    let report_every = args.report;
    let vendor = FakeVendor::start(config(args)?).await?;
    // The first line is for whoever started it and wants to know the port.
    writeln!(std::io::stdout(), "{}", vendor.base_url())?;
    std::io::stdout().flush()?;
    let mut report = tokio::time::interval(Duration::from_secs(report_every.max(1)));
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                break;
            }
            _ = report.tick(), if report_every > 0 => writeln!(std::io::stderr(), "{:?}", vendor.counters())?,
        }
    }
    writeln!(std::io::stderr(), "{:?}", vendor.counters())?;
    Ok(())
}

/// What the arguments ask for.
///
/// # Errors
/// One is out of range.
pub fn config(args: VendorArgs) -> anyhow::Result<FakeVendorConfig> {
    anyhow::ensure!((0.0..=1.0).contains(&args.jitter), "--jitter: expected a share from 0 to 1");
    let total: f64 = args.fault.iter().map(|chance| chance.share).sum();
    anyhow::ensure!(total <= 1.0 + 1e-9, "--fault: the shares come to {total}, and an answer has at most one fault");
    let pace = Duration::try_from_secs_f64(args.pace / 1000.0).context("--pace")?;
    Ok(FakeVendorConfig {
        bind: SocketAddr::new(args.host, args.port),
        api_key: args.key,
        script: Script { pace, jitter: args.jitter, tokens: args.tokens, stamp: args.stamp, ..Script::default() },
        faults: args.fault,
        // This one feeds servers as fast as they take it: what a write costs here is not what they are measured for.
        burst: 32,
        remembered_calls: args.remember,
        ..FakeVendorConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_or_refused_with_what_is_allowed() {
        let chance = fault_chance("cut:10:0.05").expect("good");
        assert_eq!((chance.fault, chance.after, chance.share), (Fault::Cut, 10, 0.05));
        assert_eq!(fault_chance("hang").expect("good").share, 1.0);
        for bad in ["flood", "cut:x", "cut:1:2", "cut:1:0.5:9"] {
            assert!(fault_chance(bad).is_err(), "{bad}");
        }
    }
}
