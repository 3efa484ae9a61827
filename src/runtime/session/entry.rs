//! What the store keeps of a task besides the log: whose it is, where it begins, and what it was asked.

use agent_hub_protocol::{Seq, SessionId, TaskId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::pages::unreadable;
use crate::{
    runtime::refusal::Refusal,
    store::{SharedStore, Space, Write},
};

/// The entry of a task id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskEntry {
    /// Its session.
    pub(crate) session: SessionId,
    /// Its owner.
    pub(crate) owner: String,
    /// Its `task_queued` (or, for a steering input, its `steer_accepted`).
    pub(crate) first_seq: Seq,
    /// Names what was asked, so that a repetition is told from another task with the same id.
    pub(crate) fingerprint: String,
}

impl TaskEntry {
    /// The entry as it is written with the task's first event.
    pub(crate) fn write(&self, task: TaskId) -> Write {
        let value = Bytes::from(serde_json::to_vec(self).unwrap_or_default());
        Write::Put { space: Space::Task, key: task.to_string(), value, expires_at: None }
    }

    /// The entry of a task, or of an erased one: then only its owner is known, and it fits no content.
    pub(crate) async fn find(store: &SharedStore, task: TaskId) -> Result<Option<Self>, Refusal> {
        let value = store.get(Space::Task, task.to_string()).await.map_err(unreadable)?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// The owner of an erased session or task whose id is still taken.
    pub(crate) async fn erased_owner(store: &SharedStore, id: &str) -> Result<Option<String>, Refusal> {
        let value = store.get(Space::Erased, id.to_owned()).await.map_err(unreadable)?;
        Ok(value.map(|owner| String::from_utf8_lossy(&owner).into_owned()))
    }
}
