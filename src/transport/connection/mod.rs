//! One WebSocket: reads commands, follows sessions, answers. One task, one timer, no queue of events: what a socket is shown it
//! takes from the logs itself, as fast as its peer reads.

mod clock;
mod command;
mod farewell;
mod frames;
mod metered;

use std::{
    collections::VecDeque,
    future::poll_fn,
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use agent_hub_protocol::{
    CloseCode, Command, ErrorCode, Seq, SessionId,
    limits::Limits,
    server_message::{CaughtUp, ConnectionMessage, Welcome},
    version::Version,
};
use futures::{Sink, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        protocol::{WebSocketConfig, frame::coding::CloseCode as WireCode},
    },
};
use tokio_util::sync::CancellationToken;

pub use metered::Metered;

use self::{
    command::Completed,
    farewell::say_close,
    frames::{error_frame, text},
};
use crate::{
    runtime::{
        Hub, Principal, Refusal,
        executors::Executor,
        log::{LogEvent, ReadError, Reader, TailEnd},
        quiet::{Alarm, Signal},
        revocation::TokenWatch,
        session::{After, Attach},
    },
    transport::{client_address::ClientAddress, edge::Identify, failed_auth::FailedAuth},
};

/// Commands of one connection that wait for their answer. More stay in the socket, which is how their sender learns to wait.
const COMMANDS_IN_FLIGHT: usize = 32;
/// Refused messages of a flood after which the socket is closed.
const FLOOD: u32 = 200;
/// Turns of the loop before other tasks get theirs.
const TURNS: usize = 64;
/// How long the closing handshake may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// The numbers a socket works by.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    /// The hub pings this often and closes after two silent pings.
    pub heartbeat: Duration,
    /// A peer that accepts no byte for this long is closed.
    pub stall_timeout: Duration,
    /// Bytes written but not yet taken by the socket. Full: its readers stop and go on from their cursors as it drains, so nothing
    /// is lost and nobody waits for it.
    pub window: usize,
    /// Largest message taken, in bytes.
    pub message_bytes: usize,
    /// Sessions one socket follows at most.
    pub attached_sessions: usize,
    /// Messages per second and at once; `None` lifts it.
    pub message_rate: Option<(u32, u32)>,
    /// A socket older than this is asked to come back.
    pub max_age: Duration,
}

/// How a hub that stops tells its sockets: all at once that it will, then a batch at a time to go.
#[derive(Clone, Debug)]
pub struct Drain {
    /// Cancelled first.
    pub announce: CancellationToken,
    /// Cancelled one after another; each socket belongs to one.
    pub batches: Arc<[CancellationToken]>,
    /// Over which reconnects are spread.
    pub spread: Duration,
}

impl Drain {
    /// A drain in this many batches.
    pub fn new(batches: usize, spread: Duration) -> Self {
        let batches = (0..batches.max(1)).map(|_| CancellationToken::new()).collect();
        Self { announce: CancellationToken::new(), batches, spread }
    }
}

/// What a connection is made of.
pub struct Parts {
    /// The runtime.
    pub hub: Hub,
    /// Checks refreshed tokens.
    pub identify: Arc<dyn Identify>,
    /// Counts those that do not hold.
    pub failed_auth: Arc<FailedAuth>,
    /// For this address.
    pub from: ClientAddress,
    /// Who is connected.
    pub who: Principal,
    /// Tells when the token behind that is revoked.
    pub token: Option<TokenWatch>,
    /// Names the connection in logs and in `welcome`.
    pub connection_id: u64,
    /// The numbers.
    pub settings: Arc<SocketSettings>,
    /// How it learns that the hub stops.
    pub drain: Drain,
    /// A session to attach to at once, with the cursor.
    pub attach: Option<(SessionId, Option<String>)>,
}

/// How tungstenite is to read and write: small buffers, bounded messages.
pub fn websocket_config(settings: &SocketSettings) -> WebSocketConfig {
    WebSocketConfig::default()
        // An idle socket costs this much; a larger message is read in pieces of it.
        .read_buffer_size(1024)
        .write_buffer_size(16 * 1024)
        // The window is kept by us: nothing is written while the last flush is not through, and then at most a window and one event.
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(settings.message_bytes))
        .max_frame_size(Some(settings.message_bytes))
}

/// Speaks with one peer until the connection ends.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<Metered<S>>, parts: Parts) {
    let mut connection = Box::new(Connection::new(socket, parts));
    let close = poll_fn(|cx| connection.poll(cx)).await;
    connection.close(close).await;
}

/// Tells a peer why it is not served, and closes. No other frame is sent.
pub async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, code: CloseCode) {
    drop(tokio::time::timeout(CLOSE_WITHIN, say_close(&mut socket, code.code(), code.reason())).await);
}

