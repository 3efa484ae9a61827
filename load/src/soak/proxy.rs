//! A TCP proxy that breaks connections in the ways networks do.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::oneshot,
    task::JoinSet,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use crate::rng::Rng;

/// Bytes taken at once; smaller than many frames, so that cuts fall inside them.
const PIECE: usize = 4 * 1024;
/// How long a connection that swallows everything is kept; longer than a client's patience.
const SWALLOWED_FOR: Duration = Duration::from_secs(5);

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Closed in both directions after so many more bytes to the client.
    CutAfter(u64),
    /// Closed in both directions after so many more bytes from the client.
    CutUpAfter(u64),
    /// Reset in both directions after so many more bytes to the client.
    ResetAfter(u64),
    /// Reset in both directions at once.
    Reset,
    /// Open, but nothing goes through any more.
    Swallow,
    /// So many bytes a second, for a while, then cut.
    Throttle(u64),
    /// Nothing goes through for so long; then it goes on for a moment, and is cut.
    Stall(Duration),
}

impl Fault {
    /// One of them. Those that take long are rare.
    pub fn random(rng: &mut Rng) -> Self {
        match rng.between(0, 20) {
            0..=6 => Fault::CutAfter(rng.between(0, 3000)),
            7..=8 => Fault::CutUpAfter(rng.between(0, 400)),
            9..=10 => Fault::ResetAfter(rng.between(0, 3000)),
            11..=15 => Fault::Reset,
            16..=17 => Fault::Swallow,
            18 => Fault::Stall(rng.time(Duration::from_millis(50), Duration::from_millis(600))),
            _ => Fault::Throttle(rng.between(2_000, 50_000)),
        }
    }

    /// What it is called in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::CutAfter(_) => "cut",
            Fault::CutUpAfter(_) => "cut upwards",
            Fault::ResetAfter(_) => "reset in a frame",
            Fault::Reset => "reset",
            Fault::Swallow => "half-open",
            Fault::Throttle(_) => "slow, then cut",
            Fault::Stall(_) => "stalled, then cut",
        }
    }
}

/// Between clients and a hub. Dropping it ends its connections.
pub struct ChaosProxy {
    /// Where clients connect to.
    pub address: SocketAddr,
    lines: Arc<Lines>,
    _accepting: AbortOnDropHandle<()>,
}

/// The connections that can still be broken.
#[derive(Default)]
struct Lines {
    open: Mutex<HashMap<u64, Line>>,
    made: AtomicU64,
}

struct Line {
    dials: Arc<Dials>,
    strike: oneshot::Sender<Fault>,
}

/// What slows or ends a pump without interrupting it in the middle of a write.
#[derive(Debug)]
struct Dials {
    /// Bytes the client may still get.
    left: AtomicU64,
    /// Bytes the hub may still get.
    left_up: AtomicU64,
    /// Bytes a second; 0 for no bound.
    rate: AtomicU64,
}

impl Default for Dials {
    fn default() -> Self {
        Self { left: AtomicU64::new(u64::MAX), left_up: AtomicU64::new(u64::MAX), rate: AtomicU64::new(0) }
    }
}

impl Lines {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Line>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChaosProxy {
    /// On a free port of loopback.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(hub: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let lines = Arc::new(Lines::default());
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, hub, lines.clone())));
        Ok(Self { address, lines, _accepting: accepting })
    }

    /// Breaks a connection chosen at random; `None` if there is none.
    pub fn strike(&self, rng: &mut Rng) -> Option<Fault> {
        let mut open = self.lines.open();
        let mut ids: Vec<u64> = open.keys().copied().collect();
        ids.sort_unstable();
        let chosen = *ids.get(usize::try_from(rng.between(0, ids.len() as u64)).ok()?)?;
        let line = open.remove(&chosen)?;
        let fault = Fault::random(rng);
        match fault {
            Fault::CutAfter(bytes) | Fault::ResetAfter(bytes) => line.dials.left.store(bytes, Ordering::Relaxed),
            Fault::CutUpAfter(bytes) => line.dials.left_up.store(bytes, Ordering::Relaxed),
            Fault::Throttle(rate) => line.dials.rate.store(rate, Ordering::Relaxed),
            Fault::Reset | Fault::Swallow | Fault::Stall(_) => {}
        }
        // It may have ended by itself meanwhile.
        line.strike.send(fault).is_ok().then_some(fault)
    }

    /// Connections there ever were.
    pub fn made(&self) -> u64 {
        self.lines.made.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, hub: SocketAddr, lines: Arc<Lines>) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let id = lines.made.fetch_add(1, Ordering::Relaxed);
                let (strike, struck) = oneshot::channel();
                let dials = Arc::new(Dials::default());
                lines.open().insert(id, Line { dials: dials.clone(), strike });
                let lines = lines.clone();
                carried.spawn(async move {
                    if let Ok(hub) = TcpStream::connect(hub).await {
                        carry(client, hub, &dials, struck).await;
                    }
                    lines.open().remove(&id);
                });
            }
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Carries bytes both ways until one side ends, or until it is struck.
async fn carry(mut client: TcpStream, mut hub: TcpStream, dials: &Dials, struck: oneshot::Receiver<Fault>) {
    let _ = (client.set_nodelay(true), hub.set_nodelay(true));
    let fault = {
        let (from_client, to_client) = client.split();
        let (from_hub, to_hub) = hub.split();
        let carrying = async {
            tokio::select! {
                _ = up(from_client, to_hub, dials) => {}
                _ = down(from_hub, to_client, dials) => {}
            }
        };
        tokio::pin!(carrying);
        tokio::select! {
            () = &mut carrying => None,
            fault = struck => match fault {
                // The pump sees the dial itself, at the right byte. If nothing more comes, the connection is idle and is cut so.
                Ok(fault @ (Fault::CutAfter(_) | Fault::CutUpAfter(_) | Fault::ResetAfter(_) | Fault::Throttle(_))) => {
                    let _ = tokio::time::timeout(Duration::from_millis(500), carrying).await;
                    Some(fault)
                }
                Ok(fault @ Fault::Stall(pause)) => {
                    sleep(pause).await;
                    let _ = tokio::time::timeout(Duration::from_millis(50), carrying).await;
                    Some(fault)
                }
                Ok(fault) => Some(fault),
                Err(_) => None,
            },
        }
    };
    match fault {
        Some(Fault::Swallow) => sleep(SWALLOWED_FOR).await,
        Some(Fault::Reset | Fault::ResetAfter(_)) => {
            for stream in [&client, &hub] {
                // Without it the end is a polite one, which is a fault too.
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
        Some(Fault::CutAfter(_) | Fault::CutUpAfter(_) | Fault::Throttle(_) | Fault::Stall(_)) | None => {}
    }
}

async fn up(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, dials: &Dials) -> io::Result<()> {
    let mut piece = [0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        let left = dials.left_up.load(Ordering::Relaxed);
        let allowed = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&piece[..allowed]).await?;
        if read == 0 || allowed < read {
            return Ok(());
        }
        if left != u64::MAX {
            dials.left_up.store(left - read as u64, Ordering::Relaxed);
        }
    }
}

async fn down(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, dials: &Dials) -> io::Result<()> {
    let mut piece = [0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        let left = dials.left.load(Ordering::Relaxed);
        let allowed = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&piece[..allowed]).await?;
        if read == 0 || allowed < read {
            return Ok(());
        }
        if left != u64::MAX {
            dials.left.store(left - read as u64, Ordering::Relaxed);
        }
        let rate = dials.rate.load(Ordering::Relaxed);
        if rate > 0 {
            sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await;
        }
    }
}
