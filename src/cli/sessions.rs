//! Looks into a store: who has sessions, what happened in one, and whether all of it is what was written. Also beside a running hub.

use std::io::{self, Write};

use agent_hub_protocol::{Seq, SessionId, Timestamp};
use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::Failure;
use crate::{
    config::{Config, StorageKind},
    server::open_view,
    store::{Page, SessionFilter, SessionRecord, View},
};

/// Records and events taken at once.
const PAGE: Page = Page { events: 1000, bytes: 1024 * 1024 };
/// Characters of an event's data in the short form.
const SHORT: usize = 120;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// All sessions, newest first
    List {
        /// Only this user's
        #[arg(long)]
        user: Option<String>,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Everything that happened in a session, in order
    Show {
        /// Its id
        id: SessionId,
        /// The events exactly as they are stored, one per line
        #[arg(long)]
        json: bool,
    },
}

/// An event, as much of it as a person wants to see.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(rename = "type")]
    kind: String,
    seq: Seq,
    at: Timestamp,
    #[serde(borrow)]
    data: &'a RawValue,
}

pub(super) fn run(command: Command, config: &Config) -> Result<(), Failure> {
    let Some(mut store) = open(config)? else { return Err(Failure::InMemory(instead(&command, config))) };
    let out = io::stdout();
    let mut out = io::BufWriter::new(out.lock());
    let done = match command {
        Command::List { user, json } => list(&mut *store, user, json, &mut out),
        Command::Show { id, json } => show(&mut *store, id, json, &mut out),
    };
    let flushed = out.flush();
    done?;
    Ok(flushed?)
}

/// Reads everything, and says what is not as it was written.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let path = config.storage.path.display().to_string();
    let Some(mut store) = open(config)? else { return Err(Failure::NothingKept) };
    let (mut out, mut findings, mut said) = (io::stdout().lock(), 0_u64, Ok(()));
    let checked = store.check(&mut |what| {
        findings += 1;
        if said.is_ok() {
            said = writeln!(out, "{}", harmless(&what));
        }
    })?;
    said?;
    writeln!(
        out,
        "{} sessions, {} events: {}",
        checked.sessions,
        checked.events,
        if findings == 0 { "all as written" } else { "readable" }
    )?;
    if findings == 0 { Ok(()) } else { Err(Failure::Damaged { path, findings }) }
}

fn open(config: &Config) -> Result<Option<Box<dyn View>>, Failure> {
    let path = &config.storage.path;
    if config.storage.kind != StorageKind::Memory && !path.exists() {
        return Err(Failure::NoStore(path.display().to_string()));
    }
    Ok(open_view(&config.storage)?)
}

/// The same question for the running hub.
fn instead(command: &Command, config: &Config) -> String {
    let port = config.server.port.unwrap_or(3000);
    let path = match command {
        Command::List { .. } => "sessions".to_owned(),
        Command::Show { id, .. } => format!("sessions/{id}/events"),
    };
    format!("curl -H \"Authorization: Bearer $(agent-hub token --user <owner>)\" http://{}:{port}/api/v1/agents/{path}", config.server.host)
}

fn list(store: &mut dyn View, owner: Option<String>, json: bool, out: &mut impl Write) -> Result<(), Failure> {
    if !json {
        writeln!(out, "{:36}  {:24}  {:5}  {:9}  {:16}  OWNER", "SESSION", "CHANGED", "TASKS", "STATE", "AGENT")?;
    }
    let mut before = None;
    loop {
        let page = store.list_sessions(&SessionFilter { owner: owner.clone(), before, limit: PAGE.events })?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some((last.created_at, last.id));
        for record in &page {
            if json { writeln!(out, "{}", object(record))? } else { row(record, out)? }
        }
    }
}

fn row(record: &SessionRecord, out: &mut impl Write) -> io::Result<()> {
    let SessionRecord { id, updated_at, task_count, agent, owner, .. } = record;
    // An owner comes from a token and may hold anything a terminal would act on.
    let (agent, owner) = (harmless(agent), harmless(owner));
    writeln!(out, "{id}  {updated_at}  {task_count:>5}  {:9}  {agent:16}  {owner}", state(record))
}

fn state(record: &SessionRecord) -> &'static str {
    match (record.ended, record.unfinished) {
        (true, _) => "ended",
        (false, 0) => "idle",
        (false, _) => "working",
    }
}

fn object(record: &SessionRecord) -> Value {
    json!({
        "id": record.id,
        "owner": record.owner,
        "agent": record.agent,
        "name": record.name,
        "tags": record.tags,
        "state": state(record),
        "taskCount": record.task_count,
        "unfinished": record.unfinished,
        "createdAt": record.created_at,
        "updatedAt": record.updated_at,
    })
}

fn show(store: &mut dyn View, id: SessionId, json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let session = store.open_session(id)?.ok_or_else(|| Failure::NoSession(id.to_string()))?;
    let mut after: Seq = 0;
    while after < session.head {
        let events = store.read(id, after, PAGE)?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for event in &events {
            if json {
                out.write_all(&event.text)?;
                out.write_all(b"\n")?;
            } else {
                writeln!(out, "{}", short(&event.text))?;
            }
        }
    }
    Ok(())
}

fn short(text: &[u8]) -> String {
    let Ok(event) = serde_json::from_slice::<Shown<'_>>(text) else {
        return format!("{:24}  {:>6}  {:18}  {}", "?", "?", "(unreadable)", cut(&String::from_utf8_lossy(text)));
    };
    format!("{}  {:>6}  {:18}  {}", event.at, event.seq.to_string(), harmless(&event.kind), cut(event.data.get()))
}

fn cut(text: &str) -> String {
    let whole = harmless(text);
    match whole.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// Without the characters that move a terminal's cursor.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
