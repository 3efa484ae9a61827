//! Commands of a socket: to the runtime, in the order they came, and their answers back, in the order they come.

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use agent_hub_protocol::{
    ClientMessage, Command, CommandId, ErrorCode, SessionId, TaskId,
    client_message::{CreateSession, ProvideTools, RefreshToken, SessionRef, SteerTask, SubmitTask},
    server_message::{Ack, ConnectionMessage, Pong, SessionAttached},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Attaching, Connection, Executing, Following,
    frames::{error_frame, text},
    socket_attach,
};
use crate::{
    runtime::{
        Hub, Principal, Refusal,
        admission::{NewSession, NewSteer, NewTask, check_client_tools, check_reason, check_response, check_tool_result},
        rate::RateCategory,
        revocation::TokenWatch,
        session::{After, Attached, Change, Done},
    },
    transport::auth::let_in,
};

/// The tools of a session made over a socket that names none (the seed's default).
const DEFAULT_TOOLS: [&str; 1] = ["web_search"];

/// Who asked what, for the answer.
pub(super) struct Asked {
    id: Option<CommandId>,
    received: &'static str,
    session: Option<SessionId>,
    /// The session was found by the task, not named by the peer.
    found: bool,
    task: Option<TaskId>,
}

/// What a command came to.
pub(super) struct Completed {
    asked: Asked,
    outcome: Outcome,
}

