//! Many connections to one server, and what is counted of them. Lives on one thread.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use tokio::{task::JoinSet, time::sleep};

use super::{
    dialect::{Peer, Said},
    line::Line,
};
use crate::{
    token,
    wire::{Read, SCRATCH_BYTES, now_nanos, stamps_in, tokens_in},
};

/// Openings at the same time.
const AT_ONCE: usize = 64;
/// Reads of one connection before the next has its turn.
const READS_PER_TURN: usize = 4;
/// Between two tokens of a paced session.
pub(super) const PACE: Duration = Duration::from_millis(20);
/// Its multiples are spread evenly over the unit interval, however many there are.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;

/// What one connection has seen since the last reset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// When the first token came, in nanoseconds since 1970.
    pub(super) first_token: Option<u64>,
    /// When a cancel was acknowledged.
    pub(super) acked: Option<u64>,
    /// Token frames that came behind that.
    pub(super) after_ack: u64,
    /// Answers that were over.
    pub(super) ended: u64,
    /// Answers that failed.
    pub(super) failed: u64,
}

/// What all have seen.
pub(super) struct Tally {
    /// Answers that failed, of the whole time.
    pub(super) failed: u64,
    /// What the first of them said.
    pub(super) first_failure: Option<String>,
    /// Model tokens.
    pub(super) tokens: u64,
    /// From stamp to read, in nanoseconds.
    pub(super) delay: Histogram<u64>,
    /// By connection.
    pub(super) seen: Vec<Seen>,
}

impl Tally {
    /// Starts anew; what failed has failed.
    pub(super) fn reset(&mut self) {
        self.tokens = 0;
        self.delay.reset();
        self.seen.fill(Seen::default());
    }

    fn take(&mut self, index: usize, said: Said<'_>, now: u64) {
        let seen = &mut self.seen[index];
        match said {
            Said::Token(text) => {
                let stamps =
                    stamps_in(text).inspect(|stamp| self.delay.saturating_record(now.saturating_sub(*stamp).max(1))).count() as u64;
                self.tokens += tokens_in(text).max(stamps);
                seen.first_token.get_or_insert(now);
                seen.after_ack += u64::from(seen.acked.is_some());
            }
            Said::Acknowledged => drop(seen.acked.get_or_insert(now)),
            Said::Ended => seen.ended += 1,
            Said::Failed(frame) => {
                seen.failed += 1;
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| String::from_utf8_lossy(frame).chars().take(300).collect());
            }
            Said::Ready | Said::Started(_) | Said::Ping | Said::Other => {}
        }
    }
}

/// See the module.
pub(super) struct Crowd {
    lines: Rc<Vec<Line>>,
    /// What was seen.
    pub(super) tally: Rc<RefCell<Tally>>,
    readers: JoinSet<()>,
    scratch: Rc<RefCell<Vec<u8>>>,
}

impl Crowd {
    /// Opens connections, each with a session.
    pub(super) async fn open(peer: Peer, address: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let token = token::mint("peers")?;
        let open = |_| Line::open(peer, address, &token);
        let lines: Vec<Line> = stream::iter(0..count).map(open).buffer_unordered(AT_ONCE).try_collect().await?;
        let delay = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        let tally = Rc::new(RefCell::new(Tally { failed: 0, first_failure: None, tokens: 0, delay, seen: vec![Seen::default(); count] }));
        let scratch = Rc::new(RefCell::new(vec![0; SCRATCH_BYTES]));
        Ok(Self { lines: Rc::new(lines), tally, readers: JoinSet::new(), scratch })
    }

    /// Asks on all of them, spread over a time, each in a phase of its own. Returns when each was asked.
    pub(super) async fn submit(&self, prompt: &str, spread: Duration) -> anyhow::Result<Vec<u64>> {
        let started = Instant::now();
        let mut sent = Vec::with_capacity(self.lines.len());
        for (index, line) in self.lines.iter().enumerate() {
            if !spread.is_zero() {
                let share = index as f64 / self.lines.len() as f64;
                let phase = PACE.mul_f64((index as f64 * GOLDEN_RATIO).fract());
                sleep((spread.mul_f64(share) + phase).saturating_sub(started.elapsed())).await;
            }
            sent.push(now_nanos());
            line.submit(prompt).await?;
        }
        Ok(sent)
    }

    /// Cancels all, one after another within a time. Returns when each was sent.
    pub(super) async fn cancel(&self, spread: Duration) -> anyhow::Result<Vec<u64>> {
        let started = Instant::now();
        let mut sent = Vec::with_capacity(self.lines.len());
        for (index, line) in self.lines.iter().enumerate() {
            sleep(spread.mul_f64(index as f64 / self.lines.len() as f64).saturating_sub(started.elapsed())).await;
            sent.push(now_nanos());
            line.cancel().await?;
        }
        Ok(sent)
    }

    /// Whether cancels are answered.
    pub(super) fn acknowledges(&self) -> bool {
        self.lines.iter().all(Line::acknowledges)
    }

    /// Reads each connection as soon as there is something on it, until it ends. Needs a `LocalSet`.
    pub(super) fn follow(&mut self) {
        for index in 0..self.lines.len() {
            let (lines, tally, scratch) = (self.lines.clone(), self.tally.clone(), self.scratch.clone());
            self.readers.spawn_local(async move {
                while lines[index].readable().await.is_ok() {
                    if !matches!(read(&lines[index], index, &tally, &scratch), Ok(Read::Bytes(_) | Read::Nothing)) {
                        return;
                    }
                }
            });
        }
    }

    /// Reads in rounds of a millisecond, so that a server in full flight does not pay for waking the reader with every frame.
    pub(super) async fn read_rounds(&self, length: Duration, until: impl Fn(&Tally) -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < length && !until(&self.tally.borrow()) {
            let round = Instant::now();
            for (index, line) in self.lines.iter().enumerate() {
                for _ in 0..READS_PER_TURN {
                    match read(line, index, &self.tally, &self.scratch)? {
                        Read::Bytes(_) => {}
                        Read::Nothing => break,
                        Read::Closed(code) => anyhow::bail!("the server closed a connection ({code:?})"),
                    }
                }
            }
            sleep(Duration::from_millis(1).saturating_sub(round.elapsed())).await;
        }
        Ok(())
    }

    /// Waits until it is so.
    pub(super) async fn wait(&self, within: Duration, until: impl Fn(&Tally) -> bool) -> bool {
        let started = Instant::now();
        while started.elapsed() < within {
            if until(&self.tally.borrow()) {
                return true;
            }
            sleep(Duration::from_millis(5)).await;
        }
        until(&self.tally.borrow())
    }
}

fn read(line: &Line, index: usize, tally: &RefCell<Tally>, scratch: &RefCell<Vec<u8>>) -> std::io::Result<Read> {
    let mut tally = tally.borrow_mut();
    let mut now = 0;
    line.try_read(&mut scratch.borrow_mut(), |said| {
        if now == 0 {
            now = now_nanos();
        }
        tally.take(index, said, now);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_before_a_measurement_is_not_forgotten() {
        let delay = Histogram::new_with_bounds(1, 1000, 3).expect("bounds");
        let mut tally = Tally { failed: 0, first_failure: None, tokens: 0, delay, seen: vec![Seen::default()] };
        tally.take(0, Said::Failed(b"first"), 1);
        tally.reset();
        tally.take(0, Said::Failed(b"second"), 1);
        assert_eq!((tally.failed, tally.seen[0].failed), (2, 1));
        assert_eq!(tally.first_failure.as_deref(), Some("first"));
    }
}
