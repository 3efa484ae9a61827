//! What can be asked of a session, and what it answers.

use agent_hub_protocol::{
    Cursor, Seq, SessionId, Snapshot, TaskId, TaskInfo,
    client_message::{ClientTool, ClientToolResult, RespondInput},
    event::SessionUpdated,
    snapshot::{MessageInfo, SessionInfo},
};
use tokio::sync::oneshot;

use crate::runtime::{
    admission::{NewSession, NewSteer, NewTask},
    identity::Principal,
    log::Reader,
    refusal::Refusal,
    session::state::SessionState,
};

/// A request that changes the session.
#[derive(Clone, Debug)]
pub enum Change {
    /// Make it, or find it again.
    Create(NewSession),
    /// Change its name, tags, metadata or model.
    Update(SessionUpdated),
    /// Queue a task.
    Submit(NewTask),
    /// Cancel a task.
    Cancel {
        /// Which.
        task: TaskId,
        /// Why.
        reason: Option<String>,
    },
    /// Tell a running task something.
    Steer(NewSteer),
    /// Answer a request for input.
    Respond(RespondInput),
    /// Stop a task for a while.
    Suspend {
        /// Which.
        task: TaskId,
        /// Why.
        reason: Option<String>,
    },
    /// Let it go on.
    Resume {
        /// Which.
        task: TaskId,
        /// Data for it.
        data: Option<serde_json::Value>,
        /// Of an execution of a workflow: the step that waits for the data, or one to do again.
        step: Option<String>,
    },
    /// A client executes these tools from now on.
    ProvideTools {
        /// All that it executes.
        tools: Vec<ClientTool>,
        /// Those that it has executed and nobody does any more.
        gone: Vec<String>,
    },
    /// The result of a client-executed tool.
    ToolResult(ClientToolResult),
    /// End the session; its log stays. The reason: `ended` or `expired`.
    End(&'static str),
    /// End it and erase it.
    Delete,
}

impl Change {
    /// The task it names, if it may be one the hub has seen before. Ids the hub has just made are not looked for.
    pub(crate) fn known_task(&self) -> Option<TaskId> {
        match self {
            Change::Submit(new) => new.id_chosen.then_some(new.id),
            Change::Cancel { task, .. } | Change::Suspend { task, .. } | Change::Resume { task, .. } => Some(*task),
            Change::Steer(steer) => Some(steer.task),
            Change::Respond(answer) => Some(answer.task_id),
            Change::ToolResult(result) => Some(result.task_id),
            Change::Create(_) | Change::Update(_) | Change::ProvideTools { .. } | Change::End(_) | Change::Delete => None,
        }
    }
}

/// What a change did. Everything it says is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which session.
    pub session: SessionId,
    /// The task it was about, or made.
    pub task: Option<TaskId>,
    /// The event that records it; none when it had been done before, or left no event.
    pub seq: Option<Seq>,
    /// True when the same thing had been done before, and nothing happened now.
    pub repeated: bool,
}

/// How a reader attaches.
#[derive(Clone, Debug)]
pub struct Attach {
    /// The cursor, as the client gave it; `None` asks for a snapshot.
    pub after: After,
    /// Whether the reader is a socket: then the session is "disconnected" once the last one is gone.
    pub socket: bool,
}

/// Where a reader starts.
#[derive(Clone, Debug)]
pub enum After {
    /// At the head, with a snapshot.
    Snapshot,
    /// Behind this position, or with a snapshot if it cannot be honoured. The text is the client's.
    Cursor(String),
    /// Behind this event, in whatever incarnation: for readers that have just learned it from the hub.
    Seq(Seq),
}

/// An attached reader.
pub struct Attached {
    /// Reads what follows. Behind it stands everything up to `head`.
    pub reader: Reader,
    /// Whether the cursor was honoured.
    pub recovered: bool,
    /// The head at this moment.
    pub head: Seq,
    /// The state at `head`, where no cursor was given or it could not be honoured.
    pub snapshot: Option<Box<Snapshot>>,
}

/// A session with its state at one moment.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// What it is.
    pub info: SessionInfo,
    /// Where its log stands.
    pub cursor: Cursor,
    /// Its conversation and tasks, as in a snapshot.
    pub snapshot: Snapshot,
}

/// One task at one moment.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// Whose session.
    pub session: SessionId,
    /// The task.
    pub info: TaskInfo,
    /// Where the session's log stands.
    pub cursor: Cursor,
    /// The task's last event so far.
    pub last_seq: Seq,
}

/// A page of a session's conversation.
#[derive(Clone, Debug)]
pub struct MessagePage {
    /// Oldest first.
    pub messages: Vec<MessageInfo>,
    /// Whether there are older ones.
    pub more: bool,
}

/// Where the answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// One item of a session's inbox.
pub(crate) struct Envelope {
    pub(crate) session: SessionId,
    pub(crate) who: Principal,
    pub(crate) ask: Ask,
}

/// What is asked, with the place for its answer.
pub(crate) enum Ask {
    Change(Box<Change>, Reply<Done>),
    Attach(Attach, Reply<Attached>),
    View(Reply<Box<SessionView>>),
    Task(TaskId, Reply<Box<TaskView>>),
}

impl Envelope {
    /// The task whose work it stops, should it be carried out.
    pub(crate) fn would_stop(&self, state: &SessionState) -> Option<TaskId> {
        match &self.ask {
            Ask::Change(change, _) => state.would_stop(&self.who, change),
            _ => None,
        }
    }
}

impl Ask {
    pub(crate) fn refuse(self, refusal: Refusal) {
        // A caller that no longer waits needs no answer.
        match self {
            Ask::Change(_, reply) => drop(reply.send(Err(refusal))),
            Ask::Attach(_, reply) => drop(reply.send(Err(refusal))),
            Ask::View(reply) => drop(reply.send(Err(refusal))),
            Ask::Task(_, reply) => drop(reply.send(Err(refusal))),
        }
    }
}
