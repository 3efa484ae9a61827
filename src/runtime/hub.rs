//! Finds or wakes sessions, and owns everything they share.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use agent_hub_protocol::{Cursor, Event, Seq, SessionId, TaskId, Timestamp};
use dashmap::{DashMap, Entry};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    agent::Agents,
    executors::{Executor, Executors},
    identity::{Plan, Principal},
    log::Tail,
    metrics::Metrics,
    quota::Quotas,
    rate::Rates,
    refusal::Refusal,
    revocation::{Revocations, TokenWatch},
    scheduler::Scheduler,
    session::{
        self, Ask, Attach, Attached, Change, Done, Envelope, Inbox, MessagePage, Rules, SessionHandle, SessionView, TaskEntry, TaskView,
    },
    settings::RuntimeSettings,
};
use crate::{
    store::{SessionFilter, SessionRecord, SharedStore},
    workflow::Workflows,
};

/// How often the hub looks for what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long a caller waits for a session before it is told that the hub is overloaded. The change may still happen.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The runtime. Cheap to clone; all clones are one hub.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// What a hub is made of.
#[derive(Debug)]
pub struct HubParts {
    /// The numbers it works by.
    pub settings: RuntimeSettings,
    /// Where logs live.
    pub store: SharedStore,
    /// Who answers.
    pub agents: Agents,
    /// Steps that can be executed.
    pub workflows: Workflows,
    /// What is counted.
    pub metrics: Metrics,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: RuntimeSettings,
    pub(crate) store: SharedStore,
    pub(crate) agents: Agents,
    pub(crate) workflows: Workflows,
    pub(crate) metrics: Metrics,
    pub(crate) scheduler: Scheduler,
    pub(crate) quotas: Quotas,
    pub(crate) rates: Rates,
    pub(crate) revocations: Revocations,
    pub(crate) executors: Arc<Executors>,
    /// Sessions in memory. An actor takes itself out before it stops taking requests.
    pub(crate) awake: DashMap<SessionId, SessionHandle>,
    /// Ids of tasks that are being made, or belong to a session in memory: found without asking the store.
    pub(crate) tasks: DashMap<TaskId, SessionId>,
    /// Tasks that wait for their turn, in all sessions in memory.
    pub(crate) queued: AtomicUsize,
    /// When sleeping sessions have something due. Looked at by the housekeeping.
    pub(crate) alarms: Mutex<Vec<(Timestamp, SessionId)>>,
    pub(crate) stop: CancellationToken,
    pub(crate) actors: TaskTracker,
}

impl Shared {
    /// What decisions rest on besides the state.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { settings: &self.settings, agents: &self.agents, workflows: &self.workflows, executors: &self.executors }
    }

    /// Has a sleeping session woken at about this time.
    pub(crate) fn ring_at(&self, at: Timestamp, session: SessionId) {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).push((at, session));
    }
}

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct SessionPage {
    /// Newest first.
    pub sessions: Vec<SessionRecord>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<(Timestamp, SessionId)>,
}

impl Hub {
    /// Starts the hub's own work. Sessions with unfinished tasks are woken and recovered by [`Hub::recover`].
    pub fn start(parts: HubParts) -> Self {
        let HubParts { settings, store, agents, workflows, metrics } = parts;
        let shared = Arc::new(Shared {
            scheduler: Scheduler::new(settings.tasks_per_user, settings.tasks_per_node),
            quotas: Quotas::new(settings.quotas, store.clone()),
            rates: Rates::new(settings.rates),
            revocations: Revocations::new(store.clone()),
            executors: Arc::new(Executors::new(settings.client_tool_timeout)),
            settings,
            store,
            agents,
            workflows,
            metrics,
            awake: DashMap::new(),
            tasks: DashMap::new(),
            queued: AtomicUsize::new(0),
            alarms: Mutex::default(),
            stop: CancellationToken::new(),
            actors: TaskTracker::new(),
        });
        let hub = Self { shared };
        hub.shared.actors.spawn(hub.clone().housekeeping());
        hub
    }

