//! The task that keeps a connection: one socket after another, the same sessions, the same commands.

use std::{collections::HashMap, time::Duration};

use agent_hub_protocol::{
    ClientMessage, CommandId, Seq, SessionId,
    client_message::{AttachSession, Ping, RefreshToken},
    server_message::{Ack, ConnectionMessage, ErrorMessage, SessionAttached, Welcome},
};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    AppliedEvent, Attached, ClientEvent, CommandError, ConnectError, Ended, Options, Position, RawConnection, Received, Verdict,
    error::resumes,
    unanswered::{Answer, Unanswered, Waiting, attached_by, encode},
};

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Order {
    Command { message: Box<ClientMessage>, reply: oneshot::Sender<Answer> },
    Cut,
    Close,
}

/// Connects as far as `welcome`.
pub(crate) async fn connect(options: &Options) -> Result<(RawConnection, Box<Welcome>), ConnectError> {
    let attempt = async {
        let mut connection = RawConnection::connect(&options.target, &(options.token)(), options.sizes).await?;
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
    };
    timeout(options.connect_timeout, attempt).await.unwrap_or(Err(ConnectError::TimedOut))
}

/// Starts the task. It ends by itself when nobody listens any more.
pub(crate) fn start(
    options: Options,
    connection: RawConnection,
    welcome: Box<Welcome>,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<ClientEvent>,
) {
    let driver = Driver {
        options,
        orders,
        handles_gone: false,
        events,
        sessions: HashMap::new(),
        unanswered: Unanswered::default(),
        message_bytes: usize::MAX,
        reconnect_after: None,
        later: Vec::new(),
    };
    drop(tokio::spawn(driver.run(connection, welcome)));
}

struct Driver {
    options: Options,
    orders: mpsc::Receiver<Order>,
    /// No handle is left; the sessions are still followed.
    handles_gone: bool,
    events: mpsc::Sender<ClientEvent>,
    sessions: HashMap<SessionId, Position>,
    unanswered: Unanswered,
    message_bytes: usize,
    /// Said by `going_away`.
    reconnect_after: Option<Duration>,
    /// Sessions the hub could not attach just now, and when to ask again.
    later: Vec<(Instant, SessionId)>,
}

/// Before asking again for a session, when the hub does not say how long.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);

/// How a connection ended.
enum End {
    /// It broke, or the hub closed it with this code.
    Lost(Option<u16>),
    /// For good.
    Ended(Ended),
}

/// Nobody listens any more.
struct Gone;

/// The parts of a frame that decide what it is; the rest is read where it is wanted.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(rename = "sessionId")]
    session: Option<SessionId>,
    seq: Option<Seq>,
    at: Option<serde::de::IgnoredAny>,
}

impl Driver {
    async fn run(mut self, connection: RawConnection, welcome: Box<Welcome>) {
        let mut next = Some((connection, welcome));
        let ended = loop {
            if let Some((connection, welcome)) = next.take() {
                match self.serve(connection, welcome).await {
                    End::Ended(ended) => break ended,
                    End::Lost(Some(code)) if !resumes(Some(code)) => break Ended::Final(code),
                    End::Lost(code) => {
                        let retry_in = self.reconnect_after.take().unwrap_or_else(|| self.options.backoff.wait());
                        if self.pause(code, retry_in).await.is_err() {
                            break Ended::Closed;
                        }
                    }
                }
            }
            match connect(&self.options).await {
                Ok(connected) => next = Some(connected),
                Err(error) if error.retryable() => {
                    let retry_in = self.options.backoff.wait();
                    if self.pause(None, retry_in).await.is_err() {
                        break Ended::Closed;
                    }
                }
                Err(ConnectError::Closed(Some(code))) => break Ended::Final(code),
                Err(ConnectError::Refused(status)) => break Ended::Refused(status),
                Err(_) => break Ended::Token,
            }
        };
        self.end(ended).await;
    }

