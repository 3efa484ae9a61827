//! A scripted socket: one connection after another, and what is known of its sessions across them.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use agent_hub_client::{
    Backoff,
    protocol::{CloseCode, SessionId},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep_until, timeout},
};

use super::{
    figures::{Count, Figures, Timing},
    session::{Now, Session},
    state::{State, What},
};
use crate::{
    rng::Rng,
    scenario::{Group, How, StartAt},
    wire::{Dial, Read, SCRATCH_BYTES, Wire},
};

/// Reads of one socket before the others have their turn.
const READS_PER_TURN: usize = 4;
/// How long one attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Before an attach that was refused is sent again.
const ATTACH_AGAIN: Duration = Duration::from_millis(200);

/// Why a script cannot go on, for people.
pub type Broken = String;

/// What all sockets of a load process share.
pub struct Shared {
    /// What is counted.
    pub figures: Rc<RefCell<Figures>>,
    /// Read into, by one at a time.
    pub scratch: RefCell<Vec<u8>>,
    /// Handshakes at the same time: fewer than the backlog of a server, which otherwise would be measured by the kernel's patience.
    pub handshakes: Semaphore,
}

impl Shared {
    /// For a new process.
    ///
    /// # Errors
    /// As [`Figures::new`].
    pub fn new() -> anyhow::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            figures: Rc::new(RefCell::new(Figures::new()?)),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
            handshakes: Semaphore::new(1024),
        }))
    }
}

/// See the module.
pub struct Socket {
    /// What it knows.
    pub state: State,
    /// Of all random choices of this socket.
    pub rng: Rng,
    /// Where it connects, and from where.
    pub dial: Dial,
    /// As whom.
    pub token: Rc<str>,
    /// Whose script it is.
    pub group: Rc<Group>,
    /// The next timed step was due then; late steps are timed from there.
    pub due: Option<Instant>,
    /// Interrupts a wait, so that its condition is looked at again.
    pub wake: Option<Rc<Notify>>,
    wire: Option<Wire>,
    backoff: Backoff,
    /// The script ended the connection: it does not come back by itself.
    away: bool,
    shared: Rc<Shared>,
    attach_again: Option<Instant>,
}

impl Socket {
    /// One that is not connected.
    pub fn new(shared: Rc<Shared>, group: Rc<Group>, dial: Dial, token: Rc<str>, rng: Rng, sessions: Vec<SessionId>) -> Self {
        let sessions = sessions.into_iter().map(Session::new).collect();
        let state = State::new(sessions, shared.figures.clone());
        Self {
            state,
            rng,
            dial,
            token,
            group,
            due: None,
            wake: None,
            wire: None,
            backoff: Backoff::default(),
            away: true,
            shared,
            attach_again: None,
        }
    }

    /// When the next timed step was due: when the one before said, or now.
    pub fn take_due(&mut self) -> Instant {
        self.due.take().unwrap_or_else(Instant::now)
    }

    /// Whether the script has ended the connection.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Connects for the first time.
    ///
    /// # Errors
    /// No connection within the group's time.
    pub async fn open(&mut self, due: Instant) -> Result<(), Broken> {
        self.establish(due, Instant::now() + self.group.within).await?;
        self.shared.figures.borrow_mut().time(Timing::Connect, due.elapsed());
        Ok(())
    }

    /// Connects again as the script says, attaches what was followed, and sends again what was not answered. Does not wait for the events.
    ///
    /// # Errors
    /// No connection within the group's time.
    pub async fn come_back(&mut self, due: Instant, from: StartAt) -> Result<(), Broken> {
        self.state.resumes_no_more();
        self.resume(due, from).await
    }

    /// The same by itself. A connection that is lost again before all is caught up is one reconnect, timed from its first loss.
    async fn resume(&mut self, due: Instant, from: StartAt) -> Result<(), Broken> {
        let due = *self.state.resuming.get_or_insert(due);
        for session in self.state.sessions.iter_mut().filter(|session| session.following) {
            session.attaching = true;
            session.timed = session.timed.filter(|_| session.book.cursor().is_none());
            if from == StartAt::Cursor {
                session.resumed_from.get_or_insert(session.book.last());
            }
        }
        self.establish(due, Instant::now() + self.group.within).await?;
        let mut texts = Vec::new();
        for index in 0..self.state.sessions.len() {
            let made = |pending: What| pending == What::Create(index);
            // A session whose making was not acknowledged is attached by making it again.
            if self.state.sessions[index].following && !self.state.waits_for(made) {
                texts.push(self.state.attach(index, from, due));
            }
        }
        texts.extend(
            self.state.pending.iter().filter(|pending| !matches!(pending.what, What::Attach(_))).map(|pending| pending.text.clone()),
        );
        for text in texts {
            self.send(&text).await;
        }
        self.state.note_resumed(Instant::now());
        Ok(())
    }

