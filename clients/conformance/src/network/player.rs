//! One session at a time, at work: submits, cancels, steers, leaves and comes back, while connections break.

use std::{sync::Arc, time::Duration};

use agent_hub_load::rng::Rng;
use serde_json::{Map, Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::{Line, desk::Desk};
use crate::pattern::short;

/// Longer than any outage here; whoever waits longer has lost something.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds of one session, then another one is made: a conversation goes to the model whole with every call.
const ROUNDS: u64 = 8;

/// What was asked of one session.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) session: String,
    pub(super) submits: Vec<Submit>,
    pub(super) steers: Vec<Steer>,
}

/// A submit whose answer is known.
#[derive(Debug)]
pub(super) struct Submit {
    pub(super) task: String,
    /// A word that is in its prompt and nowhere else.
    pub(super) marker: String,
    /// Whether a cancel of it was acknowledged.
    pub(super) cancelled: Option<bool>,
}

/// A steering input.
#[derive(Debug)]
pub(super) struct Steer {
    pub(super) marker: String,
    pub(super) acknowledged: bool,
}

pub(super) struct Player {
    desk: Desk,
    line: Arc<Line>,
    rng: Rng,
    works: Vec<Work>,
}

impl Player {
    pub(super) fn new(desk: Desk, line: Arc<Line>, rng: Rng) -> Self {
        Self { desk, line, rng, works: Vec::new() }
    }

    /// Plays until told to stop; returns what was asked of each session.
    pub(super) async fn play(mut self) -> Vec<Work> {
        while !self.line.plan.stopped() && self.desk.fine() {
            if self.session().await.is_none() {
                break;
            }
        }
        self.works
    }

    /// One session from its beginning. `None`: there is no going on.
    async fn session(&mut self) -> Option<()> {
        let session = Uuid::new_v4().to_string();
        let mut work = Work { session: session.clone(), submits: Vec::new(), steers: Vec::new() };
        let created = self.ask(json!({"do": "create", "session": session})).await;
        if created.as_ref().is_none_or(|answer| answer["ok"] != true) {
            self.desk.in_vain(format!("{session}: the create was answered with {created:?}"));
            return None;
        }
        let mut go_on = Some(());
        for _ in 0..ROUNDS {
            if self.line.plan.stopped() || go_on.is_none() {
                break;
            }
            go_on = self.round(&mut work).await;
        }
        // All its tasks have ended and their ends were applied: nothing follows. A connection follows only so many sessions.
        if go_on.is_some() {
            go_on = self.ask(json!({"do": "detach", "session": session})).await.map(drop);
        }
        self.works.push(work);
        go_on
    }

    /// One task or two, and what happens to them.
    async fn round(&mut self, work: &mut Work) -> Option<()> {
        let tokens = self.rng.between(10, 80);
        let first = self.submit(work, tokens, "queue").await?;
        if self.chance(20) {
            let on_busy = if self.chance(50) { "interrupt" } else { "queue" };
            self.submit(work, 10, on_busy).await?;
        }
        if self.chance(25) {
            self.steer(work, first).await?;
        }
        if self.chance(30) {
            self.cancel(work, first).await?;
        }
        if self.chance(20) {
            self.leave_and_come_back(&work.session).await?;
        }
        for submit in &work.submits {
            self.wait_for_end(&work.session, &submit.task).await?;
        }
        Some(())
    }

    /// Returns the place of the submit among those of the session.
    async fn submit(&mut self, work: &mut Work, tokens: u64, on_busy: &str) -> Option<usize> {
        let marker = format!("[m-{}]", Uuid::new_v4());
        let prompt = format!("{marker} /pace 2 /tokens {tokens}");
        let mut order = json!({"do": "submit", "session": work.session, "prompt": prompt, "onBusy": on_busy});
        if self.chance(50) {
            order["task"] = Uuid::new_v4().to_string().into();
        }
        let chosen = order["task"].clone();
        let answer = self.ask(order).await?;
        let task = answer["task"].as_str().unwrap_or_default().to_owned();
        if answer["ok"] != true || task.is_empty() || (chosen.is_string() && chosen != task.as_str()) {
            self.desk.wrong(format!("{}: a submit was answered with {}", work.session, short(&answer)));
            return None;
        }
        work.submits.push(Submit { task, marker, cancelled: None });
        Some(work.submits.len() - 1)
    }

