//! Entries held in memory, for the stores that keep all of them there.

use std::collections::HashMap;

use agent_hub_protocol::{SessionId, Timestamp};
use bytes::Bytes;

use super::{Space, StoreError, Write, codec::add_to_counter};

/// Between two sweeps for entries that have expired.
const SWEEP_AFTER_WRITES: usize = 10_000;

/// Small keyed values with an expiry.
#[derive(Debug, Default)]
pub(super) struct Entries {
    map: HashMap<(Space, String), Entry>,
    writes_since_sweep: usize,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    pub(super) expires_at: Option<Timestamp>,
}

impl Entries {
    pub(super) fn get(&self, space: Space, key: &str, now: Timestamp) -> Option<&Bytes> {
        // The key is owned by the map; a lookup by parts would need a type of its own for one short allocation.
        let entry = self.map.get(&(space, key.to_owned()))?;
        (!entry.has_expired(now)).then_some(&entry.value)
    }

    /// Whether the session's id belonged to one that was erased.
    pub(super) fn is_taken(&self, id: SessionId) -> bool {
        self.get(Space::Erased, &id.to_string(), Timestamp::now()).is_some()
    }

    /// All of them, or none if one cannot be done.
    ///
    /// # Errors
    /// [`StoreError::Failed`] for an [`Write::Add`] to something that is not a counter.
    pub(super) fn apply(&mut self, writes: Vec<Write>, now: Timestamp) -> Result<(), StoreError> {
        let changes = self.resolve(writes, now)?;
        self.set(changes);
        self.sweep(now);
        Ok(())
    }

    /// What the writes come to: each key's last state, `None` for taken away.
    ///
    /// # Errors
    /// As [`Entries::apply`].
    pub(super) fn resolve(&self, writes: Vec<Write>, now: Timestamp) -> Result<Changes, StoreError> {
        let mut changes = Changes::new();
        for write in writes {
            match write {
                Write::Put { space, key, value, expires_at } => {
                    changes.insert((space, key), Some(Entry { value, expires_at }));
                }
                Write::Add { space, key, by, expires_at } => {
                    let key = (space, key);
                    let before = changes.get(&key).cloned().unwrap_or_else(|| self.map.get(&key).cloned());
                    let before = before.filter(|entry| !entry.has_expired(now));
                    let value = add_to_counter(before.as_ref().map(|entry| entry.value.as_ref()), by)?;
                    changes.insert(key, Some(Entry { value, expires_at }));
                }
                Write::Delete { space, key } => {
                    changes.insert((space, key), None);
                }
            }
        }
        Ok(changes)
    }

    pub(super) fn set(&mut self, changes: Changes) {
        self.writes_since_sweep += changes.len();
        for (key, entry) in changes {
            match entry {
                Some(entry) => drop(self.map.insert(key, entry)),
                None => drop(self.map.remove(&key)),
            }
        }
    }

    /// Takes away what belongs to an erased session and marks its ids as taken.
    pub(super) fn forget(&mut self, id: SessionId, owner: &str, forget: Vec<(Space, String)>, until: Timestamp, now: Timestamp) {
        let changes = self.forgetting(id, owner, forget, until, now);
        self.set(changes);
    }

    /// What [`Entries::forget`] comes to. An id that is taken already stays as it is, so that a repetition changes nothing.
    pub(super) fn forgetting(&self, id: SessionId, owner: &str, forget: Vec<(Space, String)>, until: Timestamp, now: Timestamp) -> Changes {
        let mut changes = Changes::new();
        changes.insert((Space::Checkpoint, id.to_string()), None);
        let own = (Space::Erased, id.to_string());
        for (space, key) in forget {
            changes.insert((Space::Erased, key.clone()), None);
            changes.insert((space, key), None);
        }
        changes.insert(own, None);
        for ((space, key), change) in &mut changes {
            if *space == Space::Erased {
                let kept = self.map.get(&(*space, key.clone())).filter(|entry| !entry.has_expired(now)).cloned();
                *change = Some(kept.unwrap_or_else(|| Entry { value: Bytes::copy_from_slice(owner.as_bytes()), expires_at: Some(until) }));
            }
        }
        changes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&(Space, String), &Entry)> {
        self.map.iter()
    }

    /// Frees what nobody can see any more, now and then.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if self.writes_since_sweep >= SWEEP_AFTER_WRITES.max(self.map.len()) {
            self.writes_since_sweep = 0;
            self.map.retain(|_, entry| !entry.has_expired(now));
        }
    }
}

/// Keys and what they become; `None` for taken away.
pub(super) type Changes = HashMap<(Space, String), Option<Entry>>;

impl Entry {
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}
