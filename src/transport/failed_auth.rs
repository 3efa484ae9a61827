//! How often an address may fail to authenticate.
//!
//! What is refused is failing, not asking: while an address is blocked its credentials are still verified, and a valid one is let in.
//! Not to verify them would let one guesser, or one page with an old token, lock out everybody who shares its address: an office, or all
//! clients behind a proxy that is not in `trusted_proxies`. And it would protect nothing: what there is to guess is a signature by a key of
//! at least 256 bits or a ticket of 244, which no rate of guessing finds, and verifying costs less than reading the request did. Nothing is
//! counted per identity either: before a token is verified its subject is a text the guesser chose, and others could be locked out by it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agent_hub_protocol::ErrorCode;
use tokio::time::Instant;

use super::client_address::ClientAddress;
use crate::runtime::Refusal;

/// Failures are counted this long, and an address that reached its bound is blocked this long.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are counted one by one. Full: those that are not there yet share one count until others are over, so that many
/// addresses neither cost more memory nor get more tries.
const MAX_ADDRESSES: usize = 10_000;
/// Between two looks for counts that are over, when there is no room: a look is not free.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Counts failures by address: IPv4 (also in an IPv6 coat), or the /64 of IPv6. Loopback is an address like any other.
#[derive(Debug)]
pub struct FailedAuth {
    per_minute: Option<u32>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    addresses: HashMap<IpAddr, Count>,
    rest: Count,
    swept: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    /// When the first of them was; when the last was, once the bound is reached.
    since: Instant,
}

impl FailedAuth {
    /// `None` lifts the bound.
    pub fn new(per_minute: Option<u32>) -> Self {
        let now = Instant::now();
        let table = Table { addresses: HashMap::new(), rest: Count { failures: 0, since: now }, swept: now };
        Self { per_minute, table: Mutex::new(table) }
    }

    /// What a credential that does not hold gets: the same for all that can be wrong with it, until the address is blocked.
    pub fn refuse(&self, from: &ClientAddress) -> Refusal {
        match self.count(from) {
            Ok(()) => Refusal::new(ErrorCode::Unauthorized, "Invalid or expired token"),
            Err(blocked) => blocked,
        }
    }

    fn count(&self, from: &ClientAddress) -> Result<(), Refusal> {
        let Some(limit) = self.per_minute else { return Ok(()) };
        let now = Instant::now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.of(from.network(), now);
        if count.is_over(now) {
            *count = Count { failures: 0, since: now };
        }
        if count.failures >= limit {
            let wait = WINDOW.saturating_sub(now.duration_since(count.since));
            let text = "Too many failed attempts to authenticate. Try again later.";
            let refusal = Refusal::new(ErrorCode::RateLimited, text).retry_after(wait).detail("limit", limit);
            return Err(refusal.detail("category", "auth").detail("windowMs", WINDOW.as_millis() as u64));
        }
        count.failures += 1;
        if count.failures == limit {
            count.since = now;
            tracing::warn!(address = %from.limit_key(), failures = limit, "too many failed attempts to authenticate; blocked for a minute");
        }
        Ok(())
    }
}

impl Table {
    fn of(&mut self, address: IpAddr, now: Instant) -> &mut Count {
        if self.addresses.len() >= MAX_ADDRESSES && now.duration_since(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.addresses.retain(|_, count| !count.is_over(now));
        }
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&address) {
            return &mut self.rest;
        }
        self.addresses.entry(address).or_insert(Count { failures: 0, since: now })
    }
}

impl Count {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    fn from(peer: &str) -> ClientAddress {
        ClientAddress::of(format!("{peer}:1").parse().expect("an address"), &HeaderMap::new(), &[])
    }

    fn codes(failed: &FailedAuth, peer: &str, times: usize) -> Vec<ErrorCode> {
        (0..times).map(|_| failed.refuse(&from(peer)).code).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn twenty_a_minute_then_a_minute_of_none() {
        let failed = FailedAuth::new(Some(20));
        assert_eq!(codes(&failed, "127.0.0.1", 20), [ErrorCode::Unauthorized; 20], "loopback has no more and no less");
        tokio::time::advance(Duration::from_secs(59)).await;
        let blocked = failed.refuse(&from("[::ffff:127.0.0.1]"));
        assert_eq!((blocked.code, blocked.retry_after), (ErrorCode::RateLimited, Some(Duration::from_secs(1))));
        assert_eq!(failed.refuse(&from("127.0.0.2")).code, ErrorCode::Unauthorized);
        // Trying on does not prolong it: who stops a minute later is let try again.
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(codes(&failed, "127.0.0.1", 21)[19..], [ErrorCode::Unauthorized, ErrorCode::RateLimited]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mistake_now_and_then_blocks_nobody() {
        let failed = FailedAuth::new(Some(20));
        for _ in 0..10 {
            assert_eq!(codes(&failed, "192.0.2.1", 19), [ErrorCode::Unauthorized; 19]);
            tokio::time::advance(WINDOW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_of_ipv6_has_one_count() {
        let failed = FailedAuth::new(Some(2));
        assert_eq!(codes(&failed, "[2001:db8:1:2::1]", 1), [ErrorCode::Unauthorized]);
        assert_eq!(codes(&failed, "[2001:db8:1:2:ffff::]", 2), [ErrorCode::Unauthorized, ErrorCode::RateLimited]);
        assert_eq!(codes(&failed, "[2001:db8:1:3::1]", 1), [ErrorCode::Unauthorized]);
    }

    #[tokio::test(start_paused = true)]
    async fn more_addresses_than_there_is_room_for_share_what_is_left() {
        let failed = FailedAuth::new(Some(5));
        let count = |net: usize| failed.refuse(&from(&format!("[2001:db8:{:x}:{:x}::1]", net >> 16, net & 0xffff))).code;
        for net in 0..MAX_ADDRESSES {
            assert_eq!(count(net), ErrorCode::Unauthorized);
        }
        let more: Vec<ErrorCode> = (MAX_ADDRESSES..MAX_ADDRESSES + 6).map(count).collect();
        assert_eq!(more[4..], [ErrorCode::Unauthorized, ErrorCode::RateLimited]);
        assert_eq!(count(7), ErrorCode::Unauthorized, "one that was there before has its own");
        assert_eq!(failed.table.lock().expect("held by nobody").addresses.len(), MAX_ADDRESSES);
        tokio::time::advance(WINDOW).await;
        assert_eq!(count(MAX_ADDRESSES + 5), ErrorCode::Unauthorized);
        assert_eq!(failed.table.lock().expect("held by nobody").addresses.len(), 1, "counts that are over make room");
    }

    #[tokio::test]
    async fn lifted_it_counts_nothing() {
        let failed = FailedAuth::new(None);
        assert_eq!(codes(&failed, "192.0.2.1", 100), [ErrorCode::Unauthorized; 100]);
    }
}
