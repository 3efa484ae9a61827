//! The promises about logs, as violations of a [`Report`].

use std::{collections::HashMap, net::SocketAddr};

use agent_hub_protocol::{SessionId, TaskId};

use super::Report;
use crate::ledger::{Ending, Ledger, Log, LogReader};

/// Logs of a hub that was started here.
pub(super) fn reader(hub: SocketAddr, token: &str) -> anyhow::Result<LogReader> {
    LogReader::new(&format!("http://{hub}"), token)
}

/// Everything applied must stand in the log. Returns how many events the log has beyond that.
pub(super) fn compare(ledger: &Ledger, session: SessionId, log: &Log, report: &mut Report) -> u64 {
    let found = ledger.compare(log);
    report.expect(found.invented == 0, || format!("{session}: {} events were seen, and the log has {}", ledger.last(), log.texts.len()));
    if let Some(seq) = found.altered.first() {
        let text = usize::try_from(*seq).ok().and_then(|seq| log.texts.get(seq - 1));
        report.violation(format!("{session}: event {seq} is not what was seen; the log has {text:?}"));
    }
    found.behind
}

/// Events are dense, and every task ends once, with its last event. Returns the ends.
pub(super) fn check(log: &Log, session: SessionId, report: &mut Report) -> HashMap<TaskId, Ending> {
    let checked = log.check(session);
    report.violations.extend(checked.complaints);
    checked.ends
}
