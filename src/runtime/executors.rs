//! Tools that clients execute: which connection provides which, and whom a call was offered to.
//!
//! What the hub waits for is in the log, as a request for input of kind `tool`. Here is only what this process knows besides: who could
//! do it now. A call is offered to one connection; when that one goes, to another that provides the tool, or to the next that does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use agent_hub_protocol::{SessionId, server_message::ToolOffered};
use dashmap::DashMap;

/// Everybody who executes tools for sessions of this process.
#[derive(Debug)]
pub struct Executors {
    desks: DashMap<SessionId, Desk>,
    numbers: AtomicU64,
    started: Instant,
    /// How long a tool whose clients have gone is still offered to models: they may be back in a moment.
    patience: Duration,
}

/// One session's.
#[derive(Debug, Default)]
struct Desk {
    open: Vec<Open>,
    /// The newest last.
    hands: Vec<Hand>,
    /// Tools whose last client has gone, and when.
    left: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Open {
    call: ToolOffered,
    /// Whom it was offered to.
    holder: Option<u64>,
}

#[derive(Debug)]
struct Hand {
    number: u64,
    tools: Vec<String>,
    /// Calls it was given and has not been told of.
    offers: VecDeque<ToolOffered>,
    waker: Option<Waker>,
}

/// A connection that executes tools for a session. Dropping it offers its calls to another.
#[derive(Debug)]
pub struct Executor {
    of: Arc<Executors>,
    session: SessionId,
    number: u64,
}

impl Executors {
    /// Nobody yet.
    pub fn new(patience: Duration) -> Self {
        Self { desks: DashMap::new(), numbers: AtomicU64::new(1), started: Instant::now(), patience }
    }

    /// A connection executes these tools for the session from now on.
    pub fn join(self: &Arc<Self>, session: SessionId, tools: Vec<String>) -> Executor {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut desk = self.desks.entry(session).or_default();
        desk.left.retain(|tool, _| !tools.contains(tool));
        desk.hands.push(Hand { number, tools, offers: VecDeque::new(), waker: None });
        desk.assign();
        Executor { of: Arc::clone(self), session, number }
    }

    /// The calls of the session that wait for a client, all of them.
    pub(crate) fn wait_for(&self, session: SessionId, calls: Vec<ToolOffered>) {
        if calls.is_empty() && !self.desks.contains_key(&session) {
            return;
        }
        let mut desk = self.desks.entry(session).or_default();
        let waits = |call_id: &str| calls.iter().any(|call| call.call_id == call_id);
        desk.open.retain(|open| waits(&open.call.call_id));
        desk.hands.iter_mut().for_each(|hand| hand.offers.retain(|offer| waits(&offer.call_id)));
        for call in calls {
            if !desk.open.iter().any(|open| open.call.call_id == call.call_id) {
                desk.open.push(Open { call, holder: None });
            }
        }
        desk.assign();
    }

    /// Whether somebody could execute the tool, or may be back to do so: a hub that has just started has not seen its clients yet.
    pub(crate) fn expects(&self, session: SessionId, tool: &str) -> bool {
        let desk = self.desks.get(&session);
        if desk.as_ref().is_some_and(|desk| desk.hands.iter().any(|hand| hand.provides(tool))) {
            return true;
        }
        let since = desk.and_then(|desk| desk.left.get(tool).copied()).unwrap_or(self.started);
        since.elapsed() < self.patience
    }

    /// Forgets who has been gone for long.
    pub(crate) fn tidy(&self) {
        self.desks.retain(|_, desk| {
            desk.left.retain(|_, since| since.elapsed() < self.patience);
            !(desk.open.is_empty() && desk.hands.is_empty() && desk.left.is_empty())
        });
    }
}

impl Executor {
    /// Of these tools, those that nobody else provides.
    pub fn alone_with<'a>(&self, tools: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let Some(desk) = self.of.desks.get(&self.session) else { return Vec::new() };
        let elsewhere = |tool: &str| desk.hands.iter().any(|hand| hand.number != self.number && hand.provides(tool));
        tools.into_iter().filter(|tool| !elsewhere(tool)).cloned().collect()
    }

