//! Sessions and tasks as objects, over one client.

use std::{
    collections::HashMap,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use agent_hub_protocol::{
    ClientMessage, Cursor, ErrorCode, SessionId, TaskId,
    client_message::{CancelTask, CreateSession, SteerTask, SteerWhen, SubmitTask},
};
use futures::Stream;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    AppliedEvent, Attached, Client, ClientEvent, CommandError, ConnectError, Ended, Events, Options,
    story::{Outcome, Receipt, Story},
};

/// Events of one task that wait to be read. Full: its stream ends with [`Missed`]; text and outcome are kept up to date all the same.
const TASK_EVENTS: usize = 1024;

/// A hub whose sessions and tasks are objects. Cheap to clone; when the last clone, session and task is dropped, the connection is closed.
///
/// It reads the client's [`Events`] itself, so nobody has to read them for commands to be answered. What it does not offer, its
/// [`Client`] does, which it dereferences to.
#[derive(Clone, Debug)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    followed: Arc<Mutex<Followed>>,
    reading: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // With it go the events, and with them the client.
        self.reading.abort();
    }
}

/// Tasks somebody holds, and whether anything can still come.
#[derive(Debug, Default)]
struct Followed {
    tasks: HashMap<TaskId, Vec<Weak<Entry>>>,
    ended: Option<Ended>,
}

/// What the holder of a task and the reader of events share.
#[derive(Debug)]
struct Entry {
    session: SessionId,
    story: watch::Sender<Story>,
    events: Mutex<Option<mpsc::Sender<TaskEvent>>>,
}

impl Hub {
    /// Connects. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] when the first attempt fails; later ones are repeated.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let (client, events) = Client::connect(options).await?;
        Ok(Self::over(client, events))
    }

    /// Does not wait, as [`Client::start`].
    pub fn start(options: Options) -> Self {
        let (client, events) = Client::start(options);
        Self::over(client, events)
    }

    /// Over a client that is there already.
    pub fn over(client: Client, events: Events) -> Self {
        let followed = Arc::<Mutex<Followed>>::default();
        let reading = tokio::spawn(read(events, followed.clone()));
        Self { inner: Arc::new(Inner { client, followed, reading }) }
    }

    /// Makes a session. The id is chosen here unless it is given.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn new_session(&self, new: CreateSession) -> Result<Session, CommandError> {
        let id = self.create(new).await?;
        Ok(Session { hub: self.clone(), id })
    }

    /// Follows a session that exists: behind the cursor, or from its present state.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn open_session(&self, id: SessionId, after: Option<Cursor>) -> Result<Session, CommandError> {
        self.attach(id, after).await?;
        Ok(Session { hub: self.clone(), id })
    }

    fn follow(&self, session: SessionId, id: TaskId) -> Task {
        let (send, events) = mpsc::channel(TASK_EVENTS);
        let entry = Arc::new(Entry { session, story: watch::Sender::new(Story::default()), events: Mutex::new(Some(send)) });
        let mut followed = lock(&self.inner.followed);
        match followed.ended {
            Some(ended) => entry.end(ended),
            None => followed.tasks.entry(id).or_default().push(Arc::downgrade(&entry)),
        }
        drop(followed);
        Task { session: Session { hub: self.clone(), id: session }, id, entry, events, missed: false }
    }
}

impl Deref for Hub {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.inner.client
    }
}

/// A session that is followed.
#[derive(Clone, Debug)]
pub struct Session {
    hub: Hub,
    id: SessionId,
}

impl Session {
    /// Its id.
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Submits a prompt.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn submit(&self, prompt: impl Into<String>) -> Result<Task, CommandError> {
        self.submit_task(SubmitTask { prompt: Some(prompt.into()), ..SubmitTask::default() }).await
    }