struct Connection<S> {
    socket: WebSocketStream<Metered<S>>,
    hub: Hub,
    identify: Arc<dyn Identify>,
    failed_auth: Arc<FailedAuth>,
    from: ClientAddress,
    who: Principal,
    token: Option<TokenWatch>,
    settings: Arc<SocketSettings>,
    current: Option<SessionId>,
    following: Vec<Following>,
    /// Attaches that are not answered yet; a detach takes them out.
    attaching: Vec<Attaching>,
    /// Attaches that were through before an earlier one of their session.
    early: Vec<Completed>,
    attaches: u64,
    commands: FuturesUnordered<BoxFuture<'static, Completed>>,
    /// Sessions it executes tools for, with the number of the command that said so.
    executors: Vec<Executing>,
    /// Sessions that were detached while commands were under way: lists of tools up to this number are void.
    void: Vec<(SessionId, u64)>,
    /// Frames about the connection. Bounded by the commands in flight and a few of the connection's own.
    control: VecDeque<Message>,
    /// Acknowledged cancels, until their session's reader has passed the event they name: no token comes behind such an `ack`.
    held: Vec<(SessionId, Seq, Message)>,
    flushing: bool,
    batch: Vec<LogEvent>,
    rate: Option<DefaultDirectRateLimiter>,
    flood: u32,
    timer: Alarm,
    opened: Instant,
    next_ping: Instant,
    silent_pings: u32,
    /// Bytes the peer had sent when it last had sent a whole message.
    whole: u64,
    /// Bytes the peer had accepted when it last accepted any, and when.
    progress: (u64, Instant),
    warned: bool,
    /// The hub announces that it stops; after that, the turn of this socket's batch to go.
    going: Signal,
    /// The batch, until then.
    batch_to_go: Option<CancellationToken>,
    reconnect_after: Duration,
}

/// An attach under way.
struct Attaching {
    session: SessionId,
    number: u64,
    /// The peer asked for it and is owed an answer.
    asked: bool,
}

/// An attached session.
struct Following {
    session: SessionId,
    reader: Reader,
    /// Sent before the first event: `session_attached`, of this attach and of those it replaced before they were answered.
    first: Vec<Message>,
    /// `caught_up` is due when this event has been sent.
    until: Option<Seq>,
}

/// Tools that the peer executes for a session.
struct Executing {
    session: SessionId,
    /// Tells a newer list of tools from an older one.
    number: u64,
    tools: Vec<String>,
    executor: Executor,
}

