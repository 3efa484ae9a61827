//! The directory as it is, read without taking it over.

use std::{collections::HashMap, fs, io, path::Path, thread, time::Duration};

use agent_hub_protocol::{Epoch, Seq, SessionId};

use super::{
    Session, damaged,
    journal::{self, Loaded},
    open::Paths,
    read_file,
    session_file::{self, Scanned, path_of},
};
use crate::store::{
    Checked, OpenError, Page, SessionFilter, SessionRecord, StoreError, StoredEvent, StoredSession, View,
    host::{io_error, open_error, open_failure},
    memory::Listing,
};

/// An end that does not read may be a write under way: looked at again this often, with this pause, before it is believed.
const LOOKS: usize = 5;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// All there is to check at once.
const PAGE: Page = Page { events: 1_000, bytes: 1024 * 1024 };

/// A [`super::FileStore`]'s directory, looked at from outside.
#[derive(Debug)]
pub struct FileView {
    paths: Paths,
    /// How often the store as a whole may have lost its end.
    generation: u32,
    /// Whether it was closed with nothing left to write.
    clean: bool,
    /// Sessions that were erased, and when: a crash may have left their files.
    erased: HashMap<SessionId, u64>,
    /// The session that was opened last, so that its pages need not look for their places again.
    last: Option<(SessionId, Session)>,
    /// What was listed, for the pages behind the first: listing reads every file.
    listed: (Listing, HashMap<SessionId, SessionRecord>),
}

impl FileView {
    /// # Errors
    /// [`OpenError::Failed`] when there is no store in `dir`, or its journal cannot be read.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let paths = Paths::new(dir);
        let loaded = journal::load(&paths.journal).map_err(|error| open_failure(&paths.journal, error))?;
        // A store that was made a moment ago, or lost its journal, still has its sessions.
        fs::read_dir(&paths.sessions).map_err(|error| open_error(&paths.sessions, &error))?;
        let Loaded { head, erased, .. } = loaded.unwrap_or_default();
        Ok(Self {
            paths,
            generation: head.generation,
            clean: head.clean,
            erased: erased.into_iter().collect(),
            last: None,
            listed: Default::default(),
        })
    }

    fn ids(&self) -> Result<Vec<SessionId>, StoreError> {
        let mut ids = Vec::new();
        for file in fs::read_dir(&self.paths.sessions).map_err(|error| io_error(&error))? {
            let file = file.map_err(|error| io_error(&error))?;
            ids.extend(file.file_name().to_str().and_then(session_file::id_of));
        }
        Ok(ids)
    }

    /// What is in a session's file; `None` if there is none, or none any more.
    fn scan(&self, id: SessionId) -> Result<Option<Scanned>, StoreError> {
        let path = path_of(&self.paths.sessions, id);
        let mut looks = 1;
        loop {
            let scanned = match session_file::scan(&path, id) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                // Cut off while it was read: what was being written did not fit.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && looks < LOOKS => None,
                Err(error) => return Err(io_error(&error)),
                Ok(scanned) => Some(scanned),
            };
            let whole = scanned.as_ref().is_some_and(|found| !found.torn && found.session.as_ref().is_none_or(|session| !session.damaged));
            match scanned {
                Some(scanned) if whole || looks == LOOKS => {
                    let erased = self.erased.get(&id).is_some_and(|erased| *erased > scanned.created);
                    return Ok(Some(scanned).filter(|_| !erased));
                }
                _ => {
                    looks += 1;
                    thread::sleep(LOOK_AGAIN_AFTER);
                }
            }
        }
    }

    /// The session of a file that is not damaged. What is behind its last whole frame was answered to nobody and is left where it is.
    fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        match self.scan(id)? {
            None => Ok(None),
            Some(Scanned { session: Some(session), .. }) if !session.damaged => Ok(Some(session)),
            Some(Scanned { session: None, has_content: false, .. }) => Ok(None),
            Some(_) => Err(damaged(id)),
        }
    }

    /// Reads a session to its end. Says how many events it has.
    fn read_through(&mut self, id: SessionId) -> Result<Option<u64>, StoreError> {
        let Some(StoredSession { head, .. }) = self.open_session(id)? else { return Ok(None) };
        let mut after = 0;
        while after < head {
            let events = self.read(id, after, PAGE)?;
            let Some(last) = events.last() else { return Err(damaged(id)) };
            after = last.seq;
        }
        Ok(Some(head))
    }
}

impl View for FileView {
    fn list_sessions(&mut self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, StoreError> {
        if filter.before.is_none() {
            let (mut listing, mut records) = (Listing::default(), HashMap::new());
            for id in self.ids()? {
                // A damaged session is listed as far as its record goes; showing it says that it is damaged.
                let Some(Session { record, .. }) = self.scan(id)?.and_then(|scanned| scanned.session) else { continue };
                listing.put(None, &record);
                records.insert(id, record);
            }
            self.listed = (listing, records);
        }
        let (listing, records) = &self.listed;
        Ok(listing.ids(filter).filter_map(|id| records.get(&id).cloned()).collect())
    }

    fn open_session(&mut self, id: SessionId) -> Result<Option<StoredSession>, StoreError> {
        self.last = None;
        let Some(session) = self.session(id)? else { return Ok(None) };
        let stored = StoredSession {
            epoch: Epoch::derive(session.record.birth, session.generation.saturating_add(self.generation)),
            record: session.record.clone(),
            head: session.head,
        };
        self.last = Some((id, session));
        Ok(Some(stored))
    }

    fn read(&mut self, id: SessionId, after: Seq, page: Page) -> Result<Vec<StoredEvent>, StoreError> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            self.open_session(id)?;
        }
        let Some((_, session)) = self.last.as_ref().filter(|(_, session)| session.head > after) else { return Ok(Vec::new()) };
        let wanted = after.saturating_add(1);
        let read = read_file(&self.paths.sessions, id, wanted, session.position_of(wanted), session.length, page);
        // Erased in the meantime.
        if read.is_err() && !path_of(&self.paths.sessions, id).exists() { Ok(Vec::new()) } else { read }
    }

    fn check(&mut self, found: &mut dyn FnMut(String)) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        for id in self.ids()? {
            // Otherwise it is what a crash leaves, or a write under way.
            if self.clean && self.scan(id)?.is_some_and(|scanned| scanned.torn) {
                found(format!("the end of the file of session {id} is not what was written"));
            }
            match self.read_through(id) {
                Ok(Some(events)) => {
                    checked.sessions += 1;
                    checked.events += events;
                }
                Ok(None) => {}
                Err(StoreError::Damaged(what)) => found(what),
                Err(error) => return Err(error),
            }
        }
        Ok(checked)
    }
}
