//! Logs, read and held against what was applied.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use agent_hub_protocol::server_message::ConnectionMessage;
use anyhow::{Context, bail};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::{
    figures::{Count, Figures},
    socket::{Broken, Socket},
};
use crate::{
    ledger::{Log, LogReader},
    scenario::Via,
    wire::{Read, Wire, head},
};

/// Logs being read at the same time.
const AT_ONCE: usize = 16;
/// How long one log may take.
const WITHIN: Duration = Duration::from_secs(60);

/// See the module.
pub struct Verifier {
    logs: LogReader,
    permits: Semaphore,
    figures: Rc<RefCell<Figures>>,
}

impl Verifier {
    /// Of a hub at `host:port`.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub fn new(authority: &str, figures: Rc<RefCell<Figures>>) -> anyhow::Result<Rc<Self>> {
        let logs = LogReader::new(&format!("http://{authority}"), "")?;
        Ok(Rc::new(Self { logs, permits: Semaphore::new(AT_ONCE), figures }))
    }

    /// Compares all sessions of a socket.
    ///
    /// # Errors
    /// The script cannot go on. A log that differs is counted and is no error here.
    pub async fn verify(self: Rc<Self>, socket: &mut Socket, via: Via) -> Result<(), Broken> {
        let logs = self.clone().read_beside(socket, via).await?;
        for (index, log) in logs.into_iter().enumerate() {
            let mut log = match log {
                Ok(log) => log,
                Err(error) => {
                    let mut figures = self.figures.borrow_mut();
                    figures.count(Count::Unverified);
                    figures.complain(|| format!("{}: the log could not be read: {error:#}", socket.state.sessions[index].name));
                    continue;
                }
            };
            let session = &socket.state.sessions[index];
            if socket.is_away() || !session.following {
                // What comes while nobody listens is not lost.
                log.texts.truncate(usize::try_from(session.book.last()).unwrap_or(usize::MAX));
            } else {
                let within = socket.group.within;
                socket.until(Instant::now() + within, |state| state.sessions[index].book.behind(&log) == 0).await?;
            }
            let session = &socket.state.sessions[index];
            session.book.compare(&session.name, &log, &mut self.figures.borrow_mut());
        }
        Ok(())
    }

    /// Reads the logs on a task of its own, while the socket reads on: the hub's pings want answers.
    async fn read_beside(self: Rc<Self>, socket: &mut Socket, via: Via) -> Result<Vec<anyhow::Result<Log>>, Broken> {
        let found: Rc<RefCell<Option<Vec<anyhow::Result<Log>>>>> = Rc::default();
        let ready = Rc::new(Notify::new());
        let wanted: Vec<_> = socket.state.sessions.iter().map(|session| (session.id, session.name.clone(), session.book.start())).collect();
        let (dial, token) = (socket.dial.clone(), socket.token.clone());
        let reading = tokio::task::spawn_local({
            let (found, ready) = (found.clone(), ready.clone());
            async move {
                // The semaphore is never closed.
                let _turn = self.permits.acquire().await;
                let mut logs = Vec::with_capacity(wanted.len());
                match via {
                    Via::Rest => {
                        let reader = self.logs.with_token(&token);
                        for (session, _, _) in wanted {
                            logs.push(reader.read(session).await);
                        }
                    }
                    Via::Attach => match timeout(WITHIN, Wire::dial(&dial, &token)).await {
                        Ok(Ok(wire)) => {
                            for (_, name, start) in wanted {
                                logs.push(timeout(WITHIN, attached_log(&wire, &name, start)).await.context("no log in time").flatten());
                            }
                        }
                        other => {
                            let why = other.map_or_else(|_| "no connection in time".to_owned(), |failed| format!("{:?}", failed.err()));
                            logs.extend(wanted.iter().map(|_| Err(anyhow::anyhow!("{why}"))));
                        }
                    },
                }
                *found.borrow_mut() = Some(logs);
                ready.notify_waiters();
            }
        });
        socket.wake = Some(ready);
        let waited = loop {
            match socket.until(Instant::now() + WITHIN, |_| found.borrow().is_some()).await {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(broken) => break Err(broken),
            }
        };
        socket.wake = None;
        reading.abort();
        waited?;
        Ok(found.take().unwrap_or_default())
    }
}

/// A log as a fresh socket sees it.
async fn attached_log(wire: &Wire, session: &str, start: Option<String>) -> anyhow::Result<Log> {
    let start = start.context("the session was never attached")?;
    wire.send(&format!(r#"{{"type":"attach_session","id":1,"sessionId":"{session}","after":"{start}"}}"#)).await?;
    let mut log = Log::default();
    let (mut done, mut refused) = (false, None);
    let mut scratch = vec![0; 16 * 1024];
    while !done {
        let read = wire.try_read(&mut scratch, |frame| match head(frame) {
            Some(head) if head.session == Some(session.as_bytes()) => {
                if head.is_event {
                    log.texts.push(String::from_utf8_lossy(frame).into());
                } else {
                    done |= head.kind == b"caught_up";
                }
            }
            Some(_) => {}
            None => match serde_json::from_slice::<ConnectionMessage>(frame) {
                Ok(ConnectionMessage::Error(error)) => refused = Some(error.message),
                Ok(ConnectionMessage::SessionAttached(answer)) if !answer.recovered => {
                    refused = Some("its start was not honoured".to_owned())
                }
                _ => {}
            },
        })?;
        if let Some(refused) = refused.take() {
            bail!("the attach was refused: {refused}");
        }
        match read {
            _ if done => {}
            Read::Closed(code) => bail!("the connection was closed ({code:?})"),
            Read::Bytes(_) => {}
            Read::Nothing => wire.readable().await?,
        }
    }
    wire.send(&format!(r#"{{"type":"detach_session","sessionId":"{session}"}}"#)).await?;
    Ok(log)
}
