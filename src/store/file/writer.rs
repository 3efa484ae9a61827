//! The thread that writes files, one append after the other.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
};

use agent_hub_protocol::{SessionId, Timestamp};

use super::{
    FsyncPolicy, Shared, State, damaged,
    frame::{Frame, Next},
    journal::{Journal, append_at},
    session_file::{HEAD_BYTES, Session, encode_head, frames_from, path_of},
};
use crate::store::{
    Append, AppendError, SessionRecord, Space, StoreError, Write,
    entries::Changes,
    host::io_error,
    inbox::{Bound, Reply, Taken, lock},
    jobs::{Answer, Erasure, Job, News},
    memory::check_head,
};

/// Taken from the inbox at once. Each append is written by itself, so this only saves locking.
const ROUND: Bound = Bound { jobs: 64, bytes: 4 * 1024 * 1024 };

/// Files kept open for writing: few enough for any limit of descriptors, enough for the sessions that talk right now.
const OPEN_FILES: usize = 128;

/// The writing thread's own.
pub(super) struct Writer {
    shared: Arc<Shared>,
    journal: Journal,
    next_stamp: u64,
    files: HashMap<SessionId, File>,
}

/// Who and what ends with the writer.
pub(super) struct Crew {
    pub(super) readers: Vec<JoinHandle<()>>,
    /// Released when everything else has ended.
    pub(super) lock: File,
}

