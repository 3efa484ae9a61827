//! Memory: of sockets, of sessions, and whether it grows in proportion.

use std::time::Duration;

use agent_hub_protocol::{SessionId, TaskId};
use tokio::time::sleep;

use super::{
    fleet::{Fleet, Member},
    server::{Kind, Programs, Server},
};
use crate::{process::Process, token, wire::Wire};

/// A task that leaves a log of twenty events or a little more: eight of the task and its one step besides the tokens.
const TWENTY_EVENTS: &str = "/pace 20 /tokens 12";

/// Resident KiB per session at the stations of its life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Footprint {
    /// Connected, nothing done.
    pub(super) idle_kib: f64,
    /// After twenty events, connected.
    pub(super) used_kib: f64,
}

/// Connected sessions through their life.
///
/// # Errors
/// The hub does not start, or refuses connections.
pub(super) async fn connected(programs: &Programs, sessions: usize) -> anyhow::Result<Footprint> {
    let environment = [("AGENT_HUB_SERVER__MAX_CONNECTIONS", (sessions + 200).to_string())];
    let server = Server::start(programs, Kind::Sqlite, &environment).await?;
    // What the first sessions make the process load is not theirs.
    drop(Fleet::open(&server, 50).await?);
    sleep(Duration::from_millis(500)).await;
    let before = server.process.rss_kib()?;
    let fleet = Fleet::open(&server, sessions).await?;
    let idle_kib = per_session(server.process, before, sessions)?;
    let spread = Duration::from_millis(sessions as u64);
    let (submitted, read) = tokio::join!(
        fleet.submit(TWENTY_EVENTS, spread),
        fleet.read_rounds(spread + Duration::from_secs(30), |tally| tally.seen.iter().all(|seen| seen.terminal > 0))
    );
    submitted?;
    read?;
    Ok(Footprint { idle_kib, used_kib: per_session(server.process, before, sessions)? })
}

/// Sessions with twenty events that never had a socket of their own and rest: resident KiB per session. And what as many more cost once the
/// first ones have left memory.
///
/// # Errors
/// The hub does not start, or breaks.
pub(super) async fn parked(programs: &Programs, sessions: usize) -> anyhow::Result<(f64, f64)> {
    let unload = Duration::from_secs(60);
    let environment =
        [("AGENT_HUB_SERVER__ATTACHED_SESSIONS", "1000".to_owned()), ("AGENT_HUB_RUNTIME__IDLE_UNLOAD", format!("{}s", unload.as_secs()))];
    let server = Server::start(programs, Kind::Sqlite, &environment).await?;
    let wire = Wire::connect(server.address, &token::mint("bench")?).await?;
    use_sessions(&wire, 100).await?;
    let before = server.process.rss_kib()?;
    use_sessions(&wire, sessions).await?;
    // After a tenth of it they rest.
    sleep(unload / 10 + Duration::from_secs(2)).await;
    let first = per_session(server.process, before, sessions)?;
    sleep(unload + Duration::from_secs(15)).await;
    let unloaded = server.process.rss_kib()?;
    // Nobody answered the heartbeat in the meantime: the first socket is gone.
    let wire = Wire::connect(server.address, &token::mint("bench")?).await?;
    use_sessions(&wire, sessions).await?;
    Ok((first, per_session(server.process, unloaded, sessions)?))
}

/// Makes sessions, runs a task in each, and leaves them, a few at a time.
async fn use_sessions(wire: &Wire, count: usize) -> anyhow::Result<()> {
    for batch in (0..count).collect::<Vec<_>>().chunks(50) {
        let sessions: Vec<SessionId> = batch.iter().map(|_| SessionId::random()).collect();
        for session in &sessions {
            wire.send(&format!(r#"{{"type":"create_session","sessionId":"{session}"}}"#)).await?;
            let prompt = format!(r#"{{"type":"submit_task","sessionId":"{session}","prompt":"/pace 2 /tokens 12"}}"#);
            wire.send(&prompt).await?;
        }
        let ended = std::cell::Cell::new(0);
        wire.until(|frame| {
            ended.set(ended.get() + usize::from(frame.starts_with(br#"{"type":"task_completed""#)));
            ended.get() == sessions.len()
        })
        .await?;
        for session in &sessions {
            wire.send(&format!(r#"{{"type":"detach_session","id":7,"sessionId":"{session}"}}"#)).await?;
        }
        let left = std::cell::Cell::new(0);
        wire.until(|frame| {
            left.set(left.get() + usize::from(frame.starts_with(br#"{"type":"ack","id":7"#)));
            left.get() == sessions.len()
        })
        .await?;
    }
    Ok(())
}

/// Sessions without sockets, so that files do not bound their number: resident KiB per session.
///
/// # Errors
/// The hub does not start, or breaks.
pub(super) async fn without_sockets(programs: &Programs, sessions: usize) -> anyhow::Result<f64> {
    const BATCH: usize = 500;
    let environment = [("AGENT_HUB_SERVER__ATTACHED_SESSIONS", "1000".to_owned()), ("AGENT_HUB_RUNTIME__IDLE_UNLOAD", "1h".to_owned())];
    let server = Server::start(programs, Kind::Sqlite, &environment).await?;
    let token = token::mint("bench")?;
    make_sessions(&Wire::connect(server.address, &token).await?, 50).await?;
    let before = server.process.rss_kib()?;
    for _ in 0..sessions / BATCH {
        // One socket may not follow so many sessions as are to be made.
        make_sessions(&Wire::connect(server.address, &token).await?, BATCH).await?;
    }
    // The last socket is gone for the hub a moment later.
    sleep(Duration::from_millis(500)).await;
    per_session(server.process, before, sessions / BATCH * BATCH)
}

/// Makes sessions; waits for the last answer. They are left with the socket.
async fn make_sessions(wire: &Wire, count: usize) -> anyhow::Result<()> {
    let mut last = SessionId::random();
    // Few enough that the answers fit into the socket while nobody reads.
    for batch in (0..count).collect::<Vec<_>>().chunks(50) {
        for _ in batch {
            last = SessionId::random();
            wire.send(&format!(r#"{{"type":"create_session","sessionId":"{last}"}}"#)).await?;
        }
        let end = format!(r#"{{"type":"caught_up","sessionId":"{last}""#);
        wire.until(|frame| frame.starts_with(end.as_bytes())).await?;
    }
    Ok(())
}

fn per_session(process: Process, before_kib: u64, sessions: usize) -> anyhow::Result<f64> {
    Ok(process.rss_kib()?.saturating_sub(before_kib) as f64 / sessions.max(1) as f64)
}

/// A member on a socket that was opened otherwise.
pub(super) fn member(wire: Wire, session: SessionId) -> Member {
    Member { wire, session, task: TaskId::random() }
}
