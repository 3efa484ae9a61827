//! The program beside a client, `DRIVER.md`: orders go in, reports come out.

use std::{
    collections::{HashMap, VecDeque},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{pattern::cut, rust_driver, verdict::Transcript};

/// Between the end of its orders and the driver's own end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Reports that wait to be read. Full: the driver's output is not read, and it waits.
const REPORTS: usize = 4096;
/// Bytes that are carried between the kit and a driver in the same process.
const PIPE: usize = 64 * 1024;

/// How to start a driver.
#[derive(Clone)]
pub enum DriverCommand {
    /// A program, for `sh -c`.
    Program(String),
    /// In this process: reads orders from the first, writes reports to the second.
    Here(InProcess),
}

/// A driver as a function.
pub type InProcess = Arc<dyn Fn(DuplexStream, DuplexStream) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

impl DriverCommand {
    /// The Rust client's.
    pub fn rust() -> Self {
        Self::Here(Arc::new(|orders, reports| Box::pin(rust_driver::run(BufReader::new(orders), reports))))
    }
}

/// A running driver. Dropping it ends it.
pub struct Driver {
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    reports: mpsc::Receiver<Result<Value, String>>,
    runs: Runs,
    orders: u64,
    transcript: Transcript,
}

/// See [`Driver::report_or`].
#[derive(Debug)]
pub enum Event<T> {
    /// The driver reports, or writes what is no report.
    Report(Result<Value, String>),
    /// An order came.
    Order(T),
}

enum Runs {
    Program(Child),
    Here(JoinHandle<anyhow::Result<()>>),
}

impl Driver {
    /// Starts it.
    ///
    /// # Errors
    /// There is no such program.
    pub fn start(command: &DriverCommand, transcript: Transcript) -> anyhow::Result<Self> {
        let (send, reports) = mpsc::channel(REPORTS);
        let (input, runs): (Box<dyn AsyncWrite + Send + Unpin>, Runs) = match command {
            DriverCommand::Program(command) => {
                let mut child = start_program(command)?;
                let output = child.stdout.take().context("the driver has no output")?;
                let complaints = child.stderr.take().context("the driver has no standard error")?;
                drop(tokio::spawn(read_reports(output, send, transcript.clone())));
                drop(tokio::spawn(read_complaints(complaints, transcript.clone())));
                (Box::new(child.stdin.take().context("the driver has no input")?), Runs::Program(child))
            }
            DriverCommand::Here(run) => {
                let (input, orders) = tokio::io::duplex(PIPE);
                let (said, output) = tokio::io::duplex(PIPE);
                drop(tokio::spawn(read_reports(output, send, transcript.clone())));
                (Box::new(input), Runs::Here(tokio::spawn(run(orders, said))))
            }
        };
        Ok(Self { input: Some(input), reports, runs, orders: 0, transcript })
    }

    /// Gives an order; returns its number.
    ///
    /// # Errors
    /// The driver does not take it.
    pub async fn order(&mut self, mut fields: Map<String, Value>) -> Result<u64, String> {
        self.orders += 1;
        fields.insert("n".to_owned(), self.orders.into());
        let mut line = Value::Object(fields).to_string();
        self.transcript.note("order >", &line);
        line.push('\n');
        let input = self.input.as_mut().ok_or("the driver's input is closed")?;
        let written = async {
            input.write_all(line.as_bytes()).await?;
            input.flush().await
        };
        let written = timeout(END_WITHIN, written).await.map_err(|_| "the driver does not read its orders".to_owned())?;
        written.map_err(|error| format!("the driver takes no orders: {error}"))?;
        Ok(self.orders)
    }

    /// The next report; `None` after the last. A line that is no report is an error.
    pub async fn report(&mut self, until: Instant) -> Option<Result<Value, String>> {
        let late = |_| Some(Err("nothing was reported in time".to_owned()));
        timeout_at(until, self.reports.recv()).await.unwrap_or_else(late)
    }

    /// The next report, or the next of these orders, whichever is there first. `None` after the last report.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn report_or<T>(&mut self, orders: &mut mpsc::Receiver<T>) -> Option<Event<T>> {
        tokio::select! {
            report = self.reports.recv() => report.map(Event::Report),
            Some(order) = orders.recv() => Some(Event::Order(order)),
        }
    }

    /// The end of its orders. Returns the reports that still came.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub async fn finish(mut self) -> Result<Vec<Value>, String> {
        drop(self.input.take());
        let deadline = Instant::now() + END_WITHIN;
        let mut last = Vec::new();
        while let Ok(Some(report)) = timeout_at(deadline, self.reports.recv()).await {
            last.push(report?);
        }
        let ended = match &mut self.runs {
            Runs::Program(child) => timeout_at(deadline, child.wait()).await.map(|status| match status {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(format!("the driver ended with {status}")),
                Err(error) => Err(format!("the driver's end is not known: {error}")),
            }),
            Runs::Here(task) => timeout_at(deadline, task).await.map(|ended| match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(format!("the driver ended with {error:#}")),
                Err(error) => Err(format!("the driver ended with {error}")),
            }),
        };
        let late = |_| Err(format!("the driver did not end within {} s after its last order", END_WITHIN.as_secs()));
        ended.unwrap_or_else(late).map(|()| last)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        match &mut self.runs {
            // A shell's children are not killed with it, but they are in its group.
            Runs::Program(child) => {
                if let Some(group) = child.id() {
                    let kill =
                        std::process::Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
                    // Without `kill` its input has ended, which is its order to end.
                    drop(kill);
                }
            }
            Runs::Here(task) => task.abort(),
        }
    }
}

