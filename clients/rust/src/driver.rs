//! The task that keeps a connection: one socket after another, the same sessions, the same commands.

mod receive;

use std::{collections::HashMap, time::Duration};

use agent_hub_protocol::{
    ClientMessage, CommandId, SessionId,
    client_message::{AttachSession, Ping, RefreshToken},
    server_message::{ConnectionMessage, Welcome},
};
use futures::future::{BoxFuture, OptionFuture};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    ClientEvent, CommandError, ConnectError, Ended, Options, Position, RawConnection, Received, State, TokenError,
    error::resumes,
    unanswered::{Answer, Unanswered, Waiting, attached_by, encode},
};

/// Commands without an answer. Full: further ones wait in the line of orders, and behind that their senders do.
const UNANSWERED: usize = 256;
/// Before asking again for a session, when the hub does not say how long.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);
/// A message was too big for the hub.
const TOO_BIG: u16 = 1009;

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Order {
    Command { message: Box<ClientMessage>, reply: oneshot::Sender<Answer> },
    Cut,
    Close,
}

/// A connection on which the hub has said welcome.
pub(crate) type Connected = (RawConnection, Box<Welcome>);

/// The driver's ends of what it shares with handles and listeners.
pub(crate) struct Ends {
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) events: mpsc::Sender<(ClientEvent, State)>,
    pub(crate) state: watch::Sender<State>,
}

/// Connects as far as `welcome`.
pub(crate) async fn connect(options: &Options) -> Result<Connected, ConnectError> {
    // A handshake needs much room for a short time.
    let attempt = Box::pin(async {
        let token = options.token.ask().await.map_err(ConnectError::NoToken)?;
        #[cfg(feature = "tls")]
        let connection = RawConnection::connect_trusting(&options.target, &token, options.sizes, options.tls.clone()).await;
        #[cfg(not(feature = "tls"))]
        let connection = RawConnection::connect(&options.target, &token, options.sizes).await;
        let mut connection = connection?;
        loop {
            match connection.next().await {
                Received::Life => {}
                Received::Closed(code) => return Err(ConnectError::Closed(code)),
                Received::Text(text) => match serde_json::from_str(&text) {
                    Ok(ConnectionMessage::Welcome(welcome)) => return Ok((connection, Box::new(welcome))),
                    Ok(_) | Err(_) => return Err(ConnectError::NoWelcome),
                },
            }
        }
    });
    timeout(options.connect_timeout, attempt).await.unwrap_or(Err(ConnectError::TimedOut))
}

/// Starts the task. It ends by itself when nobody listens any more.
pub(crate) fn start(options: Options, connected: Option<Connected>, ends: Ends) {
    let driver = Driver {
        options,
        ends,
        handles_gone: false,
        state: State::default(),
        sessions: HashMap::new(),
        unanswered: Unanswered::default(),
        message_bytes: usize::MAX,
        reconnect_after: None,
        refreshing: None,
        later: Vec::new(),
    };
    drop(tokio::spawn(driver.run(connected)));
}

struct Driver {
    options: Options,
    ends: Ends,
    /// No handle is left; the sessions are still followed.
    handles_gone: bool,
    state: State,
    sessions: HashMap<SessionId, Followed>,
    unanswered: Unanswered,
    message_bytes: usize,
    /// Said by `going_away`.
    reconnect_after: Option<Duration>,
    /// A new token that was asked for.
    refreshing: Option<BoxFuture<'static, Result<String, TokenError>>>,
    /// Sessions the hub could not attach just now, and when to ask again.
    later: Vec<(Instant, SessionId)>,
}

/// A session that is followed.
#[derive(Default)]
struct Followed {
    position: Position,
    /// Attached on this connection, and not caught up yet; or not attached again yet.
    behind: bool,
}

/// How a connection ended.
enum End {
    /// It broke, or the hub closed it with this code.
    Lost(Option<u16>),
    /// For good.
    Ended(Ended),
}

/// Nobody listens any more, or the client was told to close.
struct Gone;

impl Driver {
    async fn run(mut self, connected: Option<Connected>) {
        let ended = self.keep_connected(connected).await.unwrap_or(Ended::Closed);
        self.end(ended).await;
    }

