//! The way from tasks to a thread that may block: a queue that keeps the order of calls and is bounded by what it owns.
//!
//! Full: a call's job stays in the caller's future, keeps its turn, and is taken from there when its turn comes. So a full inbox
//! makes callers wait and never fails them, what it owns is bounded, and a caller that gives up takes its job away with it.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{Notify, oneshot};

use super::StoreError;

/// Where a job's answer goes.
pub(super) type Reply<T, E = StoreError> = oneshot::Sender<Result<T, E>>;

/// A queue of jobs for one or more threads.
#[derive(Debug)]
pub(super) struct Inbox<J> {
    state: Mutex<State<J>>,
    /// Signalled when a job comes or the inbox closes, but only if somebody sleeps: waking costs a system call.
    ready: Condvar,
    /// Signalled in place of `ready` while there is a courier.
    called: Notify,
    bound: Bound,
}

/// How much an inbox owns at most, or one round takes at most. One job is always taken, whatever its size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// Jobs.
    pub(super) jobs: usize,
    /// Bytes they carry.
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct State<J> {
    queue: VecDeque<Turn<J>>,
    /// What `queue` owns.
    held: Bound,
    /// Threads that wait and have not been woken.
    sleeping: usize,
    /// Threads that have been woken and have not noticed: a second job in the meantime need not wake anybody.
    woken: usize,
    /// Whether [`Inbox::carry`] is at work.
    courier: bool,
    closed: bool,
}

/// One call's place in the queue.
#[derive(Debug)]
struct Turn<J> {
    job: Kept<J>,
    bytes: usize,
}

#[derive(Debug)]
enum Kept<J> {
    Here(J),
    /// In the caller's future. `None` inside once it gave up.
    WithCaller(Slot<J>),
}

type Slot<J> = Arc<Mutex<Option<J>>>;

/// Keeps a job that did not fit. Dropping it takes the job out of its turn.
#[derive(Debug)]
struct Waiting<J>(Option<Slot<J>>);

impl<J> Drop for Waiting<J> {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            lock(slot).take();
        }
    }
}

/// What [`Inbox::take`] came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// At least one job.
    Jobs,
    /// Nothing came in time.
    Nothing,
    /// It is closed and empty.
    Closed,
}

impl<J: Send + 'static> Inbox<J> {
    pub(super) fn new(bound: Bound) -> Self {
        let state =
            State { queue: VecDeque::new(), held: Bound { jobs: 0, bytes: 0 }, sleeping: 0, woken: 0, courier: false, closed: false };
        Self { state: Mutex::new(state), ready: Condvar::new(), called: Notify::new(), bound }
    }

    /// Gives the job its turn now, and waits for its answer when polled.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when the inbox is closed, or closes before the job was answered.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws a job that is still waiting for room; one that was handed over is carried out.
    pub(super) fn call<T, E>(&self, bytes: usize, job: impl FnOnce(Reply<T, E>) -> J) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let waiting = self.push(job(reply), bytes);
        async move {
            let _waiting = waiting;
            answer.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
        }
        .boxed()
    }

    /// Puts a job in without an answer, unless the inbox is full or closed.
    pub(super) fn try_push(&self, job: J) {
        let mut state = self.state();
        if !state.closed && state.held.jobs < self.bound.jobs {
            state.put(Kept::Here(job), 0);
            self.wake(state);
        }
    }

    fn push(&self, job: J, bytes: usize) -> Waiting<J> {
        let mut state = self.state();
        if state.closed {
            // Dropping the job drops its reply, which the caller reads as closed.
            return Waiting(None);
        }
        let fits = state.held.jobs == 0 || (state.held.jobs < self.bound.jobs && state.held.bytes + bytes <= self.bound.bytes);
        let waiting = if fits {
            state.put(Kept::Here(job), bytes);
            Waiting(None)
        } else {
            let slot = Arc::new(Mutex::new(Some(job)));
            state.put(Kept::WithCaller(slot.clone()), bytes);
            Waiting(Some(slot))
        };
        self.wake(state);
        waiting
    }

    /// Moves what waits into `out`, as much as `most`. Blocks until there is something, at most `patience` if given.
    pub(super) fn take(&self, most: Bound, patience: Option<Duration>, out: &mut Vec<J>) -> Taken {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state();
        loop {
            state.take(most, out);
            if !out.is_empty() {
                return Taken::Jobs;
            }
            if state.closed {
                return Taken::Closed;
            }
            state.sleeping += 1;
            state = match until {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.rise();
                        return Taken::Nothing;
                    }
                    self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.rise();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Wakes threads from inside a runtime, once all tasks that are ready there have had their turn: one round of the thread then takes what
    /// all of them had to say, in place of a round for the first and another for the rest. Nothing waits on a timer. Ends when the inbox
    /// closes; without it, callers wake threads themselves.
    pub(super) async fn carry(&self) {
        let courier = Courier::begin(self);
        while !self.is_closed() {
            self.called.notified().await;
            tokio::task::yield_now().await;
            courier.deliver();
        }
    }

    /// Takes no more. What is in it can still be taken out.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.ready.notify_all();
        self.called.notify_one();
    }

    /// Closes and empties it when dropped: callers must not wait for a thread that is gone, whatever ended it.
    pub(super) fn close_on_exit(&self) -> CloseOnExit<'_, J> {
        CloseOnExit(self)
    }

    fn wake(&self, state: MutexGuard<'_, State<J>>) {
        if state.sleeping > 0 && state.courier {
            drop(state);
            self.called.notify_one();
        } else {
            self.rouse(state);
        }
    }

    /// Wakes after unlocking: a thread that wakes up to a locked inbox would go to sleep once more.
    fn rouse(&self, mut state: MutexGuard<'_, State<J>>) {
        if state.sleeping > 0 {
            state.sleeping -= 1;
            state.woken += 1;
            drop(state);
            self.ready.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        lock(&self.state)
    }
}

