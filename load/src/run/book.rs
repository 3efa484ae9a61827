//! One reader's view of one session: what the hub sent, held to its promises while it arrives, and what a client applied of it.
//!
//! The client rule hides mistakes: it ignores what comes twice and asks again for what is missing. So two things are watched. What
//! arrives within one attach must be dense from `from` on, each event once and in order; and what the rule let through must be the log.

use std::collections::BTreeSet;

use agent_hub_client::{Position, Verdict};
use agent_hub_protocol::{Cursor, Epoch, server_message::SessionAttached};

use super::figures::{Count, Figures};
use crate::ledger::{Ledger, Log};

/// Holes of one attach that are kept apart; a hub that leaves out more is wrong anyway.
const HOLES_KEPT: u64 = 10_000;
/// Attaches sent to fill holes, of one session. A hub that never fills them would be asked for ever.
const ASKS_AGAIN: u32 = 3;
/// Stretches set aside, of one session; the newest ones.
const EARLIER_KEPT: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Book {
    position: Position,
    ledger: Ledger,
    /// What was applied before the hub did not honour a cursor, or a snapshot took its place.
    earlier: Vec<(Epoch, Ledger)>,
    arriving: Option<Arriving>,
    asked_again: u32,
}

/// What comes within one attach.
#[derive(Clone, Debug)]
struct Arriving {
    next: u64,
    missing: BTreeSet<u64>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// The next one.
    Applied,
    /// Seen before, or not asked for.
    Passed,
    /// Something is missing: attach again behind [`Book::cursor`].
    Gap,
}

impl Book {
    /// Where to go on; nothing before the first attach.
    pub fn cursor(&self) -> Option<Cursor> {
        self.position.cursor()
    }

    /// The cursor before the first event, once the epoch is known.
    pub fn start(&self) -> Option<String> {
        self.position.cursor().map(|cursor| format!("{}.0", cursor.epoch))
    }

    /// The cursor before the first event, once the epoch is known. What a snapshot stood for is forgotten: it will come event by event.
    pub fn rewind(&mut self) -> Option<String> {
        let start = self.start()?;
        if self.ledger.applied() < self.ledger.last() {
            if let Some(cursor) = self.position.cursor() {
                self.set_aside(cursor.epoch);
            }
            self.position = Position::default();
            self.ledger.restart(0);
        }
        Some(start)
    }

    /// The last event that is accounted for.
    pub fn last(&self) -> u64 {
        self.ledger.last()
    }

    /// Events that were applied one by one.
    pub fn applied(&self) -> u64 {
        self.ledger.applied()
    }

    /// An attach was answered. `with_cursor`: it was asked to go on from somewhere. Returns whether what was applied still holds.
    pub fn attached(&mut self, answer: &SessionAttached, with_cursor: bool, figures: &mut Figures) -> bool {
        let before = self.position.cursor();
        let kept = self.position.attached(answer);
        if !kept {
            if let Some(before) = &before {
                self.set_aside(before.epoch.clone());
            }
            let hole = before.filter(|before| answer.recovered && before.epoch == answer.epoch && before.seq + 1 < answer.from);
            if let Some(before) = hole {
                figures.add(Count::Lost, answer.from - before.seq - 1);
                figures.complain(|| format!("{}: an attach behind {before} went on from {}", answer.session_id, answer.from));
            }
            self.ledger.restart(answer.from.saturating_sub(1));
            if with_cursor {
                figures.count(Count::Forgotten);
            }
        }
        self.arriving = Some(Arriving { next: answer.from, missing: BTreeSet::new() });
        kept
    }

    /// What was applied stays evidence: a hub that sends everything anew must not have sent anything else before.
    fn set_aside(&mut self, epoch: Epoch) {
        if self.ledger.applied() > 0 {
            self.earlier.push((epoch, std::mem::take(&mut self.ledger)));
            self.earlier.drain(..self.earlier.len().saturating_sub(EARLIER_KEPT));
        }
    }

    /// The connection has ended: nothing is arriving.
    pub fn disconnected(&mut self) {
        self.arriving = None;
    }

    /// An event came.
    pub fn take(&mut self, session: &str, seq: u64, text: &[u8], figures: &mut Figures) -> Took {
        let Some(arriving) = &mut self.arriving else { return Took::Passed };
        figures.count(Count::Events);
        arriving.note(session, seq, figures);
        match self.position.take(seq) {
            Verdict::Apply => {
                if let Err(due) = self.ledger.apply(seq, text) {
                    // The rule and the ledger count alike; if ever not, what was applied is not what it should be.
                    figures.count(Count::Altered);
                    figures.complain(|| format!("{session}: event {seq} was applied where {due} was due"));
                }
                Took::Applied
            }
            Verdict::Ignore => Took::Passed,
            Verdict::Gap if self.asked_again < ASKS_AGAIN => {
                self.asked_again += 1;
                Took::Gap
            }
            Verdict::Gap => Took::Passed,
        }
    }