    /// The next call it is to execute.
    ///
    /// Cancel safety: safe; what is taken is returned.
    pub fn poll_offer(&self, cx: &Context<'_>) -> Poll<ToolOffered> {
        let Some(mut desk) = self.of.desks.get_mut(&self.session) else { return Poll::Pending };
        let Some(hand) = desk.hands.iter_mut().find(|hand| hand.number == self.number) else { return Poll::Pending };
        match hand.offers.pop_front() {
            Some(offer) => Poll::Ready(offer),
            None => {
                if !hand.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    hand.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let Some(mut desk) = self.of.desks.get_mut(&self.session) else { return };
        let desk = &mut *desk;
        let Some(at) = desk.hands.iter().position(|hand| hand.number == self.number) else { return };
        let gone = desk.hands.remove(at);
        let alone = gone.tools.into_iter().filter(|tool| !desk.hands.iter().any(|hand| hand.provides(tool)));
        desk.left.extend(alone.map(|tool| (tool, Instant::now())));
        for open in desk.open.iter_mut().filter(|open| open.holder == Some(self.number)) {
            open.holder = None;
        }
        desk.assign();
    }
}

impl Hand {
    fn provides(&self, tool: &str) -> bool {
        self.tools.iter().any(|name| name == tool)
    }
}

impl Desk {
    /// Gives calls that nobody has to the newest connection that can do them: it is the likeliest to be alive.
    fn assign(&mut self) {
        for open in self.open.iter_mut().filter(|open| open.holder.is_none()) {
            let Some(hand) = self.hands.iter_mut().rev().find(|hand| hand.provides(&open.call.tool)) else { continue };
            open.holder = Some(hand.number);
            hand.offers.push_back(open.call.clone());
            if let Some(waker) = hand.waker.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use agent_hub_protocol::TaskId;
    use futures::task::noop_waker_ref;

    use super::*;

    fn call(session: SessionId, call_id: &str, tool: &str) -> ToolOffered {
        ToolOffered {
            session_id: session,
            task_id: TaskId::random(),
            call_id: call_id.into(),
            tool: tool.into(),
            arguments: serde_json::json!({}),
            expires_at: None,
        }
    }

    fn told(executor: &Executor) -> Vec<String> {
        let cx = Context::from_waker(noop_waker_ref());
        std::iter::from_fn(|| match executor.poll_offer(&cx) {
            Poll::Ready(offer) => Some(offer.call_id),
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn a_call_is_offered_to_one_and_to_the_next_when_that_one_goes() {
        let executors = Arc::new(Executors::new(Duration::from_secs(60)));
        let session = SessionId::random();
        let first = executors.join(session, vec!["where".into(), "print".into()]);
        let second = executors.join(session, vec!["where".into()]);
        executors.wait_for(session, vec![call(session, "c1", "where"), call(session, "c2", "print"), call(session, "c3", "other")]);
        assert_eq!((told(&first), told(&second)), (vec!["c2".to_owned()], vec!["c1".to_owned()]));

        // Said again, nothing is offered twice.
        executors.wait_for(session, vec![call(session, "c1", "where"), call(session, "c2", "print"), call(session, "c3", "other")]);
        assert_eq!((told(&first), told(&second)), (vec![], vec![]));

        drop(second);
        assert_eq!(told(&first), ["c1"]);
        let third = executors.join(session, vec!["other".into(), "print".into()]);
        assert_eq!(told(&third), ["c3"], "what nobody could do waits for who can");

        // One that was answered before its client was told is not offered to anybody.
        drop(third);
        let fourth = executors.join(session, vec!["other".into()]);
        executors.wait_for(session, vec![call(session, "c1", "where")]);
        assert_eq!(told(&fourth), Vec::<String>::new());
        assert_eq!(first.alone_with(&["where".to_owned(), "print".to_owned()]), ["where", "print"]);
    }

    #[test]
    fn who_has_been_gone_for_long_is_not_expected() {
        let executors = Arc::new(Executors::new(Duration::ZERO));
        let session = SessionId::random();
        assert!(!executors.expects(session, "where"));
        let there = executors.join(session, vec!["where".into()]);
        assert!(executors.expects(session, "where") && !executors.expects(session, "print"));
        drop(there);
        assert!(!executors.expects(session, "where"));
        executors.tidy();
        assert!(executors.desks.is_empty());

        let patient = Arc::new(Executors::new(Duration::from_secs(3600)));
        drop(patient.join(session, vec!["where".into()]));
        patient.tidy();
        assert!(patient.expects(session, "where"), "it may be back in a moment");
    }
}
