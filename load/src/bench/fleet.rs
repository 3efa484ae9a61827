//! Many sockets, one session each, and what is counted of them.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use agent_hub_protocol::{SessionId, TaskId};
use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use tokio::{task::JoinSet, time::sleep};

use super::server::Server;
use crate::{
    token,
    wire::{Read, SCRATCH_BYTES, Wire, now_nanos, number_field, stamps_in, token_text, tokens_in},
};

/// Handshakes at the same time.
const AT_ONCE: usize = 64;
/// Reads of one socket before the next has its turn.
const READS_PER_TURN: usize = 4;
/// Latencies above this count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// A socket with its session.
pub(super) struct Member {
    /// The socket.
    pub(super) wire: Wire,
    /// Its session.
    pub(super) session: SessionId,
    /// Its task.
    pub(super) task: TaskId,
}

/// What one member has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// When the first token came.
    pub(super) first_token: Option<u64>,
    /// When its cancel was acknowledged.
    pub(super) acked: Option<u64>,
    /// The event that records the cancel.
    pub(super) cancelled_at: u64,
    /// Tokens that came behind the acknowledgement.
    pub(super) after_ack: u64,
    /// Tokens that stand behind the cancel in the log.
    pub(super) after_cancel: u64,
    /// Terminal events.
    pub(super) terminal: u32,
    /// The socket is closed.
    pub(super) closed: bool,
}

/// What all have seen.
pub(super) struct Tally {
    /// Model tokens.
    pub(super) tokens: u64,
    /// `token` events.
    pub(super) events: u64,
    /// Bytes of all frames.
    pub(super) bytes: u64,
    /// From stamp to read, in nanoseconds; of the members counted.
    pub(super) latency: Histogram<u64>,
    /// Whether stamps are looked at.
    pub(super) stamped: bool,
    /// By member.
    pub(super) seen: Vec<Seen>,
    /// Of this member's stamps no latency is taken.
    pub(super) not_counted: Option<usize>,
}

impl Tally {
    fn new(members: usize) -> anyhow::Result<Self> {
        let latency = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3)?;
        let seen = vec![Seen::default(); members];
        Ok(Self { tokens: 0, events: 0, bytes: 0, latency, stamped: false, seen, not_counted: None })
    }

    /// Starts counting anew; what the members have seen stays.
    pub(super) fn reset(&mut self) {
        (self.tokens, self.events, self.bytes) = (0, 0, 0);
        self.latency.reset();
    }

    fn frame(&mut self, member: usize, frame: &[u8], now: u64) {
        self.bytes += frame.len() as u64;
        let Some(text) = token_text(frame) else { return self.other(member, frame, now) };
        let tokens = tokens_in(text);
        self.events += 1;
        self.tokens += tokens;
        let seen = &mut self.seen[member];
        seen.first_token.get_or_insert(now);
        seen.after_ack += if seen.acked.is_some() { tokens } else { 0 };
        let behind = seen.cancelled_at > 0 && number_field(frame, "seq") > Some(seen.cancelled_at);
        seen.after_cancel += if behind { tokens } else { 0 };
        if self.stamped && self.not_counted != Some(member) {
            for stamp in stamps_in(text) {
                self.latency.saturating_record(now.saturating_sub(stamp).max(1));
            }
        }
    }

    fn other(&mut self, member: usize, frame: &[u8], now: u64) {
        let seen = &mut self.seen[member];
        if frame.starts_with(br#"{"type":"ack""#) && number_field(frame, "id") == Some(CANCEL_ID) {
            seen.acked.get_or_insert(now);
        } else if frame.starts_with(br#"{"type":"cancel_requested""#) {
            seen.cancelled_at = number_field(frame, "seq").unwrap_or(0);
        } else if frame.starts_with(br#"{"type":"task_"#) {
            let kind = &frame[14..];
            let terminal: [&[u8]; 4] = [b"completed", b"cancelled", b"failed", b"timeout"];
            seen.terminal += u32::from(terminal.iter().any(|word| kind.starts_with(word)));
        }
    }

    /// Share of the tokens due that came, from 0 to 1; 0 if the server closed a socket. Without it a latency says nothing: of what is
    /// held back there are no stamps.
    pub(super) fn kept(&self, due: f64) -> f64 {
        let closed = self.seen.iter().any(|seen| seen.closed);
        if closed || due <= 0.0 { 0.0 } else { self.tokens as f64 / due }
    }

    /// Percentile of the latency in microseconds.
    pub(super) fn latency_us(&self, percentile: f64) -> f64 {
        self.latency.value_at_percentile(percentile) as f64 / 1000.0
    }
}