fn start_program(command: &str) -> anyhow::Result<Child> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.process_group(0).kill_on_drop(true).spawn().with_context(|| format!("starting {command}"))
}

async fn read_reports(output: impl AsyncRead + Unpin, send: mpsc::Sender<Result<Value, String>>, transcript: Transcript) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        transcript.note("report <", &line);
        let report =
            serde_json::from_str(&line).map_err(|error| format!("the driver wrote a line that is no report ({error}): {}", cut(&line)));
        if send.send(report).await.is_err() {
            return;
        }
    }
}

async fn read_complaints(complaints: impl AsyncRead + Unpin, transcript: Transcript) {
    let mut lines = BufReader::new(complaints).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        transcript.note("stderr", &line);
    }
}

/// What a driver has reported, sorted.
#[derive(Debug, Default)]
pub struct Reports {
    /// By order.
    pub answers: HashMap<u64, Value>,
    /// By session, in order: `event`, `attached` and `detached`, each with its key.
    pub applied: HashMap<String, VecDeque<Value>>,
    /// In order.
    pub states: VecDeque<Value>,
    /// The last one ever.
    pub state: Option<Value>,
    /// Broken rules of the driver's own.
    pub wrong: Vec<String>,
}

impl Reports {
    /// Sorts a report in.
    pub fn take(&mut self, report: Value) {
        let Value::Object(fields) = &report else {
            self.wrong.push(format!("a report is no object: {report}"));
            return;
        };
        if let Some(number) = fields.get("answer") {
            match number.as_u64() {
                Some(number) => {
                    if let Some(first) = self.answers.insert(number, report.clone()) {
                        self.wrong.push(format!("order {number} was answered twice: {first}, then {report}"));
                    }
                }
                None => self.wrong.push(format!("an answer without a number: {report}")),
            }
        } else if fields.contains_key("state") {
            self.states.push_back(report.clone());
            self.state = Some(report);
        } else if let Some(kind) = ["event", "attached", "detached"].into_iter().find(|kind| fields.contains_key(*kind)) {
            match fields[kind].get("sessionId").and_then(Value::as_str) {
                Some(session) => self.applied.entry(session.to_owned()).or_default().push_back(report.clone()),
                None => self.wrong.push(format!("a report without a session: {report}")),
            }
        } else if !fields.contains_key("problem") {
            self.wrong.push(format!("an unknown report: {report}"));
        }
    }
}

/// The order `connect`.
pub fn connect_order(url: &str, token: &str) -> Map<String, Value> {
    let order = json!({"do": "connect", "url": url, "token": token, "backoffMs": [5, 50]});
    order.as_object().cloned().unwrap_or_default()
}
