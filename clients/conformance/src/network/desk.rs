//! Where the players of one client give their orders, and where its reports are kept.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::Report;
use crate::{
    driver::{Driver, Event, connect_order},
    pattern::short,
};

/// Orders that wait to be written.
const ORDERS: usize = 64;

/// What one client has reported.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) answers: HashMap<u64, Value>,
    pub(super) sessions: HashMap<String, History>,
    /// What should not have been.
    pub(super) wrong: Vec<String>,
}

/// What a client has applied of one session.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Each begins where the client was told to forget what it had.
    pub(super) segments: Vec<Segment>,
    /// Tasks whose end was seen, in an event or in a snapshot.
    pub(super) ended: HashSet<String>,
    /// Attaches that were answered.
    pub(super) attaches: usize,
    /// Attaches without a cursor that were ordered: only they may be answered with a snapshot.
    pub(super) fresh_starts: usize,
    pub(super) cursor: Option<(String, u64)>,
}

/// Events that were applied without a break.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// The event before the first.
    pub(super) base: u64,
    pub(super) events: Vec<Value>,
}

impl Segment {
    fn last(&self) -> u64 {
        self.base + self.events.len() as u64
    }
}

impl History {
    fn attached(&mut self, attached: &Value) {
        self.attaches += 1;
        let head = attached["head"].as_u64().unwrap_or_default();
        if attached["kept"] != true {
            let base = match attached["from"].as_u64() {
                Some(from) => from.saturating_sub(1),
                None if attached["snapshot"].is_object() => head,
                None => 0,
            };
            self.segments.push(Segment { base, events: Vec::new() });
            for task in attached["snapshot"]["tasks"].as_array().into_iter().flatten() {
                if matches!(task["status"].as_str(), Some("completed" | "failed" | "cancelled" | "timeout")) {
                    self.ended.extend(task["taskId"].as_str().map(str::to_owned));
                }
            }
        } else if self.segments.is_empty() {
            self.segments.push(Segment::default());
        }
        let epoch = attached["epoch"].as_str().unwrap_or_default().to_owned();
        self.cursor = Some((epoch, self.segments.last().map_or(0, Segment::last)));
    }

    fn apply(&mut self, event: Value) -> Result<(), String> {
        let Some(segment) = self.segments.last_mut() else { return Err(format!("an event before the attach: {}", short(&event))) };
        let due = segment.last() + 1;
        if event["seq"] != due {
            return Err(format!("event {} was applied where {due} was due: {}", event["seq"], short(&event)));
        }
        if matches!(event["type"].as_str(), Some("task_completed" | "task_failed" | "task_cancelled" | "task_timeout")) {
            self.ended.extend(event["taskId"].as_str().map(str::to_owned));
        }
        segment.events.push(event);
        if let Some((_, last)) = &mut self.cursor {
            *last = due;
        }
        Ok(())
    }
}

type Order = (Map<String, Value>, oneshot::Sender<u64>);

/// The client, for everybody who orders something.
#[derive(Clone)]
pub(super) struct Desk {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
    serving: Arc<Mutex<Option<JoinHandle<Driver>>>>,
}

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    changed: Notify,
    ended: AtomicBool,
}

impl Desk {
    pub(super) async fn open(driver: Driver, url: &str, token: &str) -> anyhow::Result<Self> {
        let (orders, taken) = mpsc::channel(ORDERS);
        let shared = Arc::new(Shared::default());
        let serving = tokio::spawn(serve(driver, taken, shared.clone()));
        let desk = Self { orders, shared, serving: Arc::new(Mutex::new(Some(serving))) };
        let mut connect = connect_order(url, token);
        connect.insert("backoffMs".to_owned(), json!([10, 100]));
        connect.insert("connectTimeoutMs".to_owned(), json!(1500));
        desk.order(connect).await;
        Ok(desk)
    }

    /// The next attach of this session has no cursor.
    pub(super) fn starts_afresh(&self, session: &str) {
        self.known().sessions.entry(session.to_owned()).or_default().fresh_starts += 1;
    }