/// Why a connection ends.
enum Close {
    With(CloseCode),
    /// The peer closed, or is gone.
    Peer,
    /// The peer broke the WebSocket protocol: the code RFC 6455 has for it.
    Wire(WireCode),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(socket: WebSocketStream<Metered<S>>, parts: Parts) -> Self {
        let Parts { hub, identify, failed_auth, from, who, token, connection_id, settings, drain, attach } = parts;
        let now = Instant::now();
        let batch = &drain.batches[connection_id as usize % drain.batches.len()];
        // Spread by the connection's number: the same for one socket however often it is asked, different for its neighbours.
        let reconnect_after = drain.spread.mul_f64((connection_id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1_u64 << 24) as f64);
        let mut connection = Self {
            going: Signal::of(drain.announce.clone()),
            batch_to_go: Some(batch.clone()),
            reconnect_after,
            rate: settings.message_rate.map(|(per_second, burst)| {
                let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
                let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
                RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst))
            }),
            timer: Alarm::at(now),
            opened: now,
            next_ping: now + settings.heartbeat,
            silent_pings: 0,
            whole: 0,
            progress: (0, now),
            warned: false,
            current: None,
            following: Vec::new(),
            attaching: Vec::new(),
            early: Vec::new(),
            attaches: 0,
            commands: FuturesUnordered::new(),
            executors: Vec::new(),
            void: Vec::new(),
            control: VecDeque::new(),
            held: Vec::new(),
            flushing: false,
            batch: Vec::new(),
            flood: 0,
            socket,
            hub,
            identify,
            failed_auth,
            from,
            who,
            token,
            settings,
        };
        connection.say(&connection.welcome(connection_id));
        if let Some((session, after)) = attach {
            connection.current = Some(session);
            let after = after.map_or(After::Snapshot, After::Cursor);
            connection.attach(session, after, None);
        }
        connection
    }

    fn welcome(&self, connection_id: u64) -> ConnectionMessage {
        let settings = self.hub.settings();
        ConnectionMessage::Welcome(Welcome {
            connection_id: format!("{connection_id:x}"),
            protocol: Version::LATEST.subprotocol().to_owned(),
            user: self.who.user().to_owned(),
            heartbeat_ms: u64::try_from(self.settings.heartbeat.as_millis()).unwrap_or(u64::MAX),
            limits: Limits {
                message_bytes: self.settings.message_bytes,
                prompt_chars: settings.prompt_chars,
                tasks_per_session: settings.tasks_per_session,
                max_concurrent_tasks: settings.tasks_per_user,
                attached_sessions: self.settings.attached_sessions,
            },
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        if let Some(close) = self.poll_time(cx) {
            return Poll::Ready(close);
        }
        let mut turns = TURNS;
        while turns > 0 {
            let completed = self.poll_commands(cx);
            let may_read = self.may_read();
            let read = match self.poll_read(cx) {
                Ok(read) => read,
                Err(close) => return Poll::Ready(close),
            };
            // Most of what a socket does is writing, and it says nothing new to the rest.
            loop {
                turns = turns.saturating_sub(1);
                match self.poll_write(cx) {
                    Ok(true) if turns > 0 => {}
                    Ok(true) => break,
                    Ok(false) if completed || read || may_read != self.may_read() => break,
                    Ok(false) => return Poll::Pending,
                    Err(close) => return Poll::Ready(close),
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes in what commands came to. Returns whether any did.
    fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while !self.commands.is_empty()
            && let Poll::Ready(Some(completed)) = self.commands.poll_next_unpin(cx)
        {
            self.complete(completed);
            any = true;
        }
        any
    }

    /// Whether there is room for what a message may cause.
    fn may_read(&self) -> bool {
        self.commands.len() + self.early.len() < COMMANDS_IN_FLIGHT && self.control.len() + self.held.len() < COMMANDS_IN_FLIGHT
    }

    /// Reads at most one message. Returns whether it did.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Close> {
        if !self.may_read() {
            return Ok(false);
        }
        let message = match Pin::new(&mut self.socket).poll_next(cx) {
            Poll::Pending if self.unfinished_bytes() > self.settings.message_bytes.saturating_mul(2) as u64 => {
                return Err(Close::With(CloseCode::TooBig));
            }
            Poll::Pending => return Ok(false),
            Poll::Ready(None) => return Err(Close::Peer),
            Poll::Ready(Some(Err(error))) => return Err(close_for(&error)),
            Poll::Ready(Some(Ok(message))) => message,
        };
        self.silent_pings = 0;
        self.whole = self.socket.get_ref().read();
        match message {
            Message::Text(text) => self.receive(text.as_str())?,
            Message::Binary(_) => {
                self.within_rate()?;
                let refusal = Refusal::new(ErrorCode::InvalidMessage, "Binary frames are not supported; send JSON text frames");
                self.control.push_back(error_frame(None, &refusal, None, None));
            }
            Message::Ping(_) => self.within_rate()?,
            Message::Pong(_) | Message::Frame(_) => {}
            Message::Close(_) => return Err(Close::Peer),
        }
        Ok(true)
    }

    /// What was read of a message that is not whole yet, its framing included. tungstenite bounds the text of a message but not the
    /// number of its fragments, and fragments of a byte or of none would go on for ever; so their framing may at most double the message.
    fn unfinished_bytes(&self) -> u64 {
        self.socket.get_ref().read() - self.whole
    }

    fn receive(&mut self, frame: &str) -> Result<(), Close> {
        if let Err(wait) = self.check_rate() {
            self.flood += 1;
            if self.flood > FLOOD {
                return Err(Close::With(CloseCode::Overloaded));
            }
            let id = Command::decode(frame).ok().and_then(|command| command.id);
            let refusal = Refusal::new(ErrorCode::RateLimited, "Too many messages on this connection").retry_after(wait);
            self.control.push_back(error_frame(id, &refusal, None, None));
            return Ok(());
        }
        match Command::decode(frame) {
            Ok(command) => self.dispatch(command),
            Err(error) => {
                let refusal = Refusal::new(error.code, error.message);
                self.control.push_back(error_frame(error.id, &refusal, None, None));
            }
        }
        Ok(())
    }

    fn check_rate(&self) -> Result<(), Duration> {
        let Some(rate) = &self.rate else { return Ok(()) };
        use governor::clock::Clock;
        rate.check().map_err(|until| until.wait_time_from(governor::clock::DefaultClock::default().now()))
    }

    /// For frames that have no answer to put a refusal in.
    fn within_rate(&mut self) -> Result<(), Close> {
        if self.check_rate().is_err() {
            self.flood += 1;
            if self.flood > FLOOD {
                return Err(Close::With(CloseCode::Overloaded));
            }
        }
        Ok(())
    }

    /// Writes what there is, up to the window, and flushes once. Returns whether anything moved.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Close> {
        let mut moved = false;
        if !self.flushing {
            let filled = self.fill(cx)?;
            self.flushing |= filled;
            moved |= filled;
        }
        if self.flushing {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.flushing = false;
                    self.progress = (self.socket.get_ref().written(), Instant::now());
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Err(close_for(&error)),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    /// Events first, then frames about the connection: so an `ack` comes behind the events it is about, where they are ready.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, Close> {
        let mut room = self.settings.window;
        let mut any = false;
        let mut at = 0;
        // Each goes first in its turn, so that a busy session does not keep the others waiting.
        if self.following.len() > 1 {
            self.following.rotate_left(1);
        }
        while at < self.following.len() && room > 0 {
            for first in std::mem::take(&mut self.following[at].first) {
                self.send(first, &mut room)?;
                any = true;
            }
            let mut batch = std::mem::take(&mut self.batch);
            let polled = self.following[at].reader.poll_next(cx, room, &mut batch);
            any |= !batch.is_empty();
            for event in batch.drain(..) {
                let last_of_replay = self.following[at].until == Some(event.seq);
                self.send(frames::event(event.text), &mut room)?;
                // What was read with it and is newer comes behind.
                if last_of_replay {
                    self.say_caught_up(at, &mut room)?;
                }
            }
            self.batch = batch;
            any |= self.say_caught_up(at, &mut room)?;
            match polled {
                // There may be more of the same session; the others come first.
                Poll::Ready(Ok(())) | Poll::Pending => at += 1,
                Poll::Ready(Err(error)) => {
                    self.lose(at, &error);
                    // What it attaches again with has not been polled.
                    cx.waker().wake_by_ref();
                }
            }
        }
        // Not kept at its largest: an idle socket must stay small.
        if self.batch.capacity() > 64 {
            self.batch = Vec::new();
        }
        self.release_held();
        for executing in &self.executors {
            while let Poll::Ready(offer) = executing.executor.poll_offer(cx) {
                self.control.push_back(text(&ConnectionMessage::ToolOffered(Box::new(offer))));
            }
        }
        while let Some(message) = self.control.pop_front() {
            self.send(message, &mut room)?;
            any = true;
        }
        Ok(any)
    }

    fn release_held(&mut self) {
        let following = &self.following;
        let behind = |session: SessionId, seq| following.iter().any(|f| f.session == session && f.reader.position() < seq);
        let due = self.held.extract_if(.., |(session, seq, _)| !behind(*session, *seq));
        self.control.extend(due.map(|(_, _, message)| message));
    }

    fn say_caught_up(&mut self, at: usize, room: &mut usize) -> Result<bool, Close> {
        let following = &mut self.following[at];
        let Some(seq) = following.until.filter(|head| following.reader.position() >= *head) else { return Ok(false) };
        following.until = None;
        let message = ConnectionMessage::CaughtUp(CaughtUp { session_id: following.session, seq });
        self.send(text(&message), room)?;
        Ok(true)
    }

    /// A reader has nothing more to read here. A session that this node let go of is attached again, from where the reader stood.
    fn lose(&mut self, at: usize, error: &ReadError) {
        let lost = self.following.swap_remove(at);
        if matches!(error, ReadError::End(TailEnd::Erased)) {
            self.executors.retain(|executing| executing.session != lost.session);
        }
        let again = match error {
            ReadError::End(TailEnd::Erased) => return,
            ReadError::End(TailEnd::Lost) => Duration::ZERO,
            ReadError::Store(_) => Duration::from_secs(1),
        };
        self.attach_again(lost, again);
    }

    fn send(&mut self, message: Message, room: &mut usize) -> Result<(), Close> {
        *room = room.saturating_sub(message.len());
        Pin::new(&mut self.socket).start_send(message).map_err(|error| close_for(&error))
    }

    fn say(&mut self, message: &ConnectionMessage) {
        self.control.push_back(text(message));
    }

    async fn close(mut self: Box<Self>, close: Close) {
        // Readers leave first: nobody waits for a socket that says goodbye.
        self.following.clear();
        self.executors.clear();
        let (code, reason) = match close {
            Close::With(code) => (WireCode::from(code.code()), code.reason()),
            Close::Wire(code) => (code, ""),
            Close::Peer => (WireCode::Normal, ""),
        };
        let Self { mut socket, .. } = *self;
        let farewell = async {
            // What was being written goes out first, if the peer takes it.
            say_close(&mut socket, code.into(), reason).await;
        };
        drop(tokio::time::timeout(CLOSE_WITHIN, farewell).await);
    }
}

fn close_for(error: &WsError) -> Close {
    match error {
        WsError::Capacity(_) => Close::With(CloseCode::TooBig),
        WsError::Utf8(_) => Close::Wire(WireCode::Invalid),
        WsError::Protocol(_) => Close::Wire(WireCode::Protocol),
        other => {
            tracing::debug!(error = %other, "socket lost");
            Close::Peer
        }
    }
}

/// How a socket attaches.
fn socket_attach(after: After) -> Attach {
    Attach { after, socket: true }
}