/// The `id` of every cancel.
pub(super) const CANCEL_ID: u64 = 9;

/// Between two tokens of a paced session.
const PACE: Duration = Duration::from_millis(20);
/// Its multiples are spread evenly over the unit interval, however many there are.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;

/// Sockets and their count. Lives on one thread.
pub(super) struct Fleet {
    /// All of them.
    pub(super) members: Rc<Vec<Member>>,
    /// What they have seen.
    pub(super) tally: Rc<RefCell<Tally>>,
    readers: JoinSet<()>,
    scratch: Rc<RefCell<Vec<u8>>>,
}

impl Fleet {
    /// Opens sockets, each with a session of its own.
    ///
    /// # Errors
    /// A handshake or session fails.
    pub(super) async fn open(server: &Server, sessions: usize) -> anyhow::Result<Self> {
        let token = token::mint("bench")?;
        let open = |_| async {
            let wire = Wire::connect(server.address, &token).await?;
            let session = SessionId::random();
            wire.send(&format!(r#"{{"type":"create_session","sessionId":"{session}"}}"#)).await?;
            wire.until(|frame| frame.starts_with(br#"{"type":"caught_up""#)).await?;
            anyhow::Ok(Member { wire, session, task: TaskId::random() })
        };
        let members: Vec<Member> = stream::iter(0..sessions).map(open).buffer_unordered(AT_ONCE).try_collect().await?;
        Self::of(members)
    }

    /// Of sockets that were opened otherwise.
    ///
    /// # Errors
    /// The histogram cannot be made.
    pub(super) fn of(members: Vec<Member>) -> anyhow::Result<Self> {
        let tally = Rc::new(RefCell::new(Tally::new(members.len())?));
        let scratch = Rc::new(RefCell::new(vec![0; SCRATCH_BYTES]));
        Ok(Self { members: Rc::new(members), tally, readers: JoinSet::new(), scratch })
    }

    /// Submits one task per session, spread evenly over a time, each in a phase of its own. `{n}` in the prompt is the member's number.
    ///
    /// # Errors
    /// A connection is broken.
    pub(super) async fn submit(&self, prompt: &str, spread: Duration) -> anyhow::Result<Vec<u64>> {
        let started = Instant::now();
        let count = u32::try_from(self.members.len())?;
        let mut sent = Vec::with_capacity(self.members.len());
        for (index, member) in (0_u32..).zip(self.members.iter()) {
            if !spread.is_zero() {
                // Even steps alone can come to a multiple of the pace, and then many sessions speak in the same millisecond.
                let phase = PACE.mul_f64((f64::from(index) * GOLDEN_RATIO).fract());
                sleep((spread * index / count + phase).saturating_sub(started.elapsed())).await;
            }
            let prompt = prompt.replace("{n}", &index.to_string());
            let text =
                format!(r#"{{"type":"submit_task","sessionId":"{}","taskId":"{}","prompt":"{prompt}"}}"#, member.session, member.task);
            sent.push(now_nanos());
            member.wire.send(&text).await?;
        }
        Ok(sent)
    }

    /// Cancels a member's task.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) async fn cancel(&self, member: usize) -> anyhow::Result<u64> {
        let Member { wire, session, task } = &self.members[member];
        let text = format!(r#"{{"type":"cancel_task","id":{CANCEL_ID},"sessionId":"{session}","taskId":"{task}"}}"#);
        let sent = now_nanos();
        wire.send(&text).await?;
        Ok(sent)
    }

    /// Reads in rounds of a millisecond, so that a server in full flight does not pay for waking the reader with every frame.
    ///
    /// # Errors
    /// A connection is broken.
    pub(super) async fn read_rounds(&self, length: Duration, until: impl Fn(&Tally) -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < length && !until(&self.tally.borrow()) {
            let round = Instant::now();
            for index in 0..self.members.len() {
                for _ in 0..READS_PER_TURN {
                    if !self.read(index)? {
                        break;
                    }
                }
            }
            sleep(Duration::from_millis(1).saturating_sub(round.elapsed())).await;
        }
        Ok(())
    }

    /// Reads each socket as soon as there is something on it, until the fleet is dropped. Needs a `LocalSet`.
    pub(super) fn follow(&mut self) {
        for index in 0..self.members.len() {
            self.follow_one(index);
        }
    }

    /// The same for one of them.
    pub(super) fn follow_one(&mut self, index: usize) {
        let (members, tally, scratch) = (self.members.clone(), self.tally.clone(), self.scratch.clone());
        self.readers.spawn_local(async move {
            while members[index].wire.readable().await.is_ok() {
                if !matches!(read_one(&members[index].wire, index, &tally, &mut scratch.borrow_mut()), Ok(Read::Bytes(_) | Read::Nothing)) {
                    tally.borrow_mut().seen[index].closed = true;
                    return;
                }
            }
        });
    }

    /// Whether anything came.
    fn read(&self, index: usize) -> anyhow::Result<bool> {
        match read_one(&self.members[index].wire, index, &self.tally, &mut self.scratch.borrow_mut())? {
            Read::Bytes(_) => Ok(true),
            Read::Nothing => Ok(false),
            Read::Closed(code) => anyhow::bail!("the server closed a connection ({code:?})"),
        }
    }
}

fn read_one(wire: &Wire, index: usize, tally: &RefCell<Tally>, scratch: &mut [u8]) -> std::io::Result<Read> {
    let mut tally = tally.borrow_mut();
    let mut now = 0;
    wire.try_read(scratch, |frame| {
        if now == 0 {
            now = now_nanos();
        }
        tally.frame(index, frame, now);
    })
}

/// The least share of the tokens due at which a latency or a cost may be judged.
pub(super) const KEPT_AT_LEAST: f64 = 0.98;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_not_kept_by_a_server_that_hangs_up() {
        let mut tally = Tally::new(2).expect("bounds");
        for seq in 1..=10 {
            let text =
                format!(r#"{{"type":"token","sessionId":"s","taskId":"t","seq":{seq},"at":"x","data":{{"token":"a ","messageId":"m"}}}}"#);
            tally.frame(0, text.as_bytes(), 1);
        }
        assert_eq!(tally.kept(10.0), 1.0);
        assert_eq!(tally.kept(40.0), 0.25);
        tally.seen[1].closed = true;
        assert_eq!(tally.kept(10.0), 0.0);
    }

    #[test]
    fn tokens_behind_a_cancel_count_before_its_acknowledgement_too() {
        let mut tally = Tally::new(1).expect("bounds");
        let mut come = |text: &str| {
            tally.frame(0, text.as_bytes(), 1);
            (tally.seen[0].after_cancel, tally.seen[0].after_ack)
        };
        let token = |seq: u64| {
            format!(r#"{{"type":"token","sessionId":"s","taskId":"t","seq":{seq},"at":"x","data":{{"token":"a ","messageId":"m"}}}}"#)
        };
        assert_eq!(come(&token(4)), (0, 0));
        come(r#"{"type":"cancel_requested","sessionId":"s","taskId":"t","seq":5,"at":"x","data":{"by":"u"}}"#);
        assert_eq!(come(&token(6)), (1, 0));
        come(r#"{"type":"ack","id":9,"received":"cancel_task","seq":5}"#);
        assert_eq!(come(&token(7)), (2, 1));
    }
}
