//! Sockets that say nothing, or next to nothing: closed in time, while the hub answers everybody else.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Report, Setup};
use crate::process::{Hub, HubOptions, healthy, open_files_limit};

/// How much.
#[derive(Args, Clone, Debug)]
pub struct Size {
    /// Sockets, a third of them of each kind.
    #[arg(long, default_value_t = 10_000)]
    pub sockets: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { sockets: 10_000 }
    }
}

/// How soon a socket that says nothing is closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// How soon others are answered meanwhile, and how often they ask.
const ANSWERED_WITHIN: Duration = Duration::from_millis(100);
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// How a socket wastes time.
#[derive(Clone, Copy)]
enum Waste {
    /// Not one byte.
    Silent,
    /// The beginning of a request, and no more.
    Half,
    /// A header that never ends, a few bytes at a time.
    Drip,
}

/// Runs it.
///
/// # Errors
/// The hub does not start.
pub async fn run(setup: &Setup, size: Size) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let sockets = size.sockets.min(open_files_limit().saturating_sub(500));
    let hub = Hub::start(HubOptions::new(&setup.hub)).await?;
    let before = hub.process()?.open_files()?;
    let started = Instant::now();
    let stop = CancellationToken::new();
    let probing = tokio::spawn(probe(hub.address(), stop.clone()));
    let mut wasting = JoinSet::new();
    for index in 0..sockets {
        let waste = [Waste::Silent, Waste::Half, Waste::Drip][index % 3];
        let address = hub.address();
        wasting.spawn(async move { idle(address, index, waste).await });
        // As fast as an attacker, but not so that our own backlog is what is measured.
        if index % 50 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let opened = started.elapsed();
    let (mut refused, mut open, mut longest) = (0, 0, Duration::ZERO);
    while let Some(closed) = wasting.join_next().await {
        match closed? {
            Ok(Some(after)) => longest = longest.max(after),
            Ok(None) => open += 1,
            Err(_) => refused += 1,
        }
    }
    stop.cancel();
    let probes = probing.await?;
    sleep(Duration::from_millis(500)).await;
    let after = hub.process()?.open_files()?;
    report.expect(open == 0, || format!("{open} sockets were still open after {CLOSED_WITHIN:?}"));
    let slow = probes.iter().filter(|probe| probe.is_none_or(|took| took > ANSWERED_WITHIN)).count();
    let worst = probes.iter().map(|probe| probe.unwrap_or(Duration::from_secs(2))).max().unwrap_or_default();
    report.expect(slow == 0, || format!("{slow} of {} probes took longer than {ANSWERED_WITHIN:?}, the worst {worst:?}", probes.len()));
    report.expect(after <= before + 10, || format!("the hub has {after} files open, and had {before}"));
    report.fact(format!(
        "{sockets} sockets opened in {:.1} s ({refused} refused), the last closed after {:.1} s",
        opened.as_secs_f64(),
        longest.as_secs_f64()
    ));
    report.fact(format!("{} probes, the slowest {:.1} ms", probes.len(), worst.as_secs_f64() * 1000.0));
    Ok(report)
}

/// How long each answer took; `None` for no answer.
async fn probe(hub: SocketAddr, stop: CancellationToken) -> Vec<Option<Duration>> {
    let mut took = Vec::new();
    let mut asking = JoinSet::new();
    let mut next = Instant::now();
    while !stop.is_cancelled() {
        // A slow answer does not keep the next question.
        asking.spawn(async move { healthy(hub, Duration::from_secs(2)).await.ok() });
        next += ASKED_EVERY;
        sleep_until(next).await;
    }
    while let Some(answer) = asking.join_next().await {
        took.push(answer.ok().flatten());
    }
    took
}

/// Connects and waits to be closed; says after how long, or `None` when it was not in time.
async fn idle(hub: SocketAddr, index: usize, waste: Waste) -> std::io::Result<Option<Duration>> {
    let socket = TcpSocket::new_v4()?;
    // From several addresses: one has no more than 28,000 ports, and fewer right after another run.
    let host = u8::try_from(index % 8).unwrap_or_default() + 2;
    socket.bind(([127, 0, 0, host], 0).into())?;
    let mut stream = socket.connect(hub).await?;
    let started = Instant::now();
    let deadline = started + CLOSED_WITHIN;
    match waste {
        Waste::Silent => {}
        Waste::Half => stream.write_all(b"GET / HTTP/1.1\r\nHost: lo").await?,
        Waste::Drip => return Ok(drip(&mut stream, deadline).await.then(|| started.elapsed())),
    }
    Ok(closed(&mut stream, deadline).await.then(|| started.elapsed()))
}

/// Whether the hub closes in time. What it may say before that is read and passed over.
async fn closed(stream: &mut TcpStream, deadline: Instant) -> bool {
    let mut said = [0; 512];
    loop {
        match timeout_at(deadline, stream.read(&mut said)).await {
            Err(_) => return false,
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
        }
    }
}

async fn drip(stream: &mut TcpStream, deadline: Instant) -> bool {
    if stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.is_err() {
        return true;
    }
    while Instant::now() < deadline {
        let pause = (Instant::now() + Duration::from_millis(500)).min(deadline);
        if closed(stream, pause).await || stream.write_all(b"a").await.is_err() {
            return true;
        }
    }
    false
}
