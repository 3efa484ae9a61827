//! Waiting for what rarely happens, in a task that is woken for something else all the time.
//!
//! A task that waits for several things looks at all of them whenever one wakes it. For a token of an answer that is the memory of a timer
//! and of several lists of waiters, each far away, of things that happen once an hour. What has been polled stays registered, so here it is
//! looked at again only when it has something to say, or when another task asks.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Who was registered by the last poll.
#[derive(Debug, Default)]
struct Registered(Option<Waker>);

impl Registered {
    /// Whether this task is; from now on it is.
    fn already(&mut self, cx: &Context<'_>) -> bool {
        let already = self.0.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !already {
            self.0 = Some(cx.waker().clone());
        }
        already
    }
}

/// A cancellation.
#[derive(Debug)]
pub struct Signal {
    token: CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    registered: Registered,
}

impl Signal {
    /// Of this token.
    pub fn of(token: CancellationToken) -> Self {
        Self { cancelled: Box::pin(token.clone().cancelled_owned()), token, registered: Registered::default() }
    }

    /// Ready from the cancellation on.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.token.is_cancelled() {
            return Poll::Ready(());
        }
        if self.registered.already(cx) { Poll::Pending } else { self.cancelled.as_mut().poll(cx) }
    }
}

/// A moment.
#[derive(Debug)]
pub struct Alarm {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
    registered: Registered,
}

impl Alarm {
    /// At this moment.
    pub fn at(due: Instant) -> Self {
        Self { due, sleep: Box::pin(tokio::time::sleep_until(due)), registered: Registered::default() }
    }

    /// When.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// At another moment.
    pub fn set(&mut self, due: Instant) {
        self.due = due;
        self.registered = Registered::default();
        self.sleep.as_mut().reset(due);
    }

    /// Ready from that moment on.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.registered.already(cx) && Instant::now() < self.due {
            return Poll::Pending;
        }
        // A task that has used up its budget would be turned away without being registered.
        std::pin::pin!(unconstrained(self.sleep.as_mut())).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    /// Polls both whenever anything wakes the task, as those who use them do.
    async fn what_happens(signal: &mut Signal, alarm: &mut Alarm) -> &'static str {
        poll_fn(|cx| {
            if signal.poll(cx).is_ready() {
                return Poll::Ready("signal");
            }
            alarm.poll(cx).map(|()| "alarm")
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_is_registered_by_a_task_without_budget() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + Duration::from_secs(5));
        let mut spendthrift = true;
        let rings = poll_fn(|cx| {
            while spendthrift && tokio::task::coop::poll_proceed(cx).map(|unit| unit.made_progress()).is_ready() {}
            spendthrift = false;
            alarm.poll(cx)
        });
        assert!(tokio::time::timeout(Duration::from_secs(60), rings).await.is_ok(), "it never rings");
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_is_woken_though_it_does_not_look_again() {
        let token = CancellationToken::new();
        let waiting = tokio::spawn({
            let mut signal = Signal::of(token.clone());
            async move {
                let start = Instant::now();
                let mut alarm = Alarm::at(start + Duration::from_secs(5));
                let first = what_happens(&mut signal, &mut alarm).await;
                let after = start.elapsed();
                alarm.set(Instant::now() + Duration::from_secs(60));
                (first, after, what_happens(&mut signal, &mut alarm).await, start.elapsed())
            }
        });
        tokio::time::sleep(Duration::from_secs(20)).await;
        token.cancel();
        let (first, after, second, end) = waiting.await.expect("the task ends");
        assert_eq!((first, after.as_secs()), ("alarm", 5));
        assert_eq!((second, end.as_secs()), ("signal", 20));
    }
}
