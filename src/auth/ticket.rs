//! Tickets: what a browser puts into a URL instead of its token. Random, short-lived, good for one use.

use std::time::Duration;

use agent_hub_protocol::Timestamp;
use dashmap::DashMap;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::dev_secret::random_hex;
use crate::runtime::{Principal, Refusal};

/// How long a ticket is good: a page needs one round trip.
const LIFETIME: Duration = Duration::from_secs(30);
/// Tickets of everybody that wait to be used. Full: no new ones until old ones expire, and everybody can still send a token.
const MAX_TICKETS: usize = 10_000;
/// Tickets of one user that wait to be used, so that nobody takes them all.
const MAX_PER_USER: usize = 100;

/// All tickets that were issued and not used.
#[derive(Debug, Default)]
pub struct Tickets {
    /// By the hash of the ticket: whoever reads this memory finds nothing to use, and look-ups take the same time for near misses.
    waiting: DashMap<[u8; 32], Waiting>,
}

#[derive(Debug)]
struct Waiting {
    who: Principal,
    origin: Option<String>,
    expires: Instant,
}

/// A ticket, as it is given to its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// 244 random bits.
    pub ticket: String,
    /// How long it is good.
    pub expires_in: Duration,
}

impl Tickets {
    /// A ticket for a verified user. With an origin, only a page of that origin can use it.
    ///
    /// # Errors
    /// `overloaded` when too many wait to be used.
    pub fn issue(&self, who: &Principal, origin: Option<&str>) -> Result<Ticket, Refusal> {
        self.make_room(who)?;
        let ticket = random_hex();
        let waiting = Waiting { who: who.clone(), origin: origin.map(str::to_owned), expires: Instant::now() + LIFETIME };
        self.waiting.insert(hash(&ticket), waiting);
        Ok(Ticket { ticket, expires_in: LIFETIME })
    }

    /// Whose ticket it is. Whatever the answer, the ticket is used up: of any number of simultaneous calls one at most gets a user.
    pub fn redeem(&self, ticket: &str, origin: Option<&str>) -> Option<Principal> {
        let (_, found) = self.waiting.remove(&hash(ticket))?;
        let same_origin = found.origin.as_deref().is_none_or(|bound| origin == Some(bound));
        let in_time = found.expires > Instant::now() && found.who.expires_at().is_none_or(|end| end > Timestamp::now());
        (same_origin && in_time).then_some(found.who)
    }

    /// Forgets expired tickets. Called now and then.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.waiting.retain(|_, waiting| waiting.expires > now);
    }

    fn make_room(&self, who: &Principal) -> Result<(), Refusal> {
        let full = || {
            let own = self.waiting.iter().filter(|waiting| waiting.who.user() == who.user()).take(MAX_PER_USER).count();
            self.waiting.len() >= MAX_TICKETS || own >= MAX_PER_USER
        };
        // Few tickets can be nobody's flood, and counting them is not free.
        if self.waiting.len() < MAX_PER_USER {
            return Ok(());
        }
        self.sweep();
        if full() { Err(Refusal::overloaded("Too many tickets wait to be used")) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

fn hash(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::runtime::Plan;

    fn user(name: &str) -> Principal {
        Principal::verified(name.to_owned(), Plan::Pro, Vec::new(), None)
    }

    #[test]
    fn of_a_hundred_racing_redeems_exactly_one_wins() {
        for _ in 0..20 {
            let tickets = Tickets::default();
            let ticket = tickets.issue(&user("ada"), None).expect("issued").ticket;
            let start = Barrier::new(100);
            let race = || {
                start.wait();
                tickets.redeem(&ticket, None)
            };
            let winners = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..100).map(|_| scope.spawn(race)).collect();
                racers.into_iter().filter_map(|racer| racer.join().expect("no panic")).count()
            });
            assert_eq!(winners, 1);
        }
    }

    #[test]
    fn bound_to_its_origin_and_used_up_by_a_wrong_one() {
        let tickets = Tickets::default();
        let issue = || tickets.issue(&user("ada"), Some("https://app.example")).expect("issued").ticket;
        let ticket = issue();
        assert!(tickets.redeem(&ticket, Some("https://evil.example")).is_none());
        assert!(tickets.redeem(&ticket, Some("https://app.example")).is_none(), "a ticket that leaked is worth nothing");
        assert!(tickets.redeem(&issue(), None).is_none());
        assert_eq!(tickets.redeem(&issue(), Some("https://app.example")).expect("good").user(), "ada");
        assert!(tickets.redeem("", None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn good_for_thirty_seconds() {
        let tickets = Tickets::default();
        let (early, late) = (tickets.issue(&user("ada"), None).expect("issued"), tickets.issue(&user("ada"), None).expect("issued"));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(tickets.redeem(&early.ticket, None).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(tickets.redeem(&late.ticket, None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn bounded_per_user_and_in_all() {
        let tickets = Tickets::default();
        let issue = |name: &str| tickets.issue(&user(name), None).is_ok();
        assert_eq!((0..200).filter(|_| issue("greedy")).count(), MAX_PER_USER);
        assert!(issue("ada"), "others are not kept out");
        tokio::time::advance(LIFETIME).await;
        assert!(issue("greedy"), "expired tickets make room");
    }

    #[test]
    fn a_ticket_outlives_no_token() {
        let tickets = Tickets::default();
        let past = Principal::verified("ada".to_owned(), Plan::Free, Vec::new(), Some(Timestamp::from_millis(1)));
        let ticket = tickets.issue(&past, None).expect("issued").ticket;
        assert!(tickets.redeem(&ticket, None).is_none());
    }

    #[test]
    fn random_and_not_in_debug_output() {
        let tickets = Tickets::default();
        let (one, two) = (tickets.issue(&user("ada"), None).expect("issued"), tickets.issue(&user("ada"), None).expect("issued"));
        assert_ne!(one, two);
        assert_eq!(one.ticket.len(), 64);
        assert!(!format!("{one:?} {tickets:?}").contains(&one.ticket));
    }
}