    /// Holds what was applied to the log. What is in the log and has not come by now is lost.
    pub fn compare(&self, session: &str, log: &Log, figures: &mut Figures) {
        let mut found = self.ledger.compare(log);
        let epoch = self.position.cursor().map(|cursor| cursor.epoch);
        let earlier: Vec<&Ledger> = self.earlier.iter().filter(|(of, _)| Some(of) == epoch.as_ref()).map(|(_, ledger)| ledger).collect();
        for ledger in &earlier {
            let before = ledger.compare(log);
            found.invented += before.invented;
            found.altered.extend(before.altered);
        }
        let wrong = found.altered.len() as u64 + found.invented;
        figures.add(Count::Altered, wrong);
        if let Some(seq) = found.altered.first() {
            let text = usize::try_from(*seq).ok().and_then(|seq| log.texts.get(seq - 1)).map_or("", |text| text);
            figures.complain(|| format!("{session}: event {seq} is not what was applied; the log has {text}"));
        }
        if found.invented > 0 {
            figures.complain(|| format!("{session}: {} events were applied, and the log has {}", self.last(), log.texts.len()));
        }
        // What was a hole when it arrived counts already, and what came behind a hole did come.
        let came = self.arriving.as_ref().map_or(0, |arriving| arriving.next.saturating_sub(1)).max(self.last());
        let lost = (log.texts.len() as u64).saturating_sub(came);
        figures.add(Count::Lost, lost);
        if lost > 0 {
            figures.complain(|| format!("{session}: {lost} events of the log never came, the first is {}", came + 1));
        }
        figures.count(Count::Verified);
        figures.add(Count::Compared, self.applied() + earlier.iter().map(|ledger| ledger.applied()).sum::<u64>());
    }

    /// How many events of a log have not come yet.
    pub fn behind(&self, log: &Log) -> u64 {
        (log.texts.len() as u64).saturating_sub(self.last())
    }
}

impl Arriving {
    fn note(&mut self, session: &str, seq: u64, figures: &mut Figures) {
        if seq == self.next {
            self.next += 1;
        } else if seq > self.next {
            let hole = seq - self.next;
            figures.add(Count::Lost, hole);
            figures.complain(|| format!("{session}: event {seq} came where {} was due", self.next));
            if hole <= HOLES_KEPT {
                self.missing.extend(self.next..seq);
            }
            self.next = seq + 1;
        } else if self.missing.remove(&seq) {
            figures.take_back(Count::Lost);
            figures.count(Count::Reordered);
            figures.complain(|| format!("{session}: event {seq} came behind {}", self.next - 1));
        } else {
            figures.count(Count::Repeated);
            figures.complain(|| format!("{session}: event {seq} came twice, the second time behind {}", self.next - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_hub_protocol::{Epoch, SessionId};

    use super::*;

    fn answer(recovered: bool, from: u64) -> SessionAttached {
        let epoch = Epoch::new("e").expect("an epoch");
        SessionAttached { session_id: SessionId::random(), epoch, recovered, from, head: from + 9, snapshot: None }
    }

    /// Lost, repeated, reordered and altered after these events, against a log of five.
    fn after(events: &[(u64, &str)]) -> [u64; 4] {
        let mut figures = Figures::new().expect("bounds");
        let mut book = Book::default();
        book.attached(&answer(true, 1), false, &mut figures);
        for (seq, text) in events {
            book.take("s", *seq, text.as_bytes(), &mut figures);
        }
        let log = Log { texts: ["a", "b", "c", "d", "e"].map(Into::into).to_vec() };
        book.compare("s", &log, &mut figures);
        [Count::Lost, Count::Repeated, Count::Reordered, Count::Altered].map(|count| figures.get(count))
    }

    #[test]
    fn every_kind_of_lie_is_told_from_the_others() {
        let (a, b, c, d, e) = ((1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"));
        assert_eq!(after(&[a, b, c, d, e]), [0, 0, 0, 0]);
        assert_eq!(after(&[a, b, d, e]), [1, 0, 0, 0], "a hole counts once, though two more events could not be applied");
        assert_eq!(after(&[a, b, c]), [2, 0, 0, 0], "the end is missing");
        assert_eq!(after(&[a, b, b, c, d, e]), [0, 1, 0, 0]);
        assert_eq!(after(&[a, c, b, d, e]), [0, 0, 1, 0]);
        assert_eq!(after(&[a, b, (3, "x"), d, e]), [0, 0, 0, 1]);
        assert_eq!(after(&[a, b, c, d, e, (6, "f")]), [0, 0, 0, 1], "not in the log");
    }

    #[test]
    fn what_is_sent_anew_does_not_hide_what_was_sent_before() {
        let mut figures = Figures::new().expect("bounds");
        let mut book = Book::default();
        book.attached(&answer(true, 1), false, &mut figures);
        for text in ["a", "another"].into_iter().zip(1..) {
            book.take("s", text.1, text.0.as_bytes(), &mut figures);
        }
        book.attached(&answer(false, 1), true, &mut figures);
        for text in ["a", "b", "c"].into_iter().zip(1..) {
            book.take("s", text.1, text.0.as_bytes(), &mut figures);
        }
        book.compare("s", &Log { texts: ["a", "b", "c"].map(Into::into).to_vec() }, &mut figures);
        let counts = [Count::Altered, Count::Forgotten, Count::Compared, Count::Lost].map(|count| figures.get(count));
        assert_eq!(counts, [1, 1, 5, 0]);
    }

    #[test]
    fn a_hole_between_two_attaches_is_lost() {
        let mut figures = Figures::new().expect("bounds");
        let mut book = Book::default();
        assert!(book.attached(&answer(true, 1), false, &mut figures));
        book.take("s", 1, b"a", &mut figures);
        assert!(!book.attached(&answer(true, 4), true, &mut figures));
        assert_eq!((figures.get(Count::Lost), figures.get(Count::Forgotten)), (2, 1));
        assert!(!book.attached(&answer(false, 9), false, &mut figures));
        assert_eq!((figures.get(Count::Lost), book.last()), (2, 8), "a snapshot loses nothing");
    }
}
