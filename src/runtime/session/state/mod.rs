//! What a session is, and what follows from what happens to it. Pure: inputs and the time go in, events come out.
//!
//! Every change of state is the fold of an event ([`SessionState::apply`]), so the state after a restart is the state before it.
//! The few fields that are not folded are about the work going on in this process and are marked so.

mod calls;
mod change;
mod clients;
mod flow;
mod fold;
mod kin;
#[cfg(test)]
mod tests;
mod view;
mod work;

use std::{collections::VecDeque, time::Duration};

use agent_hub_protocol::{
    Cursor, Epoch, Event, EventBody, Seq, SessionId, TaskId, Timestamp,
    client_message::{ClientTool, SteerWhen},
    event::{InputRequested, ToolCall, ToolResult, Usage},
    snapshot::{Suspension, TaskError, TaskStatus},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use change::{Answer, Lookup};
use flow::Flow;
pub(crate) use work::{CallReport, ModelAsk, Work};

use crate::{
    runtime::{agent::Agents, executors::Executors, settings::RuntimeSettings},
    store::{SessionRecord, Write},
    workflow::Workflows,
};

/// What decisions about the work of a task rest on besides the state: what was configured, and does not change while the hub runs.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) settings: &'a RuntimeSettings,
    pub(crate) agents: &'a Agents,
    pub(crate) workflows: &'a Workflows,
    /// The clients that execute tools.
    pub(crate) executors: &'a Executors,
}

/// Finished tasks kept in memory; older ones are read from the log.
const FINISHED_TASKS: usize = 64;
/// What the model is shown of the conversation at most; older entries leave memory and stay in the log.
const CONVERSATION_ENTRIES: usize = 1000;
const CONVERSATION_BYTES: usize = 4 * 1024 * 1024;
/// Steering inputs of one task that wait for their turn.
const WAITING_STEERS: usize = 16;

/// The state of a session that exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionState {
    pub(crate) id: SessionId,
    pub(crate) owner: String,
    pub(crate) birth: u32,
    pub(crate) epoch: Epoch,
    pub(crate) agent: String,
    pub(crate) tools: Vec<String>,
    pub(crate) model: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) metadata: Option<Map<String, Value>>,
    /// Tools that clients execute.
    #[serde(default)]
    pub(crate) client_tools: Vec<ClientTool>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) ended: Option<String>,
    pub(crate) had_socket: bool,
    /// The last event folded in.
    pub(crate) head: Seq,
    pub(crate) task_count: u32,
    /// The number of the next short id (`m12`, `r13`).
    next_id: u64,
    pub(crate) conversation: Conversation,
    /// In the order they were submitted: the unfinished ones and the newest finished ones.
    pub(crate) tasks: Vec<Task>,
    /// Unfinished tasks in the order they run. The front runs, waits for its slot, or is suspended.
    pub(crate) line: VecDeque<TaskId>,
    /// Not folded: the task this process works on, and behind it those of its sub-agents, each behind the one it belongs to.
    #[serde(skip)]
    pub(crate) active: Vec<Active>,
    /// Not folded: the session ends with this reason once its tasks have stopped.
    #[serde(skip)]
    pub(crate) ending: Option<&'static str>,
}

/// A task at work in this process.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) task: TaskId,
    /// Why its work is being stopped, and since when.
    pub(crate) stop: Option<(Stop, Timestamp)>,
    /// The current model call, not the task, is to be aborted.
    pub(crate) abort_call: bool,
    /// When its work began.
    since: Timestamp,
    /// The steps that calls began, by call.
    steps: Vec<(String, u32)>,
    /// Of an execution: the calls that are being made.
    running: Vec<String>,
    /// Of an execution: something has happened from which something may follow.
    look: bool,
    /// Of an execution: when something follows in any case.
    look_at: Option<Timestamp>,
}

/// Why the work of a task is being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancel,
    Timeout,
    Suspend { reason: String },
}