    async fn keep_connected(&mut self, mut next: Option<Connected>) -> Result<Ended, Gone> {
        loop {
            let lost = match next.take() {
                Some((connection, welcome)) => match self.serve(connection, welcome).await {
                    End::Ended(ended) => return Ok(ended),
                    End::Lost(code) => code,
                },
                None => {
                    let options = self.options.clone();
                    match self.while_waiting(connect(&options)).await? {
                        Ok(connected) => {
                            next = Some(connected);
                            continue;
                        }
                        Err(error) if error.retryable() => error.close_code(),
                        Err(ConnectError::Closed(Some(code))) => Some(code),
                        Err(ConnectError::Refused(status)) => return Ok(Ended::Refused(status)),
                        Err(_) => return Ok(Ended::Token),
                    }
                }
            };
            if !resumes(lost) {
                return Ok(Ended::Final(lost.unwrap_or_default()));
            }
            if lost == Some(TOO_BIG) {
                self.give_up_largest();
            }
            let retry_in = self.reconnect_after.take().unwrap_or_else(|| self.options.backoff.wait());
            self.turn(if self.state == State::Connecting { State::Connecting } else { State::Stale });
            self.emit(ClientEvent::Disconnected { code: lost, retry_in }).await?;
            self.while_waiting(sleep(retry_in)).await?;
        }
    }