    async fn pause(&self, code: Option<u16>, retry_in: Duration) -> Result<(), Gone> {
        self.emit(ClientEvent::Disconnected { code, retry_in }).await?;
        tokio::select! {
            () = sleep(retry_in) => Ok(()),
            () = self.events.closed() => Err(Gone),
        }
    }

    async fn end(mut self, ended: Ended) {
        self.orders.close();
        for Waiting { reply, .. } in self.unanswered.drain() {
            reply.map(|reply| reply.send(Err(CommandError::Ended(ended))));
        }
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Command { reply, .. } = order {
                let _ = reply.send(Err(CommandError::Ended(ended)));
            }
        }
        let _ = self.emit(ClientEvent::Ended(ended)).await;
    }

    /// Speaks over one connection until it ends.
    async fn serve(&mut self, mut connection: RawConnection, welcome: Box<Welcome>) -> End {
        self.options.backoff.reset();
        self.message_bytes = welcome.limits.message_bytes;
        let silence = self.options.silence.unwrap_or(Duration::from_millis(welcome.heartbeat_ms.saturating_mul(2)));
        if self.emit(ClientEvent::Connected(welcome)).await.is_err() {
            return End::Ended(Ended::Closed);
        }
        self.resume(&mut connection);
        let (mut heard, mut pinged) = (Instant::now(), false);
        loop {
            let due = heard + if pinged { silence } else { silence / 2 };
            let later = self.later.iter().map(|(at, _)| *at).min();
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
                order = self.orders.recv(), if !self.handles_gone => match order {
                    Some(Order::Command { message, reply }) => {
                        self.command(*message, reply, &mut connection);
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
                () = self.events.closed() => Err(Gone),
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
        // Taken before the attaches below are added to them.
        let again: Vec<String> = {
            let sessions = &self.sessions;
            let with_cursor = |(id, message): (u64, &mut ClientMessage)| {
                if let ClientMessage::AttachSession(attach) = message
                    && let Some(cursor) = sessions.get(&attach.session_id).and_then(Position::cursor)
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
        let after = self.sessions.get(&session).and_then(Position::cursor).map(|cursor| cursor.to_string());
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

    fn command(&mut self, message: ClientMessage, reply: oneshot::Sender<Answer>, connection: &mut RawConnection) {
        if let Some(session) = attached_by(&message) {
            // An attach on purpose starts anew where it says; what its cursor covers was applied by somebody else.
            let asked = match &message {
                ClientMessage::AttachSession(attach) => attach.after.as_deref().and_then(|after| after.parse().ok()),
                _ => None,
            };
            match asked {
                Some(cursor) => drop(self.sessions.insert(session, Position::at(cursor))),
                None => drop(self.sessions.entry(session).or_default()),
            }
        }
        if let ClientMessage::DetachSession(which) = &message
            && let Some(session) = which.session_id
        {
            self.sessions.remove(&session);
        }
        let (id, text) = self.unanswered.add(message, Some(reply));
        if text.len() > self.message_bytes {
            let error = CommandError::TooBig { bytes: text.len(), limit: self.message_bytes };
            self.answer(&CommandId::Number(id), Err(error));
            return;
        }
        connection.queue(&text);
    }

    async fn receive(&mut self, text: Utf8Bytes, connection: &mut RawConnection) -> Result<(), Gone> {
        let Ok(head) = serde_json::from_str::<Head<'_>>(&text) else {
            tracing::warn!("the hub sent a frame that is no message");
            return Ok(());
        };
        if let (Some(session), Some(seq), Some(_)) = (head.session, head.seq, head.at.as_ref()) {
            return self.event(session, seq, text, connection).await;
        }
        if !ConnectionMessage::TYPES.contains(&head.kind.as_ref()) {
            return Ok(());
        }
        match serde_json::from_str(&text) {
            Ok(message) => self.about_connection(message, connection).await,
            Err(error) => {
                tracing::warn!(%error, "the hub sent a message that cannot be read");
                Ok(())
            }
        }
    }

    async fn event(&mut self, session_id: SessionId, seq: Seq, text: Utf8Bytes, connection: &mut RawConnection) -> Result<(), Gone> {
        // Events of a session that was detached may still be on their way.
        let Some(position) = self.sessions.get_mut(&session_id) else { return Ok(()) };
        match position.take(seq) {
            Verdict::Apply => self.emit(ClientEvent::Event(AppliedEvent { session_id, seq, text })).await,
            Verdict::Ignore => Ok(()),
            Verdict::Gap => {
                tracing::warn!(%session_id, seq, "events are missing; attaching again");
                self.attach_again(session_id, connection);
                Ok(())
            }
        }
    }

    async fn about_connection(&mut self, message: ConnectionMessage, connection: &mut RawConnection) -> Result<(), Gone> {
        match message {
            ConnectionMessage::Welcome(_) => Ok(()),
            ConnectionMessage::Pong(pong) => {
                // Our own pings have an id that no command has.
                if let Some(id) = pong.id {
                    let ack = Ack { id: id.clone(), received: "ping".to_owned(), session_id: None, task_id: None, seq: None };
                    self.answer(&id, Ok(ack));
                }
                Ok(())
            }
            ConnectionMessage::Ack(ack) => {
                let id = ack.id.clone();
                self.answer(&id, Ok(ack));
                Ok(())
            }
            ConnectionMessage::Error(error) => self.refused(error).await,
            ConnectionMessage::SessionAttached(answer) => self.attached(*answer).await,
            ConnectionMessage::CaughtUp(caught_up) => self.emit(ClientEvent::CaughtUp { session_id: caught_up.session_id }).await,
            ConnectionMessage::AuthExpiring(_) => {
                let token = (self.options.token)();
                let (_, text) = self.unanswered.add(ClientMessage::RefreshToken(RefreshToken { token }), None);
                connection.queue(&text);
                Ok(())
            }
            ConnectionMessage::GoingAway(going) => {
                self.reconnect_after = Some(Duration::from_millis(going.reconnect_after_ms));
                Ok(())
            }
        }
    }

    async fn attached(&mut self, answer: SessionAttached) -> Result<(), Gone> {
        let Some(position) = self.sessions.get_mut(&answer.session_id) else { return Ok(()) };
        let kept = position.attached(&answer);
        let SessionAttached { session_id, epoch, from, head, snapshot, .. } = answer;
        self.emit(ClientEvent::Attached(Box::new(Attached { session_id, epoch, kept, from, head, snapshot }))).await
    }

    async fn refused(&mut self, error: ErrorMessage) -> Result<(), Gone> {
        let Some(waiting) = self.unanswered.remove(error.id.as_ref()) else {
            return self.emit(ClientEvent::Problem(Box::new(error))).await;
        };
        let attach = attached_by(&waiting.message);
        match waiting.reply {
            Some(reply) => {
                if let Some(session) = attach
                    && self.sessions.get(&session).is_some_and(|position| position.cursor().is_none())
                {
                    self.sessions.remove(&session);
                }
                let _ = reply.send(Err(CommandError::Refused(Box::new(error))));
                Ok(())
            }
            None if error.retryable && attach.is_some() => {
                let wait = error.retry_after_ms.map_or(ATTACH_AGAIN, Duration::from_millis);
                self.later.extend(attach.map(|session| (Instant::now() + wait, session)));
                Ok(())
            }
            None => match attach.filter(|session| self.sessions.remove(session).is_some()) {
                Some(session_id) => self.emit(ClientEvent::Detached { session_id, error: Box::new(error) }).await,
                None => self.emit(ClientEvent::Problem(Box::new(error))).await,
            },
        }
    }

    fn answer(&mut self, id: &CommandId, answer: Answer) {
        if let Some(Waiting { reply: Some(reply), .. }) = self.unanswered.remove(Some(id)) {
            // Who asked may have stopped waiting.
            let _ = reply.send(answer);
        }
    }

    async fn emit(&self, event: ClientEvent) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}