    /// Wakes every session with unfinished tasks, so that none stays "running" because the process stopped. Returns how many.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recover(&self) -> Result<usize, crate::store::StoreError> {
        let ids = self.shared.store.unfinished_sessions().await?;
        for id in &ids {
            self.wake(*id);
        }
        Ok(ids.len())
    }

    /// Asks a session for a change. The request is in the session's inbox, in order, when this returns; the future waits for the answer.
    ///
    /// # Errors
    /// What the change says; `overloaded` when the inbox is full or the answer does not come in time.
    pub fn change(
        &self,
        who: &Principal,
        session: SessionId,
        change: Change,
    ) -> impl Future<Output = Result<Done, Refusal>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        self.post(Box::new(Envelope { session, who: who.clone(), ask: Ask::Change(Box::new(change), reply) }));
        wait_for(answer)
    }

    /// Attaches a reader.
    ///
    /// # Errors
    /// `session_not_found`, `forbidden`, `overloaded`.
    pub fn attach(
        &self,
        who: &Principal,
        session: SessionId,
        attach: Attach,
    ) -> impl Future<Output = Result<Attached, Refusal>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        self.post(Box::new(Envelope { session, who: who.clone(), ask: Ask::Attach(attach, reply) }));
        wait_for(answer)
    }

    /// A session as it is now.
    ///
    /// # Errors
    /// `session_not_found`, `forbidden`, `overloaded`.
    pub async fn session(&self, who: &Principal, session: SessionId) -> Result<Box<SessionView>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.post(Box::new(Envelope { session, who: who.clone(), ask: Ask::View(reply) }));
        wait_for(answer).await
    }

    /// A task as it is now.
    ///
    /// # Errors
    /// `task_not_found`, `forbidden`, `overloaded`.
    pub async fn task(&self, who: &Principal, task: TaskId) -> Result<Box<TaskView>, Refusal> {
        let session = self.session_of(who, task).await?;
        let (reply, answer) = oneshot::channel();
        self.post(Box::new(Envelope { session, who: who.clone(), ask: Ask::Task(task, reply) }));
        wait_for(answer).await
    }

    /// A connection executes these tools of the session, which has agreed to them ([`Change::ProvideTools`]).
    pub fn execute_tools(&self, session: SessionId, tools: Vec<String>) -> Executor {
        self.shared.executors.join(session, tools)
    }

    /// Which session a task belongs to.
    ///
    /// # Errors
    /// `task_not_found`, `forbidden` when it is someone else's, `overloaded` when the store does not answer.
    pub async fn session_of(&self, who: &Principal, task: TaskId) -> Result<SessionId, Refusal> {
        if let Some(session) = self.shared.tasks.get(&task) {
            return Ok(*session);
        }
        let entry = TaskEntry::find(&self.shared.store, task).await?.ok_or_else(Refusal::task_not_found)?;
        if entry.owner != who.user() {
            return Err(Refusal::forbidden());
        }
        Ok(entry.session)
    }

    /// Which session a task belongs to, whoever asks: for those who may see everybody's.
    ///
    /// # Errors
    /// `task_not_found`, `overloaded` when the store does not answer.
    pub(crate) async fn session_of_anybody(&self, task: TaskId) -> Result<SessionId, Refusal> {
        if let Some(session) = self.awake_session_of(task) {
            return Ok(session);
        }
        let entry = TaskEntry::find(&self.shared.store, task).await?.ok_or_else(Refusal::task_not_found)?;
        Ok(entry.session)
    }

    /// Whose a session is.
    ///
    /// # Errors
    /// `session_not_found`, `overloaded` when the store does not answer.
    pub(crate) async fn owner_of(&self, session: SessionId) -> Result<String, Refusal> {
        let stored = self.shared.store.open_session(session).await.map_err(session::unreadable)?;
        stored.map(|stored| stored.record.owner).ok_or_else(Refusal::session_not_found)
    }

    /// The session of a task, if that session is in memory. The session itself checks whose it is.
    pub fn awake_session_of(&self, task: TaskId) -> Option<SessionId> {
        self.shared.tasks.get(&task).map(|session| *session)
    }

    /// The user's sessions, newest first.
    ///
    /// # Errors
    /// `overloaded` when the store does not answer.
    pub async fn list_sessions(
        &self,
        who: &Principal,
        before: Option<(Timestamp, SessionId)>,
        limit: usize,
    ) -> Result<SessionPage, Refusal> {
        self.list_all_sessions(Some(who.user().to_owned()), before, limit).await
    }

    /// Everybody's sessions, or those of one user, newest first.
    ///
    /// # Errors
    /// `overloaded` when the store does not answer.
    pub(crate) async fn list_all_sessions(
        &self,
        owner: Option<String>,
        before: Option<(Timestamp, SessionId)>,
        limit: usize,
    ) -> Result<SessionPage, Refusal> {
        let filter = SessionFilter { owner, before, limit: limit + 1 };
        let mut sessions = self.shared.store.list_sessions(filter).await.map_err(session::unreadable)?;
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = if more { sessions.last().map(|s| (s.created_at, s.id)) } else { None };
        Ok(SessionPage { sessions, next })
    }

    /// What happened in a session behind `after`, up to now, oldest first.
    ///
    /// # Errors
    /// `session_not_found`, `forbidden`, `overloaded`.
    pub async fn events(&self, who: &Principal, session: SessionId, after: Seq) -> Result<Vec<Event>, Refusal> {
        let view = self.session(who, session).await?;
        session::events(&self.shared.store, session, after, view.cursor.seq).await.map_err(session::unreadable)
    }

    /// Messages of a session, as a snapshot shows them, strictly before `before` (the newest if `None`), oldest first.
    ///
    /// # Errors
    /// `session_not_found`, `forbidden`, `overloaded`.
    pub async fn messages(
        &self,
        who: &Principal,
        session: SessionId,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<MessagePage, Refusal> {
        let view = self.session(who, session).await?;
        if before.as_ref().is_some_and(|b| b.epoch != view.cursor.epoch) {
            return Err(Refusal::invalid("before", "The cursor is of another incarnation of the log"));
        }
        session::message_page(&self.shared.store, session, before.map(|b| b.seq), limit).await
    }

    /// Makes sure the user's quotas are in memory. Asked once per connection or request, before anything counts.
    ///
    /// # Errors
    /// `overloaded` when the store does not answer.
    pub async fn welcome(&self, who: &Principal) -> Result<(), Refusal> {
        self.shared.quotas.load(who.user()).await.map_err(session::unreadable)
    }

    /// Whether the token behind this user was revoked. Asked whenever credentials are presented.
    ///
    /// # Errors
    /// `overloaded` when the store does not answer.
    pub async fn is_revoked(&self, who: &Principal) -> Result<bool, Refusal> {
        self.shared.revocations.is_revoked(who).await
    }

    /// Ready once the token behind this user is revoked; `None` if it cannot be. Held by what stays open.
    ///
    /// # Errors
    /// `unauthorized` when it was revoked by now, `overloaded` when the store does not answer.
    pub async fn watch_token(&self, who: &Principal) -> Result<Option<TokenWatch>, Refusal> {
        self.shared.revocations.watch(who).await
    }

    /// Revokes the token behind this user. Carried through even if the caller does not wait for it.
    ///
    /// # Errors
    /// `invalid_message` for a token without an id, `quota_exceeded` when the user has too many, `overloaded` when the store does not write.
    pub async fn revoke(&self, who: &Principal) -> Result<(), Refusal> {
        if self.is_stopping() {
            return Err(Refusal::overloaded("The hub is restarting"));
        }
        let (shared, who) = (Arc::clone(&self.shared), who.clone());
        let revoking = self.shared.actors.spawn(async move { shared.revocations.revoke(&who).await });
        // Nobody aborts it, so it can only have panicked.
        revoking.await.unwrap_or_else(|_| Err(Refusal::overloaded("The token was not revoked; try again")))
    }

    /// Request rates.
    pub fn rates(&self) -> &Rates {
        &self.shared.rates
    }

    /// The numbers the hub works by.
    pub fn settings(&self) -> &RuntimeSettings {
        &self.shared.settings
    }

    /// Who answers.
    pub fn agents(&self) -> &Agents {
        &self.shared.agents
    }

    /// Steps that can be executed.
    pub fn workflows(&self) -> &Workflows {
        &self.shared.workflows
    }

    /// Where logs live.
    pub fn store(&self) -> &SharedStore {
        &self.shared.store
    }

    /// Sessions in memory.
    pub fn active_sessions(&self) -> usize {
        self.shared.awake.len()
    }

    /// Tasks that wait for their turn.
    pub fn queued_tasks(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// Tasks that run.
    pub fn running_tasks(&self) -> usize {
        self.shared.scheduler.running()
    }

    /// Whether the hub has begun to stop: it takes no new tasks.
    pub fn is_stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Stops every session: running tasks are left as they are in the log, to be recovered by the next start. Waits until all
    /// actors have written what they decided, at most `within`. Returns whether all did.
    pub async fn stop(&self, within: Duration) -> bool {
        self.shared.stop.cancel();
        self.shared.actors.close();
        tokio::time::timeout(within, self.shared.actors.wait()).await.is_ok()
    }

    /// Puts an envelope into the session's inbox, waking the session if it sleeps. A full inbox refuses with `overloaded`.
    pub(crate) fn post(&self, mut envelope: Box<Envelope>) {
        if self.shared.stop.is_cancelled() {
            return envelope.ask.refuse(Refusal::overloaded("The hub is restarting"));
        }
        let session = envelope.session;
        loop {
            let handle = self.wake(session);
            match handle.try_post(envelope) {
                Ok(()) => return,
                Err(session::PostError::Full(refused)) => {
                    return refused.ask.refuse(Refusal::overloaded("The session has too many requests waiting"));
                }
                Err(session::PostError::Asleep(back)) => {
                    // It fell asleep between the look-up and the post. It takes itself out of the map; so does this, whichever is first.
                    self.shared.awake.remove_if(&session, |_, there| there.is_same(&handle));
                    envelope = back;
                }
            }
        }
    }

    fn wake(&self, session: SessionId) -> SessionHandle {
        if let Some(handle) = self.shared.awake.get(&session) {
            return handle.clone();
        }
        match self.shared.awake.entry(session) {
            Entry::Occupied(there) => there.get().clone(),
            Entry::Vacant(place) => {
                let (handle, inbox): (SessionHandle, Inbox) = SessionHandle::new(
                    self.shared.settings.inbox,
                    Tail::new(0, self.shared.settings.tail_events, self.shared.settings.tail_bytes),
                );
                place.insert(handle.clone());
                session::spawn(self.clone(), session, inbox);
                handle
            }
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    async fn housekeeping(self) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            self.shared.rates.sweep();
            self.shared.quotas.sweep(Timestamp::now());
            self.shared.executors.tidy();
            self.ring_alarms(Timestamp::now());
            if let Err(error) = self.expire().await {
                tracing::warn!(%error, "could not look for expired sessions");
            }
        }
    }

    fn ring_alarms(&self, now: Timestamp) {
        let mut due = Vec::new();
        self.shared.alarms.lock().unwrap_or_else(PoisonError::into_inner).retain(|(at, session)| {
            let rings = *at <= now;
            due.extend(rings.then_some(*session));
            !rings
        });
        for session in due {
            self.wake(session);
        }
    }

    /// Ends idle sessions and erases old ones, where the settings say so.
    async fn expire(&self) -> Result<(), crate::store::StoreError> {
        let settings = &self.shared.settings;
        if settings.session_ttl.is_none() && settings.retention.is_none() {
            return Ok(());
        }
        let now = Timestamp::now();
        let idle = |record: &SessionRecord, limit: Option<Duration>| limit.is_some_and(|limit| now.since(record.updated_at) >= limit);
        let mut before = None;
        loop {
            let filter = SessionFilter { owner: None, before, limit: 500 };
            let page = self.shared.store.list_sessions(filter).await?;
            let Some(last) = page.last() else { return Ok(()) };
            before = Some((last.created_at, last.id));
            for record in page {
                let followed = self.shared.awake.get(&record.id).is_some_and(|handle| handle.is_followed());
                if record.unfinished > 0 || followed {
                    continue;
                }
                let change = match () {
                    () if idle(&record, settings.retention) => Change::Delete,
                    () if !record.ended && idle(&record, settings.session_ttl) => Change::End("expired"),
                    () => continue,
                };
                let owner = Principal::verified(record.owner.clone(), Plan::Free, Vec::new(), None);
                if let Err(refusal) = self.change(&owner, record.id, change).await {
                    tracing::debug!(session = %record.id, code = %refusal.code, "expired session not ended yet");
                }
            }
        }
    }
}

async fn wait_for<T>(answer: oneshot::Receiver<Result<T, Refusal>>) -> Result<T, Refusal> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Refusal::overloaded("The session stopped before it could answer; try again")),
        Err(_) => Err(Refusal::overloaded("The session did not answer in time; the request may still be carried out")),
    }
}
