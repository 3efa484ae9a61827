//! Answering questions, and letting readers in: both see the state at one moment, and only what is durable of it.

use std::sync::Arc;

use agent_hub_protocol::TaskId;
use futures::FutureExt;

use super::Actor;
use crate::runtime::{
    log::Reader,
    refusal::Refusal,
    session::{
        entry::TaskEntry,
        load,
        pages::unreadable,
        request::{After, Ask, Attach, Attached, Envelope, SessionView, TaskView},
    },
};

impl Actor {
    /// Answers a question. Returns whether a socket has attached for the first time.
    pub(super) async fn look(&mut self, envelope: Envelope) -> bool {
        let refusal = match (&self.state, &self.erased) {
            (Some(state), _) if state.owner == envelope.who.user() => None,
            (Some(_), _) => Some(Refusal::forbidden()),
            (None, Some(owner)) if owner != envelope.who.user() => Some(Refusal::forbidden()),
            (None, _) => Some(Refusal::session_not_found()),
        };
        if let Some(refusal) = refusal {
            envelope.ask.refuse(refusal);
            return false;
        }
        let Some(state) = &mut self.state else { return false };
        match envelope.ask {
            Ask::Change(..) => false,
            Ask::View(reply) => {
                let followed = self.tail.following() > 0;
                let view = SessionView { info: state.info(followed), cursor: state.cursor(), snapshot: state.snapshot(followed) };
                drop(reply.send(Ok(Box::new(view))));
                false
            }
            Ask::Task(task, reply) => {
                let view = match state.task(task) {
                    Some(known) => {
                        let last_seq = known.last_seq;
                        Ok(state.task_info(task).map(|info| TaskView { session: self.id, info, cursor: state.cursor(), last_seq }))
                    }
                    None => self.old_task(task).await,
                };
                drop(reply.send(view.and_then(|view| view.map(Box::new).ok_or_else(Refusal::task_not_found))));
                false
            }
            Ask::Attach(attach, reply) => {
                let first_socket = attach.socket && !state.had_socket;
                state.had_socket |= attach.socket;
                let attached = self.attach(&attach);
                drop(reply.send(attached));
                first_socket
            }
        }
    }

    /// A finished task that has left memory.
    async fn old_task(&mut self, task: TaskId) -> Result<Option<TaskView>, Refusal> {
        let store = self.shared.store.clone();
        let found = self.meanwhile(async move { TaskEntry::find(&store, task).await }.boxed()).await?;
        let (Some(entry), Some(state)) = (found.filter(|entry| entry.session == self.id), self.state.clone()) else { return Ok(None) };
        self.meanwhile(load::old_task(self.shared.store.clone(), entry, state, task).boxed()).await.map_err(unreadable)
    }

    fn attach(&self, attach: &Attach) -> Result<Attached, Refusal> {
        let Some(state) = &self.state else { return Err(Refusal::session_not_found()) };
        let head = state.head;
        let honoured = match &attach.after {
            After::Snapshot => None,
            After::Seq(seq) => Some((*seq).min(head)),
            After::Cursor(text) => {
                let cursor = text.parse::<agent_hub_protocol::Cursor>().ok();
                cursor.filter(|cursor| cursor.epoch == state.epoch && cursor.seq <= head).map(|cursor| cursor.seq)
            }
        };
        let metrics = &self.shared.metrics;
        match (honoured, &attach.after) {
            (Some(seq), _) => {
                metrics.attach_resumed.increment(1);
                metrics.replay_events.record((head - seq) as f64);
            }
            (None, After::Cursor(_)) => metrics.attach_reset.increment(1),
            (None, _) => metrics.attach_fresh.increment(1),
        }
        let last = honoured.unwrap_or(head);
        let store = self.shared.store.clone();
        let reader = Reader::join(self.id, state.epoch.clone(), last, Arc::clone(&self.tail), store);
        let snapshot = honoured.is_none().then(|| Box::new(state.snapshot(true)));
        Ok(Attached { reader, recovered: honoured.is_some(), head, snapshot })
    }
}
