//! What a scripted socket knows, and what every frame changes of it. Nothing here waits.

use std::{cell::RefCell, rc::Rc, time::Instant};

use agent_hub_protocol::{
    ErrorCode,
    server_message::{ConnectionMessage, ErrorMessage, SessionAttached},
};

use super::{
    book::Took,
    figures::{Count, Figures, Timing},
    session::{Now, Session},
};
use crate::{
    scenario::StartAt,
    wire::{Head, head, number_field},
};

/// See the module.
pub struct State {
    /// The sessions of the script, in order.
    pub sessions: Vec<Session>,
    /// Commands that were not answered.
    pub pending: Vec<Pending>,
    /// The hub has said `welcome` on this connection.
    pub welcomed: bool,
    /// Since when a connection is lost, or a reconnect was due, that has not caught up.
    pub resuming: Option<Instant>,
    /// Sessions of a script that waits for them may not be there yet.
    pub patient: bool,
    /// Attaches that were refused and are to be sent again, and whether they were refused for good.
    pub refused: Vec<usize>,
    /// A refusal the script cannot go on after.
    pub fatal: Option<String>,
    /// Sessions with a hole to be filled.
    pub gaps: Vec<usize>,
    /// Sessions whose epoch is known now, to be attached from their first event.
    pub from_start: Vec<usize>,
    /// What is counted.
    pub figures: Rc<RefCell<Figures>>,
    last_id: u64,
}

/// A command that was not answered.
pub struct Pending {
    id: u64,
    /// What it is.
    pub what: What,
    due: Instant,
    /// As it was sent.
    pub text: String,
}

/// What a command is, with the number of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the commands of the protocol")]
pub enum What {
    Create(usize),
    Attach(usize),
    Detach,
    Submit(usize),
    Cancel(usize),
    Steer,
}

impl State {
    /// Of a socket that has done nothing.
    pub fn new(sessions: Vec<Session>, figures: Rc<RefCell<Figures>>) -> Self {
        Self {
            sessions,
            pending: Vec::new(),
            welcomed: false,
            resuming: None,
            patient: false,
            refused: Vec::new(),
            fatal: None,
            gaps: Vec::new(),
            from_start: Vec::new(),
            figures,
            last_id: 0,
        }
    }