    /// Attempts until one succeeds.
    async fn establish(&mut self, due: Instant, deadline: Instant) -> Result<(), Broken> {
        self.away = false;
        loop {
            let attempt = self.attempt().await;
            if let Some(ended) = self.note_attempt(attempt, due, deadline) {
                return ended;
            }
            let pause = self.backoff.wait();
            sleep_until((Instant::now() + pause).min(deadline).into()).await;
        }
    }

    /// Counts an attempt; says how it all ends, or nothing if there is to be another.
    fn note_attempt(&mut self, attempt: Result<Wire, Attempt>, due: Instant, deadline: Instant) -> Option<Result<(), Broken>> {
        let mut figures = self.shared.figures.borrow_mut();
        match attempt {
            Ok(wire) => {
                figures.count(Count::Connects);
                figures.open += 1;
                self.wire = Some(wire);
                self.backoff.reset();
                Some(Ok(()))
            }
            Err(Attempt::Failed(text)) => {
                figures.count(Count::ConnectFailures);
                figures.error(&text);
                (Instant::now() >= deadline).then(|| Err(format!("no connection within {:?}: {text}", due.elapsed())))
            }
            Err(Attempt::Final(text)) => {
                figures.count(Count::ConnectFailures);
                figures.error(&text);
                Some(Err(text))
            }
        }
    }

    async fn attempt(&mut self) -> Result<Wire, Attempt> {
        let shared = self.shared.clone();
        // The semaphore is never closed.
        let _turn = shared.handshakes.acquire().await;
        let shaking = async { Wire::dial(&self.dial, &self.token).await };
        let failed = |error: anyhow::Error| Attempt::Failed(format!("no connection: {error:#}"));
        let wire = timeout(ATTEMPT, shaking)
            .await
            .map_err(|_| Attempt::Failed("no connection: no handshake in time".to_owned()))?
            .map_err(failed)?;
        self.state.welcomed = false;
        let deadline = Instant::now() + ATTEMPT;
        loop {
            let read = read(&wire, &mut self.state, &self.shared, usize::MAX);
            match read {
                _ if self.state.welcomed => return Ok(wire),
                Ok(Read::Closed(code)) => return Err(closed_at_the_door(code)),
                Err(error) => return Err(failed(error.into())),
                Ok(_) => {}
            }
            tokio::select! {
                ready = wire.readable() => ready.map_err(|error| failed(error.into()))?,
                () = sleep_until(deadline.into()) => return Err(Attempt::Failed("no connection: no welcome in time".to_owned())),
            }
        }
    }

    /// Sends a command. A broken connection shows when it is read.
    pub async fn send(&mut self, text: &str) {
        if let Some(wire) = &self.wire
            && let Err(error) = wire.send(text).await
        {
            self.lost(Some(error.to_string()), None);
        }
    }

    /// Reads, answers what has to be answered at once, and comes back where the connection was lost, until `done` or the deadline.
    /// Returns whether it is done.
    ///
    /// # Errors
    /// The script cannot go on.
    pub async fn until(&mut self, deadline: Instant, done: impl Fn(&State) -> bool) -> Result<bool, Broken> {
        loop {
            if let Some(fatal) = self.state.fatal.take() {
                return Err(fatal);
            }
            if done(&self.state) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.turn(deadline).await?;
        }
    }

    async fn turn(&mut self, deadline: Instant) -> Result<(), Broken> {
        let wake = self.wake.clone();
        // Made before anything is waited for: what wakes from here on is not missed.
        let woken = async {
            match &wake {
                Some(wake) => wake.notified().await,
                None => std::future::pending().await,
            }
        };
        let Some(wire) = &self.wire else {
            if self.away {
                tokio::select! {
                    () = woken => {}
                    () = sleep_until(deadline.into()) => {}
                }
                return Ok(());
            }
            if !self.group.reconnect {
                return Err("the connection was ended, and the group does not reconnect".to_owned());
            }
            let pause = self.backoff.wait();
            sleep_until((Instant::now() + pause).into()).await;
            return Box::pin(self.resume(Instant::now(), StartAt::Cursor)).await;
        };
        let again = self.attach_again.map_or(deadline, |again| again.min(deadline));
        tokio::select! {
            biased;
            ready = wire.readable() => {
                if let Err(error) = ready {
                    self.lost(Some(error.to_string()), None);
                    return Ok(());
                }
            }
            () = woken => return Ok(()),
            () = sleep_until(again.into()) => {}
        }
        self.read_some(usize::MAX)?;
        self.follow_up().await;
        Ok(())
    }

