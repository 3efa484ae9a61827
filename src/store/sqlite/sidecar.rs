//! The two small files beside the database: a lock that keeps a second process out, and a mark of how far the log had come.
//!
//! The mark is rewritten in place after each commit of events and before anybody hears of it, without a sync (a microsecond). It is
//! therefore never behind what was shown to a reader, and a database that is behind its mark has lost something: a backup was put back,
//! or a damaged write-ahead log was cut off by recovery.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::store::{
    OpenError,
    codec::{open_seal, seal},
    host::open_error,
};

const MARK_BYTES: usize = 4 + 16 + 4 + 8;

/// Binds the checksum to this format.
const MARK_KEY: &[u8] = b"agent-hub mark 1";

/// How far a log had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) identity: [u8; 16],
    pub(super) generation: u32,
    pub(super) next_row: i64,
}

/// The file that holds the mark.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    mark: Mark,
    /// The next failure to write is not worth a line in the log.
    complained: bool,
}

impl MarkFile {
    /// The mark that was written last; `None` if there is none or it cannot be read.
    pub(super) fn load(database: &Path) -> Option<Mark> {
        let data = std::fs::read(beside(database, "-mark")).ok()?;
        let body = open_seal(&data, MARK_KEY)?;
        let (identity, rest) = body.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        let next_row = rest.try_into().ok()?;
        Some(Mark { identity: *identity, generation: u32::from_le_bytes(*generation), next_row: i64::from_le_bytes(next_row) })
    }

    /// Replaces the mark, synced.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn create(database: &Path, mark: Mark) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(beside(database, "-mark"))?;
        let marks = Self { file, mark, complained: false };
        marks.write()?;
        marks.file.set_len(MARK_BYTES as u64)?;
        marks.file.sync_all()?;
        Ok(marks)
    }

    /// Rows below `next_row` are committed. A mark that cannot be written costs the notice of a lost tail, not the commit.
    pub(super) fn advance(&mut self, next_row: i64) {
        self.mark.next_row = next_row;
        match self.write() {
            Ok(()) => self.complained = false,
            Err(_) if self.complained => {}
            Err(error) => {
                self.complained = true;
                tracing::warn!(%error, "the mark beside the database cannot be written; a restored backup may go unnoticed");
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut data = [0u8; MARK_BYTES];
        data[4..20].copy_from_slice(&self.mark.identity);
        data[20..24].copy_from_slice(&self.mark.generation.to_le_bytes());
        data[24..].copy_from_slice(&self.mark.next_row.to_le_bytes());
        seal(&mut data, MARK_KEY);
        self.file.write_all_at(&data, 0)
    }
}

/// Whether what there is of the database can be written. SQLite would say so only later, without the name of the file, and leave files
/// behind that cannot be written either.
///
/// # Errors
/// [`OpenError::NotWritable`] with the file that cannot.
pub(super) fn check_writable(database: &Path) -> Result<(), OpenError> {
    for path in [database.to_owned(), beside(database, "-wal"), beside(database, "-shm")] {
        match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(open_error(&path, &error)),
            // Closing it takes away the locks this process has on it, of which there are none yet.
            _ => {}
        }
    }
    Ok(())
}

/// The database's path with something added to its name.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
