//! What a program holds.

use agent_hub_protocol::{
    ClientMessage, Cursor, Seq, SessionId, TaskId,
    client_message::{
        AttachSession, CancelTask, ClientToolResult, CreateSession, RespondInput, ResumeTask, SessionRef, SteerTask, SubmitTask,
        SuspendTask,
    },
    server_message::Ack,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    CommandError, ConnectError, Ended, Events, Options,
    driver::{self, Order},
};

/// Commands that wait to be sent. They wait here while there is no connection.
const ORDERS: usize = 64;

/// Sends commands over a connection that is made again when it breaks. Cheap to clone.
///
/// The client ends when its [`Events`] are dropped, with [`Client::close`], or when the hub says that there is no coming back.
#[derive(Clone, Debug)]
pub struct Client {
    orders: mpsc::Sender<Order>,
}

impl Client {
    /// Connects. Must be called within a tokio runtime, which then drives the connection.
    ///
    /// # Errors
    /// [`ConnectError`] when the first attempt fails; later ones are repeated.
    pub async fn connect(options: Options) -> Result<(Self, Events), ConnectError> {
        let (connection, welcome) = driver::connect(&options).await?;
        let (orders, taken) = mpsc::channel(ORDERS);
        let (events, inner) = mpsc::channel(options.queue.max(1));
        driver::start(options, connection, welcome, taken, events);
        Ok((Self { orders }, Events { inner }))
    }

    /// Makes a session and follows it from its first event. The id is chosen here unless it is given.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn create(&self, mut new: CreateSession) -> Result<SessionId, CommandError> {
        let session = *new.session_id.get_or_insert_with(SessionId::random);
        self.send(ClientMessage::CreateSession(new)).await?;
        Ok(session)
    }

    /// Follows a session: behind the cursor, or from a snapshot.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn attach(&self, session_id: SessionId, after: Option<Cursor>) -> Result<(), CommandError> {
        let after = after.map(|cursor| cursor.to_string());
        self.send(ClientMessage::AttachSession(AttachSession { session_id, after })).await.map(drop)
    }

    /// Stops following a session.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn detach(&self, session_id: SessionId) -> Result<(), CommandError> {
        self.send(ClientMessage::DetachSession(SessionRef { session_id: Some(session_id) })).await.map(drop)
    }

    /// Ends a session. Sent again after a break it may be refused with `already_terminal`, because the first one did it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn end(&self, session_id: SessionId) -> Result<(), CommandError> {
        self.send(ClientMessage::EndSession(SessionRef { session_id: Some(session_id) })).await.map(drop)
    }

    /// Submits a prompt; returns the task's id.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn submit(&self, session_id: SessionId, prompt: impl Into<String>) -> Result<TaskId, CommandError> {
        let submit = SubmitTask { session_id: Some(session_id), prompt: Some(prompt.into()), ..SubmitTask::default() };
        self.submit_task(submit).await.map(|(task, _)| task)
    }

    /// Submits a task with all there is to say; returns its id and the number of its `task_queued`, if this was its first answer.
    /// The id is chosen here unless it is given.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn submit_task(&self, mut submit: SubmitTask) -> Result<(TaskId, Option<Seq>), CommandError> {
        let task = *submit.task_id.get_or_insert_with(TaskId::random);
        let ack = self.send(ClientMessage::SubmitTask(submit)).await?;
        Ok((task, ack.seq))
    }

    /// Cancels a task. `Ok` means that it ends as cancelled; refused with `already_terminal`, that it had ended.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn cancel(&self, session_id: SessionId, task_id: TaskId, reason: Option<String>) -> Result<(), CommandError> {
        self.send(ClientMessage::CancelTask(CancelTask { session_id: Some(session_id), task_id, reason })).await.map(drop)
    }

    /// Steers a task; returns the id of the steering input, chosen here unless it is given.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn steer(&self, mut steer: SteerTask) -> Result<TaskId, CommandError> {
        let id = *steer.steer_id.get_or_insert_with(TaskId::random);
        self.send(ClientMessage::SteerTask(steer)).await?;
        Ok(id)
    }

    /// Answers a request for input. Sent again after a break it may be refused with `already_resolved`, because the first one did it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn respond(&self, answer: RespondInput) -> Result<(), CommandError> {
        self.send(ClientMessage::RespondInput(answer)).await.map(drop)
    }

    /// Suspends a running task.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn suspend(&self, suspend: SuspendTask) -> Result<(), CommandError> {
        self.send(ClientMessage::SuspendTask(suspend)).await.map(drop)
    }

    /// Resumes a suspended task.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn resume(&self, resume: ResumeTask) -> Result<(), CommandError> {
        self.send(ClientMessage::ResumeTask(resume)).await.map(drop)
    }

    /// Gives the result of a call of a tool that this client executes.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn tool_result(&self, result: ClientToolResult) -> Result<(), CommandError> {
        self.send(ClientMessage::ToolResult(result)).await.map(drop)
    }

    /// Sends any command and waits for its answer, through as many connections as it takes.
    ///
    /// # Errors
    /// [`CommandError`].
    ///
    /// # Cancel safety
    /// Dropping it does not take the command back; it is not sent again either.
    pub async fn send(&self, message: ClientMessage) -> Result<Ack, CommandError> {
        let (reply, answer) = oneshot::channel();
        let ended = || CommandError::Ended(Ended::Closed);
        self.orders.send(Order::Command { message: Box::new(message), reply }).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Breaks the connection without a word, as a network does; for tests of what comes after.
    pub async fn cut(&self) {
        // A client that has ended has no connection.
        let _ = self.orders.send(Order::Cut).await;
    }

    /// Says goodbye and ends.
    pub async fn close(&self) {
        let _ = self.orders.send(Order::Close).await;
    }
}
