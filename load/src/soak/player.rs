//! A client with one session that keeps it busy, and writes down what it sees.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use agent_hub_client::{Backoff, Client, ClientEvent, CommandError, Events, Options};
use agent_hub_protocol::{EventBody, SessionId, TaskId};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use crate::ledger::Ledger;

/// How a player connects: impatient, because what it talks to breaks often.
pub(super) fn options(address: SocketAddr, token: &str, silence: Duration) -> anyhow::Result<Options> {
    let mut options = Options::new(&format!("ws://{address}"), token)?;
    options.backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(200));
    options.connect_timeout = Duration::from_secs(3);
    options.silence = Some(silence);
    Ok(options)
}

/// What a player knows, shared with whoever plays it.
#[derive(Debug, Default)]
pub(super) struct Known {
    inner: Mutex<Seen>,
    changed: Notify,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) ledger: Ledger,
    /// Terminal events by task, and when they came.
    pub(super) ended: HashMap<TaskId, (&'static str, Instant)>,
    /// Connections after the first.
    pub(super) reconnects: u64,
    /// Attaches whose answer said to forget everything.
    pub(super) forgotten: u64,
    /// What else should not have been.
    pub(super) wrong: Vec<String>,
}

impl Known {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of a task.
    pub(super) async fn end_of(&self, task: TaskId, within: Duration) -> Option<(&'static str, Instant)> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(end) = self.seen().ended.get(&task) {
                    return *end;
                }
                changed.await;
            }
        };
        timeout(within, wait).await.ok()
    }

    fn take(&self, event: ClientEvent) {
        let mut seen = self.seen();
        match event {
            ClientEvent::Event(event) => {
                if let Err(due) = seen.ledger.apply(event.seq, event.text().as_bytes()) {
                    seen.wrong.push(format!("{}: event {} was applied where {due} was due", event.session_id, event.seq));
                }
                // Tokens are most of what comes, and never an end.
                if !event.text().starts_with(r#"{"type":"task_"#) {
                    return;
                }
                match event.decode() {
                    Ok(event) => seen.note_end(event.task_id, &event.body),
                    Err(error) => seen.wrong.push(format!("an event cannot be read: {error}")),
                }
            }
            ClientEvent::Disconnected { .. } => seen.reconnects += 1,
            ClientEvent::Attached(attached) => seen.forgotten += u64::from(!attached.kept),
            ClientEvent::Detached { error, .. } => seen.wrong.push(format!("a session was lost: {}", error.message)),
            ClientEvent::Problem(error) => seen.wrong.push(format!("a complaint: {}", error.message)),
            ClientEvent::Ended(ended) => seen.wrong.push(format!("the client ended: {ended:?}")),
            ClientEvent::Connected(_) | ClientEvent::CaughtUp { .. } => return,
        }
        drop(seen);
        self.changed.notify_waiters();
    }
}

impl Seen {
    fn note_end(&mut self, task: Option<TaskId>, body: &EventBody) {
        let kind = body.event_type();
        if let Some(task) = task.filter(|_| kind.is_terminal())
            && let Some((first, _)) = self.ended.insert(task, (kind.as_str(), Instant::now()))
        {
            self.wrong.push(format!("task {task} ended twice: {first}, {}", kind.as_str()));
        }
    }
}

/// A client, its session, and the task that reads for it.
pub(super) struct Player {
    pub(super) client: Client,
    pub(super) session: SessionId,
    pub(super) known: Arc<Known>,
    reader: JoinHandle<()>,
}

impl Player {
    /// Connects and makes a session.
    pub(super) async fn join(options: Options) -> anyhow::Result<Self> {
        let (client, mut events): (Client, Events) = Client::connect(options).await?;
        let known = Arc::new(Known::default());
        let reader = tokio::spawn({
            let known = known.clone();
            async move {
                while let Some(event) = events.next().await {
                    known.take(event);
                }
            }
        });
        let session = client.create(Default::default()).await?;
        Ok(Self { client, session, known, reader })
    }

    /// One task after another until told to stop; returns those the hub acknowledged.
    pub(super) async fn keep_busy(&self, prompt: &str, stop: &AtomicBool) -> Vec<TaskId> {
        let mut submitted = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match self.client.submit(self.session, prompt).await {
                Ok(task) => {
                    submitted.push(task);
                    self.known.end_of(task, Duration::from_secs(60)).await;
                }
                Err(CommandError::Refused(error)) if error.retryable => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => {
                    self.known.seen().wrong.push(format!("a submit was refused: {error}"));
                    return submitted;
                }
            }
        }
        submitted
    }

    /// Waits until as much was applied as the log has.
    pub(super) async fn catch_up(&self, head: usize, within: Duration) {
        let deadline = Instant::now() + within;
        while self.known.seen().ledger.last() < head as u64 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
