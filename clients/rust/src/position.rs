//! Where a reader stands in a session's log.

use agent_hub_protocol::{Cursor, Epoch, Seq, server_message::SessionAttached};

/// The client rule: apply what comes next, ignore what was seen, attach again over a gap.
#[derive(Clone, Debug, Default)]
pub struct Position {
    epoch: Option<Epoch>,
    last: Seq,
    /// A gap was seen; events are passed over until the answer to the attach that fills it.
    gap: bool,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one.
    Apply,
    /// It was applied before, or comes behind a gap that is being filled.
    Ignore,
    /// Something is missing before it: attach again from [`Position::cursor`].
    Gap,
}

impl Position {
    /// To go on where an earlier run of the program stopped.
    pub fn at(cursor: Cursor) -> Self {
        Self { epoch: Some(cursor.epoch), last: cursor.seq, gap: false }
    }

    /// What to attach behind; `None` before the first `session_attached`.
    pub fn cursor(&self) -> Option<Cursor> {
        self.epoch.clone().map(|epoch| Cursor { epoch, seq: self.last })
    }

    /// The last event applied.
    pub const fn last(&self) -> Seq {
        self.last
    }

    /// Takes in the answer to an attach. Returns whether what was applied still holds; if not, it is to be forgotten.
    ///
    /// A repeated `create_session` replays the log from its start: what was applied of it before stays applied.
    pub fn attached(&mut self, answer: &SessionAttached) -> bool {
        self.gap = false;
        let same_log = answer.recovered && self.epoch.as_ref().is_none_or(|epoch| *epoch == answer.epoch);
        let kept = same_log && answer.from <= self.last + 1;
        if !kept {
            self.last = answer.from.saturating_sub(1);
        }
        self.epoch = Some(answer.epoch.clone());
        kept
    }

    /// Takes in the number of an event.
    pub fn take(&mut self, seq: Seq) -> Verdict {
        if self.gap || seq <= self.last {
            return Verdict::Ignore;
        }
        if seq == self.last + 1 {
            self.last = seq;
            return Verdict::Apply;
        }
        self.gap = true;
        Verdict::Gap
    }
}

#[cfg(test)]
mod tests {
    use agent_hub_protocol::SessionId;

    use super::*;

    fn attached(epoch: &str, recovered: bool, from: Seq) -> SessionAttached {
        let epoch = Epoch::new(epoch).expect("an epoch");
        SessionAttached { session_id: SessionId::random(), epoch, recovered, from, head: from + 5, snapshot: None }
    }

    #[test]
    fn events_are_applied_once_and_in_order() {
        let mut position = Position::default();
        assert!(position.attached(&attached("a", true, 1)));
        assert_eq!(
            [1, 2, 2, 1, 3].map(|seq| position.take(seq)),
            [Verdict::Apply, Verdict::Apply, Verdict::Ignore, Verdict::Ignore, Verdict::Apply]
        );
        assert_eq!(position.cursor().expect("known").to_string(), "a.3");
    }

    #[test]
    fn a_gap_is_reported_once_and_closed_by_an_attach() {
        let mut position = Position::default();
        position.attached(&attached("a", true, 1));
        assert_eq!([1, 3, 4].map(|seq| position.take(seq)), [Verdict::Apply, Verdict::Gap, Verdict::Ignore]);
        assert!(position.attached(&attached("a", true, 2)));
        assert_eq!([2, 3].map(|seq| position.take(seq)), [Verdict::Apply, Verdict::Apply]);
    }

    #[test]
    fn a_replay_of_what_was_applied_changes_nothing() {
        let mut position = Position::at("a.7".parse().expect("a cursor"));
        assert!(position.attached(&attached("a", true, 1)));
        assert_eq!([1, 7, 8].map(|seq| position.take(seq)), [Verdict::Ignore, Verdict::Ignore, Verdict::Apply]);
    }

    #[test]
    fn another_history_is_taken_over() {
        let mut position = Position::at("a.7".parse().expect("a cursor"));
        assert!(!position.attached(&attached("b", false, 4)));
        assert_eq!([3, 4].map(|seq| position.take(seq)), [Verdict::Ignore, Verdict::Apply]);
        assert!(!position.attached(&attached("c", true, 1)));
        assert_eq!(position.take(1), Verdict::Apply);
        assert!(!position.attached(&attached("c", true, 9)));
        assert_eq!(position.take(9), Verdict::Apply);
    }
}
