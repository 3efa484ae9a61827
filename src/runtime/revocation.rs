//! Tokens that were revoked before their end: durable in the store, one entry per user, and read once per user into memory.

use std::{
    collections::HashMap,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use agent_hub_protocol::{ErrorCode, Timestamp};
use bytes::Bytes;
use dashmap::{DashMap, Entry};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{identity::Principal, quiet::Signal, refusal::Refusal, session::unreadable};
use crate::store::{SharedStore, Space, StoreError, Write};

/// Revoked tokens of one user that have not expired. Full: refused, because to forget one would make it valid again.
const MAX_PER_USER: usize = 256;
/// Users and revoked tokens in memory, together. Full: all are forgotten here, and read from the store again as they are asked for.
const MAX_IN_MEMORY: usize = 50_000;
/// Kept this much longer than the token itself: clocks differ.
const PAST_ITS_END: Duration = Duration::from_secs(60);
/// Users are read and changed one at a time, in this many lines.
const LINES: usize = 16;

/// All of them.
#[derive(Debug)]
pub struct Revocations {
    store: SharedStore,
    known: RwLock<Known>,
    lines: [tokio::sync::Mutex<()>; LINES],
    hasher: RandomState,
    /// Tokens that something open stands on.
    watched: Arc<DashMap<Uuid, Watched>>,
}

/// Ready once the token is revoked. Whatever stays open because of a token holds one.
#[derive(Debug)]
#[must_use]
pub struct TokenWatch {
    token: Uuid,
    revoked: Signal,
    watched: Arc<DashMap<Uuid, Watched>>,
}

#[derive(Debug, Default)]
struct Known {
    users: HashMap<String, Vec<Revoked>>,
    /// Users and tokens in it.
    weight: usize,
}

#[derive(Debug, Default)]
struct Watched {
    revoked: CancellationToken,
    watches: usize,
}

/// As it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Revoked {
    token: Uuid,
    until: Timestamp,
}

impl Revocations {
    /// None in memory yet.
    pub fn new(store: SharedStore) -> Self {
        Self { store, known: RwLock::default(), lines: Default::default(), hasher: RandomState::new(), watched: Arc::default() }
    }

    /// Whether the token behind this user was revoked.
    ///
    /// # Errors
    /// `overloaded` when the store cannot say; then nobody is let in.
    pub async fn is_revoked(&self, who: &Principal) -> Result<bool, Refusal> {
        let Some(token) = who.token() else { return Ok(false) };
        let among = |revoked: &[Revoked]| revoked.iter().any(|one| one.token == token);
        if let Some(revoked) = self.in_memory(who.user(), among) {
            return Ok(revoked);
        }
        let _in_turn = self.line(who.user()).lock().await;
        let revoked = self.of(who.user()).await.map_err(unreadable)?;
        Ok(among(&revoked))
    }

    /// Watches the token behind this user; `None` if it is one that cannot be revoked.
    ///
    /// # Errors
    /// `unauthorized` when it was revoked by now, `overloaded` as in [`Revocations::is_revoked`].
    pub async fn watch(&self, who: &Principal) -> Result<Option<TokenWatch>, Refusal> {
        let Some(token) = who.token() else { return Ok(None) };
        // Before the look-up: a revocation that the look-up is too early for finds the watch.
        let watch = self.watch_token(token);
        if self.is_revoked(who).await? { Err(Refusal::unauthorized()) } else { Ok(Some(watch)) }
    }

