//! Plays one script.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use agent_hub_client::Target;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::{
    check::{Logs, TERMINAL},
    script::{Ends, Never, Open, Placed, Script, Step},
    socket::{Came, Socket},
};
use crate::{
    pattern::{Names, short},
    verdict::{Failure, Transcript},
};

/// No command of a script has this id.
const LAST_PING: &str = "the kit's last ping";

pub(super) async fn play(
    target: &Target,
    mut names: Names,
    script: Script,
    patience: Duration,
    transcript: Transcript,
) -> Result<(), Failure> {
    for id in script.ids.iter().map(String::as_str).chain(["session", "task"]) {
        names.set(id, uuid::Uuid::new_v4().to_string());
    }
    let mut stage = Stage {
        target,
        patience,
        transcript,
        names,
        sockets: HashMap::new(),
        unread: HashMap::new(),
        sent: HashMap::new(),
        waited: Duration::ZERO,
        delayed: false,
        logs: Logs::default(),
    };
    for (Placed { on, step }, number) in script.expanded().into_iter().zip(1..) {
        let text = format!("step {number}, on {on}, {}", serde_json::to_string(&step).unwrap_or_default());
        stage.transcript.note("step", &text);
        stage.waited = Duration::ZERO;
        stage.take(&on, step).await.map_err(|problem| Failure { step: text, problem })?;
    }
    stage.end().await.map_err(|problem| Failure { step: "after the last step".to_owned(), problem })
}

struct Stage<'a> {
    target: &'a Target,
    patience: Duration,
    transcript: Transcript,
    names: Names,
    sockets: HashMap<String, Socket>,
    /// Frames that came while a step waited for others.
    unread: HashMap<String, VecDeque<Value>>,
    /// Commands by socket.
    sent: HashMap<String, Vec<Value>>,
    /// During this step, because the server asked for it.
    waited: Duration,
    /// The server has asked for it at least once.
    delayed: bool,
    logs: Logs,
}

