//! Connections: accepted, counted, given their time, and drained.
//!
//! hyper's `http1::Builder` is driven directly: the helpers around it have no deadline for a client that connects and says nothing.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{extract::Request, response::Response};
use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::guard::Guard;

mod patience;
mod unread;

use patience::{Counted, Patience, Watch, Watched};

/// Connections the kernel keeps waiting while the hub is busy; the usual 128 refuses a reconnect storm.
const BACKLOG: i32 = 4096;
/// Header fields of one request.
const MAX_HEADERS: usize = 64;
/// The head of one request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How long accepting pauses when the process has no file descriptor left.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(100);
/// How often it is said that connections cannot be accepted.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a connection beyond the bound may take for its request.
const CROWDED_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections, and how long each may take.
#[derive(Clone, Copy, Debug)]
pub struct FrontSettings {
    /// Connections that are served.
    pub max_connections: usize,
    /// Connections beyond those that are told so; more are closed at once.
    pub reserve: usize,
    /// From the first byte of a request (or from the connection) to its whole head.
    pub header_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// A peer that accepts no byte for this long is cut.
    pub stall_timeout: Duration,
    /// `SO_SNDBUF`; the kernel hides a slow reader in it.
    pub send_buffer: usize,
}

impl Default for FrontSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            reserve: 1024,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            send_buffer: 64 * 1024,
        }
    }
}

/// A connection's place among all of the process. Every request carries a clone in its extensions; who upgrades keeps it.
#[derive(Clone, Debug)]
pub struct ConnectionPermit(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// The socket behind an upgraded connection, and what was read of it already: what HTTP wrapped around it has nothing more to do.
///
/// # Errors
/// The connection is not one of [`serve`].
pub fn reclaim(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let parts = upgraded.downcast::<TokioIo<Watched<TcpStream>>>()?;
    Ok((parts.io.into_inner().into_inner(), parts.read_buf))
}

/// A listener with a long backlog, bound so that a restarted hub gets its port back at once.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves connections until `stop`; then lets every request that has begun end, and returns when all connections are gone.
/// Dropping the future cuts those that are left. Upgraded sockets are not its business any more.
///
/// # Errors
/// When the listener cannot be used, or fails for good: then `stop` is cancelled here, and the rest is as above.
pub async fn serve(listener: std::net::TcpListener, guard: Guard, settings: FrontSettings, stop: CancellationToken) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();
    let front = Front {
        guard,
        settings,
        served: Arc::new(Semaphore::new(settings.max_connections)),
        crowded: Arc::new(Semaphore::new(settings.reserve)),
        connections: TaskTracker::new(),
        stop: stop.clone(),
        cut,
    };
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        error = front.accept(&listener) => Err(error),
    };
    stop.cancel();
    drop(listener);
    front.connections.close();
    front.connections.wait().await;
    ended
}

struct Front {
    guard: Guard,
    settings: FrontSettings,
    served: Arc<Semaphore>,
    crowded: Arc<Semaphore>,
    connections: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

/// What the requests of one connection are told.
#[derive(Clone)]
struct Place {
    peer: SocketAddr,
    permit: ConnectionPermit,
    crowded: bool,
}

impl Front {
    /// Accepts for as long as that is possible. Returns why it is not any more.
    async fn accept(&self, listener: &TcpListener) -> io::Error {
        let mut said: Option<Instant> = None;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                // It does not listen any more, and trying again does not bring it back.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return error,
                Err(error) => {
                    // No file descriptors, most likely: those who are connected go on, and some will leave.
                    if said.is_none_or(|at| at.elapsed() >= SAY_AGAIN_AFTER) {
                        tracing::warn!(%error, "cannot accept connections; trying again");
                        said = Some(Instant::now());
                    }
                    tokio::time::sleep(OUT_OF_FILES_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let (permit, crowded) = match Arc::clone(&self.served).try_acquire_owned() {
            Ok(permit) => (permit, false),
            Err(_) => match Arc::clone(&self.crowded).try_acquire_owned() {
                Ok(permit) => (permit, true),
                // Beyond the reserve nothing is said: an answer would cost what there is none of.
                Err(_) => return,
            },
        };
        let socket = SockRef::from(&stream);
        // Both make it faster or leaner; it works without.
        let _ = stream.set_nodelay(true);
        let _ = socket.set_send_buffer_size(self.settings.send_buffer);
        let place = Place { peer, permit: ConnectionPermit(Arc::new(permit)), crowded };
        self.connections.spawn(self.converse(stream, place));
    }

    fn converse(&self, stream: TcpStream, place: Place) -> impl Future<Output = ()> + Send + 'static {
        let Place { crowded, .. } = place;
        let patience = Patience {
            head: if crowded { CROWDED_HEADER_TIMEOUT } else { self.settings.header_timeout },
            stall: self.settings.stall_timeout,
        };
        let watch = Watch::new(patience);
        let guard = self.guard.clone();
        let for_service = Arc::clone(&watch);
        let service = service_fn(move |request| {
            let answering = for_service.answering();
            let answer = answer(guard.clone(), request, place.clone());
            async move { answer.await.map(|response| response.map(|body| Counted::new(body, answering))) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.idle_timeout)
            .keep_alive(!crowded)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .half_close(false)
            .serve_connection(TokioIo::new(Watched::new(stream, Arc::clone(&watch))), service)
            .with_upgrades();
        patience::drive(connection, watch, self.stop.clone(), self.cut.clone())
    }
}

async fn answer(guard: Guard, mut request: Request<Incoming>, place: Place) -> Result<Response, std::convert::Infallible> {
    request.extensions_mut().insert(place.permit);
    Ok(guard.answer(request, place.peer, place.crowded).await)
}

/// Errors that say something about a connection that came and went, and nothing about the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}
