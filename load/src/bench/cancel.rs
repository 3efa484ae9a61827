//! Cancels: how soon they are acknowledged, what still comes behind that, and how soon the vendor's connection is closed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    fleet::Fleet,
    server::{Kind, Programs, Server},
};
use crate::{
    figure::percentile,
    process::HubOptions,
    vendor::{Call, FakeVendorConfig, Outcome, VendorThread},
};

/// What cancels came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancelled {
    /// From sending to the acknowledgement, milliseconds, sorted; infinite where none came.
    pub(super) acked_ms: Vec<f64>,
    /// From sending to the end of the vendor's call, milliseconds, sorted; infinite where it was not given up. Empty without a vendor.
    pub(super) closed_ms: Vec<f64>,
    /// Tokens that came behind the acknowledgement.
    pub(super) after_ack: u64,
    /// Those of them that stand behind the cancel in the log; the others were on their way before it.
    pub(super) after_cancel: u64,
    /// Cancels nobody acknowledged.
    pub(super) unanswered: usize,
    /// Vendor calls that were not given up.
    pub(super) not_closed: usize,
}

impl Cancelled {
    /// A percentile of the acknowledgements.
    pub(super) fn ack(&self, share: f64) -> f64 {
        percentile(&self.acked_ms, share)
    }

    /// A percentile of the vendor's ends.
    pub(super) fn closed(&self, share: f64) -> f64 {
        percentile(&self.closed_ms, share)
    }
}

/// Cancels tasks of the demo provider (or of the bare server), one after another, while the others stream.
///
/// # Errors
/// The server does not start, or breaks.
pub(super) async fn acknowledged(programs: &Programs, kind: Kind, sessions: usize, pace_ms: u32) -> anyhow::Result<Cancelled> {
    // At full speed the usual bound of an answer is reached before it is cancelled.
    let long = ("AGENT_HUB_RUNTIME__ANSWER_BYTES", "64 MiB".to_owned());
    let server = Server::start(programs, kind, &[long]).await?;
    cancel_all(&server, sessions, pace_ms).await.map(|(cancelled, _)| cancelled)
}

/// The same with the fake vendor as the source, in this process but on a thread of its own: one clock for both ends.
///
/// # Errors
/// The server does not start, or breaks.
pub(super) async fn closed_upstream(programs: &Programs, sessions: usize) -> anyhow::Result<Cancelled> {
    let vendor = VendorThread::start(FakeVendorConfig::default()).await?;
    let options = HubOptions { openai: Some(vendor.vendor.base_url()), ..HubOptions::new(&programs.hub) };
    let server = Server::hub(options, None).await?;
    let (mut cancelled, sent) = cancel_all(&server, sessions, 20).await?;
    let calls: HashMap<usize, Call> = vendor.vendor.calls().into_iter().filter_map(|call| Some((asked_by(&call)?, call))).collect();
    for (member, sent) in sent.iter().enumerate() {
        let call = calls.get(&member).filter(|call| call.outcome == Outcome::Aborted);
        let closed = call.and_then(|call| call.closed_at).map(|closed| closed.saturating_duration_since(*sent));
        cancelled.closed_ms.push(waited(closed));
        cancelled.not_closed += usize::from(closed.is_none());
    }
    cancelled.closed_ms.sort_by(f64::total_cmp);
    Ok(cancelled)
}

async fn cancel_all(server: &Server, sessions: usize, pace_ms: u32) -> anyhow::Result<(Cancelled, Vec<Instant>)> {
    let mut fleet = Fleet::open(server, sessions).await?;
    fleet.follow();
    fleet.submit(&format!("member={{n}} /pace {pace_ms} /tokens 1000000"), Duration::from_millis(200)).await?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) && !fleet.tally.borrow().seen.iter().all(|seen| seen.first_token.is_some()) {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(500)).await;
    // A second for all of them: what is cancelled early frees the server for the rest, so the first ones weigh in fully.
    let pause = Duration::from_secs(1) / u32::try_from(sessions)?;
    let (mut sent, mut sent_nanos) = (Vec::new(), Vec::new());
    for member in 0..sessions {
        sent.push(Instant::now());
        sent_nanos.push(fleet.cancel(member).await?);
        sleep(pause).await;
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) && !fleet.tally.borrow().seen.iter().all(|seen| seen.acked.is_some()) {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(500)).await;
    let tally = fleet.tally.borrow();
    let wait = |(seen, sent): (&super::fleet::Seen, &u64)| seen.acked.map(|acked| Duration::from_nanos(acked.saturating_sub(*sent)));
    let mut acked_ms: Vec<f64> = tally.seen.iter().zip(&sent_nanos).map(wait).map(waited).collect();
    acked_ms.sort_by(f64::total_cmp);
    let after_ack = tally.seen.iter().map(|seen| seen.after_ack).sum();
    let after_cancel = tally.seen.iter().map(|seen| seen.after_cancel).sum();
    let unanswered = tally.seen.iter().filter(|seen| seen.acked.is_none()).count();
    Ok((Cancelled { acked_ms, after_ack, after_cancel, unanswered, ..Cancelled::default() }, sent))
}

/// Milliseconds; what never came took for ever.
fn waited(time: Option<Duration>) -> f64 {
    time.map_or(f64::INFINITY, |time| time.as_secs_f64() * 1000.0)
}

/// The member that asked, by its prompt.
fn asked_by(call: &Call) -> Option<usize> {
    let body = call.body.to_string();
    let (_, rest) = body.split_once("member=")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