/// A checked append: what to write and where.
struct Plan {
    frame: Frame,
    length: u64,
    untidy: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal, next_stamp: u64) -> Self {
        Self { shared, journal, next_stamp, files: HashMap::new() }
    }

    /// Works until the inbox closes or a job says so, then closes everything.
    pub(super) fn run(mut self, crew: Crew) {
        let shared = self.shared.clone();
        let on_exit = (shared.writes.close_on_exit(), shared.reads.close_on_exit());
        let closing = self.work();
        shared.reads.close();
        for reader in crew.readers {
            // An error means that it panicked, which was reported where it happened.
            let _ = reader.join();
        }
        let result = self.leave_clean().map_err(|error| io_error(&error));
        drop(crew.lock);
        drop(on_exit);
        if let Some(reply) = closing {
            let _ = reply.send(result);
        }
    }

    fn work(&mut self) -> Option<Reply<()>> {
        let shared = self.shared.clone();
        let mut jobs = Vec::new();
        while shared.writes.take(ROUND, None, &mut jobs) == Taken::Jobs {
            let mut closing = None;
            for job in jobs.drain(..) {
                let (answer, result) = match job {
                    Job::Append(append, reply) => {
                        let news = News::of(append.audience.clone(), append.expected, append.events.clone());
                        (Answer::Append(reply, news), self.append(append))
                    }
                    Job::Write(writes, reply) => (Answer::Plain(reply), self.write(writes).map_err(AppendError::from)),
                    Job::Erase(erasure, reply) => (Answer::Plain(reply), self.erase(erasure).map_err(AppendError::from)),
                    Job::Probe(reply) => (Answer::Plain(reply), self.probe().map_err(AppendError::from)),
                    Job::Sweep => (Answer::Nobody, Ok(())),
                    Job::Close(reply) => {
                        closing = Some(reply);
                        continue;
                    }
                };
                answer.give(result);
            }
            if closing.is_some() {
                return closing;
            }
            self.compact_if_due();
        }
        None
    }

    fn append(&mut self, append: Append) -> Result<(), AppendError> {
        let id = append.session;
        let plan = self.plan(append)?;
        if plan.frame.events.is_empty() && plan.frame.record.is_none() && plan.frame.changes.is_empty() {
            return Ok(());
        }
        let is_new = plan.length == 0;
        let mut data = if is_new { encode_head(id, 0, plan.frame.stamp).to_vec() } else { Vec::new() };
        let at = plan.length.max(HEAD_BYTES as u64);
        let before = data.len();
        plan.frame.encode(id.as_uuid().as_bytes(), &mut data)?;
        let bytes = (data.len() - before) as u64;
        if let Err(error) = self.write_to(id, &plan, &data) {
            self.files.remove(&id);
            if is_new {
                // Nobody was told of it. A rest that cannot be removed now is removed at the next opening, or overwritten.
                let _ = fs::remove_file(path_of(&self.shared.paths.sessions, id));
            }
            self.mark_untidy(id, true);
            return Err(io_error(&error).into());
        }
        self.next_stamp += 1;
        self.apply(id, at, bytes, plan.frame);
        Ok(())
    }

    /// Checks the append against the true head; changes nothing.
    fn plan(&self, append: Append) -> Result<Plan, AppendError> {
        let (id, now) = (append.session, Timestamp::now());
        let state = lock(&self.shared.state);
        if state.lost.contains(&id) {
            return Err(damaged(id).into());
        }
        let (length, untidy) = match (state.sessions.get(&id), &append.record) {
            (Some(session), _) if session.damaged => return Err(damaged(id).into()),
            (Some(session), _) => {
                check_head(append.expected, session.head)?;
                (session.length, session.untidy)
            }
            (None, Some(_)) if !state.entries.is_taken(id) => {
                check_head(append.expected, 0)?;
                (0, false)
            }
            (None, _) => return Err(AppendError::Erased),
        };
        let changes = state.entries.resolve(append.writes, now)?;
        let first = if append.events.is_empty() { 0 } else { append.expected + 1 };
        // The file is the session's, whatever id the record says.
        let record = append.record.map(|record| SessionRecord { id, ..record });
        let frame = Frame { stamp: self.next_stamp, first, events: append.events, record, changes, erased: None };
        Ok(Plan { frame, length, untidy })
    }

    fn write_to(&mut self, id: SessionId, plan: &Plan, data: &[u8]) -> io::Result<()> {
        let is_new = plan.length == 0;
        let sync = self.shared.config.fsync == FsyncPolicy::Always;
        if self.files.len() >= OPEN_FILES && !self.files.contains_key(&id) {
            self.files.clear();
        }
        let file = match self.files.entry(id) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let path = path_of(&self.shared.paths.sessions, id);
                place.insert(if is_new { create(&path)? } else { OpenOptions::new().write(true).open(path)? })
            }
        };
        append_at(file, plan.length, data, plan.untidy, sync)?;
        if is_new && sync {
            File::open(&self.shared.paths.sessions)?.sync_all()?;
        }
        Ok(())
    }

    /// Makes what is in the file known.
    fn apply(&self, id: SessionId, at: u64, bytes: u64, frame: Frame) {
        let mut state = lock(&self.shared.state);
        let State { sessions, entries, listing, .. } = &mut *state;
        if let Some(record) = &frame.record {
            listing.put(sessions.get(&id).map(|session| &session.record), record);
            sessions.entry(id).or_insert_with(|| Session::new(record.clone()));
        }
        if let Some(session) = sessions.get_mut(&id) {
            session.extend(at, bytes, &frame);
            session.untidy = false;
        }
        entries.set(frame.changes);
        entries.sweep(Timestamp::now());
    }

    fn mark_untidy(&self, id: SessionId, untidy: bool) {
        if let Some(session) = lock(&self.shared.state).sessions.get_mut(&id) {
            session.untidy = untidy;
        }
    }

    fn write(&mut self, writes: Vec<Write>) -> Result<(), StoreError> {
        let changes = lock(&self.shared.state).entries.resolve(writes, Timestamp::now())?;
        self.journal_changes(changes, None)
    }

    fn journal_changes(&mut self, changes: Changes, erased: Option<SessionId>) -> Result<(), StoreError> {
        let frame = Frame { stamp: self.next_stamp, changes, erased, ..Frame::default() };
        self.journal.append(&frame)?;
        self.next_stamp += 1;
        let mut state = lock(&self.shared.state);
        state.entries.set(frame.changes);
        state.entries.sweep(Timestamp::now());
        Ok(())
    }

    /// Writes the erasure down, and then takes the file away: interrupted in between, the next opening does.
    fn erase(&mut self, erasure: Erasure) -> Result<(), StoreError> {
        let id = erasure.id;
        let mut changes = {
            let state = lock(&self.shared.state);
            state.entries.forgetting(id, &erasure.owner, erasure.forget, erasure.taken_until, Timestamp::now())
        };
        // Changes of other entries that only this file knows would go with it.
        self.keep_changes_of(id, &mut changes);
        self.journal_changes(changes, Some(id))?;
        {
            let mut state = lock(&self.shared.state);
            state.lost.remove(&id);
            if let Some(session) = state.sessions.remove(&id) {
                state.listing.remove(&session.record);
            }
        }
        self.files.remove(&id);
        match fs::remove_file(path_of(&self.shared.paths.sessions, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&error)),
            _ => Ok(()),
        }
    }

    /// Adds the present state of every entry that the session's file changed.
    fn keep_changes_of(&self, id: SessionId, changes: &mut Changes) {
        let touched = self.touched_by(id);
        let state = lock(&self.shared.state);
        let now: HashMap<&(Space, String), _> = state.entries.iter().filter(|(key, _)| touched.contains(*key)).collect();
        for key in &touched {
            changes.entry(key.clone()).or_insert_with(|| now.get(key).map(|entry| (*entry).clone()));
        }
    }

    fn touched_by(&self, id: SessionId) -> HashSet<(Space, String)> {
        let mut touched = HashSet::new();
        let Some(length) = lock(&self.shared.state).sessions.get(&id).map(|session| session.length) else { return touched };
        let path = path_of(&self.shared.paths.sessions, id);
        let Ok(mut frames) = frames_from(&path, id, HEAD_BYTES as u64, length) else { return touched };
        loop {
            match frames.next() {
                Ok(Next::Frame(frame, _)) => touched.extend(frame.changes.into_keys()),
                Ok(Next::Damaged(Some(_))) => {}
                _ => return touched,
            }
        }
    }

    fn probe(&self) -> Result<(), StoreError> {
        // Where new sessions go. No session has this name, so it is passed over should it stay.
        let path = self.shared.paths.sessions.join("probe");
        let tried = fs::write(&path, [0u8; 4096]);
        let removed = fs::remove_file(&path);
        tried.and(removed).map_err(|error| io_error(&error))
    }

    fn compact_if_due(&mut self) {
        if self.journal.has_grown() {
            let state = lock(&self.shared.state);
            if let Err(error) = self.journal.compact(self.next_stamp - 1, &state.entries) {
                tracing::warn!(%error, "the journal could not be written anew; it goes on growing");
            }
        }
    }

    fn leave_clean(&mut self) -> io::Result<()> {
        for file in self.files.values() {
            file.sync_all()?;
        }
        self.journal.leave_clean()
    }
}

/// A new file, in place of the rest of one whose making failed. Not by cutting that to nothing: some file systems then write to the disk
/// when it is closed.
fn create(path: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).create_new(true).open(path);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        created => created,
    }
}
