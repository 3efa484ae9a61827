//! Reading the session from the store: when it wakes, and when the store has failed under it.

use std::time::Duration;

use agent_hub_protocol::Timestamp;
use tokio::time::Instant;

use super::{Actor, durable::Owed};
use crate::{
    runtime::{
        refusal::Refusal,
        session::{
            load::{self, Loaded},
            state::Outbox,
        },
    },
    store::{AppendError, StoreError},
};

/// Waits between tries to get a failed store back.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(5);

impl Actor {
    /// Reads the session from the store and recovers what the last process left unfinished.
    pub(super) async fn wake(&mut self) -> Result<(), AppendError> {
        self.read_state().await?;
        self.recover(false).await
    }

    async fn read_state(&mut self) -> Result<(), StoreError> {
        match load::session(&self.shared.store, self.id).await? {
            Loaded::Session(state, checkpoint) => {
                self.tail.jump_to(state.head);
                for task in &state.tasks {
                    self.shared.tasks.insert(task.id, self.id);
                }
                self.loaded_at = checkpoint;
                self.state = Some(*state);
            }
            Loaded::Erased(owner) => self.erased = Some(owner),
            Loaded::None => {}
        }
        Ok(())
    }

    async fn recover(&mut self, failed_store: bool) -> Result<(), AppendError> {
        let mut out = Outbox::at(Timestamp::now());
        if let Some(state) = &mut self.state {
            state.recover(&self.shared.settings, failed_store, &mut out);
        }
        let mut owed = Owed::default();
        self.settle(None, &mut out, &mut owed);
        self.append(&mut out);
        self.pay(&out, owed).await?;
        self.tell_executors();
        Ok(())
    }

    /// An append failed, so the state may not be what the store has: everything in flight is given up, and the state is read again
    /// once the store answers. Meanwhile every request is refused with `overloaded`.
    pub(super) async fn repair(&mut self, error: AppendError) {
        self.shared.metrics.append_failures.increment(1);
        tracing::warn!(session = %self.id, %error, "an append failed; the session is read again from the store");
        self.flight = None;
        self.drop_runs();
        self.ticket = None;
        self.slot = None;
        let mut wait = *RETRY.start();
        loop {
            self.state = None;
            for (_, reply) in self.deferred.drain(..) {
                drop(reply.send(Err(Refusal::overloaded("The store cannot be written"))));
            }
            let again = match self.read_state().await {
                Ok(()) => self.recover(true).await,
                Err(error) => Err(error.into()),
            };
            match again {
                Ok(()) => return,
                Err(error) => tracing::debug!(session = %self.id, %error, "the store is not back yet"),
            }
            if !self.refuse_for(wait).await {
                return;
            }
            wait = (wait * 2).min(*RETRY.end());
        }
    }

    /// Refuses requests for a while. Returns whether the actor goes on.
    async fn refuse_for(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            while let Some(envelope) = self.waiting.pop_front() {
                envelope.ask.refuse(Refusal::overloaded("The store cannot be written"));
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => return false,
                () = tokio::time::sleep_until(until) => return true,
                Some(envelope) = self.requests.recv() => self.waiting.push_back(envelope),
            }
        }
    }

    pub(super) async fn refuse_all(&mut self, error: &AppendError) {
        tracing::warn!(session = %self.id, %error, "the session could not be read");
        // Tried again later, because a task of it may be waiting to be recovered.
        self.shared.ring_at(Timestamp::now().plus(*RETRY.end()), self.id);
        let refusal = Refusal::overloaded("The store does not answer");
        for envelope in self.waiting.drain(..) {
            envelope.ask.refuse(refusal.clone());
        }
        while let Ok(envelope) = self.requests.try_recv() {
            envelope.ask.refuse(refusal.clone());
        }
    }
}