/// A task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) status: TaskStatus,
    pub(crate) prompt: String,
    context: Option<String>,
    options: Option<Map<String, Value>>,
    tools: Option<Vec<String>>,
    timeout: Duration,
    pub(crate) fingerprint: String,
    /// Whose task it is, where a sub-agent works on it.
    pub(crate) parent: Option<Parent>,
    /// What is said in it, where a sub-agent works on it: no part of the session's conversation.
    own: Option<Box<Conversation>>,
    pub(crate) attempt: u32,
    pub(crate) first_seq: Seq,
    pub(crate) last_seq: Seq,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    /// Running time up to the last stop.
    ran: Duration,
    running_since: Option<Timestamp>,
    last_at: Timestamp,
    message_id: Option<String>,
    step: u32,
    steps_completed: u32,
    /// Model calls begun, those of its sub-agents included.
    model_calls: u32,
    /// How often the model was told that its answer does not fit.
    repairs: u32,
    pub(crate) cancel: Option<Cancel>,
    usage: Usage,
    result: Option<Value>,
    error: Option<TaskError>,
    /// The message being streamed.
    streaming: Option<Streaming>,
    /// The last text that was streamed and then declared void by a recovery.
    void: Option<Streaming>,
    /// Its last event that is not a piece of a stream: where a recovery starts again.
    solid_seq: Seq,
    /// Set by `task_recovering` until the next start.
    recovering: bool,
    pub(crate) inputs: Vec<InputRequested>,
    resolved: Vec<String>,
    /// Calls that a person has allowed and that have no result yet.
    approved: Vec<String>,
    steers: Vec<Steer>,
    /// What it waits for, while it is suspended.
    suspension: Option<Suspension>,
    /// Of an execution of a workflow: how far it has come.
    pub(crate) flow: Option<Box<Flow>>,
}

/// Where the task of a sub-agent comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Parent {
    pub(crate) task: TaskId,
    /// The call its result answers.
    pub(crate) call: String,
    pub(crate) agent: String,
}

/// A cancel that was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cancel {
    by: String,
    reason: Option<String>,
    rollback: bool,
    pub(crate) seq: Seq,
    pub(crate) at: Timestamp,
}

/// Text of a message that is not finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Streaming {
    message_id: String,
    text: String,
    seq: Seq,
}

/// A steering input.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Steer {
    id: TaskId,
    input: String,
    when: SteerWhen,
    waiting: bool,
    seq: Seq,
}

/// What was said, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Conversation {
    pub(crate) entries: VecDeque<Entry>,
    /// Messages that have left memory.
    pub(crate) dropped: u64,
    bytes: usize,
}

/// One entry of the conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// A person: a prompt, its context, or a steering input.
    User { message_id: String, task: TaskId, text: String, seq: Seq },
    /// The agent: what it said and what it called.
    Assistant { message_id: String, task: TaskId, text: String, partial: bool, seq: Seq, calls: Vec<Call> },
    /// What the hub tells the agent; nobody's message.
    Note { task: TaskId, text: String, seq: Seq },
    /// What a call returned.
    Result { call_id: String, task: TaskId, tool: String, content: String, is_error: bool },
}

/// A call the model asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) tool: String,
    pub(crate) arguments: Value,
}

/// What a batch of decisions wants written.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// The time of the decisions.
    pub(crate) now: Timestamp,
    /// New events, numbered and folded already.
    pub(crate) events: Vec<Event>,
    /// Entries that go with them.
    pub(crate) writes: Vec<Write>,
    /// Whether the session's record changes with them.
    pub(crate) record: bool,
}

impl Outbox {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { now, events: Vec::new(), writes: Vec::new(), record: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.writes.is_empty() && !self.record
    }

    /// Whether it is only pieces of an answer, if anything.
    pub(crate) fn is_stream(&self) -> bool {
        let pieces =
            self.events.iter().all(|event| matches!(event.body, EventBody::Token(_) | EventBody::Reasoning(_) | EventBody::ToolOutput(_)));
        pieces && self.writes.is_empty() && !self.record
    }
}

impl SessionState {
    /// Puts an event in its place: numbers it, folds it in, and has it written.
    fn emit(&mut self, out: &mut Outbox, task: Option<TaskId>, body: EventBody) -> Seq {
        let event = Event { session_id: self.id, task_id: task, seq: self.head + 1, at: out.now, body };
        self.apply(&event);
        out.events.push(event);
        self.head
    }

    /// A short id, unique in the session.
    fn fresh_id(&mut self, kind: char) -> String {
        let id = format!("{kind}{}", self.next_id);
        self.next_id += 1;
        id
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.iter().rev().find(|task| task.id == id)
    }

    fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks.iter_mut().rev().find(|task| task.id == id)
    }

    /// The position behind everything folded in.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch.clone(), seq: self.head }
    }

    /// The front task, if it is ready to run and does not: whether it goes before others of its user (it was resumed or recovered).
    pub(crate) fn wants_slot(&self) -> Option<(TaskId, bool)> {
        if !self.active.is_empty() || self.ending.is_some() {
            return None;
        }
        let task = self.task(*self.line.front()?)?;
        match task.status {
            TaskStatus::Queued => Some((task.id, false)),
            TaskStatus::Running => Some((task.id, true)),
            TaskStatus::Suspended | TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::Timeout => None,
        }
    }

    /// Tasks that wait for their turn.
    pub(crate) fn queued(&self) -> usize {
        self.line.iter().filter(|id| self.task(**id).is_some_and(|t| t.status == TaskStatus::Queued)).count()
    }

    /// When [`SessionState::on_time`] has something to do.
    pub(crate) fn next_due(&self, settings: &RuntimeSettings) -> Option<Timestamp> {
        let end = |active: &Active| match &active.stop {
            Some((_, since)) => Some(since.plus(settings.stop_grace)),
            None => self.task(active.task).map(|task| active.since.plus(task.timeout.saturating_sub(task.ran))),
        };
        let work = self.active.iter().filter_map(end).min();
        let look = self.active.first().and_then(|active| active.look_at);
        let rest = self.tasks.iter().filter(|task| task.flow.is_some()).filter_map(|task| task.suspension.as_ref()?.what.expires_at).min();
        let inputs = self.tasks.iter().filter(|t| !t.status.is_terminal());
        let expiry = inputs.flat_map(|t| &t.inputs).filter_map(|input| input.expires_at).min();
        [work, look, rest, expiry].into_iter().flatten().min()
    }

    pub(crate) fn record(&self) -> SessionRecord {
        SessionRecord {
            id: self.id,
            owner: self.owner.clone(),
            birth: self.birth,
            agent: self.agent.clone(),
            name: self.name.clone(),
            tags: self.tags.clone(),
            task_count: self.task_count,
            // A session has at most as many tasks as `task_count`, which is a u32.
            unfinished: u32::try_from(self.line.len()).unwrap_or(u32::MAX),
            ended: self.ended.is_some(),
            had_socket: self.had_socket,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

impl Task {
    /// Whether it was taken out of the conversation, and all it said with it.
    pub(crate) fn taken_back(&self) -> bool {
        self.status == TaskStatus::Cancelled && self.cancel.as_ref().is_some_and(|cancel| cancel.rollback)
    }

    /// Whether it waits for a person, or for one that something that belongs to it waits for.
    fn waits_for_input(&self) -> bool {
        self.status == TaskStatus::Suspended && self.suspension.as_ref().is_some_and(|suspension| suspension.what.reason == kin::INPUT)
    }

    /// Running time so far, when the work goes on since `active_since`.
    fn running_time(&self, active_since: Timestamp, now: Timestamp) -> Duration {
        self.ran + now.since(active_since)
    }
}

impl Conversation {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.bound();
    }

    /// Puts an entry where its number belongs. It may be a text from before a crash, which what was said since has followed.
    fn place(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        let turn = self.entries.iter().rposition(|earlier| earlier.seq().is_some_and(|seq| Some(seq) < entry.seq()));
        let behind = turn.map_or(0, |turn| self.behind_results(turn));
        self.entries.insert(behind, entry);
        self.bound();
    }

    /// Puts a tool's result behind its call, before what has been said since: vendors refuse a call that its result does not follow.
    fn answer(&mut self, call_id: &str, entry: Entry) {
        self.bytes += entry.bytes();
        let asks = |earlier: &Entry| matches!(earlier, Entry::Assistant { calls, .. } if calls.iter().any(|call| call.id == call_id));
        let behind = self.entries.iter().rposition(asks).map_or(self.entries.len(), |turn| self.behind_results(turn));
        self.entries.insert(behind, entry);
        self.bound();
    }

    /// The place behind the results of a turn's calls.
    fn behind_results(&self, turn: usize) -> usize {
        turn + 1 + self.entries.iter().skip(turn + 1).take_while(|later| matches!(later, Entry::Result { .. })).count()
    }

    fn bound(&mut self) {
        while self.entries.len() > CONVERSATION_ENTRIES || (self.bytes > CONVERSATION_BYTES && self.entries.len() > 1) {
            if let Some(old) = self.entries.pop_front() {
                self.bytes -= old.bytes();
                self.dropped += u64::from(old.is_message());
            }
        }
    }

    fn remove_task(&mut self, task: TaskId) {
        self.entries.retain(|entry| entry.task() != task);
        self.bytes = self.entries.iter().map(Entry::bytes).sum();
    }

    fn add_call(&mut self, id: TaskId, seq: Seq, call: &ToolCall) {
        let call = Call { id: call.call_id.clone(), tool: call.tool.clone(), arguments: call.arguments.clone() };
        let turn = self.entries.iter_mut().rev().find(|entry| entry.task() == id);
        if let Some(Entry::Assistant { calls, partial: false, .. }) = turn {
            calls.push(call);
            return;
        }
        // A call without a word before it.
        let message_id = format!("t{seq}");
        self.push(Entry::Assistant { message_id, task: id, text: String::new(), partial: false, seq, calls: vec![call] });
    }

    fn add_result(&mut self, id: TaskId, result: &ToolResult) {
        let tool = self.open_calls(id).into_iter().find(|call| call.id == result.call_id).map(|call| call.tool);
        let (content, is_error) = match (&result.error, &result.output) {
            (Some(error), _) => (error.clone(), true),
            (None, Some(Value::String(text))) => (text.clone(), false),
            (None, Some(output)) => (output.to_string(), false),
            (None, None) => (String::new(), false),
        };
        let call_id = result.call_id.clone();
        let entry = Entry::Result { call_id, task: id, tool: tool.unwrap_or_default(), content, is_error };
        self.answer(&result.call_id, entry);
    }

    /// A person has changed what a call is made with: it is what the model is shown from now on.
    fn edit_call(&mut self, call_id: &str, arguments: &Value) {
        let calls = self.entries.iter_mut().rev().filter_map(|entry| match entry {
            Entry::Assistant { calls, .. } => Some(calls),
            _ => None,
        });
        if let Some(call) = calls.flatten().find(|call| call.id == call_id) {
            call.arguments.clone_from(arguments);
        }
    }

    /// Calls of the task that have no result, in the order they were made.
    pub(crate) fn open_calls(&self, task: TaskId) -> Vec<Call> {
        let mut open: Vec<&Call> = Vec::new();
        for entry in self.entries.iter().filter(|e| e.task() == task) {
            match entry {
                Entry::Assistant { calls, .. } => open.extend(calls),
                Entry::Result { call_id, .. } => open.retain(|call| call.id != *call_id),
                Entry::User { .. } | Entry::Note { .. } => {}
            }
        }
        open.into_iter().cloned().collect()
    }

    fn has_result(&self, call: &str) -> bool {
        self.entries.iter().rev().any(|entry| matches!(entry, Entry::Result { call_id, .. } if call_id == call))
    }

    /// The text of the task's last message.
    fn last_text(&self, task: TaskId) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Assistant { task: of, text, .. } if *of == task && !text.is_empty() => Some(text.as_str()),
            _ => None,
        })
    }

    /// Where the newest `limit` messages before a task begin, or behind them the first of a person: the agent does not have the first word.
    fn newest_before(&self, task: TaskId, limit: usize) -> usize {
        let begins = self.entries.iter().position(|entry| entry.task() == task).unwrap_or(self.entries.len());
        let earlier = self.entries.iter().take(begins).enumerate().rev().filter(|(_, entry)| entry.is_message());
        let from = earlier.map(|(at, _)| at).take(limit).last().unwrap_or(begins);
        let person = |at: &usize| matches!(self.entries.get(*at), Some(Entry::User { .. }));
        (from..begins).find(person).unwrap_or(begins)
    }

    fn ends_with_result(&self, task: TaskId) -> bool {
        matches!(self.entries.iter().rev().find(|entry| entry.task() == task), Some(Entry::Result { .. }))
    }
}

impl Entry {
    fn task(&self) -> TaskId {
        match self {
            Entry::User { task, .. } | Entry::Assistant { task, .. } | Entry::Note { task, .. } | Entry::Result { task, .. } => *task,
        }
    }

    /// `None` of a tool's result, which belongs to the turn before it.
    fn seq(&self) -> Option<Seq> {
        match self {
            Entry::User { seq, .. } | Entry::Assistant { seq, .. } | Entry::Note { seq, .. } => Some(*seq),
            Entry::Result { .. } => None,
        }
    }

    fn bytes(&self) -> usize {
        // The entry itself and its ids, roughly.
        const OVERHEAD: usize = 160;
        OVERHEAD
            + match self {
                Entry::User { text, .. } | Entry::Note { text, .. } => text.len(),
                Entry::Assistant { text, calls, .. } => text.len() + calls.len() * OVERHEAD,
                Entry::Result { content, .. } => content.len(),
            }
    }

    /// Whether it is shown as a message of the conversation.
    pub(crate) fn is_message(&self) -> bool {
        match self {
            Entry::User { .. } => true,
            Entry::Assistant { text, .. } => !text.is_empty(),
            Entry::Note { .. } | Entry::Result { .. } => false,
        }
    }
}