    /// Gives an order; `None` if the driver has ended.
    pub(super) async fn order(&self, order: Map<String, Value>) -> Option<u64> {
        let (number, given) = oneshot::channel();
        self.orders.send((order, number)).await.ok()?;
        given.await.ok()
    }

    /// Waits for what a client reports. Once something is wrong nobody waits any more: what was lost will not come.
    pub(super) async fn until<T>(&self, within: Duration, mut found: impl FnMut(&Known) -> Option<T>) -> Option<T> {
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = found(&self.known()) {
                    return Some(found);
                }
                if !self.fine() {
                    return None;
                }
                changed.await;
            }
        };
        timeout(within, wait).await.ok().flatten()
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the driver still obeys.
    pub(super) fn runs(&self) -> bool {
        !self.shared.ended.load(Ordering::Relaxed)
    }

    /// Whether the driver obeys and nothing is wrong yet.
    pub(super) fn fine(&self) -> bool {
        self.runs() && self.known().wrong.is_empty()
    }

    /// What was waited for in vain; the consequence of something that is wrong already is not.
    pub(super) fn in_vain(&self, text: String) {
        if self.fine() {
            self.wrong(text);
        }
    }

    pub(super) fn wrong(&self, text: String) {
        self.known().wrong.push(text);
    }

    /// The driver's end, which must be a good one.
    pub(super) async fn close(self, report: &mut Report) {
        self.order(Map::from_iter([("do".to_owned(), "close".into())])).await;
        drop(self.orders);
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(serving) = serving else { return };
        match serving.await {
            Ok(driver) => {
                if let Err(problem) = driver.finish().await {
                    report.violation(problem);
                }
            }
            Err(error) => report.violation(format!("the driver's reader ended: {error}")),
        }
    }
}

/// Writes orders and sorts reports until nobody orders anything any more, or the driver ends.
async fn serve(mut driver: Driver, mut orders: mpsc::Receiver<Order>, shared: Arc<Shared>) -> Driver {
    let known = |take: &dyn Fn(&mut Known)| take(&mut shared.known.lock().unwrap_or_else(PoisonError::into_inner));
    loop {
        match driver.report_or(&mut orders).await {
            Some(Event::Order((order, number))) => {
                let closes = order.get("do").is_some_and(|what| what == "close");
                match driver.order(order).await {
                    Ok(given) => drop(number.send(given)),
                    Err(problem) => known(&|known| known.wrong.push(problem.clone())),
                }
                if closes {
                    break;
                }
            }
            Some(Event::Report(Ok(report))) => known(&|known| known.take(&report)),
            Some(Event::Report(Err(problem))) => known(&|known| known.wrong.push(problem.clone())),
            None => {
                known(&|known| known.wrong.push("the driver ended before it was told to".to_owned()));
                break;
            }
        }
        shared.changed.notify_waiters();
    }
    shared.ended.store(true, Ordering::Relaxed);
    shared.changed.notify_waiters();
    driver
}

impl Known {
    fn take(&mut self, report: &Value) {
        if let Some(number) = report["answer"].as_u64() {
            if let Some(first) = self.answers.insert(number, report.clone()) {
                self.wrong.push(format!("order {number} was answered twice: {first}, then {report}"));
            }
        } else if let Some(attached) = report.get("attached") {
            self.history(attached).attached(attached);
        } else if let Some(event) = report.get("event") {
            let applied = self.history(event).apply(event.clone());
            if let Err(problem) = applied {
                self.wrong.push(problem);
            }
        } else if report["state"] == "closed" {
            self.wrong.push(format!("the client closed by itself: {report}"));
        } else if report.get("detached").is_some() {
            self.wrong.push(format!("a session was lost: {report}"));
        }
    }

    fn history(&mut self, of: &Value) -> &mut History {
        self.sessions.entry(of["sessionId"].as_str().unwrap_or_default().to_owned()).or_default()
    }
}
