//! What a program holds.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use agent_hub_protocol::{
    ClientMessage, Cursor, Seq, SessionId, TaskId,
    client_message::{
        AttachSession, CancelTask, ClientToolResult, CreateSession, RespondInput, ResumeTask, SessionRef, SteerTask, SubmitTask,
        SuspendTask,
    },
    server_message::Ack,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    CommandError, ConnectError, Ended, Events, Options, State,
    driver::{self, Order},
    unanswered::Answer,
};

/// Commands that wait to be sent. They wait here while there is no connection.
const ORDERS: usize = 64;

/// Sends commands over a connection that is made again when it breaks. Cheap to clone.
///
/// The client ends when its [`Events`] are dropped, with [`Client::close`], or when the hub says that there is no coming back.
#[derive(Clone, Debug)]
pub struct Client {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
}

/// The answer to a command that is on its way. Dropped, nobody waits for it any more: the command is not taken back, but it is not sent
/// again either.
#[derive(Debug)]
#[must_use = "nobody learns whether the hub refused"]
pub struct PendingAnswer(oneshot::Receiver<Answer>);

impl Future for PendingAnswer {
    type Output = Result<Ack, CommandError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = |_| Err(CommandError::Ended(Ended::Closed));
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or_else(ended))
    }
}

impl Client {
    /// Connects. Must be called within a tokio runtime, which then drives the connection.
    ///
    /// # Errors
    /// [`ConnectError`] when the first attempt fails; later ones are repeated.
    pub async fn connect(options: Options) -> Result<(Self, Events), ConnectError> {
        let connected = driver::connect(&options).await?;
        Ok(Self::begin(options, Some(connected)))
    }

    /// Does not wait: the first attempt is made, and repeated, like all later ones. Commands may be given at once.
    /// Must be called within a tokio runtime, which then drives the connection.
    pub fn start(options: Options) -> (Self, Events) {
        Self::begin(options, None)
    }

    fn begin(options: Options, connected: Option<driver::Connected>) -> (Self, Events) {
        let (orders, taken) = mpsc::channel(ORDERS);
        let (events, inner) = mpsc::channel(options.queue.max(1));
        let (said, state) = watch::channel(State::default());
        driver::start(options, connected, driver::Ends { orders: taken, events, state: said });
        (Self { orders, state }, Events { inner, state: State::default() })
    }

    /// How it stands.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Tells of each change of it; several that come quickly may be told as one.
    pub fn states(&self) -> watch::Receiver<State> {
        self.state.clone()
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
        self.hand_over(message).await?.await
    }

    /// Puts any command in line and does not wait for its answer; so several can be given in an order of their own. Waits while as many
    /// commands have no answer as a client keeps, see the crate's documentation.
    ///
    /// # Errors
    /// [`CommandError::Ended`].
    ///
    /// # Cancel safety
    /// Safe: dropped before it is ready, the command was not given.
    pub async fn hand_over(&self, message: ClientMessage) -> Result<PendingAnswer, CommandError> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Command { message: Box::new(message), reply };
        self.orders.send(order).await.map_err(|_| CommandError::Ended(Ended::Closed))?;
        Ok(PendingAnswer(answer))
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
