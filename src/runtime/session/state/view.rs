//! What others are shown of a session.

use agent_hub_protocol::{
    MessageInfo, Snapshot, TaskId, TaskInfo,
    event::Role,
    snapshot::{
        PartialText, PendingInput, SNAPSHOT_FINISHED_TASKS, SNAPSHOT_MESSAGE_BYTES, SNAPSHOT_MESSAGES, SessionInfo, SessionStatus,
        TaskStatus,
    },
};

use super::{Entry, SessionState, Task};

impl SessionState {
    /// What it is. `followed`: whether a socket follows it now.
    pub(crate) fn info(&self, followed: bool) -> SessionInfo {
        let status = if self.ended.is_some() {
            SessionStatus::Ended
        } else if self.had_socket && !followed {
            SessionStatus::Disconnected
        } else {
            SessionStatus::Active
        };
        SessionInfo {
            id: self.id,
            status,
            agent: self.agent.clone(),
            tools: self.tools.clone(),
            model: self.model.clone(),
            name: self.name.clone(),
            tags: self.tags.clone(),
            metadata: self.metadata.clone(),
            task_count: self.task_count,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    /// Everything up to the head, within the bounds of [`Snapshot`].
    pub(crate) fn snapshot(&self, followed: bool) -> Snapshot {
        let (messages, earlier_messages) = self.messages();
        let finished = self.tasks.iter().filter(|task| task.status.is_terminal()).count();
        let mut surplus = finished.saturating_sub(SNAPSHOT_FINISHED_TASKS);
        let shown = self.tasks.iter().filter(|task| {
            let hidden = task.status.is_terminal() && surplus > 0;
            surplus -= usize::from(hidden);
            !hidden
        });
        Snapshot {
            session: self.info(followed),
            messages,
            earlier_messages,
            tasks: without_old_results(shown.map(Task::info).collect()),
            queue: self.line.iter().copied().filter(|id| self.task(*id).is_some_and(|t| t.status == TaskStatus::Queued)).collect(),
            pending_inputs: self
                .tasks
                .iter()
                .flat_map(|task| task.inputs.iter().map(|request| PendingInput { task_id: task.id, request: request.clone() }))
                .collect(),
        }
    }

    pub(crate) fn task_info(&self, id: TaskId) -> Option<TaskInfo> {
        self.task(id).map(Task::info)
    }

    /// Takes the finished messages out of memory, oldest first: for who folds the past of a task, however long, and keeps what it wants.
    pub(crate) fn take_messages(&mut self) -> Vec<MessageInfo> {
        let conversation = std::mem::take(&mut self.conversation);
        conversation.entries.iter().filter(|entry| entry.is_message()).filter_map(message_of).collect()
    }

    /// The messages that are being written.
    pub(crate) fn streamed(&self) -> impl Iterator<Item = MessageInfo> {
        self.tasks.iter().filter(|task| !task.status.is_terminal() && task.parent.is_none()).filter_map(|task| {
            let s = task.streaming.as_ref()?;
            Some(MessageInfo {
                message_id: s.message_id.clone(),
                role: Role::Assistant,
                text: s.text.clone(),
                task_id: task.id,
                partial: true,
                seq: s.seq,
            })
        })
    }

    /// The newest messages, oldest first, and how many older ones there are.
    fn messages(&self) -> (Vec<MessageInfo>, u64) {
        let mut newest_first: Vec<MessageInfo> = self.streamed().collect();
        let mut bytes: usize = newest_first.iter().map(|m| m.text.len()).sum();
        let mut messages = self.conversation.entries.iter().rev().filter(|entry| entry.is_message());
        for message in messages.by_ref().filter_map(message_of) {
            let full = newest_first.len() >= SNAPSHOT_MESSAGES || bytes + message.text.len() > SNAPSHOT_MESSAGE_BYTES;
            if full && !newest_first.is_empty() {
                let left = 1 + messages.count() as u64;
                newest_first.reverse();
                return (newest_first, self.conversation.dropped + left);
            }
            bytes += message.text.len();
            newest_first.push(message);
        }
        newest_first.reverse();
        (newest_first, self.conversation.dropped)
    }
}

impl Task {
    fn info(&self) -> TaskInfo {
        TaskInfo {
            task_id: self.id,
            status: self.status,
            prompt: self.flow.is_none().then(|| self.prompt.clone()),
            workflow: self.flow.as_ref().map(|flow| flow.workflow.clone()),
            suspension: self.suspension.clone(),
            agent: self.parent.as_ref().map(|parent| parent.agent.clone()),
            parent_task_id: self.parent.as_ref().map(|parent| parent.task),
            attempt: self.attempt,
            steps_completed: self.steps_completed,
            cancel_requested: self.cancel.is_some(),
            partial: self.streaming.as_ref().map(|s| PartialText { message_id: s.message_id.clone(), text: s.text.clone() }),
            result: self.result.clone(),
            error: self.error.clone(),
            usage: self.usage,
            created_at: self.created_at,
            started_at: self.started_at,
            completed_at: self.completed_at,
            first_seq: self.first_seq,
        }
    }
}

/// Results are texts that stand among the messages already; only the newest is repeated, so that a snapshot stays small.
fn without_old_results(mut tasks: Vec<TaskInfo>) -> Vec<TaskInfo> {
    let newest = tasks.iter().rposition(|task| task.result.is_some());
    for (at, task) in tasks.iter_mut().enumerate() {
        if Some(at) != newest {
            task.result = None;
        }
    }
    tasks
}

fn message_of(entry: &Entry) -> Option<MessageInfo> {
    match entry {
        Entry::User { message_id, task, text, seq } => Some(MessageInfo {
            message_id: message_id.clone(),
            role: Role::User,
            text: text.clone(),
            task_id: *task,
            partial: false,
            seq: *seq,
        }),
        Entry::Assistant { message_id, task, text, partial, seq, .. } => Some(MessageInfo {
            message_id: message_id.clone(),
            role: Role::Assistant,
            text: text.clone(),
            task_id: *task,
            partial: *partial,
            seq: *seq,
        }),
        Entry::Note { .. } | Entry::Result { .. } => None,
    }
}
