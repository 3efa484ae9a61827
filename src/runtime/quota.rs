//! Daily quotas: how much of a plan's day a user has used. Counted in memory, written with the events they belong to.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agent_hub_protocol::{ErrorCode, Timestamp};
use dashmap::DashMap;

use super::{identity::Principal, refusal::Refusal, settings::QuotaSettings};
use crate::store::{SharedStore, Space, StoreError, Write};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Sessions created.
    Session,
    /// Tasks submitted.
    Task,
}

/// Every user's day. A user must be [loaded](Quotas::load) before anything is taken for it.
#[derive(Debug)]
pub struct Quotas {
    settings: Option<QuotaSettings>,
    store: SharedStore,
    users: DashMap<String, Arc<UserDay>>,
}

#[derive(Debug, Default)]
struct UserDay {
    loaded: AtomicBool,
    loading: tokio::sync::Mutex<()>,
    used: Mutex<Used>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// Days since 1970.
    day: i64,
    sessions: u32,
    tasks: u32,
}

/// One unit of a user's day. Dropping it gives the unit back; [`keep`](Taken::keep) makes it count.
#[derive(Debug)]
#[must_use]
pub struct Taken {
    user: Arc<UserDay>,
    resource: Resource,
    day: i64,
    write: Option<Write>,
}

impl Quotas {
    /// `None` lifts every quota.
    pub fn new(settings: Option<QuotaSettings>, store: SharedStore) -> Self {
        Self { settings, store, users: DashMap::new() }
    }

    /// Brings what the user used today into memory. Cheap when it is there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn load(&self, user: &str) -> Result<(), StoreError> {
        if self.settings.is_none() {
            return Ok(());
        }
        let day = self.users.entry(user.to_owned()).or_default().clone();
        if day.loaded.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = day.loading.lock().await;
        if day.loaded.load(Ordering::Acquire) {
            return Ok(());
        }
        let today = day_of(Timestamp::now());
        let mut used = Used { day: today, ..Used::default() };
        used.sessions = self.stored(user, today, Resource::Session).await?;
        used.tasks = self.stored(user, today, Resource::Task).await?;
        *day.used.lock().unwrap_or_else(PoisonError::into_inner) = used;
        day.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes one unit; `None` when quotas are lifted.
    ///
    /// # Errors
    /// `quota_exceeded` with `limit` and `resetsAt`.
    pub fn take(&self, who: &Principal, resource: Resource, now: Timestamp) -> Result<Option<Taken>, Refusal> {
        let Some(settings) = &self.settings else { return Ok(None) };
        let plan = settings.of(who.plan());
        let limit = match resource {
            Resource::Session => plan.sessions,
            Resource::Task => plan.tasks,
        };
        let user = self.users.entry(who.user().to_owned()).or_default().clone();
        let today = day_of(now);
        {
            let mut used = user.used.lock().unwrap_or_else(PoisonError::into_inner);
            if used.day != today {
                *used = Used { day: today, ..Used::default() };
            }
            let count = used.count(resource);
            if *count >= limit {
                let text = match resource {
                    Resource::Session => "Daily session limit reached",
                    Resource::Task => "Daily task limit reached",
                };
                let resets_at = now.next_midnight();
                let refusal = Refusal::new(ErrorCode::QuotaExceeded, text)
                    .retry_after(resets_at.since(now))
                    .detail("limit", limit)
                    .detail("resetsAt", resets_at.to_string());
                return Err(refusal);
            }
            *count += 1;
        }
        let write = Write::Add {
            space: Space::Usage,
            key: key(who.user(), today, resource),
            by: 1,
            // A day past the day it counts, so that no clock takes it away early.
            expires_at: Some(now.next_midnight().plus(Duration::from_secs(86_400))),
        };
        Ok(Some(Taken { user, resource, day: today, write: Some(write) }))
    }

    /// Forgets users of past days.
    pub fn sweep(&self, now: Timestamp) {
        let today = day_of(now);
        self.users.retain(|_, user| user.used.lock().unwrap_or_else(PoisonError::into_inner).day == today);
    }

    async fn stored(&self, user: &str, day: i64, resource: Resource) -> Result<u32, StoreError> {
        let value = self.store.get(Space::Usage, key(user, day, resource)).await?;
        Ok(value.and_then(|v| std::str::from_utf8(&v).ok()?.parse().ok()).unwrap_or(0))
    }
}

impl Taken {
    /// The unit counts: this must be written with the event it belongs to.
    pub fn keep(mut self) -> Write {
        // Taken once: `keep` consumes, and nothing else takes it.
        self.write.take().unwrap_or(Write::Delete { space: Space::Usage, key: String::new() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.write.is_some() {
            let mut used = self.user.used.lock().unwrap_or_else(PoisonError::into_inner);
            if used.day == self.day {
                let count = used.count(self.resource);
                *count = count.saturating_sub(1);
            }
        }
    }
}

impl Used {
    fn count(&mut self, resource: Resource) -> &mut u32 {
        match resource {
            Resource::Session => &mut self.sessions,
            Resource::Task => &mut self.tasks,
        }
    }
}

fn day_of(at: Timestamp) -> i64 {
    at.as_millis() / 86_400_000
}

fn key(user: &str, day: i64, resource: Resource) -> String {
    let what = match resource {
        Resource::Session => "sessions",
        Resource::Task => "tasks",
    };
    format!("{user}:{day}:{what}")
}
