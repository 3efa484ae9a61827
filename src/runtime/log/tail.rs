//! The newest events of one session, in memory, and the readers that wait for more.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use agent_hub_protocol::Seq;
use bytes::Bytes;

use crate::store::Audience;

/// One durable event, as every reader gets it. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct LogEvent {
    /// Its number.
    pub seq: Seq,
    /// Its wire text (UTF-8 JSON).
    pub text: Bytes,
}

/// Why a tail ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailEnd {
    /// The session was erased; there is nothing more to read.
    Erased,
    /// This node let go of the session (it failed, or lost it to another writer): attach again from the same position.
    Lost,
}

/// Written by the session's actor, followed by any number of readers. Bounded by number and bytes; what falls out at the old end
/// is read from the store, so "full" loses nothing.
#[derive(Debug)]
pub struct Tail {
    max_events: usize,
    max_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    head: Seq,
    events: VecDeque<LogEvent>,
    bytes: usize,
    end: Option<TailEnd>,
    /// One place per reader; a free place is reused.
    readers: Vec<Place>,
    following: usize,
    /// The last reader has gone, and the actor has not noticed.
    deserted: bool,
    /// The actor, waiting for that.
    actor: Option<Waker>,
}

#[derive(Debug)]
enum Place {
    Free,
    Taken(Option<Waker>),
}

/// What lies behind a position.
pub(super) enum Behind {
    /// This many events were taken.
    Taken,
    /// The position is this many events behind the head, and older than the tail: read the store.
    Older(u64),
}

impl Tail {
    /// An empty tail of a log that ends at `head`.
    pub fn new(head: Seq, max_events: usize, max_bytes: usize) -> Self {
        let inner =
            Inner { head, events: VecDeque::new(), bytes: 0, end: None, readers: Vec::new(), following: 0, deserted: false, actor: None };
        Self { max_events, max_bytes, inner: Mutex::new(inner) }
    }

    /// Adds durable events, in order, and wakes the readers.
    pub fn publish(&self, events: impl IntoIterator<Item = LogEvent>) {
        let mut inner = self.lock();
        for event in events {
            debug_assert_eq!(event.seq, inner.head + 1, "the log is dense");
            inner.head = event.seq;
            inner.bytes += event.text.len();
            inner.events.push_back(event);
        }
        while inner.events.len() > self.max_events || (inner.bytes > self.max_bytes && inner.events.len() > 1) {
            if let Some(old) = inner.events.pop_front() {
                inner.bytes -= old.text.len();
            }
        }
        inner.wake_all();
    }

    /// The log went on while this process could not see it: readers get what is missing from the store.
    pub fn jump_to(&self, head: Seq) {
        let mut inner = self.lock();
        if head > inner.head {
            inner.head = head;
            inner.events.clear();
            inner.bytes = 0;
            inner.wake_all();
        }
    }

    /// Gives the memory of its events back: nobody has been here for a while. Who comes reads them from the store.
    pub fn let_go(&self) {
        let mut inner = self.lock();
        inner.events = VecDeque::new();
        inner.bytes = 0;
    }

    /// No more events will come. Readers get what there is first.
    pub fn end(&self, end: TailEnd) {
        let mut inner = self.lock();
        inner.end = Some(end);
        inner.wake_all();
    }

    /// The newest durable event.
    pub fn head(&self) -> Seq {
        self.lock().head
    }

    /// How many readers follow.
    pub fn following(&self) -> usize {
        self.lock().following
    }

    pub(super) fn join(&self) -> usize {
        let mut inner = self.lock();
        inner.following += 1;
        let place = inner.readers.iter().position(|p| matches!(p, Place::Free)).unwrap_or(inner.readers.len());
        if place == inner.readers.len() {
            inner.readers.push(Place::Taken(None));
        } else {
            inner.readers[place] = Place::Taken(None);
        }
        place
    }

    pub(super) fn leave(&self, place: usize) {
        let mut inner = self.lock();
        inner.readers[place] = Place::Free;
        inner.following -= 1;
        if inner.following == 0 {
            inner.deserted = true;
            inner.actor.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Ready once after the last reader has gone. One task waits for it at a time.
    pub(crate) fn poll_deserted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.deserted) {
            return Poll::Ready(());
        }
        match &mut inner.actor {
            Some(kept) => kept.clone_from(cx.waker()),
            None => inner.actor = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes events behind `after` until `max_bytes` are taken (at least one). Without any, leaves the waker and is pending.
    pub(super) fn poll_take(
        &self,
        place: usize,
        after: Seq,
        max_bytes: usize,
        out: &mut Vec<LogEvent>,
        waker: &Waker,
    ) -> Poll<Result<Behind, TailEnd>> {
        let mut inner = self.lock();
        if after >= inner.head {
            if let Some(end) = inner.end {
                return Poll::Ready(Err(end));
            }
            if let Place::Taken(kept) = &mut inner.readers[place] {
                match kept {
                    Some(kept) => kept.clone_from(waker),
                    None => *kept = Some(waker.clone()),
                }
            }
            return Poll::Pending;
        }
        let Some(first) = inner.events.front().map(|e| e.seq).filter(|first| *first <= after + 1) else {
            return Poll::Ready(Ok(Behind::Older(inner.head - after)));
        };
        // The distance within the tail is at most its length, which is a usize.
        let skip = (after + 1 - first) as usize;
        let mut bytes = 0;
        for event in inner.events.iter().skip(skip) {
            if bytes > 0 && bytes + event.text.len() > max_bytes {
                break;
            }
            bytes += event.text.len();
            out.push(event.clone());
        }
        Poll::Ready(Ok(Behind::Taken))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the tail whole, so a poisoned lock is still usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audience for Tail {
    fn durable(&self, first: Seq, events: Vec<Bytes>) {
        self.publish((first..).zip(events).map(|(seq, text)| LogEvent { seq, text }));
    }
}

impl Inner {
    fn wake_all(&mut self) {
        for place in &mut self.readers {
            if let Place::Taken(waker) = place
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
        }
    }
}