/// See [`Inbox::carry`]. Dropped with its task, also by a runtime that shuts down: what was called for is delivered.
struct Courier<'a, J: Send + 'static>(&'a Inbox<J>);

impl<'a, J: Send + 'static> Courier<'a, J> {
    fn begin(inbox: &'a Inbox<J>) -> Self {
        inbox.state().courier = true;
        Self(inbox)
    }

    fn deliver(&self) {
        let state = self.0.state();
        if !state.queue.is_empty() {
            self.0.rouse(state);
        }
    }
}

impl<J: Send + 'static> Drop for Courier<'_, J> {
    fn drop(&mut self) {
        self.0.state().courier = false;
        self.deliver();
    }
}

/// See [`Inbox::close_on_exit`].
pub(super) struct CloseOnExit<'a, J: Send + 'static>(&'a Inbox<J>);

impl<J: Send + 'static> Drop for CloseOnExit<'_, J> {
    fn drop(&mut self) {
        self.0.close();
        // Dropping a job drops its reply, which its caller reads as closed.
        while self.0.take(Bound { jobs: 1, bytes: 0 }, None, &mut Vec::new()) == Taken::Jobs {}
    }
}

impl<J> State<J> {
    /// A thread stops waiting, whether it was woken or not.
    fn rise(&mut self) {
        if self.woken > 0 {
            self.woken -= 1;
        } else {
            self.sleeping -= 1;
        }
    }

    fn put(&mut self, job: Kept<J>, bytes: usize) {
        if matches!(job, Kept::Here(_)) {
            self.held.jobs += 1;
            self.held.bytes += bytes;
        }
        self.queue.push_back(Turn { job, bytes });
    }

    fn take(&mut self, most: Bound, out: &mut Vec<J>) {
        let mut bytes = 0;
        while let Some(turn) = self.queue.pop_front() {
            if !out.is_empty() && (out.len() >= most.jobs || bytes + turn.bytes > most.bytes) {
                self.queue.push_front(turn);
                return;
            }
            match turn.job {
                Kept::Here(job) => {
                    self.held.jobs -= 1;
                    self.held.bytes -= turn.bytes;
                    bytes += turn.bytes;
                    out.push(job);
                }
                Kept::WithCaller(slot) => {
                    if let Some(job) = lock(&slot).take() {
                        bytes += turn.bytes;
                        out.push(job);
                    }
                }
            }
        }
    }
}

/// A lock whose holder panicked guards values that are each changed in one step, so they are still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const ALL: Bound = Bound { jobs: 100, bytes: 100 };

    /// The reply is kept so that the call is not answered by itself.
    struct Job(u32, Reply<u32>);

    fn taken(inbox: &Inbox<Job>, most: Bound) -> Vec<u32> {
        let mut out = Vec::new();
        inbox.take(most, Some(Duration::ZERO), &mut out);
        out.into_iter().map(|job| job.0).collect()
    }

    #[test]
    fn a_full_inbox_keeps_turns_and_forgets_who_gave_up() {
        let inbox = Inbox::new(Bound { jobs: 2, bytes: 10 });
        let mut calls: Vec<_> = (0..5).map(|n| inbox.call::<u32, StoreError>(1, |reply| Job(n, reply))).collect();
        // The third waits for room and gives up; the second was handed over already.
        drop(calls.remove(3));
        drop(calls.remove(1));
        assert_eq!(taken(&inbox, ALL), [0, 1, 2, 4]);
        assert_eq!(taken(&inbox, ALL), [0; 0]);
    }

    #[test]
    fn a_round_is_bounded_and_one_job_always_goes() {
        let inbox = Inbox::new(ALL);
        let _calls: Vec<_> = [60, 30, 30, 500].map(|bytes| inbox.call::<u32, StoreError>(bytes, |reply| Job(bytes as u32, reply))).into();
        assert_eq!(taken(&inbox, ALL), [60, 30]);
        assert_eq!(taken(&inbox, ALL), [30]);
        assert_eq!(taken(&inbox, ALL), [500]);
    }

    /// A thread that takes rounds until the inbox closes, and says how large they were.
    fn taker(inbox: &Arc<Inbox<Job>>) -> std::thread::JoinHandle<Vec<usize>> {
        let inbox = Arc::clone(inbox);
        std::thread::spawn(move || {
            let mut rounds = Vec::new();
            let mut out = Vec::new();
            while inbox.take(ALL, None, &mut out) == Taken::Jobs {
                rounds.push(out.len());
                for Job(n, reply) in out.drain(..) {
                    let _ = reply.send(Ok(n));
                }
            }
            rounds
        })
    }

    fn wait_until_it_sleeps(inbox: &Inbox<Job>) {
        while inbox.state().sleeping == 0 {
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_courier_lets_everybody_speak_first() {
        let inbox = Arc::new(Inbox::new(ALL));
        let thread = taker(&inbox);
        let courier = tokio::spawn({
            let inbox = Arc::clone(&inbox);
            async move { inbox.carry().await }
        });
        tokio::task::yield_now().await;
        wait_until_it_sleeps(&inbox);
        let callers: Vec<_> = (0..20)
            .map(|n| {
                let inbox = Arc::clone(&inbox);
                tokio::spawn(async move { inbox.call::<u32, StoreError>(1, |reply| Job(n, reply)).await.unwrap() })
            })
            .collect();
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.await.unwrap(), n as u32);
        }
        inbox.close();
        courier.await.unwrap();
        assert_eq!(thread.join().unwrap(), [20]);
    }

    #[tokio::test]
    async fn a_courier_that_is_gone_keeps_nothing_back() {
        let inbox = Arc::new(Inbox::new(ALL));
        let thread = taker(&inbox);
        wait_until_it_sleeps(&inbox);
        let mut carrying = Box::pin(inbox.carry());
        assert!(carrying.as_mut().now_or_never().is_none());
        let first = inbox.call::<u32, StoreError>(1, |reply| Job(1, reply));
        drop(carrying);
        assert_eq!(first.await.unwrap(), 1);
        wait_until_it_sleeps(&inbox);
        assert_eq!(inbox.call::<u32, StoreError>(1, |reply| Job(2, reply)).await.unwrap(), 2);
        inbox.close();
        assert_eq!(thread.join().unwrap(), [1, 1]);
    }

    #[test]
    fn closed_is_an_answer() {
        let inbox = Inbox::new(ALL);
        let before = inbox.call::<u32, StoreError>(1, |reply| Job(1, reply));
        inbox.close();
        let after = inbox.call::<u32, StoreError>(1, |reply| Job(2, reply));
        assert!(matches!(after.now_or_never(), Some(Err(StoreError::Closed))));
        let mut out = Vec::new();
        assert_eq!(inbox.take(ALL, None, &mut out), Taken::Jobs);
        drop(out);
        assert!(matches!(before.now_or_never(), Some(Err(StoreError::Closed))));
        assert_eq!(inbox.take(ALL, None, &mut Vec::new()), Taken::Closed);
    }
}
