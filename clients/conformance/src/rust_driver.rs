//! The driver of the Rust client: `agent-hub-conformance rust-driver`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_hub_client::{
    Attached, Backoff, Client, ClientEvent, CommandError, Ended, Events, Options, State, TokenSource,
    protocol::{
        ClientMessage, SessionId, TaskId,
        client_message::{AttachSession, CancelTask, CreateSession, RespondInput, SessionRef, SteerTask, SubmitTask},
        server_message::ErrorMessage,
    },
};
use anyhow::Context;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
};

/// Reports that wait to be written. Full: whoever has the next one waits, and so does the client.
const REPORTS: usize = 256;

/// Obeys until the input ends.
///
/// # Errors
/// An order cannot be read, or a report cannot be written.
pub async fn run(orders: impl AsyncBufRead + Unpin, output: impl AsyncWrite + Unpin) -> anyhow::Result<()> {
    let (reports, written) = mpsc::channel(REPORTS);
    let obeying = async {
        let obeyed = Obeying { reports, token: Arc::default(), client: None, running: JoinSet::new() }.obey(orders).await;
        anyhow::Ok(obeyed?)
    };
    let (obeyed, written) = tokio::join!(obeying, write(written, output));
    obeyed.and(written)
}

async fn write(mut reports: mpsc::Receiver<String>, mut output: impl AsyncWrite + Unpin) -> anyhow::Result<()> {
    while let Some(mut report) = reports.recv().await {
        report.push('\n');
        output.write_all(report.as_bytes()).await.context("writing a report")?;
        output.flush().await.context("writing a report")?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Order {
    n: u64,
    #[serde(rename = "do")]
    what: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connect {
    url: String,
    token: String,
    backoff_ms: Option<(u64, u64)>,
    connect_timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Work {
    session: SessionId,
    agent: Option<String>,
    after: Option<String>,
    task: Option<TaskId>,
    prompt: Option<String>,
    on_busy: Option<Value>,
    reason: Option<String>,
    input: Option<String>,
    when: Option<Value>,
    steer: Option<TaskId>,
    request: Option<String>,
    outcome: Option<Value>,
    payload: Option<Value>,
}

struct Obeying {
    reports: mpsc::Sender<String>,
    token: Arc<Mutex<String>>,
    client: Option<Client>,
    running: JoinSet<()>,
}

impl Obeying {
    async fn obey(mut self, orders: impl AsyncBufRead + Unpin) -> anyhow::Result<()> {
        let mut lines = orders.lines();
        while let Some(line) = lines.next_line().await? {
            let Order { n, what, fields } = serde_json::from_str(&line).with_context(|| format!("the order {line}"))?;
            let fields = Value::Object(fields);
            match what.as_str() {
                "connect" => {
                    let events = self.connect(read(&fields)?)?;
                    self.say(json!({"answer": n, "ok": true})).await;
                    self.running.spawn(listen(events, self.reports.clone()));
                }
                "token" => {
                    *self.token.lock().unwrap_or_else(PoisonError::into_inner) = read(&fields["token"])?;
                    self.say(json!({"answer": n, "ok": true})).await;
                }
                "close" => {
                    self.say(json!({"answer": n, "ok": true})).await;
                    break;
                }
                _ => match command(&what, &fields)? {
                    Some(message) => self.give(n, message).await?,
                    None => {
                        let error = json!({"code": "unknown_order", "message": what});
                        self.say(json!({"answer": n, "ok": false, "error": error})).await;
                    }
                },
            }
        }
        if let Some(client) = self.client.take() {
            client.close().await;
        }
        while self.running.join_next().await.is_some() {}
        Ok(())
    }

    fn connect(&mut self, connect: Connect) -> anyhow::Result<Events> {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = connect.token;
        let token = self.token.clone();
        let source = TokenSource::from_fn(move || token.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let mut options = Options::new(&connect.url, source)?;
        if let Some((first, most)) = connect.backoff_ms {
            options.backoff = Backoff::new(Duration::from_millis(first), Duration::from_millis(most));
        }
        if let Some(time) = connect.connect_timeout_ms {
            options.connect_timeout = Duration::from_millis(time);
        }
        let (client, events) = Client::start(options);
        self.client = Some(client);
        Ok(events)
    }

    /// Hands a command over now, so that commands keep their order, and reports its answer when it comes.
    async fn give(&mut self, n: u64, message: ClientMessage) -> anyhow::Result<()> {
        let client = self.client.as_ref().context("the first order is not `connect`")?;
        let ids = match &message {
            ClientMessage::SubmitTask(submit) => json!({"task": submit.task_id}),
            ClientMessage::SteerTask(steer) => json!({"steer": steer.steer_id}),
            _ => json!({}),
        };
        let answer = match client.hand_over(message).await {
            Ok(answer) => answer,
            Err(error) => {
                self.say(json!({"answer": n, "ok": false, "error": error_of(&error)})).await;
                return Ok(());
            }
        };
        let reports = self.reports.clone();
        self.running.spawn(async move {
            let report = match answer.await {
                Ok(_) => {
                    let mut report = ids;
                    report["answer"] = n.into();
                    report["ok"] = true.into();
                    report
                }
                Err(error) => json!({"answer": n, "ok": false, "error": error_of(&error)}),
            };
            // Nobody reads any more.
            let _ = reports.send(report.to_string()).await;
        });
        Ok(())
    }

    async fn say(&self, report: Value) {
        let _ = self.reports.send(report.to_string()).await;
    }
}

fn read<T: DeserializeOwned>(fields: &Value) -> anyhow::Result<T> {
    serde_json::from_value(fields.clone()).with_context(|| format!("the order's fields {fields}"))
}

/// The command an order asks for; `None` if it is not known.
fn command(what: &str, fields: &Value) -> anyhow::Result<Option<ClientMessage>> {
    if !matches!(what, "create" | "attach" | "detach" | "end" | "submit" | "cancel" | "steer" | "respond") {
        return Ok(None);
    }
    let work: Work = read(fields)?;
    let session = work.session;
    let task = || work.task.context("an order without a task");
    Ok(Some(match what {
        "create" => {
            ClientMessage::CreateSession(CreateSession { session_id: Some(session), agent: work.agent, ..CreateSession::default() })
        }
        "attach" => ClientMessage::AttachSession(AttachSession { session_id: session, after: work.after }),
        "detach" => ClientMessage::DetachSession(SessionRef { session_id: Some(session) }),
        "end" => ClientMessage::EndSession(SessionRef { session_id: Some(session) }),
        "submit" => ClientMessage::SubmitTask(SubmitTask {
            session_id: Some(session),
            task_id: Some(work.task.unwrap_or_else(TaskId::random)),
            prompt: work.prompt,
            on_busy: work.on_busy.as_ref().map(read).transpose()?,
            ..SubmitTask::default()
        }),
        "cancel" => ClientMessage::CancelTask(CancelTask { session_id: Some(session), task_id: task()?, reason: work.reason }),
        "steer" => ClientMessage::SteerTask(SteerTask {
            session_id: Some(session),
            task_id: task()?,
            input: work.input.context("an order without an input")?,
            when: work.when.as_ref().map(read).transpose()?,
            steer_id: Some(work.steer.unwrap_or_else(TaskId::random)),
        }),
        _ => ClientMessage::RespondInput(RespondInput {
            session_id: Some(session),
            task_id: task()?,
            request_id: work.request.context("an order without a request")?,
            outcome: read(&work.outcome.context("an order without an outcome")?)?,
            payload: work.payload,
            edited_arguments: None,
        }),
    }))
}

/// Reports what the client tells, until it ends.
async fn listen(mut events: Events, reports: mpsc::Sender<String>) {
    let mut shown = State::Connecting;
    let say = async |report: Value| drop(reports.send(report.to_string()).await);
    say(json!({"state": shown.as_str()})).await;
    while let Some(event) = events.next().await {
        let mut details = Map::new();
        let report = match event {
            ClientEvent::Event(event) => Some(event_report(event.text())),
            ClientEvent::Attached(attached) => Some(attached_report(&attached).to_string()),
            ClientEvent::Detached { session_id, error } => {
                Some(json!({"detached": {"sessionId": session_id, "error": hub_error(&error)}}).to_string())
            }
            ClientEvent::Problem(error) => Some(json!({"problem": hub_error(&error)}).to_string()),
            ClientEvent::Disconnected { code, retry_in } => {
                details.extend(code.map(|code| ("closeCode".to_owned(), code.into())));
                details.insert("retryInMs".to_owned(), json!(retry_in.as_millis() as u64));
                None
            }
            ClientEvent::Ended(Ended::Final(code)) => {
                details.insert("closeCode".to_owned(), code.into());
                None
            }
            ClientEvent::Connected(_) | ClientEvent::CaughtUp { .. } | ClientEvent::Ended(_) => None,
        };
        if events.state() != shown {
            shown = events.state();
            details.insert("state".to_owned(), shown.as_str().into());
            say(Value::Object(details)).await;
        }
        if let Some(report) = report
            && reports.send(report).await.is_err()
        {
            return;
        }
    }
}

/// The event as it came, to the letter. One that was written over several lines is written anew.
fn event_report(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(event) if text.contains('\n') => json!({ "event": event }).to_string(),
        _ => format!("{{\"event\":{text}}}"),
    }
}

fn attached_report(attached: &Attached) -> Value {
    let Attached { session_id, epoch, kept, from, head, snapshot } = attached;
    json!({"attached": {"sessionId": session_id, "epoch": epoch, "kept": kept, "from": from, "head": head, "snapshot": snapshot}})
}

fn error_of(error: &CommandError) -> Value {
    match error {
        CommandError::Refused(error) => hub_error(error),
        CommandError::Ended(_) => json!({"code": "closed", "message": error.to_string()}),
        CommandError::TooBig { .. } => json!({"code": "client", "message": error.to_string()}),
    }
}

fn hub_error(error: &ErrorMessage) -> Value {
    json!({
        "code": error.code, "message": error.message, "retryable": error.retryable,
        "retryAfterMs": error.retry_after_ms, "details": error.details,
    })
}
