//! What is counted. Handles are made once; counting on a hot path is one atomic addition.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The hub's own measurements, in the names of the field: seconds, bytes, totals.
#[derive(Clone)]
pub struct Metrics {
    /// Events made durable.
    pub events: Counter,
    /// Model tokens (deltas) taken from providers.
    pub deltas: Counter,
    /// Tasks that are queued, running, suspended now.
    pub queued: Gauge,
    /// See `queued`.
    pub running: Gauge,
    /// See `queued`.
    pub suspended: Gauge,
    /// Tasks ended as completed, failed, cancelled, timeout: one counter each.
    pub completed: Counter,
    /// See `completed`.
    pub failed: Counter,
    /// See `completed`.
    pub cancelled: Counter,
    /// See `completed`.
    pub timeout: Counter,
    /// Attaches without a cursor.
    pub attach_fresh: Counter,
    /// Attaches whose cursor was honoured.
    pub attach_resumed: Counter,
    /// Attaches whose cursor was not.
    pub attach_reset: Counter,
    /// Events between a cursor and the head, per resume.
    pub replay_events: Histogram,
    /// From the command to the moment the work has stopped.
    pub cancel_to_stop: Histogram,
    /// From deciding events to having them durable, where somebody waits for that: pieces of an answer are not in it.
    pub append_seconds: Histogram,
    /// Sessions in memory.
    pub sessions_awake: Gauge,
    /// Appends that failed.
    pub append_failures: Counter,
}

impl Metrics {
    /// Registers everything with the recorder installed in this process; without one, counting is free and lost.
    pub fn register() -> Self {
        let ended = |state: &'static str| counter!("agent_hub_tasks_ended_total", "state" => state);
        let attach = |how: &'static str| counter!("agent_hub_attaches_total", "how" => how);
        let tasks = |state: &'static str| gauge!("agent_hub_tasks", "state" => state);
        Self {
            events: counter!("agent_hub_events_total"),
            deltas: counter!("agent_hub_model_deltas_total"),
            queued: tasks("queued"),
            running: tasks("running"),
            suspended: tasks("suspended"),
            completed: ended("completed"),
            failed: ended("failed"),
            cancelled: ended("cancelled"),
            timeout: ended("timeout"),
            attach_fresh: attach("fresh"),
            attach_resumed: attach("resumed"),
            attach_reset: attach("reset"),
            replay_events: histogram!("agent_hub_replay_events"),
            cancel_to_stop: histogram!("agent_hub_cancel_to_stop_seconds"),
            append_seconds: histogram!("agent_hub_append_seconds"),
            sessions_awake: gauge!("agent_hub_sessions_awake"),
            append_failures: counter!("agent_hub_append_failures_total"),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics { .. }")
    }
}
