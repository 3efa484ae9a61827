//! One stream through the hub, against the same stream straight from the vendor: what the hub adds.

use std::time::{Duration, Instant};

use agent_hub_protocol::TaskId;
use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::server::{Kind, Programs, Server};
use crate::{
    figure::percentile,
    token,
    wire::{Read, Wire, stamps_in, token_text},
};

/// Tokens of an answer, and their pace.
const TOKENS: usize = 25;
const PACE: Duration = Duration::from_millis(20);
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(30);

/// One way of getting answers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Way {
    /// From asking to the first token, the model's time taken off, in milliseconds.
    pub(super) first_p50_ms: f64,
    /// By how much the time between two tokens is off the pace, in milliseconds.
    pub(super) gap_p99_ms: f64,
}

/// Answers, one after another: straight from the vendor, and through a hub with SQLite.
///
/// # Errors
/// The hub does not start, or an answer does not come.
pub(super) async fn both(programs: &Programs, answers: usize) -> anyhow::Result<(Way, Way)> {
    let server = Server::start(programs, Kind::Vendor, &[]).await?;
    let vendor = server.vendor_address().context("no vendor")?;
    let (mut direct, mut through) = (Watch::new()?, Watch::new()?);
    let wire = Wire::connect(server.address, &token::mint("bench")?).await?;
    let session = agent_hub_protocol::SessionId::random();
    wire.send(&format!(r#"{{"type":"create_session","sessionId":"{session}"}}"#)).await?;
    wire.until(|frame| frame.starts_with(br#"{"type":"caught_up""#)).await?;
    // Alternating, so that what slows the machine slows both.
    for answer in 0..answers + 2 {
        // The first ones are not counted: connections are made, and memory is touched for the first time.
        if answer == 2 {
            (direct, through) = (Watch::new()?, Watch::new()?);
        }
        timeout(WITHIN, straight(vendor.as_str(), &mut direct)).await.context("the vendor does not answer")??;
        timeout(WITHIN, by_hub(&wire, &session.to_string(), &mut through)).await.context("the hub does not answer")??;
    }
    Ok((direct.way(), through.way()))
}

struct Watch {
    firsts: Vec<f64>,
    off: Histogram<u64>,
    asked: Instant,
    last: Option<Instant>,
}

impl Watch {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { firsts: Vec::new(), off: Histogram::new_with_bounds(1, 60_000_000_000, 3)?, asked: Instant::now(), last: None })
    }

    fn ask(&mut self) {
        self.asked = Instant::now();
        self.last = None;
    }

    fn token(&mut self) {
        let now = Instant::now();
        match self.last.replace(now) {
            None => self.firsts.push((now.duration_since(self.asked).as_secs_f64() - PACE.as_secs_f64()) * 1e3),
            Some(last) => self.off.saturating_record((now.duration_since(last).abs_diff(PACE).as_nanos() as u64).max(1)),
        }
    }

    fn way(mut self) -> Way {
        self.firsts.sort_by(f64::total_cmp);
        Way { first_p50_ms: percentile(&self.firsts, 0.5), gap_p99_ms: self.off.value_at_quantile(0.99) as f64 / 1e6 }
    }
}

fn prompt() -> String {
    format!("/pace {} /tokens {TOKENS} /stamp", PACE.as_millis())
}

async fn straight(vendor: &str, watch: &mut Watch) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(vendor).await?;
    stream.set_nodelay(true)?;
    let body = serde_json::json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": prompt() }] }).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    watch.ask();
    stream.write_all(request.as_bytes()).await?;
    let mut text = Vec::new();
    let mut seen = 0;
    while seen < TOKENS {
        anyhow::ensure!(stream.read_buf(&mut text).await? > 0, "the vendor ended early: {}", String::from_utf8_lossy(&text));
        let now = stamps_in_json(&text);
        // Several at once have come at the same moment.
        for _ in seen..now {
            watch.token();
        }
        seen = now;
    }
    Ok(())
}

/// Stamps in what a vendor sends: `"content":"<nanoseconds> "`.
fn stamps_in_json(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'"').map(|part| stamps_in(part).count()).sum()
}

async fn by_hub(wire: &Wire, session: &str, watch: &mut Watch) -> anyhow::Result<()> {
    let prompt = prompt();
    let text = format!(r#"{{"type":"submit_task","sessionId":"{session}","taskId":"{}","prompt":"{prompt}"}}"#, TaskId::random());
    watch.ask();
    wire.send(&text).await?;
    let mut scratch = vec![0; 16 * 1024];
    let mut ended = false;
    while !ended {
        let read = wire.try_read(&mut scratch, |frame| {
            for _ in token_text(frame).into_iter().flat_map(stamps_in) {
                watch.token();
            }
            ended |= frame.starts_with(br#"{"type":"task_completed""#);
        })?;
        match read {
            Read::Closed(code) => anyhow::bail!("the hub closed the connection ({code:?})"),
            Read::Bytes(_) => {}
            Read::Nothing => wire.readable().await?,
        }
    }
    Ok(())
}