    /// Submits a task with all there is to say. Ids are chosen here unless they are given; `onBusy: steer` makes no task, so use
    /// [`Task::steer`] instead.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn submit_task(&self, mut submit: SubmitTask) -> Result<Task, CommandError> {
        submit.session_id = Some(self.id);
        let id = *submit.task_id.get_or_insert_with(TaskId::random);
        // Followed before it is there, so that its first event is not missed.
        let task = self.hub.follow(self.id, id);
        self.hub.send(ClientMessage::SubmitTask(submit)).await?;
        Ok(task)
    }

    /// A task that exists. Its text and events are those from now on; what was before stands in the log.
    pub fn task(&self, id: TaskId) -> Task {
        self.hub.follow(self.id, id)
    }

    /// Stops following it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn detach(&self) -> Result<(), CommandError> {
        self.hub.detach(self.id).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn end(&self) -> Result<(), CommandError> {
        self.hub.end(self.id).await
    }
}

/// A task, and the stream of what happens to it, up to its end.
#[derive(Debug)]
pub struct Task {
    session: Session,
    id: TaskId,
    entry: Arc<Entry>,
    events: mpsc::Receiver<TaskEvent>,
    missed: bool,
}

/// What happens to a task.
#[derive(Clone, Debug)]
pub enum TaskEvent {
    /// The next event.
    Event(AppliedEvent),
    /// Events are missing: the client had to take the present state instead. [`Task::text`] is up to date.
    Replaced,
}

/// The stream was not read for long and ends; [`Task::text`] and [`Task::finished`] are still right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {TASK_EVENTS} events of the task were not read")]
pub struct Missed;

impl Task {
    /// Its id.
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// Its session.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The text of its last message, as far as it has come.
    pub fn text(&self) -> String {
        self.entry.story.borrow().text().to_owned()
    }

    /// Waits until something happens to the task. At once, when it has ended.
    ///
    /// # Errors
    /// [`Ended`]: nothing will come any more.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn changed(&self) -> Result<(), Ended> {
        let mut story = self.entry.story.subscribe();
        {
            let story = story.borrow_and_update();
            match (story.outcome(), story.closed()) {
                (Some(_), _) => return Ok(()),
                (None, Some(ended)) => return Err(ended),
                (None, None) => {}
            }
        }
        // The sender lives as long as this task.
        let _ = story.changed().await;
        Ok(())
    }

    /// How it ended, when it has.
    ///
    /// # Errors
    /// [`Ended`]: the client ended before.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn finished(&self) -> Result<Outcome, Ended> {
        self.wait(|story| story.outcome().cloned()).await
    }

    /// Cancels it. `Ok`: it ends as cancelled; refused with `already_terminal`, it had ended otherwise.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn cancel(&self, reason: Option<String>) -> Result<(), CommandError> {
        let cancel = CancelTask { session_id: Some(self.session.id), task_id: self.id, reason };
        match self.session.hub.send(ClientMessage::CancelTask(cancel)).await {
            // Sent again after a break, a cancel may find that it was carried out long since.
            Err(CommandError::Refused(error)) if error.code == ErrorCode::AlreadyTerminal => match self.entry.story.borrow().outcome() {
                Some(Outcome::Cancelled { .. }) => Ok(()),
                _ => Err(CommandError::Refused(error)),
            },
            other => other.map(drop),
        }
    }

    /// Steers it, and waits for the receipt.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn steer(&self, input: impl Into<String>, when: Option<SteerWhen>) -> Result<Receipt, CommandError> {
        let steer = SteerTask { session_id: Some(self.session.id), task_id: self.id, input: input.into(), when, steer_id: None };
        let id = self.session.hub.inner.client.steer(steer).await?;
        self.wait(|story| story.receipt(id)).await.map_err(CommandError::Ended)
    }

    async fn wait<T>(&self, mut found: impl FnMut(&Story) -> Option<T>) -> Result<T, Ended> {
        let mut story = self.entry.story.subscribe();
        loop {
            {
                let story = story.borrow_and_update();
                if let Some(found) = found(&story) {
                    return Ok(found);
                }
                if let Some(ended) = story.closed() {
                    return Err(ended);
                }
            }
            if story.changed().await.is_err() {
                return Err(Ended::Closed);
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut followed = lock(&self.session.hub.inner.followed);
        let Some(entries) = followed.tasks.get_mut(&self.id) else { return };
        entries.retain(|entry| !std::ptr::eq(entry.as_ptr(), Arc::as_ptr(&self.entry)));
        if entries.is_empty() {
            followed.tasks.remove(&self.id);
        }
    }
}

impl Stream for Task {
    type Item = Result<TaskEvent, Missed>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.events.poll_recv(cx) {
            Poll::Ready(None) if !self.missed && self.entry.story.borrow().missed() => {
                self.missed = true;
                Poll::Ready(Some(Err(Missed)))
            }
            other => other.map(|event| event.map(Ok)),
        }
    }
}