enum Outcome {
    Done(Result<Done, Refusal>),
    /// The number tells a newer attach of the same session from this one.
    Attached {
        number: u64,
        made: Option<Result<Done, Refusal>>,
        result: Result<Box<Attached>, Refusal>,
        quiet: bool,
    },
    Provided(Box<Result<(Done, Executing), Refusal>>),
    Refreshed(Result<(Principal, Option<TokenWatch>), Refusal>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Hands a command to the runtime. What changes a session is in its inbox when this returns.
    pub(super) fn dispatch(&mut self, command: Command) {
        let Command { id, message } = command;
        let received = message.type_name();
        let mut asked = Asked { id, received, session: None, found: false, task: None };
        if let Err(refusal) = self.start(message, &mut asked) {
            self.control.push_back(error_frame(asked.id, &refusal, asked.session, asked.task));
        }
    }

    fn start(&mut self, message: ClientMessage, asked: &mut Asked) -> Result<(), Refusal> {
        match message {
            ClientMessage::CreateSession(new) => self.create(new, asked),
            ClientMessage::AttachSession(attach) => {
                asked.session = Some(attach.session_id);
                self.room_for(attach.session_id)?;
                self.current = Some(attach.session_id);
                let after = attach.after.map_or(After::Snapshot, After::Cursor);
                self.attach(attach.session_id, after, Some(asked.take()));
                Ok(())
            }
            ClientMessage::DetachSession(which) => {
                let session = self.session_named(&which, asked)?;
                self.following.retain(|following| following.session != session);
                self.attaching.retain(|under_way| under_way.session != session);
                self.executors.retain(|executing| executing.session != session);
                if self.commands.is_empty() {
                    self.void.clear();
                } else {
                    self.void.push((session, self.attaches));
                }
                let done = Done { session, task: None, seq: None, repeated: false };
                self.complete(Completed { asked: asked.take(), outcome: Outcome::Done(Ok(done)) });
                Ok(())
            }
            ClientMessage::EndSession(which) => {
                let session = self.session_named(&which, asked)?;
                self.change(session, Change::End("ended"), asked)
            }
            ClientMessage::SubmitTask(submit) => self.submit(submit, asked),
            ClientMessage::SteerTask(steer) => self.steer(&steer, asked),
            ClientMessage::CancelTask(cancel) => {
                let change = Change::Cancel { task: cancel.task_id, reason: check_reason(cancel.reason)? };
                self.change_task(cancel.session_id, cancel.task_id, change, asked)
            }
            ClientMessage::RespondInput(answer) => {
                check_response(&answer)?;
                self.change_task(answer.session_id, answer.task_id, Change::Respond(answer), asked)
            }
            ClientMessage::SuspendTask(suspend) => {
                let change = Change::Suspend { task: suspend.task_id, reason: check_reason(suspend.reason)? };
                self.change_task(suspend.session_id, suspend.task_id, change, asked)
            }
            ClientMessage::ResumeTask(resume) => {
                let change = Change::Resume { task: resume.task_id, data: resume.data, step: resume.step_id };
                self.change_task(resume.session_id, resume.task_id, change, asked)
            }
            ClientMessage::ProvideTools(provided) => self.provide_tools(provided, asked),
            ClientMessage::ToolResult(result) => {
                check_tool_result(&result)?;
                self.change_task(result.session_id, result.task_id, Change::ToolResult(result), asked)
            }
            ClientMessage::RefreshToken(refresh) => {
                self.refresh(refresh, asked);
                Ok(())
            }
            ClientMessage::Ping(_) => {
                self.say(&ConnectionMessage::Pong(Pong { id: asked.id.take() }));
                Ok(())
            }
        }
    }

    fn create(&mut self, new: CreateSession, asked: &mut Asked) -> Result<(), Refusal> {
        asked.session = new.session_id;
        self.hub.rates().check(RateCategory::Session, self.who.user())?;
        let new = NewSession::check(new, self.hub.agents(), &DEFAULT_TOOLS, true)?;
        let session = new.id;
        asked.session = Some(session);
        self.room_for(session)?;
        self.current = Some(session);
        let made = self.hub.change(&self.who, session, Change::Create(new));
        // Behind it in the same inbox: attached before anything else can happen to the session.
        let attached = self.hub.attach(&self.who, session, socket_attach(After::Seq(0)));
        let (number, asked) = (self.attach_number(session, true), asked.take());
        self.wait(async move {
            let (made, result) = (made.await, attached.await);
            Completed { asked, outcome: Outcome::Attached { number, made: Some(made), result: result.map(Box::new), quiet: false } }
        });
        Ok(())
    }

    fn submit(&mut self, submit: SubmitTask, asked: &mut Asked) -> Result<(), Refusal> {
        asked.task = submit.task_id;
        let session = self.session_named(&SessionRef { session_id: submit.session_id }, asked)?;
        self.hub.rates().check(RateCategory::Task, self.who.user())?;
        let new = NewTask::check(submit, self.hub.settings(), self.hub.workflows())?;
        asked.task = Some(new.id);
        self.change(session, Change::Submit(new), asked)
    }

    fn provide_tools(&mut self, provided: ProvideTools, asked: &mut Asked) -> Result<(), Refusal> {
        let session = self.session_named(&SessionRef { session_id: provided.session_id }, asked)?;
        let limit = self.settings.attached_sessions;
        if self.executors.len() >= limit && !self.executors.iter().any(|executing| executing.session == session) {
            let message = format!("A connection executes tools for at most {limit} sessions");
            return Err(Refusal::new(ErrorCode::QuotaExceeded, message).detail("limit", limit as u64));
        }
        let tools = check_client_tools(provided.tools, self.hub.agents())?;
        let names: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
        let before = self.executors.iter().find(|executing| executing.session == session);
        let gone = before.map(|before| before.executor.alone_with(before.tools.iter().filter(|tool| !names.contains(tool))));
        let change = Change::ProvideTools { tools, gone: gone.unwrap_or_default() };
        self.attaches += 1;
        let (hub, number) = (self.hub.clone(), self.attaches);
        let (answer, asked) = (self.hub.change(&self.who, session, change), asked.take());
        self.wait(async move {
            let result = answer.await.map(|done| {
                let executor = hub.execute_tools(session, names.clone());
                (done, Executing { session, number, tools: names, executor })
            });
            Completed { asked, outcome: Outcome::Provided(Box::new(result)) }
        });
        Ok(())
    }

    fn steer(&mut self, steer: &SteerTask, asked: &mut Asked) -> Result<(), Refusal> {
        asked.task = Some(steer.task_id);
        self.hub.rates().check(RateCategory::Task, self.who.user())?;
        let new = NewSteer::check(steer, self.hub.settings())?;
        self.change_task(steer.session_id, steer.task_id, Change::Steer(new), asked)
    }

    fn change(&mut self, session: SessionId, change: Change, asked: &mut Asked) -> Result<(), Refusal> {
        asked.session = Some(session);
        let (answer, asked) = (self.hub.change(&self.who, session, change), asked.take());
        self.wait(async move { Completed { asked, outcome: Outcome::Done(answer.await) } });
        Ok(())
    }

    /// A change of a task, in the session named, or the one the hub knows it by, or the current one.
    fn change_task(&mut self, named: Option<SessionId>, task: TaskId, change: Change, asked: &mut Asked) -> Result<(), Refusal> {
        asked.task = Some(task);
        asked.found = named.is_none();
        if let Some(session) = named.or_else(|| self.hub.awake_session_of(task)) {
            return self.change(session, change, asked);
        }
        let first = self.current.map(|session| (session, self.hub.change(&self.who, session, change.clone())));
        let (hub, who, asked) = (self.hub.clone(), self.who.clone(), asked.take());
        self.wait(async move {
            let mut asked = asked;
            if let Some((session, answer)) = first {
                let result = answer.await;
                asked.session = Some(session);
                if !result.as_ref().is_err_and(|refusal| refusal.code == ErrorCode::TaskNotFound) {
                    return Completed { asked, outcome: Outcome::Done(result) };
                }
            }
            let result = change_wherever(&hub, &who, task, change, &mut asked).await;
            Completed { asked, outcome: Outcome::Done(result) }
        });
        Ok(())
    }

    fn refresh(&mut self, refresh: RefreshToken, asked: &mut Asked) {
        let (found, user, from) = (self.identify.verify(&refresh.token), self.who.clone(), self.from);
        let (hub, failed, asked) = (self.hub.clone(), Arc::clone(&self.failed_auth), asked.take());
        self.wait(async move {
            let refreshed = async {
                let new = let_in(found, &hub, &failed, &from).await?;
                if new.user() != user.user() {
                    return Err(Refusal::new(ErrorCode::Forbidden, "The token is for another user"));
                }
                hub.welcome(&new).await?;
                let token = hub.watch_token(&new).await?;
                Ok((new, token))
            };
            Completed { asked, outcome: Outcome::Refreshed(refreshed.await) }
        });
    }

    /// Attaches to a session; without a command behind it the answer is not acknowledged.
    pub(super) fn attach(&mut self, session: SessionId, after: After, asked: Option<Asked>) {
        let asked = asked.unwrap_or(Asked { id: None, received: "attach_session", session: Some(session), found: false, task: None });
        let number = self.attach_number(session, true);
        let attached = self.hub.attach(&self.who, session, socket_attach(after));
        self.wait(async move {
            let result = attached.await.map(Box::new);
            Completed { asked, outcome: Outcome::Attached { number, made: None, result, quiet: false } }
        });
    }

    /// Goes on following a session this node let go of, from where the reader stood. The peer notices nothing unless the position
    /// cannot be honoured.
    pub(super) fn attach_again(&mut self, lost: Following, wait: Duration) {
        let session = lost.session;
        // One that the peer has asked for is under way and decides where it goes on.
        if self.attaching.iter().any(|under_way| under_way.session == session) {
            return;
        }
        let asked = Asked { id: None, received: "attach_session", session: Some(session), found: false, task: None };
        let number = self.attach_number(session, false);
        let (hub, who) = (self.hub.clone(), self.who.clone());
        let cursor = agent_hub_protocol::Cursor { epoch: lost.reader.epoch().clone(), seq: lost.reader.position() };
        let until = lost.until;
        drop(lost);
        self.wait(async move {
            tokio::time::sleep(wait).await;
            let mut result = hub.attach(&who, session, socket_attach(After::Cursor(cursor.to_string()))).await.map(Box::new);
            if let (Ok(attached), Some(until)) = (&mut result, until)
                && attached.recovered
            {
                attached.head = until;
            }
            Completed { asked, outcome: Outcome::Attached { number, made: None, result, quiet: until.is_none() } }
        });
    }

    /// Takes in what a command came to. Attaches to one session are answered in the order they were asked, whichever is through first.
    pub(super) fn complete(&mut self, completed: Completed) {
        if self.is_early(&completed) {
            self.early.push(completed);
            return;
        }
        self.answer(completed);
        while let Some(due) = self.early.iter().position(|completed| !self.is_early(completed)) {
            let completed = self.early.remove(due);
            self.answer(completed);
        }
    }

    /// Whether it is an attach that has overtaken an earlier one of its session which is still to be answered.
    fn is_early(&self, completed: &Completed) -> bool {
        let Outcome::Attached { number, .. } = &completed.outcome else { return false };
        let Some(this) = self.attaching.iter().find(|under_way| under_way.number == *number) else { return false };
        self.attaching.iter().any(|other| other.session == this.session && other.number < this.number && other.asked)
    }

    fn answer(&mut self, completed: Completed) {
        let Completed { asked, outcome } = completed;
        match outcome {
            Outcome::Done(Ok(done)) => self.acknowledge(asked, &done),
            Outcome::Done(Err(refusal)) => self.refuse(asked, &refusal),
            Outcome::Provided(provided) => match *provided {
                Ok((done, new)) => {
                    self.execute(new);
                    self.acknowledge(asked, &done);
                }
                Err(refusal) => self.refuse(asked, &refusal),
            },
            Outcome::Refreshed(Ok((who, token))) => {
                self.who = who;
                // Polled before anything waits again, so that it wakes this task.
                self.token = token;
                self.warned = false;
                // Looked at at once, so that the old token's end is no longer waited for.
                self.timer.set(tokio::time::Instant::now());
                self.acknowledge_plain(asked);
            }
            Outcome::Refreshed(Err(refusal)) => self.refuse(asked, &refusal),
            Outcome::Attached { number, made: Some(Err(refusal)), .. } | Outcome::Attached { number, result: Err(refusal), .. } => {
                self.forget_attach(number, &asked);
                self.refuse(asked, &refusal);
            }
            Outcome::Attached { number, made, result: Ok(attached), quiet } => {
                self.follow(number, *attached, quiet);
                match made {
                    Some(Ok(done)) => self.acknowledge(asked, &done),
                    _ => self.acknowledge_plain(asked),
                }
            }
        }
    }

    /// The newest list of tools counts, whichever answer is through first.
    fn execute(&mut self, new: Executing) {
        let newer = |executing: &Executing| executing.session == new.session && executing.number > new.number;
        let void = self.void.iter().any(|(session, number)| *session == new.session && *number >= new.number);
        if void || self.executors.iter().any(newer) {
            return;
        }
        self.executors.retain(|executing| executing.session != new.session);
        if !new.tools.is_empty() {
            self.executors.push(new);
        }
    }

    fn follow(&mut self, number: u64, attached: Attached, quiet: bool) {
        let Attached { reader, recovered, head, snapshot } = attached;
        let session = reader.session();
        // A detach has outdone this one, or what the peer asked for has outdone one it did not ask for.
        if !self.attaching.iter().any(|under_way| under_way.number == number) {
            return;
        }
        self.attaching.retain(|under_way| under_way.session != session || under_way.number > number);
        let said = !(quiet && recovered);
        let first = ConnectionMessage::SessionAttached(Box::new(SessionAttached {
            session_id: session,
            epoch: reader.epoch().clone(),
            recovered,
            from: reader.position() + 1,
            head,
            snapshot: snapshot.map(|snapshot| *snapshot),
        }));
        // The answer to an attach that this one replaces is still owed.
        let replaced = self.following.iter().position(|following| following.session == session).map(|at| self.following.remove(at));
        let mut owed = replaced.map(|following| following.first).unwrap_or_default();
        owed.extend(said.then(|| text(&first)));
        self.following.push(Following { session, reader, first: owed, until: said.then_some(head) });
    }

    /// Whether one more session may be followed.
    fn room_for(&self, session: SessionId) -> Result<(), Refusal> {
        let attaching = self.attaching.iter().map(|under_way| under_way.session);
        let sessions: HashSet<SessionId> = self.following.iter().map(|following| following.session).chain(attaching).collect();
        let limit = self.settings.attached_sessions;
        if sessions.len() >= limit && !sessions.contains(&session) {
            let message = format!("A connection follows at most {limit} sessions; detach one first");
            return Err(Refusal::new(ErrorCode::QuotaExceeded, message).detail("limit", limit as u64));
        }
        Ok(())
    }

    fn attach_number(&mut self, session: SessionId, asked: bool) -> u64 {
        self.attaches += 1;
        self.attaching.push(Attaching { session, number: self.attaches, asked });
        self.attaches
    }

    fn session_named(&self, named: &SessionRef, asked: &mut Asked) -> Result<SessionId, Refusal> {
        asked.session = named.session_id.or(self.current);
        asked.session.ok_or_else(|| Refusal::invalid("sessionId", "This connection has no current session; name one or create one"))
    }

    /// A session that could not be made or attached is not the current one.
    fn forget_attach(&mut self, number: u64, asked: &Asked) {
        self.attaching.retain(|under_way| under_way.number != number);
        if let Some(session) = asked.session {
            let followed = self.following.last().map(|f| f.session);
            if self.current == Some(session) && !self.following.iter().any(|f| f.session == session) {
                self.current = followed;
            }
        }
    }

    fn acknowledge(&mut self, asked: Asked, done: &Done) {
        let Some(id) = asked.id else { return };
        let received = asked.received.to_owned();
        let ack = ConnectionMessage::Ack(Ack { id, received, session_id: Some(done.session), task_id: done.task, seq: done.seq });
        match done.seq {
            Some(seq) if asked.received == "cancel_task" => self.held.push((done.session, seq, text(&ack))),
            _ => self.say(&ack),
        }
    }

    fn acknowledge_plain(&mut self, asked: Asked) {
        let Some(id) = asked.id else { return };
        let received = asked.received.to_owned();
        self.say(&ConnectionMessage::Ack(Ack { id, received, session_id: asked.session, task_id: None, seq: None }));
    }

    fn refuse(&mut self, asked: Asked, refusal: &Refusal) {
        // Which session a task is in is told to nobody who does not know it already: the task may be somebody else's, and not every
        // refusal says so (the session may be too busy to).
        let knows = |session| self.current == Some(session) || self.following.iter().any(|f| f.session == session);
        let secret = asked.found && !asked.session.is_some_and(knows);
        self.control.push_back(error_frame(asked.id, refusal, asked.session.filter(|_| !secret), asked.task));
    }

    fn wait(&mut self, work: impl Future<Output = Completed> + Send + 'static) {
        self.commands.push(Box::pin(work));
    }
}

async fn change_wherever(hub: &Hub, who: &Principal, task: TaskId, change: Change, asked: &mut Asked) -> Result<Done, Refusal> {
    let session = hub.session_of(who, task).await?;
    asked.session = Some(session);
    hub.change(who, session, change).await
}

impl Asked {
    fn take(&mut self) -> Self {
        Self { id: self.id.take(), received: self.received, session: self.session, found: self.found, task: self.task }
    }
}