impl Stage<'_> {
    async fn take(&mut self, on: &str, step: Step) -> Result<(), String> {
        match step {
            Step::Begin(_) => Err("written out before".to_owned()),
            Step::Open(open) => self.open(on, &open).await,
            Step::Send(command) => {
                let command = self.filled(&command)?;
                let text = command.to_string();
                self.sent.entry(on.to_owned()).or_default().push(command);
                self.send(on, Message::text(text)).await
            }
            Step::SendRaw(text) => {
                self.sent.entry(on.to_owned()).or_default().extend(serde_json::from_str::<Value>(&text).ok());
                self.send(on, Message::text(text)).await
            }
            Step::SendBinary(bytes) => self.send(on, Message::binary(vec![7; bytes])).await,
            Step::Expect(pattern) => {
                let frame = self.frame(on, Instant::now() + self.patience, &pattern).await?;
                self.fit(&pattern, &frame)
            }
            Step::Until(pattern) => self.until(on, &pattern, None).await,
            Step::Never(Never { frame, until }) => self.until(on, &until, Some(&frame)).await,
            Step::All(patterns) => self.all(on, patterns).await,
            Step::Ends(ends) => self.ends(on, ends).await,
            Step::Text(of) => {
                let task = self.filled(&of.task)?;
                self.logs.spells(task.as_str().unwrap_or_default())
            }
            Step::Cursor(name) => {
                let session = self.filled(&"$session".into())?;
                let cursor = self.socket(on)?.shown.cursor(session.as_str().unwrap_or_default());
                self.names.set(&name, cursor.ok_or("the session is not attached here")?);
                Ok(())
            }
            Step::Closes(codes) => self.closes(on, &codes).await,
            Step::Leave(_) => {
                self.sockets.remove(on);
                Ok(())
            }
            Step::Close(_) => {
                if let Some(socket) = self.sockets.remove(on) {
                    socket.close(&mut self.logs, &self.transcript).await?;
                }
                Ok(())
            }
        }
    }

    /// What came behind the last step is held against the rules too: on each socket up to the answer to a ping, and then to its end.
    async fn end(mut self) -> Result<(), String> {
        let mut names: Vec<String> = self.sockets.keys().cloned().collect();
        names.sort();
        for on in names {
            self.waited = Duration::ZERO;
            self.settle(&on).await.map_err(|problem| format!("on {on}, {problem}"))?;
            self.take(&on, Step::Close(true)).await.map_err(|problem| format!("on {on}, {problem}"))?;
        }
        Ok(())
    }

    async fn settle(&mut self, on: &str) -> Result<(), String> {
        if self.socket(on)?.is_closed() {
            return Ok(());
        }
        self.take(on, Step::Send(json!({"type": "ping", "id": LAST_PING}))).await?;
        let answered = self.until(on, &json!({"type": "pong", "id": LAST_PING}), None).await;
        // While the script waited as it was told, nobody read this socket, and the server may have given it up.
        if self.delayed && self.socket(on)?.is_closed() { Ok(()) } else { answered }
    }

    async fn open(&mut self, on: &str, open: &Open) -> Result<(), String> {
        let token = self.filled(open.token.as_ref().unwrap_or(&"$token".into()))?;
        let query = self.filled(&open.query.clone().unwrap_or_default().into())?;
        let (token, query) = (token.as_str().unwrap_or_default(), query.as_str().unwrap_or_default());
        let mut how = open.clone();
        for offered in how.offer.iter_mut().flatten() {
            *offered =
                self.names.fill(&offered.as_str().into()).map_err(|unknown| unknown.to_string())?.as_str().unwrap_or_default().to_owned();
        }
        let socket = Socket::open(on, self.target, token, &how, query, self.patience).await?;
        if let Some(expected) = &open.chosen {
            let chosen = socket.subprotocol.as_ref().map_or(Value::Null, |name| name.as_str().into());
            self.names
                .fit(&json!({ "subprotocol": expected }), &json!({ "subprotocol": chosen }))
                .map_err(|mismatch| format!("the server's choice: {mismatch}"))?;
        }
        self.sockets.insert(on.to_owned(), socket);
        self.unread.remove(on);
        if open.welcome == Some(false) {
            return Ok(());
        }
        let pattern = json!({
            "type": "welcome", "protocol": "agent-hub.v1", "connectionId": "$any", "user": "$any", "heartbeatMs": {"$min": 1},
            "limits": {"messageBytes": {"$min": 1}, "promptChars": {"$min": 1}, "attachedSessions": {"$min": 1}},
        });
        let frame = self.frame(on, Instant::now() + self.patience, &pattern).await?;
        self.fit(&pattern, &frame)?;
        for name in ["messageBytes", "promptChars", "attachedSessions"] {
            self.names.set(name, frame["limits"][name].clone());
        }
        Ok(())
    }

    async fn send(&mut self, on: &str, message: Message) -> Result<(), String> {
        let (transcript, patience) = (self.transcript.clone(), self.patience);
        self.socket(on)?.send(message, patience, &transcript).await
    }

    async fn next(&mut self, on: &str, until: Instant) -> Result<Came, String> {
        loop {
            let came = match self.unread.get_mut(on).and_then(VecDeque::pop_front) {
                Some(frame) => Came::Frame(frame),
                None => {
                    let socket = self.sockets.get_mut(on).ok_or_else(|| format!("the script has no socket {on} now"))?;
                    socket.next(until + self.waited, &mut self.logs, &self.transcript).await?
                }
            };
            match &came {
                Came::Frame(frame) if frame["code"] == "rate_limited" => self.send_later(on, frame).await?,
                _ => return Ok(came),
            }
        }
    }

    /// A server may bound the rate of what scripts do: then the command is sent again when it says, and the step has that much longer.
    async fn send_later(&mut self, on: &str, refusal: &Value) -> Result<(), String> {
        let sent = self.sent.get(on).map(Vec::as_slice).unwrap_or_default();
        let command = sent.iter().rev().find(|command| command.get("id") == refusal.get("id")).cloned();
        let Some(command) = command else { return Err(format!("nothing was sent that this can refuse: {}", short(refusal))) };
        let wait = Duration::from_millis(refusal["retryAfterMs"].as_u64().unwrap_or(1000));
        self.waited += wait;
        self.delayed = true;
        let over = Instant::now() + wait;
        let socket = self.sockets.get_mut(on).ok_or_else(|| format!("the script has no socket {on} now"))?;
        // Read meanwhile, because pings want answers.
        while let Ok(came) = timeout_at(over, socket.next(over + self.patience, &mut self.logs, &self.transcript)).await {
            match came? {
                Came::Frame(frame) => self.unread.entry(on.to_owned()).or_default().push_back(frame),
                Came::Closed(code) => return Err(format!("the socket was closed with {code} while the script waited as it was told")),
            }
        }
        self.send(on, Message::text(command.to_string())).await
    }

    /// The next frame; `wanted` is for the message if there is none.
    async fn frame(&mut self, on: &str, until: Instant, wanted: &Value) -> Result<Value, String> {
        match self.next(on, until).await {
            Ok(Came::Frame(frame)) => Ok(frame),
            Ok(Came::Closed(code)) => Err(format!("the socket was closed with {code} instead of {wanted}")),
            Err(problem) => Err(format!("waiting for {wanted}: {problem}")),
        }
    }

    async fn until(&mut self, on: &str, pattern: &Value, never: Option<&Value>) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        loop {
            let frame = self.frame(on, deadline, pattern).await?;
            if never.is_some_and(|never| self.names.clone().fit(never, &frame).is_ok()) {
                return Err(format!("this must not come: {}", short(&frame)));
            }
            if self.names.fit(pattern, &frame).is_ok() {
                return Ok(());
            }
        }
    }

    async fn all(&mut self, on: &str, mut patterns: Vec<Value>) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        let mut others = VecDeque::new();
        while !patterns.is_empty() {
            let frame = self.frame(on, deadline, &Value::from(patterns.clone())).await?;
            match patterns.iter().position(|pattern| self.names.fit(pattern, &frame).is_ok()) {
                Some(at) => drop(patterns.remove(at)),
                None => others.push_back(frame),
            }
        }
        let unread = self.unread.entry(on.to_owned()).or_default();
        others.append(unread);
        *unread = others;
        Ok(())
    }

    async fn ends(&mut self, on: &str, ends: Ends) -> Result<(), String> {
        let task = self.filled(ends.task.as_ref().unwrap_or(&"$task".into()))?;
        let terminal: Vec<Value> = TERMINAL.iter().map(|kind| json!({"type": kind, "taskId": task})).collect();
        let pattern = json!({ "$or": terminal });
        let deadline = Instant::now() + self.patience;
        loop {
            let frame = self.frame(on, deadline, &pattern).await?;
            if self.names.fit(&pattern, &frame).is_ok() {
                return self.fit(&json!({ "type": ends.kind }), &frame);
            }
        }
    }

    async fn closes(&mut self, on: &str, codes: &[u16]) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.next(on, deadline).await {
                Ok(Came::Frame(_)) => {}
                Ok(Came::Closed(code)) if codes.contains(&code) => return Ok(()),
                Ok(Came::Closed(code)) => return Err(format!("the socket was closed with {code}, expected {codes:?}")),
                Err(problem) => return Err(format!("waiting for the socket to be closed with {codes:?}: {problem}")),
            }
        }
    }

    fn socket(&mut self, on: &str) -> Result<&mut Socket, String> {
        self.sockets.get_mut(on).ok_or_else(|| format!("the script has no socket {on} now"))
    }

    fn filled(&self, template: &Value) -> Result<Value, String> {
        self.names.fill(template).map_err(|unknown| unknown.to_string())
    }

    fn fit(&mut self, pattern: &Value, value: &Value) -> Result<(), String> {
        self.names.fit(pattern, value).map_err(|mismatch| format!("{mismatch}\n         in {}", short(value)))
    }
}