/// Hands what the client tells to the tasks it is about, until it ends.
async fn read(mut events: Events, followed: Arc<Mutex<Followed>>) {
    while let Some(event) = events.next().await {
        match event {
            ClientEvent::Event(event) => hand_over(&event, &followed),
            ClientEvent::Attached(attached) if !attached.kept => replace(&attached, &followed),
            ClientEvent::Detached { session_id, .. } => give_up(&followed, |entry| entry.session == session_id, Ended::Closed),
            ClientEvent::Ended(ended) => {
                lock(&followed).ended = Some(ended);
                give_up(&followed, |_| true, ended);
            }
            _ => {}
        }
    }
}

fn hand_over(event: &AppliedEvent, followed: &Mutex<Followed>) {
    // Of events that cannot be read, or are about no task somebody holds, nobody needs to hear.
    let Ok(read) = event.decode() else { return };
    let Some(task) = read.task_id else { return };
    for entry in holders(followed, task) {
        entry.story.send_modify(|story| story.apply(&read));
        entry.tell(TaskEvent::Event(event.clone()));
        entry.close_if_over();
    }
}

/// Everything of the session is taken from the snapshot instead.
fn replace(attached: &Attached, followed: &Mutex<Followed>) {
    for info in attached.snapshot.iter().flat_map(|snapshot| &snapshot.tasks) {
        for entry in holders(followed, info.task_id) {
            entry.story.send_modify(|story| story.replace(info, attached.head));
            entry.tell(TaskEvent::Replaced);
            entry.close_if_over();
        }
    }
}

fn holders(followed: &Mutex<Followed>, task: TaskId) -> Vec<Arc<Entry>> {
    lock(followed).tasks.get(&task).into_iter().flatten().filter_map(Weak::upgrade).collect()
}

fn give_up(followed: &Mutex<Followed>, which: impl Fn(&Entry) -> bool, ended: Ended) {
    let entries: Vec<Arc<Entry>> = lock(followed).tasks.values().flatten().filter_map(Weak::upgrade).collect();
    for entry in entries.iter().filter(|entry| which(entry)) {
        entry.end(ended);
    }
}

impl Entry {
    fn tell(&self, event: TaskEvent) {
        let mut events = lock(&self.events);
        if events.as_ref().is_some_and(|events| events.try_send(event).is_err()) {
            *events = None;
            self.story.send_modify(Story::miss);
        }
    }

    fn close_if_over(&self) {
        if self.story.borrow().outcome().is_some() {
            *lock(&self.events) = None;
        }
    }

    fn end(&self, ended: Ended) {
        self.story.send_modify(|story| story.close(ended));
        *lock(&self.events) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_is_dropped_is_forgotten() {
        // Nobody listens there, and nobody has to.
        let hub = Hub::start(Options::new("ws://127.0.0.1:9", "token").expect("a URL"));
        let session = Session { hub: hub.clone(), id: SessionId::random() };
        let id = TaskId::random();
        let (first, second) = (session.task(id), session.task(id));
        drop(first);
        assert_eq!(lock(&hub.inner.followed).tasks[&id].len(), 1);
        drop(second);
        assert!(lock(&hub.inner.followed).tasks.is_empty());
    }
}
