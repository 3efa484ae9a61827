//! Readers of a thousand bytes a second beside a hundred that keep up: what they cost the hub, and what they cost the others.

use std::time::Duration;

use agent_hub_protocol::SessionId;
use clap::Args;
use hdrhistogram::Histogram;
use tokio::{
    net::TcpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{Report, Setup};
use crate::{
    process::{Hub, HubOptions, Process},
    token,
    wire::{Read, Wire, now_nanos, stamps_in, token_text},
};

/// How much.
#[derive(Args, Clone, Debug)]
pub struct Size {
    /// Slow readers; several, because a page more or less of the allocator's would hide what one costs.
    #[arg(long, default_value_t = 8)]
    pub slow: usize,
    /// Readers that keep up, of one session.
    #[arg(long, default_value_t = 100)]
    pub fast: usize,
    /// Seconds.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { slow: 8, fast: 100, seconds: 60 }
    }
}

/// What a slow reader may cost.
const GROWTH_KIB: u64 = 512;
/// What it reads ten times a second.
const SIP: usize = 100;
/// What the others may wait longer, beyond twice as long: the tail of a machine that does other things too.
const SLACK: Duration = Duration::from_millis(10);

/// Runs it.
///
/// # Errors
/// The hub does not start, or refuses a reader.
pub async fn run(setup: &Setup, size: Size) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut hub = Hub::start(HubOptions::new(&setup.hub)).await?;
    let token = token::mint("soak")?;
    // A log far larger than any buffer, and finished, so that the hub has no other reason to grow.
    let long = write_long_log(&hub, &token).await?;
    // Another process: what this one's allocator kept would hide what the readers cost.
    hub.kill().await?;
    hub.launch().await?;
    let (process, slow_count) = (hub.process()?, size.slow.max(1));
    let (stamps, mut latencies) = mpsc::unbounded_channel();
    let mut readers = JoinSet::new();
    let streaming = start_fast(&hub, &token, size.fast, &stamps, &mut readers).await?;
    let window = Duration::from_secs(size.seconds);
    sleep(Duration::from_secs(3)).await;
    drain(&mut latencies)?;
    sleep(window / 4).await;
    let alone = drain(&mut latencies)?;
    let before = process.rss_kib()?;
    let mut slow = JoinSet::new();
    for _ in 0..slow_count {
        let wire = narrow(&hub, &token).await?;
        wire.send(&format!(r#"{{"type":"attach_session","sessionId":"{}","after":"{}.0"}}"#, long.session, long.epoch)).await?;
        slow.spawn(sip(wire, window));
    }
    let largest = watch(process, window).await?;
    let beside = drain(&mut latencies)?;
    let mut read = Vec::new();
    while let Some(end) = slow.join_next().await {
        let (bytes, closed) = end?;
        read.push(bytes);
        report.expect(closed.is_none(), || {
            format!("a slow reader was closed with {closed:?} after {bytes} bytes, though it read all the time")
        });
    }
    readers.shutdown().await;
    drop(streaming);
    let grown = largest.saturating_sub(before) / slow_count as u64;
    report.expect(grown < GROWTH_KIB, || format!("the hub grew by {grown} KiB per slow reader"));
    let (p99_alone, p99_beside) = (p99(&alone), p99(&beside));
    report.expect(p99_beside <= p99_alone * 2 + SLACK, || format!("p99 of the others rose from {p99_alone:?} to {p99_beside:?}"));
    let lost = alone.len() + beside.len();
    report.expect(lost > 0, || "the fast readers read nothing".to_owned());
    report.fact(format!("{slow_count} slow readers of a log of {} KiB, the hub grew by {grown} KiB for each", long.bytes / 1024));
    report.fact(format!("they read {read:?} bytes in {} s", size.seconds));
    report.fact(format!("p99 of {} others {p99_alone:?} alone, {p99_beside:?} beside them", size.fast));
    Ok(report)
}

struct LongLog {
    session: SessionId,
    epoch: String,
    bytes: usize,
}

/// Sessions of many merged tokens, until there are megabytes.
async fn write_long_log(hub: &Hub, token: &str) -> anyhow::Result<LongLog> {
    let wire = Wire::connect(hub.address(), token).await?;
    let session = SessionId::random();
    wire.send(&format!(r#"{{"type":"create_session","sessionId":"{session}"}}"#)).await?;
    let epoch = std::cell::RefCell::new(String::new());
    let bytes = std::cell::Cell::new(0);
    wire.until(|frame| {
        let frame = String::from_utf8_lossy(frame);
        if let Some((_, rest)) = frame.split_once(r#""epoch":""#) {
            *epoch.borrow_mut() = rest.split('"').next().unwrap_or_default().to_owned();
        }
        frame.starts_with(r#"{"type":"caught_up""#)
    })
    .await?;
    for _ in 0..4 {
        wire.send(&format!(r#"{{"type":"submit_task","sessionId":"{session}","prompt":"/pace 0 /tokens 200000"}}"#)).await?;
        let ended = wire.until(|frame| {
            bytes.set(bytes.get() + frame.len());
            frame.starts_with(br#"{"type":"task_completed""#)
        });
        timeout(Duration::from_secs(60), ended).await??;
    }
    Ok(LongLog { session, epoch: epoch.into_inner(), bytes: bytes.get() })
}

/// One session at fifty tokens a second, and those who read it. The socket returned keeps it company.
async fn start_fast(
    hub: &Hub,
    token: &str,
    count: usize,
    latencies: &mpsc::UnboundedSender<u64>,
    readers: &mut JoinSet<()>,
) -> anyhow::Result<Wire> {
    let first = Wire::connect(hub.address(), token).await?;
    let session = SessionId::random();
    first.send(&format!(r#"{{"type":"create_session","sessionId":"{session}"}}"#)).await?;
    first.until(|frame| frame.starts_with(br#"{"type":"caught_up""#)).await?;
    for _ in 0..count {
        let wire = Wire::connect(hub.address(), token).await?;
        wire.send(&format!(r#"{{"type":"attach_session","sessionId":"{session}"}}"#)).await?;
        readers.spawn(keep_up(wire, latencies.clone()));
    }
    first.send(&format!(r#"{{"type":"submit_task","sessionId":"{session}","prompt":"/pace 20 /tokens 1000000 /stamp"}}"#)).await?;
    first.send(&format!(r#"{{"type":"detach_session","sessionId":"{session}"}}"#)).await?;
    Ok(first)
}

async fn keep_up(wire: Wire, latencies: mpsc::UnboundedSender<u64>) {
    let mut scratch = vec![0; 16 * 1024];
    while wire.readable().await.is_ok() {
        let read = wire.try_read(&mut scratch, |frame| {
            let now = now_nanos();
            for stamp in token_text(frame).into_iter().flat_map(stamps_in) {
                // Nobody listens any more: the run is over.
                let _ = latencies.send(now.saturating_sub(stamp));
            }
        });
        if !matches!(read, Ok(Read::Bytes(_) | Read::Nothing)) {
            return;
        }
    }
}

/// Reads a thousand bytes a second. Returns how many it read, and how the hub closed if it did.
async fn sip(wire: Wire, length: Duration) -> (usize, Option<Option<u16>>) {
    let started = Instant::now();
    let (mut total, mut scratch) = (0, [0; SIP]);
    while started.elapsed() < length {
        match wire.try_read(&mut scratch, |_| {}) {
            Ok(Read::Bytes(bytes)) => total += bytes,
            Ok(Read::Nothing) => {}
            Ok(Read::Closed(code)) => return (total, Some(code)),
            Err(_) => return (total, Some(None)),
        }
        sleep(Duration::from_millis(100)).await;
    }
    (total, None)
}

/// The largest resident size over a time, in KiB.
async fn watch(process: Process, length: Duration) -> anyhow::Result<u64> {
    let started = Instant::now();
    let mut largest = 0;
    while started.elapsed() < length {
        largest = largest.max(process.rss_kib()?);
        sleep(Duration::from_millis(250)).await;
    }
    Ok(largest)
}

/// A socket with the smallest receive buffer there is.
async fn narrow(hub: &Hub, token: &str) -> anyhow::Result<Wire> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(2048)?;
    Wire::upgrade(socket.connect(hub.address()).await?, token).await
}

fn drain(latencies: &mut mpsc::UnboundedReceiver<u64>) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    while let Ok(latency) = latencies.try_recv() {
        histogram.saturating_record(latency.max(1));
    }
    Ok(histogram)
}

fn p99(latencies: &Histogram<u64>) -> Duration {
    Duration::from_nanos(latencies.value_at_percentile(99.0))
}