    async fn steer(&mut self, work: &mut Work, which: usize) -> Option<()> {
        self.pause(100).await;
        let marker = format!("[s-{}]", Uuid::new_v4());
        let when = if self.chance(50) { "now" } else { "next_step" };
        let task = &work.submits[which].task;
        let input = format!("{marker} /pace 2 /tokens 20");
        let answer = self.ask(json!({"do": "steer", "session": work.session, "task": task, "input": input, "when": when})).await?;
        let acknowledged = answer["ok"] == true;
        if !acknowledged && answer["error"]["code"] != "already_terminal" {
            self.desk.wrong(format!("{}: a steer was answered with {}", work.session, short(&answer)));
        }
        work.steers.push(Steer { marker, acknowledged });
        Some(())
    }

    async fn cancel(&mut self, work: &mut Work, which: usize) -> Option<()> {
        self.pause(200).await;
        let task = work.submits[which].task.clone();
        let answer = self.ask(json!({"do": "cancel", "session": work.session, "task": task})).await?;
        let acknowledged = answer["ok"] == true;
        if !acknowledged && answer["error"]["code"] != "already_terminal" {
            self.desk.wrong(format!("{}: a cancel was answered with {}", work.session, short(&answer)));
        }
        work.submits[which].cancelled = Some(acknowledged);
        Some(())
    }

    /// Behind the cursor, or from a snapshot.
    async fn leave_and_come_back(&mut self, session: &str) -> Option<()> {
        self.ask(json!({"do": "detach", "session": session})).await?;
        self.pause(100).await;
        let mut order = json!({"do": "attach", "session": session});
        let cursor = self.desk.known().sessions.get(session).and_then(|history| history.cursor.clone());
        if let Some((epoch, last)) = cursor.filter(|_| self.chance(50)) {
            order["after"] = format!("{epoch}.{last}").into();
        } else {
            self.desk.starts_afresh(session);
        }
        let answer = self.ask(order).await?;
        if answer["ok"] != true {
            self.desk.wrong(format!("{session}: an attach was answered with {}", short(&answer)));
            return None;
        }
        Some(())
    }

    async fn wait_for_end(&mut self, session: &str, task: &str) -> Option<()> {
        let ended = |known: &super::desk::Known| known.sessions.get(session)?.ended.contains(task).then_some(());
        let seen = self.desk.until(PATIENCE, ended).await;
        if seen.is_none() {
            self.desk.in_vain(format!("{session}: the end of task {task} was not applied within {} s", PATIENCE.as_secs()));
        }
        seen
    }

    /// Gives an order, often with a cut right behind it, and waits for its answer.
    async fn ask(&mut self, order: Value) -> Option<Value> {
        let fields: Map<String, Value> = order.as_object().cloned().unwrap_or_default();
        let number = self.desk.order(fields).await?;
        if self.chance(15) {
            sleep(self.rng.time(Duration::ZERO, Duration::from_millis(4))).await;
            self.line.cut().await;
        }
        let answer = self.desk.until(PATIENCE, |known| known.answers.get(&number).cloned()).await;
        if answer.is_none() {
            self.desk.in_vain(format!("order {number} was not answered within {} s: {order}", PATIENCE.as_secs()));
        }
        answer
    }

    async fn pause(&mut self, most: u64) {
        sleep(self.rng.time(Duration::ZERO, Duration::from_millis(most))).await;
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.between(0, 100) < percent
    }
}
