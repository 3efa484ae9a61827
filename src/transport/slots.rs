//! How many sockets that stay (WebSocket, SSE, Socket.IO) a user or an address has.

use std::{fmt, sync::Arc, time::Duration};

use agent_hub_protocol::ErrorCode;
use dashmap::{DashMap, Entry};

use super::client_address::ClientAddress;
use crate::runtime::{Principal, Refusal};

/// What a client that has too many is asked to wait before it tries again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Counts them. Cheap to clone.
#[derive(Clone)]
pub struct Slots {
    per_user: Option<u32>,
    per_address: Option<u32>,
    taken: Arc<DashMap<Holder, u32>>,
}

/// A place for one socket; dropping it gives it back.
#[must_use]
pub struct Slot {
    taken: Arc<DashMap<Holder, u32>>,
    holders: [Option<Holder>; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    User(String),
    Address(String),
}

impl Slots {
    /// `None` lifts a bound.
    pub fn new(per_user: Option<u32>, per_address: Option<u32>) -> Self {
        Self { per_user, per_address, taken: Arc::default() }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `rate_limited` when the user or the address has as many as it may.
    pub fn enter(&self, who: &Principal, from: &ClientAddress) -> Result<Slot, Refusal> {
        let mut slot = Slot { taken: Arc::clone(&self.taken), holders: [None, None] };
        if let Some(limit) = self.per_user {
            slot.holders[0] = Some(self.take(Holder::User(who.user().to_owned()), limit, "user")?);
        }
        if let Some(limit) = self.per_address {
            slot.holders[1] = Some(self.take(Holder::Address(from.limit_key()), limit, "address")?);
        }
        Ok(slot)
    }

    fn take(&self, holder: Holder, limit: u32, of: &str) -> Result<Holder, Refusal> {
        let mut count = self.taken.entry(holder.clone()).or_insert(0);
        if *count >= limit {
            let text = format!("Too many open connections of this {of}");
            return Err(Refusal::new(ErrorCode::RateLimited, text).retry_after(TRY_AGAIN).detail("limit", limit));
        }
        *count += 1;
        Ok(holder)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        for holder in self.holders.iter_mut().filter_map(Option::take) {
            if let Entry::Occupied(mut there) = self.taken.entry(holder) {
                if *there.get() <= 1 {
                    there.remove();
                } else {
                    *there.get_mut() -= 1;
                }
            }
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("per_user", &self.per_user).field("per_address", &self.per_address).finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot { .. }")
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;
    use crate::runtime::Plan;

    #[test]
    fn a_place_is_given_back() {
        let who = Principal::verified("u".into(), Plan::Free, Vec::new(), None);
        let from = ClientAddress::of("192.0.2.1:1".parse().expect("an address"), &HeaderMap::new(), &[]);
        let slots = Slots::new(Some(3), Some(2));
        let first = slots.enter(&who, &from).expect("free");
        let second = slots.enter(&who, &from).expect("free");
        assert_eq!(slots.enter(&who, &from).expect_err("full").code, ErrorCode::RateLimited);
        drop(first);
        let third = slots.enter(&who, &from).expect("free again");
        drop((second, third));
        assert!(slots.taken.is_empty());
    }
}