    /// Revokes the token behind this user until its end, durably, and then tells those who watch it. To be carried through once begun:
    /// see [`Hub::revoke`](super::Hub::revoke).
    ///
    /// # Errors
    /// `invalid_message` for a token without an id, `quota_exceeded` when the user has too many, `overloaded` when the store does not write.
    pub(crate) async fn revoke(&self, who: &Principal) -> Result<(), Refusal> {
        let (Some(token), Some(end)) = (who.token(), who.expires_at()) else {
            return Err(Refusal::invalid("jti", "The token has no jti, so it cannot be revoked; it is valid until it expires"));
        };
        let _in_turn = self.line(who.user()).lock().await;
        let mut revoked = self.of(who.user()).await.map_err(unreadable)?;
        let now = Timestamp::now();
        revoked.retain(|one| one.until > now && one.token != token);
        if revoked.len() >= MAX_PER_USER {
            let text = "Too many tokens of this user are revoked and have not expired";
            return Err(Refusal::new(ErrorCode::QuotaExceeded, text).detail("limit", MAX_PER_USER as u64));
        }
        revoked.push(Revoked { token, until: end.plus(PAST_ITS_END) });
        self.write(who.user(), &revoked).await.map_err(|error| {
            tracing::warn!(%error, "a token was not revoked");
            Refusal::overloaded("The store does not write")
        })?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).put(who.user(), revoked);
        if let Some(watched) = self.watched.get(&token) {
            watched.revoked.cancel();
        }
        Ok(())
    }

    fn in_memory<T>(&self, user: &str, look: impl FnOnce(&[Revoked]) -> T) -> Option<T> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.users.get(user).map(|revoked| look(revoked))
    }

    /// The user's revoked tokens. Asked for in turn only, so that what is read does not replace something newer.
    async fn of(&self, user: &str) -> Result<Vec<Revoked>, StoreError> {
        if let Some(revoked) = self.in_memory(user, <[Revoked]>::to_vec) {
            return Ok(revoked);
        }
        let revoked = match self.store.get(Space::Revoked, user.to_owned()).await? {
            None => Vec::new(),
            Some(value) => {
                let damaged = |_| StoreError::Damaged("the revoked tokens of a user cannot be read".to_owned());
                serde_json::from_slice::<Vec<Revoked>>(&value).map_err(damaged)?
            }
        };
        self.known.write().unwrap_or_else(PoisonError::into_inner).put(user, revoked.clone());
        Ok(revoked)
    }

    async fn write(&self, user: &str, revoked: &[Revoked]) -> Result<(), StoreError> {
        let value = serde_json::to_vec(revoked).map_err(|error| StoreError::Failed(error.to_string()))?;
        let expires_at = revoked.iter().map(|one| one.until).max();
        self.store.write(vec![Write::Put { space: Space::Revoked, key: user.to_owned(), value: Bytes::from(value), expires_at }]).await
    }

    fn line(&self, user: &str) -> &tokio::sync::Mutex<()> {
        // Less than LINES, which fits.
        &self.lines[(self.hasher.hash_one(user) % LINES as u64) as usize]
    }

    fn watch_token(&self, token: Uuid) -> TokenWatch {
        let mut watched = self.watched.entry(token).or_default();
        watched.watches += 1;
        TokenWatch { token, revoked: Signal::of(watched.revoked.clone()), watched: Arc::clone(&self.watched) }
    }
}

impl Known {
    fn put(&mut self, user: &str, revoked: Vec<Revoked>) {
        if self.weight + 1 + revoked.len() > MAX_IN_MEMORY {
            *self = Self::default();
        }
        self.weight += 1 + revoked.len();
        if let Some(before) = self.users.insert(user.to_owned(), revoked) {
            self.weight -= 1 + before.len();
        }
    }
}

impl Future for TokenWatch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.revoked.poll(cx)
    }
}

