//! The numbers the runtime works by. Checked by the configuration, passed whole; nothing below reads the environment.

use std::time::Duration;

use agent_hub_protocol::limits;
use serde::{Deserialize, Serialize};

use super::identity::Plan;

/// See the fields. `Default` is what an unconfigured hub uses.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// Requests per time, per user and category, and failed authentications per address; `None` lifts them.
    pub rates: Option<RateSettings>,
    /// Sessions and tasks per day, per user; `None` lifts them.
    pub quotas: Option<QuotaSettings>,
    /// Tasks of one user that run at the same time; `None` lifts the bound.
    pub tasks_per_user: Option<u32>,
    /// Tasks of all users that run at the same time.
    pub tasks_per_node: u32,
    /// Tasks one session may ever have; `None` lifts the bound.
    pub tasks_per_session: Option<u32>,
    /// Tasks that wait in one session; more are refused with `queue_full`. `None` lifts the bound.
    pub queued_per_session: Option<usize>,
    /// Characters of a prompt or steering input.
    pub prompt_chars: usize,
    /// A task's deadline when it names none, in running time.
    pub task_timeout: Duration,
    /// The longest deadline a task may ask for.
    pub max_task_timeout: Duration,
    /// How long a stopped model call or tool may take to confirm before `upstreamStopped: false` is said.
    pub stop_grace: Duration,
    /// How often a task is started, the first time included, when the hub stops while it runs.
    pub max_attempts: u32,
    /// Model calls of one task, those of its sub-agents included: the most that a task or an agent may ask for.
    pub max_steps: u32,
    /// Text of one model call, in bytes; a longer answer is cut like a vendor cuts it at its length limit.
    pub answer_bytes: usize,
    /// A session without tasks and readers leaves memory after this time.
    pub idle_unload: Duration,
    /// An idle session ends after this time; `None`: never.
    pub session_ttl: Option<Duration>,
    /// A session nobody has written to for this time is erased; `None`: never.
    pub retention: Option<Duration>,
    /// How long the ids of erased sessions and tasks stay taken.
    pub ids_stay_taken: Duration,
    /// Recent events a session keeps in memory, in number.
    pub tail_events: usize,
    /// Recent events a session keeps in memory, in bytes.
    pub tail_bytes: usize,
    /// Commands that wait for one session; more are refused with `overloaded`.
    pub inbox: usize,
    /// How long a request for input waits for a person when the agent does not say.
    pub input_expiry: Duration,
    /// How long a call waits for the client that executes it, and how long clients that have gone are expected back.
    pub client_tool_timeout: Duration,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            rates: Some(RateSettings::default()),
            quotas: Some(QuotaSettings::default()),
            tasks_per_user: Some(3),
            tasks_per_node: 256,
            tasks_per_session: Some(limits::TASKS_PER_SESSION),
            queued_per_session: Some(8),
            prompt_chars: limits::PROMPT_CHARS,
            task_timeout: Duration::from_secs(300),
            max_task_timeout: Duration::from_secs(3600),
            stop_grace: Duration::from_secs(2),
            max_attempts: 2,
            max_steps: 100,
            answer_bytes: 1024 * 1024,
            idle_unload: Duration::from_secs(300),
            session_ttl: None,
            retention: None,
            ids_stay_taken: Duration::from_secs(24 * 3600),
            tail_events: 1024,
            tail_bytes: 256 * 1024,
            inbox: 256,
            input_expiry: Duration::from_secs(24 * 3600),
            client_tool_timeout: Duration::from_secs(120),
        }
    }
}

/// Requests per time, per user (or address where there is no user yet).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateSettings {
    /// Sessions created, per minute.
    pub sessions_per_minute: u32,
    /// Tasks submitted and steered, per minute.
    pub tasks_per_minute: u32,
    /// Tasks submitted and steered, per hour, instead of per minute: for an allowance that may be used up at once.
    pub tasks_per_hour: Option<u32>,
    /// Reads of a task's state, per second.
    pub polls_per_second: u32,
    /// Failed authentications of one address, per minute; then it is blocked for a minute.
    pub failed_auth_per_minute: u32,
}

impl Default for RateSettings {
    fn default() -> Self {
        Self { sessions_per_minute: 10, tasks_per_minute: 30, tasks_per_hour: None, polls_per_second: 10, failed_auth_per_minute: 20 }
    }
}

/// What each plan may do in a day (UTC).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaSettings {
    /// `free`, and any plan nobody knows.
    pub free: DailyQuota,
    /// `pro`.
    pub pro: DailyQuota,
    /// `enterprise`.
    pub enterprise: DailyQuota,
}

/// One plan's day.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DailyQuota {
    /// Sessions created.
    pub sessions: u32,
    /// Tasks submitted.
    pub tasks: u32,
}

impl Default for QuotaSettings {
    fn default() -> Self {
        Self {
            free: DailyQuota { sessions: 5, tasks: 20 },
            pro: DailyQuota { sessions: 50, tasks: 500 },
            enterprise: DailyQuota { sessions: 1000, tasks: 10_000 },
        }
    }
}

impl QuotaSettings {
    /// The day of one plan.
    pub const fn of(&self, plan: Plan) -> DailyQuota {
        match plan {
            Plan::Free => self.free,
            Plan::Pro => self.pro,
            Plan::Enterprise => self.enterprise,
        }
    }
}
