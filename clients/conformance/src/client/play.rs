//! Plays one script.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::{
    peer::{Asked, Listener, Peer},
    script::{Answer, Script, Step, Welcome, event},
};
use crate::{
    driver::{Driver, DriverCommand, Reports, connect_order},
    pattern::{Names, short},
    verdict::{Failure, Transcript},
};

/// The token of a script that does not care.
const TOKEN: &str = "token-1";

pub(super) async fn play(driver: &DriverCommand, script: Script, patience: Duration, transcript: Transcript) -> Result<(), Failure> {
    let failed = |step: &str, problem: String| Failure { step: step.to_owned(), problem };
    let listener = Listener::start().await.map_err(|error| failed("before the first step", error.to_string()))?;
    let driver = Driver::start(driver, transcript.clone()).map_err(|error| failed("before the first step", format!("{error:#}")))?;
    let mut names = Names::default();
    for id in script.ids.iter().map(String::as_str).chain(["session"]) {
        names.set(id, uuid::Uuid::new_v4().to_string());
    }
    let steps = script.expanded();
    let mut stage = Stage {
        script,
        patience,
        transcript,
        listener,
        driver: Some(driver),
        reports: Reports::default(),
        names,
        orders: HashMap::new(),
        peer: None,
        abandoned: Vec::new(),
        applied: HashMap::new(),
        mark: Instant::now(),
    };
    for (step, number) in steps.into_iter().zip(1..) {
        let text = format!("step {number}, {}", serde_json::to_string(&step).unwrap_or_default());
        stage.transcript.note("step", &text);
        stage.take(step).await.map_err(|problem| failed(&text, problem))?;
    }
    stage.end().await.map_err(|problem| failed("after the last step", problem))
}

struct Stage {
    script: Script,
    patience: Duration,
    transcript: Transcript,
    listener: Listener,
    /// `None` once it has ended.
    driver: Option<Driver>,
    reports: Reports,
    names: Names,
    /// Numbers of the named orders.
    orders: HashMap<String, u64>,
    peer: Option<Peer>,
    /// Silent connections, kept open.
    abandoned: Vec<Peer>,
    /// The last event applied, by session.
    applied: HashMap<String, u64>,
    mark: Instant,
}