impl Drop for TokenWatch {
    fn drop(&mut self) {
        if let Entry::Occupied(mut there) = self.watched.entry(self.token) {
            if there.get().watches <= 1 {
                there.remove();
            } else {
                there.get_mut().watches -= 1;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{runtime::Plan, store::memory::MemoryStore};

    fn token(user: &str, jti: &str) -> Principal {
        let end = Timestamp::now().plus(Duration::from_secs(3600));
        Principal::of_token(user.to_owned(), Plan::Free, Vec::new(), Some(end), Some(jti))
    }

    #[tokio::test]
    async fn of_one_user_only_and_known_to_whoever_opens_the_store_next() {
        let store: SharedStore = Arc::new(MemoryStore::new());
        let revocations = Revocations::new(Arc::clone(&store));
        revocations.revoke(&token("ada", "1")).await.unwrap();
        revocations.revoke(&token("ada", "2")).await.unwrap();
        for revocations in [revocations, Revocations::new(store)] {
            assert!(revocations.is_revoked(&token("ada", "1")).await.unwrap());
            assert!(revocations.is_revoked(&token("ada", "2")).await.unwrap());
            assert!(!revocations.is_revoked(&token("ada", "3")).await.unwrap());
            assert!(!revocations.is_revoked(&token("eve", "1")).await.unwrap(), "an issuer may number the tokens of each user");
        }
    }

    #[tokio::test]
    async fn those_who_watch_are_told_and_those_who_come_too_late_too() {
        let revocations = Revocations::new(Arc::new(MemoryStore::new()));
        let (ada, other) = (token("ada", "1"), token("ada", "2"));
        let mut first = revocations.watch(&ada).await.unwrap().unwrap();
        let mut second = revocations.watch(&ada).await.unwrap().unwrap();
        let mut neighbour = revocations.watch(&other).await.unwrap().unwrap();
        assert!((&mut first).now_or_never().is_none());
        revocations.revoke(&ada).await.unwrap();
        assert!((&mut first).now_or_never().is_some() && (&mut second).now_or_never().is_some());
        assert!((&mut neighbour).now_or_never().is_none());
        assert_eq!(revocations.watch(&ada).await.unwrap_err().code, ErrorCode::Unauthorized);
        drop((first, second, neighbour));
        assert!(revocations.watched.is_empty());
    }

    #[tokio::test]
    async fn bounded_per_user_and_in_memory() {
        let revocations = Revocations::new(Arc::new(MemoryStore::new()));
        for jti in 0..MAX_PER_USER {
            revocations.revoke(&token("ada", &jti.to_string())).await.unwrap();
        }
        let one_more = token("ada", "one more");
        assert_eq!(revocations.revoke(&one_more).await.unwrap_err().code, ErrorCode::QuotaExceeded);
        assert!(!revocations.is_revoked(&one_more).await.unwrap(), "what was refused has changed nothing");
        revocations.revoke(&token("ada", "7")).await.unwrap();
        revocations.revoke(&token("eve", "1")).await.unwrap();
        for user in 0..MAX_IN_MEMORY {
            assert!(!revocations.is_revoked(&token(&format!("user-{user}"), "1")).await.unwrap());
        }
        let known = revocations.known.read().unwrap().weight;
        assert!(known <= MAX_IN_MEMORY, "{known}");
        assert!(!revocations.known.read().unwrap().users.contains_key("ada"), "forgotten here");
        assert!(revocations.is_revoked(&token("ada", "0")).await.unwrap(), "and not in the store");
    }

    #[tokio::test]
    async fn a_token_without_an_id_cannot_be_revoked() {
        let revocations = Revocations::new(Arc::new(MemoryStore::new()));
        let end = Some(Timestamp::now().plus(Duration::from_secs(60)));
        let who = Principal::verified("ada".into(), Plan::Free, Vec::new(), end);
        assert_eq!(revocations.revoke(&who).await.unwrap_err().code, ErrorCode::InvalidMessage);
        assert!(revocations.watch(&who).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn nobody_is_let_in_while_the_store_cannot_say() {
        let store: SharedStore = Arc::new(MemoryStore::new());
        let revocations = Revocations::new(Arc::clone(&store));
        store.close().await.unwrap();
        assert_eq!(revocations.is_revoked(&token("ada", "1")).await.unwrap_err().code, ErrorCode::Overloaded);
        assert_eq!(revocations.revoke(&token("ada", "1")).await.unwrap_err().code, ErrorCode::Overloaded);
    }
}
