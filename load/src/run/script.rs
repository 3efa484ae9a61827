//! What a scripted socket does, step by step.

use std::{
    collections::HashMap,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use agent_hub_protocol::{SessionId, TaskId};

use super::{
    figures::Timing,
    meeting::Meetings,
    socket::{Broken, Socket},
    state::{State, What},
    verify::Verifier,
};
use crate::scenario::{EndKind, Expected, OnBusy, StartAt, Step};

/// Sessions whose commands are under way at the same time. The hub takes up 32 of a socket, and what it answers must be read meanwhile.
const AT_ONCE: usize = 16;
/// Its multiples are spread evenly over the unit interval, however many there are.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
/// Between two sips of a slow reader.
const SIP: Duration = Duration::from_millis(100);

/// One run of a script.
pub struct Script {
    /// Whose.
    pub socket: Socket,
    /// The socket's number in its group.
    pub index: usize,
    /// Where sockets of a group wait for each other.
    pub meetings: Rc<Meetings>,
    /// How often it was at each meeting.
    pub rounds: HashMap<String, u32>,
    /// How logs are read.
    pub verifier: Rc<Verifier>,
    /// Ids of sessions by group and number.
    pub ids: Ids,
}

/// The id of a group's n-th session.
pub type Ids = Rc<dyn Fn(&str, usize) -> SessionId>;

type Done<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + 'a>>;

impl Script {
    /// Does everything.
    ///
    /// # Errors
    /// A step did not come to its end.
    pub async fn run(&mut self, due: Instant) -> Result<(), Broken> {
        self.socket.open(due).await?;
        let group = self.socket.group.clone();
        self.steps(&group.steps).await
    }

    fn steps<'a>(&'a mut self, steps: &'a [Step]) -> Done<'a> {
        Box::pin(async move {
            for step in steps {
                self.step(step)
                    .await
                    .map_err(|broken| if broken.contains(": ") { broken } else { format!("{}: {broken}", step.name()) })?;
            }
            Ok(())
        })
    }

    async fn step(&mut self, step: &Step) -> Result<(), Broken> {
        match step {
            Step::Create { agent } => self.create(agent.as_deref()).await,
            Step::Attach { of, from } => self.attach(of.as_deref(), *from).await,
            Step::Detach => self.detach().await,
            Step::Submit { prompt, on_busy, spread } => self.submit(prompt, *on_busy, *spread).await,
            Step::Expect { what, within } => self.expect(*what, *within).await,
            Step::Cancel { after_tokens } => self.cancel(*after_tokens).await,
            Step::Steer { input, now } => self.steer(input, *now).await,
            Step::Drop(how) => {
                self.socket.leave(*how);
                Ok(())
            }
            Step::HalfOpen { keep } => {
                self.socket.fall_silent(*keep);
                Ok(())
            }
            Step::ReadSlowly { rate, time } => self.read_slowly(*rate, *time).await,
            Step::ComeBack { jitter, from } => self.come_back(*jitter, *from).await,
            Step::Wait { time, jitter } => self.wait(*time, *jitter).await,
            Step::Meet { name } => self.meet(name).await,
            Step::Repeat { times, time, every, steps } => self.repeat(*times, *time, *every, steps).await,
            Step::Verify { via } => self.verifier.clone().verify(&mut self.socket, *via).await,
        }
    }

    /// Reads until it is so, within the group's time.
    async fn soon(&mut self, what: &str, within: Option<Duration>, done: impl Fn(&State) -> bool) -> Result<(), Broken> {
        let within = within.unwrap_or(self.socket.group.within);
        if self.socket.until(Instant::now() + within, done).await? { Ok(()) } else { Err(format!("{what} within {within:?}")) }
    }

    /// The numbers of the sessions, a few at a time.
    fn batches(&self) -> Vec<Vec<usize>> {
        (0..self.socket.state.sessions.len()).collect::<Vec<_>>().chunks(AT_ONCE).map(<[usize]>::to_vec).collect()
    }

    async fn create(&mut self, agent: Option<&str>) -> Result<(), Broken> {
        let due = self.socket.take_due();
        let agent = agent.map(|agent| format!(r#","agent":{}"#, json(agent))).unwrap_or_default();
        for batch in self.batches() {
            for index in batch.clone() {
                let session = &mut self.socket.state.sessions[index];
                (session.following, session.attaching) = (true, true);
                session.timed = Some((Timing::Create, due));
                let rest = format!(r#","sessionId":"{}"{agent}"#, session.name);
                let text = self.socket.state.command("create_session", &rest, What::Create(index), due);
                self.socket.send(&text).await;
            }
            let there = |state: &State| {
                !batch.iter().any(|index| state.sessions[*index].attaching) && !state.waits_for(|what| matches!(what, What::Create(_)))
            };
            self.soon("create: not all sessions were there", None, there).await?;
        }
        Ok(())
    }

    async fn attach(&mut self, of: Option<&str>, from: StartAt) -> Result<(), Broken> {
        let due = self.socket.take_due();
        if let Some(of) = of {
            for slot in 0..self.socket.state.sessions.len() {
                let id = (self.ids)(of, self.index * self.socket.state.sessions.len() + slot);
                self.socket.state.sessions[slot] = super::session::Session::new(id);
            }
        }
        self.socket.state.patient = of.is_some();
        for batch in self.batches() {
            for index in batch.clone() {
                self.socket.state.sessions[index].timed = Some((Timing::Attach, due));
                let text = self.socket.state.attach(index, from, due);
                self.socket.send(&text).await;
            }
            let there = |state: &State| !batch.iter().any(|index| state.sessions[*index].attaching);
            self.soon("attach: not all sessions were caught up", None, there).await?;
        }
        self.socket.state.patient = false;
        Ok(())
    }

    async fn detach(&mut self) -> Result<(), Broken> {
        for batch in self.batches() {
            for index in batch {
                self.socket.state.sessions[index].following = false;
                let rest = format!(r#","sessionId":"{}""#, self.socket.state.sessions[index].name);
                let text = self.socket.state.command("detach_session", &rest, What::Detach, Instant::now());
                self.socket.send(&text).await;
            }
            self.soon("detach: no acknowledgement", None, |state| !state.waits_for(|what| what == What::Detach)).await?;
        }
        for session in &mut self.socket.state.sessions {
            session.book.disconnected();
        }
        Ok(())
    }

    async fn submit(&mut self, prompt: &str, on_busy: Option<OnBusy>, spread: Duration) -> Result<(), Broken> {
        let due = self.socket.take_due();
        let sessions = self.socket.state.sessions.len();
        let on_busy = on_busy.map(|on_busy| format!(r#","onBusy":"{}""#, on_busy.name())).unwrap_or_default();
        let due_of = |index: usize| due + spread.mul_f64(((self.index * sessions + index) as f64 * GOLDEN_RATIO).fract());
        let mut order: Vec<(Instant, usize)> = (0..sessions).map(|index| (due_of(index), index)).collect();
        order.sort_unstable();
        for (due, index) in order {
            if !spread.is_zero() {
                self.socket.until(due, |_| false).await?;
            }
            let number = self.index * sessions + index;
            let prompt = prompt.replace("{socket}", &self.index.to_string()).replace("{session}", &number.to_string());
            let task = TaskId::random();
            let session = &mut self.socket.state.sessions[index];
            session.submitting(task, due);
            let rest = format!(r#","sessionId":"{}","taskId":"{task}","prompt":{}{on_busy}"#, session.name, json(&prompt));
            let text = self.socket.state.command("submit_task", &rest, What::Submit(index), due);
            self.socket.send(&text).await;
            self.submitted(AT_ONCE - 1).await?;
        }
        self.submitted(0).await
    }

    /// Until no more submits than this wait for their acknowledgement.
    async fn submitted(&mut self, most: usize) -> Result<(), Broken> {
        let waiting = |state: &State| state.pending.iter().filter(|pending| matches!(pending.what, What::Submit(_))).count();
        self.soon("submit: no acknowledgement", None, |state| waiting(state) <= most).await
    }

    async fn expect(&mut self, what: Expected, within: Option<Duration>) -> Result<(), Broken> {
        match what {
            Expected::Tokens(tokens) => {
                let text = format!("expect: not every session had {tokens} tokens");
                // A task that failed says no more, and that is not the hub's breach.
                let enough = |state: &State| state.sessions.iter().all(|session| session.new_tokens() >= tokens || session.end().is_some());
                self.soon(&text, within, enough).await?;
                let short =
                    |session: &super::session::Session| session.new_tokens() < tokens && session.end() == Some(Some(EndKind::Completed));
                let short = self.socket.state.sessions.iter().find(|session| short(session));
                short.map_or(Ok(()), |session| {
                    Err(format!("expect: a task was completed after {} of {tokens} tokens", session.new_tokens()))
                })
            }
            Expected::CaughtUp => {
                let text = "expect: not every session was caught up";
                self.soon(text, within, |state| !state.sessions.iter().any(|session| session.attaching)).await
            }
            Expected::End(kind) => {
                self.soon("expect: not every task had ended", within, |state| state.sessions.iter().all(|session| session.end().is_some()))
                    .await?;
                self.check_ends(kind)
            }
        }
    }

    fn check_ends(&self, wanted: Option<EndKind>) -> Result<(), Broken> {
        // A refusal is no end, whatever end is expected.
        let wrong = |end: &Option<EndKind>| end.is_none() || (wanted.is_some() && *end != wanted);
        let other = self.socket.state.sessions.iter().find_map(|session| session.end().filter(wrong));
        match other {
            None => Ok(()),
            Some(Some(end)) => Err(format!("expect: a task ended as {end:?} instead of {wanted:?}", wanted = wanted.unwrap_or(end))),
            Some(None) => Err("expect: a task was refused, and that is no end".to_owned()),
        }
    }

    async fn cancel(&mut self, after_tokens: u64) -> Result<(), Broken> {
        let enough = |state: &State| state.sessions.iter().all(|session| session.new_tokens() >= after_tokens || session.end().is_some());
        self.soon(&format!("cancel: not every session had {after_tokens} tokens"), None, enough).await?;
        for batch in self.batches() {
            let due = self.socket.take_due();
            for index in batch {
                let session = &mut self.socket.state.sessions[index];
                let name = session.name.clone();
                let Some(task) = session.tasks.last_mut().filter(|task| task.end.is_none()) else { continue };
                task.cancel = Some(due);
                let rest = format!(r#","sessionId":"{name}","taskId":"{}""#, task.name);
                let text = self.socket.state.command("cancel_task", &rest, What::Cancel(index), due);
                self.socket.send(&text).await;
            }
            self.soon("cancel: no acknowledgement", None, |state| !state.waits_for(|what| matches!(what, What::Cancel(_)))).await?;
        }
        self.soon("cancel: not every task had ended", None, |state| state.sessions.iter().all(|session| session.end().is_some())).await
    }

    async fn steer(&mut self, input: &str, now: bool) -> Result<(), Broken> {
        let due = self.socket.take_due();
        let when = if now { "now" } else { "next_step" };
        for batch in self.batches() {
            for index in batch {
                let session = &self.socket.state.sessions[index];
                let Some(task) = session.task().filter(|task| task.end.is_none()) else { continue };
                let rest = format!(
                    r#","sessionId":"{}","taskId":"{}","steerId":"{}","input":{},"when":"{when}""#,
                    session.name,
                    task.name,
                    TaskId::random(),
                    json(input)
                );
                let text = self.socket.state.command("steer_task", &rest, What::Steer, due);
                self.socket.send(&text).await;
            }
            self.soon("steer: no acknowledgement", None, |state| !state.waits_for(|what| what == What::Steer)).await?;
        }
        Ok(())
    }

    /// A few bytes at a time. What the kernel takes meanwhile is bounded by the receive buffer.
    async fn read_slowly(&mut self, rate: u64, time: Duration) -> Result<(), Broken> {
        let end = Instant::now() + time;
        let mut pause = SIP;
        let mut sip = rate as f64 * SIP.as_secs_f64();
        if sip < 1.0 {
            pause = Duration::from_secs_f64(1.0 / rate as f64);
            sip = 1.0;
        }
        while Instant::now() < end {
            self.socket.read_some(sip as usize)?;
            tokio::time::sleep_until((Instant::now() + pause).min(end).into()).await;
        }
        Ok(())
    }

    async fn come_back(&mut self, jitter: Duration, from: StartAt) -> Result<(), Broken> {
        let due = self.socket.take_due() + self.socket.rng.time(Duration::ZERO, jitter);
        tokio::time::sleep_until(due.into()).await;
        self.socket.come_back(due, from).await?;
        self.soon("come-back: not every session was caught up", None, |state| !state.sessions.iter().any(|session| session.attaching)).await
    }

    async fn wait(&mut self, time: Duration, jitter: Duration) -> Result<(), Broken> {
        let end = self.socket.take_due() + time + self.socket.rng.time(Duration::ZERO, jitter);
        self.socket.until(end, |_| false).await?;
        self.socket.due = Some(end);
        Ok(())
    }

    async fn meet(&mut self, name: &str) -> Result<(), Broken> {
        let round = self.rounds.entry(name.to_owned()).or_default();
        *round += 1;
        let place = self.meetings.arrive(&self.socket.group.name, name, *round);
        self.socket.wake = Some(place.released.clone());
        // Whoever waits reads on: the hub's pings want answers.
        let waited = loop {
            match self.socket.until(Instant::now() + Duration::from_secs(60), |_| place.at.get().is_some()).await {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(broken) => break Err(broken),
            }
        };
        self.socket.wake = None;
        if waited.is_err() {
            place.leave();
        }
        self.socket.due = place.at.get();
        waited
    }

    async fn repeat(&mut self, times: Option<u64>, time: Option<Duration>, every: Option<Duration>, steps: &[Step]) -> Result<(), Broken> {
        let started = self.socket.take_due();
        let mut round: u32 = 0;
        while times.is_none_or(|times| u64::from(round) < times) && time.is_none_or(|time| begun(started, every, round) < time) {
            if let Some(every) = every {
                let due = started + every * round;
                self.socket.until(due, |_| false).await?;
                self.socket.due = Some(due);
            }
            self.steps(steps).await?;
            round += 1;
        }
        self.socket.due = None;
        Ok(())
    }
}

/// When the round begins, behind the start of the first. Where rounds are due, those that a stall was longer than are made up for: what
/// was due within the time is done.
fn begun(started: Instant, every: Option<Duration>, round: u32) -> Duration {
    every.map_or_else(|| started.elapsed(), |every| every * round)
}

/// As a JSON text.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_a_stall_was_longer_than_are_made_up_for() {
        let Some(started) = Instant::now().checked_sub(Duration::from_secs(60)) else { return };
        let begun = |every, round| begun(started, every, round).as_secs();
        // A minute has passed: at a round every ten seconds the third was due after twenty.
        assert_eq!(begun(Some(Duration::from_secs(10)), 2), 20);
        assert!(begun(None, 2) >= 60);
    }
}