impl Stage {
    async fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Begin(_) | Step::Resume(_) => Err("written out before".to_owned()),
            Step::Order(order) => self.order(order).await,
            Step::Accept(welcome) => self.accept(welcome).await,
            Step::Refuse(status) => {
                self.asked().await?.refuse(status).await;
                Ok(())
            }
            Step::NoConnection(millis) => match timeout(Duration::from_millis(millis), self.listener.next()).await {
                Err(_) => Ok(()),
                Ok(_) => Err("the client connected".to_owned()),
            },
            Step::Hear(pattern) => {
                let command = self.hear(wants_ping(&pattern)).await?;
                self.fit(&pattern, &command)
            }
            Step::HearAll(patterns) => self.hear_all(patterns).await,
            Step::Quiet(millis) => match timeout(Duration::from_millis(millis), self.hear(false)).await {
                Err(_) => Ok(()),
                Ok(Ok(command)) => Err(format!("the client sent {}", short(&command))),
                Ok(Err(problem)) => Err(problem),
            },
            Step::Say(_)
            | Step::SayRaw(_)
            | Step::SayBinary(_)
            | Step::SayHalf(_)
            | Step::Attached(_)
            | Step::CaughtUp(_)
            | Step::Events(_) => self.speak(step).await,
            Step::Close(code) => {
                let closed = timeout(self.patience, self.leave()?.close(code)).await;
                closed.map_err(|_| "the client does not read".to_owned())?
            }
            Step::Reset(_) => {
                self.leave()?.reset();
                Ok(())
            }
            Step::Cut(_) => {
                self.leave()?.cut().await;
                Ok(())
            }
            Step::Silent(_) => {
                let peer = self.leave()?;
                self.abandoned.push(peer);
                Ok(())
            }
            Step::Answer(answer) => self.answer(answer).await,
            Step::State(state) => self.state(&state).await,
            Step::Applies(events) => {
                for event in events {
                    self.applied("event", event_pattern(&event)).await?;
                }
                Ok(())
            }
            Step::AppliesThrough(last) => self.applies_through(last).await,
            Step::Mark(_) => {
                self.mark = Instant::now();
                Ok(())
            }
            Step::SinceMark(millis) => {
                let passed = self.mark.elapsed().as_millis();
                if passed >= u128::from(millis) { Ok(()) } else { Err(format!("only {passed} ms have passed")) }
            }
            Step::Attaches(pattern) => self.applied("attached", of_session(pattern)).await,
            Step::Detaches(pattern) => self.applied("detached", of_session(pattern)).await,
            Step::Ends(_) => self.finish().await,
        }
    }

    async fn order(&mut self, mut order: Map<String, Value>) -> Result<(), String> {
        let name = order.remove("as").and_then(|name| name.as_str().map(str::to_owned));
        let mut filled = match self.names.fill(&Value::Object(order)).map_err(|unknown| unknown.to_string())? {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        if filled.get("do").is_some_and(|what| what == "connect") {
            let mut whole = connect_order(&self.listener.url, TOKEN);
            whole.append(&mut self.script.connect.clone());
            whole.append(&mut filled);
            filled = whole;
        }
        let driver = self.driver.as_mut().ok_or("the driver has ended")?;
        let number = driver.order(filled).await?;
        self.orders.extend(name.map(|name| (name, number)));
        Ok(())
    }

    async fn asked(&mut self) -> Result<Asked, String> {
        let asked = timeout(self.patience, self.listener.next()).await;
        asked.map_err(|_| format!("the client does not connect{}", self.exit_note()))?
    }

    async fn accept(&mut self, welcome: Welcome) -> Result<(), String> {
        // What was not closed is left as it is.
        self.abandoned.extend(self.peer.take());
        let asked = self.asked().await?;
        if asked.path() != "/ws/agents" {
            return Err(format!("the client connects to {} instead of /ws/agents", asked.path()));
        }
        let token = asked.token().map_or(Value::Null, Value::String);
        let expected = welcome.token.unwrap_or_else(|| self.script.connect.get("token").cloned().unwrap_or(TOKEN.into()));
        self.fit(&json!({ "token": expected }), &json!({ "token": token }))?;
        let mut peer = asked.upgrade().await?;
        self.transcript.note("server", "accepts a connection");
        if !welcome.silent {
            let text = json!({
                "type": "welcome", "connectionId": "c1", "protocol": "agent-hub.v1", "user": "user-1",
                "heartbeatMs": welcome.heartbeat_ms.unwrap_or(20_000),
                "limits": {
                    "messageBytes": welcome.message_bytes.unwrap_or(1024 * 1024), "promptChars": 10_000,
                    "tasksPerSession": 50, "maxConcurrentTasks": 3, "attachedSessions": 64,
                },
            });
            self.transcript.note("server →", &text.to_string());
            peer.send(Message::text(text.to_string())).await?;
        }
        self.peer = Some(peer);
        Ok(())
    }

    /// The next command. Pings are answered and passed over unless the script waits for one.
    async fn hear(&mut self, wants_ping: bool) -> Result<Value, String> {
        let deadline = Instant::now() + self.patience;
        loop {
            let peer = self.peer.as_mut().ok_or("there is no connection")?;
            let command = timeout_at(deadline, peer.hear(&self.transcript)).await.map_err(|_| "the client sends nothing".to_owned())??;
            let kind = command["type"].as_str().unwrap_or_default();
            if kind == "ping" && !wants_ping {
                let mut pong = json!({"type": "pong"});
                if let Some(id) = command.get("id") {
                    pong["id"] = id.clone();
                }
                self.send(Message::text(pong.to_string()), "pong").await?;
            } else if !self.script.ignore.iter().any(|ignored| ignored == kind) {
                return Ok(command);
            }
        }
    }

    async fn hear_all(&mut self, mut patterns: Vec<Value>) -> Result<(), String> {
        while !patterns.is_empty() {
            let command = self.hear(patterns.iter().any(wants_ping)).await?;
            let found = patterns.iter().position(|pattern| self.names.clone().fit(pattern, &command).is_ok());
            let Some(found) = found else {
                return Err(format!("expected one of {}, got {}", Value::from(patterns), short(&command)));
            };
            self.fit(&patterns.remove(found), &command)?;
        }
        Ok(())
    }

    async fn speak(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Say(message) => self.say(&message).await,
            Step::Attached(given) => {
                let mut whole = json!({"type": "session_attached", "sessionId": "$session", "epoch": "e1", "recovered": true});
                whole.as_object_mut().into_iter().for_each(|whole| whole.append(&mut given.clone()));
                self.say(&whole).await
            }
            Step::CaughtUp(seq) => self.say(&json!({"type": "caught_up", "sessionId": "$session", "seq": seq})).await,
            Step::Events(events) => {
                for given in events {
                    let event = event(&given, &self.names);
                    self.say(&event).await?;
                }
                Ok(())
            }
            Step::SayRaw(text) => self.send(Message::text(text.clone()), &text).await,
            Step::SayBinary(bytes) => self.send(Message::binary(vec![7; bytes]), "a binary frame").await,
            Step::SayHalf(message) => {
                let text = self.filled(&message)?.to_string();
                self.transcript.note("server →", &format!("half of {text}"));
                let sent = timeout(self.patience, self.peer.as_mut().ok_or("there is no connection")?.send_half(&text)).await;
                sent.map_err(|_| "the client does not read".to_owned())?
            }
            other => Err(format!("{other:?} says nothing")),
        }
    }

    async fn say(&mut self, message: &Value) -> Result<(), String> {
        let text = self.filled(message)?.to_string();
        self.send(Message::text(text.clone()), &text).await
    }

    async fn send(&mut self, message: Message, shown: &str) -> Result<(), String> {
        self.transcript.note("server →", shown);
        let sent = timeout(self.patience, self.peer.as_mut().ok_or("there is no connection")?.send(message)).await;
        sent.map_err(|_| "the client does not read".to_owned())?
    }

    fn leave(&mut self) -> Result<Peer, String> {
        self.peer.take().ok_or_else(|| "there is no connection".to_owned())
    }

    /// Takes in the next report.
    async fn report(&mut self, deadline: Instant) -> Result<(), String> {
        let driver = self.driver.as_mut().ok_or("the driver has ended")?;
        match driver.report(deadline).await {
            Some(report) => self.reports.take(report?),
            None => return Err("the driver has ended".to_owned()),
        }
        self.reports.wrong.first().map_or(Ok(()), |wrong| Err(wrong.clone()))
    }

    async fn answer(&mut self, expected: Answer) -> Result<(), String> {
        let number = *self.orders.get(&expected.to).ok_or_else(|| format!("the script has no order named {}", expected.to))?;
        let deadline = Instant::now() + self.patience;
        while !self.reports.answers.contains_key(&number) {
            self.report(deadline).await.map_err(|problem| format!("waiting for the answer to {}: {problem}", expected.to))?;
        }
        let answer = self.reports.answers[&number].clone();
        self.fit(&Value::Object(expected.fields), &answer)
    }

    async fn state(&mut self, expected: &Value) -> Result<(), String> {
        let pattern = if expected.is_object() { expected.clone() } else { json!({ "state": expected }) };
        let deadline = Instant::now() + self.patience;
        if let Some(state) = self.reports.state.clone()
            && self.reports.states.is_empty()
            && self.names.fit(&pattern, &state).is_ok()
        {
            return Ok(());
        }
        loop {
            while let Some(state) = self.reports.states.pop_front() {
                if self.names.fit(&pattern, &state).is_ok() {
                    return Ok(());
                }
                if state["state"] == "closed" {
                    return self.fit(&pattern, &state);
                }
            }
            self.report(deadline).await.map_err(|problem| format!("waiting for the state {expected}: {problem}"))?;
        }
    }

    /// The next event, attach or detach of a session.
    async fn applied(&mut self, kind: &str, pattern: Value) -> Result<(), String> {
        let session = self.filled(&pattern["sessionId"])?.as_str().unwrap_or_default().to_owned();
        let report = self.next_applied(&session).await.map_err(|problem| format!("waiting for the report of an {kind}: {problem}"))?;
        let Some(body) = report.get(kind) else {
            return Err(format!("expected the report of an {kind}, got {}", short(&report)));
        };
        if let Some(seq) = body["seq"].as_u64() {
            self.applied.insert(session, seq);
        }
        self.fit(&pattern, body)
    }

    async fn applies_through(&mut self, last: u64) -> Result<(), String> {
        let session = self.filled(&"$session".into())?.as_str().unwrap_or_default().to_owned();
        while self.applied.get(&session).is_none_or(|seq| *seq < last) {
            let due = self.applied.get(&session).map_or(1, |seq| seq + 1);
            let report = self.next_applied(&session).await.map_err(|problem| format!("waiting for event {due}: {problem}"))?;
            if report.get("attached").is_none() {
                self.fit(&json!({"event": {"seq": due}}), &report)?;
                self.applied.insert(session.clone(), due);
            }
        }
        Ok(())
    }

    async fn next_applied(&mut self, session: &str) -> Result<Value, String> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(report) = self.reports.applied.get_mut(session).and_then(VecDeque::pop_front) {
                return Ok(report);
            }
            self.report(deadline).await?;
        }
    }

    async fn finish(&mut self) -> Result<(), String> {
        let driver = self.driver.take().ok_or("the driver has ended")?;
        for report in driver.finish().await? {
            self.reports.take(report);
        }
        self.reports.wrong.first().map_or(Ok(()), |wrong| Err(wrong.clone()))
    }

    /// The driver is told to close; after that nothing may be left that the script did not expect.
    async fn end(mut self) -> Result<(), String> {
        if self.driver.is_some() {
            self.order(Map::from_iter([("do".to_owned(), "close".into()), ("as".to_owned(), "close".into())])).await?;
            self.answer(Answer { to: "close".to_owned(), fields: Map::from_iter([("ok".to_owned(), true.into())]) }).await?;
            self.finish().await?;
        }
        if self.reports.state.as_ref().is_none_or(|state| state["state"] != "closed") {
            return Err(format!("the last state is {:?} and not closed", self.reports.state));
        }
        if let Some(report) = self.reports.applied.values().flatten().find(|report| report.get("attached").is_none()) {
            return Err(format!("the client reported what it must not have: {}", short(report)));
        }
        self.heard_all().await
    }

    /// Whether the last connection, where there is one, brought nothing that no step was about.
    async fn heard_all(&mut self) -> Result<(), String> {
        let Some(peer) = self.peer.take() else { return Ok(()) };
        let passed_over =
            |command: &Value| command["type"] == "ping" || self.script.ignore.iter().any(|ignored| command["type"] == **ignored);
        match peer.rest(&self.transcript).await.iter().find(|command| !passed_over(command)) {
            Some(command) => Err(format!("the client sent what no step is about: {}", short(command))),
            None => Ok(()),
        }
    }

    fn filled(&self, template: &Value) -> Result<Value, String> {
        self.names.fill(template).map_err(|unknown| unknown.to_string())
    }

    fn fit(&mut self, pattern: &Value, value: &Value) -> Result<(), String> {
        self.names.fit(pattern, value).map_err(|mismatch| format!("{mismatch}\n         in {}", short(value)))
    }

    fn exit_note(&self) -> &'static str {
        if self.driver.is_none() { "; the driver has ended" } else { "" }
    }
}

fn wants_ping(pattern: &Value) -> bool {
    pattern["type"] == "ping"
}

fn event_pattern(given: &Value) -> Value {
    match given {
        Value::Object(fields) => of_session(fields.clone()),
        seq => json!({"sessionId": "$session", "seq": seq}),
    }
}

fn of_session(mut fields: Map<String, Value>) -> Value {
    fields.entry("sessionId").or_insert_with(|| "$session".into());
    Value::Object(fields)
}