    /// Reads what is there, at most so many bytes.
    ///
    /// # Errors
    /// The hub closed with a code after which there is no coming back.
    pub fn read_some(&mut self, most: usize) -> Result<(), Broken> {
        for _ in 0..READS_PER_TURN {
            let Some(wire) = &self.wire else { return Ok(()) };
            match read(wire, &mut self.state, &self.shared, most) {
                Ok(Read::Bytes(_)) if most == usize::MAX => {}
                Ok(Read::Bytes(_) | Read::Nothing) => return Ok(()),
                Ok(Read::Closed(code)) => {
                    self.lost(None, code);
                    if code.and_then(CloseCode::from_code).is_some_and(|code| !code.resume()) {
                        return Err(format!("the hub closed the connection with {code:?}"));
                    }
                }
                Err(error) => self.lost(Some(error.to_string()), None),
            }
        }
        Ok(())
    }

    /// Attaches that follow from what came.
    async fn follow_up(&mut self) {
        let now = Instant::now();
        if !self.state.refused.is_empty() && self.attach_again.is_none() {
            self.attach_again = Some(now + ATTACH_AGAIN);
        }
        let mut texts = Vec::new();
        if self.attach_again.is_some_and(|again| again <= now) {
            self.attach_again = None;
            for index in std::mem::take(&mut self.state.refused) {
                let from = if self.state.sessions[index].then_from_start { StartAt::Start } else { StartAt::Cursor };
                texts.push(self.state.attach(index, from, now));
            }
        }
        for index in std::mem::take(&mut self.state.from_start) {
            texts.push(self.state.attach(index, StartAt::Start, now));
        }
        for index in std::mem::take(&mut self.state.gaps) {
            texts.push(self.state.attach(index, StartAt::Cursor, now));
        }
        for text in texts {
            self.send(&text).await;
        }
    }

    /// The connection is gone, and not by the script.
    fn lost(&mut self, error: Option<String>, code: Option<u16>) {
        if self.wire.take().is_none() {
            return;
        }
        self.state.disconnected();
        self.state.resuming.get_or_insert_with(Instant::now);
        let mut figures = self.shared.figures.borrow_mut();
        figures.open -= 1;
        figures.count(Count::Closed);
        match (error, code) {
            (Some(error), _) => figures.error(&format!("connection lost: {error}")),
            (None, Some(code)) => figures.error(&format!("closed by the hub with {code}")),
            (None, None) => figures.error("closed by the hub without a close frame"),
        }
    }

    /// Ends the connection as the script says.
    pub fn leave(&mut self, how: How) {
        self.away = true;
        let Some(wire) = self.put_down() else { return };
        match how {
            How::Clean => wire.close(),
            How::Reset => wire.reset(),
            How::MidFrame => wire.break_mid_frame(),
        }
    }

    /// Falls silent: the connection stays open for a time, and nobody reads it.
    pub fn fall_silent(&mut self, keep: Duration) {
        self.away = true;
        if let Some(wire) = self.put_down() {
            drop(tokio::task::spawn_local(async move {
                tokio::time::sleep(keep).await;
                wire.reset();
            }));
        }
    }

    fn put_down(&mut self) -> Option<Wire> {
        self.state.resumes_no_more();
        let wire = self.wire.take()?;
        self.shared.figures.borrow_mut().open -= 1;
        self.state.disconnected();
        Some(wire)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.leave(How::Clean);
    }
}

/// Why an attempt came to nothing.
enum Attempt {
    /// Another may succeed.
    Failed(String),
    /// None will.
    Final(String),
}

fn closed_at_the_door(code: Option<u16>) -> Attempt {
    let text = format!("no connection: closed with {code:?} before a welcome");
    match code.and_then(CloseCode::from_code) {
        Some(code) if !code.resume() => Attempt::Final(text),
        _ => Attempt::Failed(text),
    }
}

fn read(wire: &Wire, state: &mut State, shared: &Shared, most: usize) -> io::Result<Read> {
    let mut scratch = shared.scratch.borrow_mut();
    let most = most.min(scratch.len());
    let mut now = None;
    wire.try_read(&mut scratch[..most], |frame| state.frame(frame, *now.get_or_insert_with(Now::take)))
}
