//! What is counted and timed in a run. Every load process has its own; they are added up at the end.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A time above this counts as this.
const LONGEST: Duration = Duration::from_secs(3600);
/// Texts of errors and complaints that are kept; of a thousand the first ones say as much.
const KEPT: usize = 40;

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// A number of something.
    Number,
    /// Bytes.
    Bytes,
}

macro_rules! named {
    ($(#[$about:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type { $($(#[$doc])* $variant),+ }

        impl $type {
            /// All of them.
            pub const ALL: [$type; [$($name),+].len()] = [$($type::$variant),+];

            /// As in scenarios and results.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }
    };
}

named! {
    /// A distribution. Times count from when a thing was due, not from when the load got round to it.
    Timing {
        /// From a socket's start to `welcome`.
        Connect = "connect",
        /// From a `create_session` to its `caught_up`.
        Create = "create",
        /// From an `attach_session` of a script to its `caught_up`.
        Attach = "attach",
        /// From a submit to its acknowledgement.
        SubmitAck = "submit_ack",
        /// From a submit to the first token, whatever the model took. Like `token` and `gap` not of what is caught up with after an attach.
        FirstToken = "first_token",
        /// From the making of a token to its arrival. Only of tokens that are stamps.
        Token = "token",
        /// Between two `token` events of a task.
        Gap = "gap",
        /// From a cancel to its acknowledgement.
        CancelAck = "cancel_ack",
        /// From a cancel to the end of the task.
        CancelStop = "cancel_stop",
        /// From a steering input to its acknowledgement.
        SteerAck = "steer_ack",
        /// From the loss of a connection, or from when a script's `come-back` was due, to the moment every session is caught up.
        Resume = "resume",
        /// Events that were caught up with in a reconnect, per session.
        Missed = "missed",
    }
}

impl Timing {
    /// What it is measured in.
    pub const fn unit(self) -> Unit {
        match self {
            Timing::Missed => Unit::Number,
            _ => Unit::Time,
        }
    }
}

named! {
    /// A counter.
    Count {
        /// Connections made, reconnects included.
        Connects = "connects",
        /// Attempts that came to nothing.
        ConnectFailures = "connect_failures",
        /// Connections the hub ended, or the network, not the script.
        Closed = "closed",
        /// Sessions made.
        Sessions = "sessions",
        /// Attaches that were answered.
        Attaches = "attaches",
        /// Tasks submitted.
        Submitted = "submitted",
        /// Ends of tasks.
        Completed = "completed",
        /// See [`Count::Completed`].
        Failed = "failed",
        /// See [`Count::Completed`].
        Cancelled = "cancelled",
        /// See [`Count::Completed`].
        TimedOut = "timed_out",
        /// Model tokens that arrived, at every reader.
        Tokens = "tokens",
        /// `token` events that arrived.
        TokenEvents = "token_events",
        /// Events that arrived.
        Events = "events",
        /// Bytes of all frames.
        Bytes = "bytes",
        /// Reconnects that caught up.
        Resumes = "resumes",
        /// Attaches with a cursor that the hub did not honour: everything was read anew.
        Forgotten = "forgotten",
        /// Cancels of tasks that had ended.
        CancelsTooLate = "cancels_too_late",
        /// Commands the hub refused for another reason.
        Errors = "errors",
        /// Steps that did not come to their end in time; the script ends there.
        Unmet = "unmet",
        /// Sessions whose applied events were compared with the log.
        Verified = "verified",
        /// Events that were compared.
        Compared = "compared",
        /// Events the hub left out: holes in what it sent, or in the log and never sent.
        Lost = "lost",
        /// Events sent twice within one attach.
        Repeated = "repeated",
        /// Events that came behind later ones.
        Reordered = "reordered",
        /// Events that are not in the log, or stand there with another text.
        Altered = "altered",
        /// Model tokens that stand behind a cancel in the log.
        TokensAfterCancel = "tokens_after_cancel",
        /// Events of a task behind its end.
        AfterEnd = "after_end",
        /// Sessions whose log could not be read.
        Unverified = "unverified",
    }
}

impl Count {
    /// Whether anything but none is a broken promise of the hub, or makes the run worthless.
    pub const fn is_always_zero(self) -> bool {
        matches!(
            self,
            Count::Lost
                | Count::Forgotten
                | Count::Repeated
                | Count::Reordered
                | Count::Altered
                | Count::TokensAfterCancel
                | Count::AfterEnd
                | Count::Unverified
                | Count::Unmet
        )
    }
}

/// What happened in one second of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Sockets that are connected, at its end.
    pub open: u64,
    /// Model tokens.
    pub tokens: u64,
    /// Connections made.
    pub connects: u64,
    /// Bytes of frames.
    pub bytes: u64,
    /// 99th percentile of [`Timing::Token`], in nanoseconds; of several processes the worst. 0 without stamps.
    pub token_p99: u64,
    /// 99th percentile of [`Timing::FirstToken`], the same way.
    pub first_token_p99: u64,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Figures {
    counts: [u64; Count::ALL.len()],
    timings: Vec<Histogram<u64>>,
    /// By what went wrong.
    errors: BTreeMap<String, u64>,
    /// Broken promises in words; the first ones.
    complaints: Vec<String>,
    /// The seconds that have passed.
    pub seconds: Vec<Second>,
    /// Sockets that are connected.
    pub open: u64,
    second: Histogram<u64>,
    second_first: Histogram<u64>,
    counted: Second,
}

impl Figures {
    /// None of anything.
    ///
    /// # Errors
    /// Never: the bounds of the histograms are sound.
    pub fn new() -> anyhow::Result<Self> {
        let histogram = |digits| Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, digits);
        let timings = Timing::ALL.iter().map(|_| histogram(3)).collect::<Result<_, _>>()?;
        Ok(Self {
            counts: [0; Count::ALL.len()],
            timings,
            errors: BTreeMap::new(),
            complaints: Vec::new(),
            seconds: Vec::new(),
            open: 0,
            second: histogram(2)?,
            second_first: histogram(2)?,
            counted: Second::default(),
        })
    }

    /// One more.
    pub fn count(&mut self, count: Count) {
        self.add(count, 1);
    }

    /// So many more.
    pub fn add(&mut self, count: Count, more: u64) {
        self.counts[count as usize] += more;
    }

    /// Fewer: what was taken for lost has come after all.
    pub fn take_back(&mut self, count: Count) {
        self.counts[count as usize] = self.counts[count as usize].saturating_sub(1);
    }

    /// How many.
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// A time.
    pub fn time(&mut self, timing: Timing, time: Duration) {
        self.record(timing, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A value in the unit of its distribution. What is zero counts as one nanosecond, because a histogram has no zero.
    pub fn record(&mut self, timing: Timing, value: u64) {
        self.timings[timing as usize].saturating_record(value.max(1));
        match timing {
            Timing::Token => self.second.saturating_record(value.max(1)),
            Timing::FirstToken => self.second_first.saturating_record(value.max(1)),
            _ => {}
        }
    }

    /// A distribution.
    pub fn timing(&self, timing: Timing) -> &Histogram<u64> {
        &self.timings[timing as usize]
    }

    /// Something that went wrong, by its text.
    pub fn error(&mut self, text: &str) {
        if let Some(count) = self.errors.get_mut(text) {
            *count += 1;
        } else if self.errors.len() < KEPT {
            self.errors.insert(text.to_owned(), 1);
        }
    }

    /// A broken promise, in words.
    pub fn complain(&mut self, text: impl FnOnce() -> String) {
        if self.complaints.len() < KEPT {
            self.complaints.push(text());
        }
    }

    /// What went wrong, by text.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Broken promises in words.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// A second has passed.
    pub fn close_second(&mut self) {
        let totals = Second {
            tokens: self.get(Count::Tokens),
            connects: self.get(Count::Connects),
            bytes: self.get(Count::Bytes),
            ..Second::default()
        };
        let p99 = |histogram: &Histogram<u64>| if histogram.is_empty() { 0 } else { histogram.value_at_quantile(0.99) };
        self.seconds.push(Second {
            open: self.open,
            tokens: totals.tokens - self.counted.tokens,
            connects: totals.connects - self.counted.connects,
            bytes: totals.bytes - self.counted.bytes,
            token_p99: p99(&self.second),
            first_token_p99: p99(&self.second_first),
        });
        self.counted = totals;
        self.second.reset();
        self.second_first.reset();
    }

    /// For another process, or a file.
    pub fn export(&self) -> Exported {
        let buckets = |histogram: &Histogram<u64>| {
            histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect::<Vec<_>>()
        };
        let timings = Timing::ALL.into_iter().filter(|timing| !self.timing(*timing).is_empty());
        Exported {
            counts: Count::ALL.into_iter().map(|count| (count.name().to_owned(), self.get(count))).collect(),
            timings: timings.map(|timing| (timing.name().to_owned(), buckets(self.timing(timing)))).collect(),
            errors: self.errors.clone(),
            complaints: self.complaints.clone(),
            seconds: self.seconds.clone(),
        }
    }

    /// Adds what another process found.
    pub fn merge(&mut self, other: &Exported) {
        for count in Count::ALL {
            self.add(count, other.counts.get(count.name()).copied().unwrap_or(0));
        }
        for timing in Timing::ALL {
            for (value, count) in other.timings.get(timing.name()).into_iter().flatten() {
                self.timings[timing as usize].saturating_record_n(*value, *count);
            }
        }
        for (text, count) in &other.errors {
            if self.errors.len() < KEPT || self.errors.contains_key(text) {
                *self.errors.entry(text.clone()).or_default() += count;
            }
        }
        let room = KEPT.saturating_sub(self.complaints.len());
        self.complaints.extend(other.complaints.iter().take(room).cloned());
        for (index, second) in other.seconds.iter().enumerate() {
            if index == self.seconds.len() {
                self.seconds.push(Second::default());
            }
            let sum = &mut self.seconds[index];
            sum.open += second.open;
            sum.tokens += second.tokens;
            sum.connects += second.connects;
            sum.bytes += second.bytes;
            sum.token_p99 = sum.token_p99.max(second.token_p99);
            sum.first_token_p99 = sum.first_token_p99.max(second.first_token_p99);
        }
    }
}

/// [`Figures`] in a form that travels: distributions as values and how often each was met.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// By name.
    pub counts: BTreeMap<String, u64>,
    /// By name. Nanoseconds or numbers, with three digits.
    pub timings: BTreeMap<String, Vec<(u64, u64)>>,
    /// By text.
    pub errors: BTreeMap<String, u64>,
    /// In words.
    pub complaints: Vec<String>,
    /// One by one.
    pub seconds: Vec<Second>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_processes_found_is_added_up() {
        let mut one = Figures::new().expect("bounds");
        let mut other = one.clone();
        one.count(Count::Lost);
        one.time(Timing::Connect, Duration::from_millis(1));
        one.close_second();
        other.add(Count::Lost, 2);
        other.time(Timing::Connect, Duration::from_millis(9));
        other.record(Timing::Token, 5000);
        other.error("busy");
        other.close_second();
        other.close_second();
        let text = serde_json::to_string(&other.export()).expect("JSON");
        one.merge(&serde_json::from_str(&text).expect("the same"));
        assert_eq!(one.get(Count::Lost), 3);
        assert_eq!((one.timing(Timing::Connect).len(), one.timing(Timing::Token).len()), (2, 1));
        let slowest = one.timing(Timing::Connect).max();
        assert!((8_990_000..9_020_000).contains(&slowest), "{slowest}");
        assert_eq!((one.seconds.len(), one.errors()["busy"]), (2, 1));
        assert_eq!(one.seconds[0].token_p99, other.seconds[0].token_p99);
    }
}
