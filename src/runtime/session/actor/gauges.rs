//! What the hub's counters say of this session.

use std::sync::atomic::Ordering;

use agent_hub_protocol::{Event, EventBody, snapshot::TaskStatus};

use super::Actor;

/// What this session has in the hub's gauges.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) queued: usize,
    pub(super) running: usize,
    pub(super) suspended: usize,
}

impl Actor {
    /// Keeps the hub's counters.
    pub(super) fn count(&mut self, events: &[Event]) {
        let metrics = &self.shared.metrics;
        for event in events {
            match &event.body {
                EventBody::TaskCompleted(_) => metrics.completed.increment(1),
                EventBody::TaskFailed(_) => metrics.failed.increment(1),
                EventBody::TaskTimeout(_) => metrics.timeout.increment(1),
                EventBody::TaskCancelled(_) => {
                    metrics.cancelled.increment(1);
                    let task = event.task_id.and_then(|id| self.state.as_ref()?.task(id));
                    if let Some(cancel) = task.and_then(|task| task.cancel.as_ref()) {
                        metrics.cancel_to_stop.record(event.at.since(cancel.at).as_secs_f64());
                    }
                }
                EventBody::TaskQueued(_) | EventBody::TaskStarted(_) | EventBody::TaskSuspended(_) | EventBody::TaskResumed(_) => {}
                _ => continue,
            }
            self.counted = self.recount();
        }
    }

    fn recount(&self) -> Counted {
        let mut now = Counted::default();
        if let Some(state) = &self.state {
            for task in state.line.iter().filter_map(|id| state.task(*id)) {
                match task.status {
                    TaskStatus::Queued => now.queued += 1,
                    TaskStatus::Running => now.running += 1,
                    TaskStatus::Suspended => now.suspended += 1,
                    TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::Timeout => {}
                }
            }
        }
        self.recorded(now);
        now
    }

    pub(super) fn recorded(&self, now: Counted) {
        let (metrics, before) = (&self.shared.metrics, self.counted);
        metrics.queued.increment(now.queued as f64 - before.queued as f64);
        metrics.running.increment(now.running as f64 - before.running as f64);
        metrics.suspended.increment(now.suspended as f64 - before.suspended as f64);
        self.shared.queued.fetch_add(now.queued, Ordering::Relaxed);
        self.shared.queued.fetch_sub(before.queued, Ordering::Relaxed);
    }
}