    /// A command, with an id of its own. `rest` are its fields, each with a comma in front.
    pub fn command(&mut self, kind: &str, rest: &str, what: What, due: Instant) -> String {
        self.last_id += 1;
        let text = format!(r#"{{"type":"{kind}","id":{}{rest}}}"#, self.last_id);
        self.pending.push(Pending { id: self.last_id, what, due, text: text.clone() });
        text
    }

    /// An attach of a session.
    pub fn attach(&mut self, index: usize, from: StartAt, due: Instant) -> String {
        let session = &mut self.sessions[index];
        session.following = true;
        session.attaching = true;
        let after = match from {
            StartAt::Cursor => session.book.cursor().map(|cursor| cursor.to_string()),
            // Before the first answer the epoch is not known: a snapshot tells it, and is thrown away.
            StartAt::Start => session.book.rewind(),
            StartAt::Snapshot => None,
        };
        session.then_from_start = from == StartAt::Start && after.is_none();
        session.with_cursor = after.is_some();
        let after = after.map(|after| format!(r#","after":"{after}""#)).unwrap_or_default();
        let rest = format!(r#","sessionId":"{}"{after}"#, session.name);
        self.command("attach_session", &rest, What::Attach(index), due)
    }

    /// Whether an answer to this is still to come.
    pub fn waits_for(&self, what: impl Fn(What) -> bool) -> bool {
        self.pending.iter().any(|pending| what(pending.what))
    }

    /// The connection has ended.
    pub fn disconnected(&mut self) {
        self.welcomed = false;
        self.gaps.clear();
        self.from_start.clear();
        self.refused.clear();
        for session in &mut self.sessions {
            session.book.disconnected();
        }
        // A repeated one is made anew, from where the session stands then.
        self.pending.retain(|pending| !matches!(pending.what, What::Attach(_) | What::Detach));
    }

    /// A frame came.
    pub fn frame(&mut self, frame: &[u8], now: Now) {
        self.figures.borrow_mut().add(Count::Bytes, frame.len() as u64);
        match head(frame) {
            Some(head) if head.is_event => self.event(&head, frame, frame, now),
            Some(Head { kind: b"caught_up", session: Some(name), .. }) => self.caught_up(name, now),
            _ if frame.starts_with(br#"{"type":"ack""#) => self.acknowledged(frame, now),
            _ => self.other(frame, now),
        }
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.sessions.iter().position(|session| session.name.as_bytes() == name)
    }

    /// `frame` is what came, `text` the same as the hub would have written it.
    fn event(&mut self, head: &Head<'_>, frame: &[u8], text: &[u8], now: Now) {
        let (Some(name), Some(seq)) = (head.session, head.seq) else { return };
        let Some(index) = self.find(name) else { return };
        let session = &mut self.sessions[index];
        let mut figures = self.figures.borrow_mut();
        match session.book.take(&session.name, seq, frame, &mut figures) {
            Took::Applied => session.event(head, text, now, &mut figures),
            Took::Gap => self.gaps.push(index),
            Took::Passed => {}
        }
    }

    fn caught_up(&mut self, name: &[u8], now: Now) {
        let Some(index) = self.find(name) else { return };
        let session = &mut self.sessions[index];
        let mut figures = self.figures.borrow_mut();
        session.attaching = false;
        if let Some((timing, due)) = session.timed.take() {
            figures.time(timing, now.instant.saturating_duration_since(due));
        }
        if let Some(before) = session.resumed_from.take() {
            figures.record(Timing::Missed, session.book.last().saturating_sub(before));
        }
        drop(figures);
        self.note_resumed(now.instant);
    }

    /// The script ends the connection, or begins another reconnect: the one that was under way is not timed.
    pub fn resumes_no_more(&mut self) {
        self.resuming = None;
        for session in &mut self.sessions {
            session.resumed_from = None;
        }
    }

    /// The last session of a reconnect may have caught up.
    pub fn note_resumed(&mut self, now: Instant) {
        if let Some(due) = self.resuming
            && !self.sessions.iter().any(|session| session.attaching)
        {
            self.resuming = None;
            let mut figures = self.figures.borrow_mut();
            figures.count(Count::Resumes);
            figures.time(Timing::Resume, now.saturating_duration_since(due));
        }
    }

    fn acknowledged(&mut self, frame: &[u8], now: Now) {
        let Some(pending) = number_field(frame, "id").and_then(|id| self.answered(id)) else { return };
        let mut figures = self.figures.borrow_mut();
        let took = now.instant.saturating_duration_since(pending.due);
        match pending.what {
            What::Create(_) => figures.count(Count::Sessions),
            What::Attach(_) | What::Detach => {}
            What::Submit(_) => {
                figures.count(Count::Submitted);
                figures.time(Timing::SubmitAck, took);
            }
            What::Cancel(index) => {
                figures.time(Timing::CancelAck, took);
                if let Some(task) = self.sessions[index].tasks.last_mut() {
                    task.cancel_acknowledged(frame);
                }
            }
            What::Steer => figures.time(Timing::SteerAck, took),
        }
    }

    fn answered(&mut self, id: u64) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.id == id)?;
        Some(self.pending.remove(at))
    }

    /// What is rare enough to be parsed, or comes from a server that writes its fields in another order.
    fn other(&mut self, frame: &[u8], now: Now) {
        match serde_json::from_slice::<ConnectionMessage>(frame) {
            Ok(ConnectionMessage::Welcome(_)) => self.welcomed = true,
            Ok(ConnectionMessage::SessionAttached(answer)) => self.attached(&answer),
            Ok(ConnectionMessage::CaughtUp(caught_up)) => self.caught_up(caught_up.session_id.to_string().as_bytes(), now),
            Ok(ConnectionMessage::Error(error)) => self.refused(&error),
            Ok(_) => {}
            Err(_) => self.foreign_event(frame, now),
        }
    }

    fn attached(&mut self, answer: &SessionAttached) {
        let Some(index) = self.sessions.iter().position(|session| session.id == answer.session_id) else { return };
        let session = &mut self.sessions[index];
        let mut figures = self.figures.borrow_mut();
        figures.count(Count::Attaches);
        if !session.book.attached(answer, session.with_cursor, &mut figures) {
            // What came in its place was not missed event by event.
            session.resumed_from = None;
        }
        session.tokens_before = session.tokens;
        session.ends_before = session.ends;
        if std::mem::take(&mut session.then_from_start) {
            self.from_start.push(index);
        }
    }

    fn refused(&mut self, error: &ErrorMessage) {
        let id = match &error.id {
            Some(agent_hub_protocol::CommandId::Number(id)) => Some(*id),
            Some(agent_hub_protocol::CommandId::Text(_)) | None => None,
        };
        let pending = id.and_then(|id| self.answered(id));
        let what = pending.map(|pending| pending.what);
        if let Some(What::Attach(index)) = what
            && (error.retryable || (self.patient && error.code == ErrorCode::SessionNotFound))
        {
            self.refused.push(index);
            return;
        }
        let mut figures = self.figures.borrow_mut();
        if what.is_some_and(|what| matches!(what, What::Cancel(_))) && error.code == ErrorCode::AlreadyTerminal {
            figures.count(Count::CancelsTooLate);
            return;
        }
        figures.count(Count::Errors);
        figures.error(&format!("{}: {}", error.code, error.message));
        match what {
            Some(What::Create(index) | What::Attach(index)) => {
                self.sessions[index].following = false;
                self.sessions[index].attaching = false;
                self.fatal = Some(format!("the hub refused a session: {}: {}", error.code, error.message));
            }
            Some(What::Submit(index)) => {
                if let Some(task) = self.sessions[index].tasks.last_mut() {
                    task.end = Some(None);
                }
            }
            Some(What::Detach | What::Cancel(_) | What::Steer) | None => {}
        }
    }

    fn foreign_event(&mut self, frame: &[u8], now: Now) {
        let Some(text) = std::str::from_utf8(frame).ok() else { return };
        let Ok(event) = agent_hub_protocol::Event::decode(text) else {
            let mut figures = self.figures.borrow_mut();
            figures.count(Count::Errors);
            figures.error(&format!("a frame that is no message: {}", text.chars().take(200).collect::<String>()));
            return;
        };
        let text = event.encode();
        if let Some(head) = head(text.as_bytes()) {
            self.event(&head, frame, text.as_bytes(), now);
        }
    }
}