    /// Waits, and takes in what is ordered meanwhile.
    async fn while_waiting<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Gone> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return Ok(done),
                order = self.ends.orders.recv(), if self.takes_orders() => match order {
                    Some(Order::Command { message, reply }) => drop(self.take_in(*message, reply)),
                    // There is nothing to cut.
                    Some(Order::Cut) => {}
                    Some(Order::Close) => return Err(Gone),
                    None => self.handles_gone = true,
                },
                () = self.ends.events.closed() => return Err(Gone),
            }
        }
    }

    fn takes_orders(&self) -> bool {
        !self.handles_gone && self.unanswered.len() < UNANSWERED
    }

    async fn end(mut self, ended: Ended) {
        self.ends.orders.close();
        for Waiting { reply, .. } in self.unanswered.drain() {
            reply.map(|reply| reply.send(Err(CommandError::Ended(ended))));
        }
        while let Ok(order) = self.ends.orders.try_recv() {
            if let Order::Command { reply, .. } = order {
                let _ = reply.send(Err(CommandError::Ended(ended)));
            }
        }
        self.turn(State::Closed);
        let _ = self.emit(ClientEvent::Ended(ended)).await;
    }

    /// Speaks over one connection until it ends.
    async fn serve(&mut self, mut connection: RawConnection, welcome: Box<Welcome>) -> End {
        self.options.backoff.reset();
        self.message_bytes = welcome.limits.message_bytes;
        self.refreshing = None;
        let silence = self.options.silence.unwrap_or(Duration::from_millis(welcome.heartbeat_ms.saturating_mul(2)));
        self.resume(&mut connection);
        self.note_progress(true);
        if self.emit(ClientEvent::Connected(welcome)).await.is_err() {
            return End::Ended(Ended::Closed);
        }
        let (mut heard, mut pinged) = (Instant::now(), false);
        loop {
            let due = heard + if pinged { silence } else { silence / 2 };
            let later = self.later.iter().map(|(at, _)| *at).min();
            let refreshed = OptionFuture::from(self.refreshing.as_mut());
            let handled = tokio::select! {
                received = connection.next() => {
                    (heard, pinged) = (Instant::now(), false);
                    match received {
                        Received::Life => Ok(()),
                        Received::Closed(code) => return End::Lost(code),
                        Received::Text(text) => {
                            let handled = self.receive(text, &mut connection).await;
                            // Time spent waiting for room in our own queue is not the hub's silence.
                            heard = Instant::now();
                            handled
                        }
                    }
                }
                order = self.ends.orders.recv(), if !self.handles_gone && self.unanswered.len() < UNANSWERED => match order {
                    Some(Order::Command { message, reply }) => {
                        if let Some(text) = self.take_in(*message, reply) {
                            connection.queue(&text);
                        }
                        Ok(())
                    }
                    Some(Order::Cut) => return End::Lost(None),
                    Some(Order::Close) => {
                        connection.close().await;
                        return End::Ended(Ended::Closed);
                    }
                    None => {
                        self.handles_gone = true;
                        Ok(())
                    }
                },
                Some(token) = refreshed => {
                    self.refresh(token, &mut connection);
                    Ok(())
                }
                () = sleep_until(due) => {
                    if pinged {
                        return End::Lost(None);
                    }
                    pinged = true;
                    connection.queue(&encode(0, &ClientMessage::Ping(Ping {})));
                    Ok(())
                }
                () = sleep_until(later.unwrap_or(due)), if later.is_some() => {
                    self.attach_those_due(&mut connection);
                    Ok(())
                }
                () = self.ends.events.closed() => Err(Gone),
            };
            if handled.is_err() {
                return End::Ended(Ended::Closed);
            }
        }
    }

    /// After a reconnect: the sessions behind their cursors, then what was not answered, in its order.
    fn resume(&mut self, connection: &mut RawConnection) {
        self.unanswered.forget_own();
        self.later.clear();
        for followed in self.sessions.values_mut() {
            followed.behind = true;
        }
        // Taken before the attaches below are added to them.
        let again: Vec<String> = {
            let sessions = &self.sessions;
            let with_cursor = |(id, message): (u64, &mut ClientMessage)| {
                if let ClientMessage::AttachSession(attach) = message
                    && let Some(cursor) = sessions.get(&attach.session_id).and_then(|followed| followed.position.cursor())
                {
                    attach.after = Some(cursor.to_string());
                }
                encode(id, message)
            };
            self.unanswered.iter_mut().map(with_cursor).collect()
        };
        let sessions: Vec<SessionId> = self.sessions.keys().copied().filter(|session| !self.unanswered.attaches(*session)).collect();
        for session in sessions {
            self.attach_again(session, connection);
        }
        for text in again {
            connection.queue(&text);
        }
    }

    fn attach_again(&mut self, session: SessionId, connection: &mut RawConnection) {
        let cursor = self.sessions.get(&session).and_then(|followed| followed.position.cursor());
        let after = cursor.map(|cursor| cursor.to_string());
        let (_, text) = self.unanswered.add(ClientMessage::AttachSession(AttachSession { session_id: session, after }), None);
        connection.queue(&text);
    }

    fn attach_those_due(&mut self, connection: &mut RawConnection) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, session) in due {
            if self.sessions.contains_key(&session) {
                self.attach_again(session, connection);
            }
        }
    }

    /// Keeps a command until it is answered. Returns what to send, unless it is too big to be sent at all.
    fn take_in(&mut self, message: ClientMessage, reply: oneshot::Sender<Answer>) -> Option<String> {
        if let Some(session) = attached_by(&message) {
            // An attach on purpose starts anew where it says; what its cursor covers was applied by somebody else.
            let asked = match &message {
                ClientMessage::AttachSession(attach) => attach.after.as_deref().and_then(|after| after.parse().ok()),
                _ => None,
            };
            let followed = self.sessions.entry(session).or_default();
            if let Some(cursor) = asked {
                followed.position = Position::at(cursor);
            }
        }
        if let ClientMessage::DetachSession(which) = &message
            && let Some(session) = which.session_id
        {
            self.sessions.remove(&session);
        }
        let (id, text) = self.unanswered.add(message, Some(reply));
        if text.len() > self.message_bytes {
            let error = CommandError::TooBig { bytes: text.len(), limit: Some(self.message_bytes) };
            self.answer(&CommandId::Number(id), Err(error));
            return None;
        }
        Some(text)
    }

    /// The hub closed the socket because of a message; sent again, it would close the next one too.
    fn give_up_largest(&mut self) {
        self.unanswered.forget_own();
        if let Some((Waiting { reply: Some(reply), .. }, bytes)) = self.unanswered.take_largest() {
            // Who asked may have stopped waiting.
            let _ = reply.send(Err(CommandError::TooBig { bytes, limit: None }));
        }
    }

    fn refresh(&mut self, token: Result<String, TokenError>, connection: &mut RawConnection) {
        self.refreshing = None;
        match token {
            Ok(token) => {
                let (_, text) = self.unanswered.add(ClientMessage::RefreshToken(RefreshToken { token }), None);
                connection.queue(&text);
            }
            // The hub will close the socket, and the next attempt asks again.
            Err(error) => tracing::warn!(error = %error, "there is no new token"),
        }
    }

    fn answer(&mut self, id: &CommandId, answer: Answer) {
        if let Some(Waiting { reply: Some(reply), .. }) = self.unanswered.remove(Some(id)) {
            // Who asked may have stopped waiting.
            let _ = reply.send(answer);
        }
    }

    /// Connected, it is up to date when every session is.
    fn note_progress(&mut self, connected: bool) {
        if connected || matches!(self.state, State::Live | State::Replaying) {
            let behind = self.sessions.values().any(|followed| followed.behind);
            self.turn(if behind { State::Replaying } else { State::Live });
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.ends.state.send_if_modified(|shown| std::mem::replace(shown, state) != state);
    }

    async fn emit(&mut self, event: ClientEvent) -> Result<(), Gone> {
        self.ends.events.send((event, self.state)).await.map_err(|_| Gone)
    }
}
