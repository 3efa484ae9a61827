//! The journal: entries that belong to no session, erasures, and how the store was left.
//!
//! Its head names the stamp up to which all entries are in it, so that older changes in session files are not looked at. It is written
//! anew at each opening and whenever it has grown much, with what is left.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use agent_hub_protocol::{SessionId, Timestamp};

use super::frame::{Frame, Frames, Next};
use crate::store::{
    StoreError,
    codec::{open_seal, seal},
    entries::{Changes, Entries},
    host::io_error,
};

/// What its frames are sealed to.
const KEY: &[u8; 16] = b"agent-hub journ1";

/// Checksum, floor, generation, flags, length of the boot's name, the name.
const HEAD_BYTES: usize = 4 + 8 + 4 + 1 + 1 + 62;

/// Entries in one frame of a journal written anew.
const CHANGES_PER_FRAME: usize = 1_000;

/// Growth from which on it is written anew, at least this and at least as much as it was.
const GROWTH_BYTES: u64 = 16 * 1024 * 1024;

/// How the store was left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Changes up to this stamp are in the journal, wherever they were made.
    pub(super) floor: u64,
    /// How often the store as a whole may have lost its end.
    pub(super) generation: u32,
    /// Closed, with nothing left to write.
    pub(super) clean: bool,
    /// Every commit was synced.
    pub(super) synced: bool,
    /// The boot of the machine it was open in; empty if unknown.
    pub(super) boot: String,
}

/// What a journal held.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) head: Head,
    pub(super) changes: Vec<(u64, Changes)>,
    /// Sessions that were erased, and when.
    pub(super) erased: Vec<(SessionId, u64)>,
    pub(super) last_stamp: u64,
}

/// The journal, open for writing.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    head: Head,
    length: u64,
    length_when_new: u64,
    untidy: bool,
}

/// Reads the journal; `None` if there is none. An end that was cut off was never answered and is left out.
///
/// # Errors
/// [`StoreError::Damaged`] when anything else is not what was written.
pub(super) fn load(path: &Path) -> Result<Option<Loaded>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&error)),
    };
    let damaged = || StoreError::Damaged(format!("{} is not what was written", path.display()));
    let size = file.metadata().map_err(|error| io_error(&error))?.len();
    let mut reader = BufReader::new(file);
    let mut head = [0u8; HEAD_BYTES];
    // The journal gets its name when it is whole, so a short head is damage.
    reader.read_exact(&mut head).map_err(|_| damaged())?;
    let mut loaded = Loaded { head: decode_head(&head).ok_or_else(damaged)?, ..Loaded::default() };
    loaded.last_stamp = loaded.head.floor;
    let mut frames = Frames::new(reader, size - HEAD_BYTES as u64, *KEY);
    loop {
        match frames.next().map_err(|error| io_error(&error))? {
            Next::Frame(frame, _) => {
                loaded.last_stamp = loaded.last_stamp.max(frame.stamp);
                loaded.erased.extend(frame.erased.map(|id| (id, frame.stamp)));
                loaded.changes.push((frame.stamp, frame.changes));
            }
            Next::End | Next::Torn => return Ok(Some(loaded)),
            Next::Spoiled | Next::Damaged(_) => return Err(damaged()),
        }
    }
}

impl Journal {
    /// Writes a journal that holds exactly these entries, in place of the one there is.
    ///
    /// # Errors
    /// When it cannot be written; then the one there was is untouched.
    pub(super) fn create(path: &Path, head: Head, entries: &Entries) -> io::Result<Self> {
        let mut data = encode_head(&head).to_vec();
        let now = Timestamp::now();
        let mut live = entries.iter().filter(|(_, entry)| !entry.has_expired(now)).peekable();
        while live.peek().is_some() {
            let changes = live.by_ref().take(CHANGES_PER_FRAME).map(|(key, entry)| (key.clone(), Some(entry.clone()))).collect();
            let frame = Frame { stamp: head.floor, changes, ..Frame::default() };
            frame.encode(KEY, &mut data).map_err(io::Error::other)?;
        }
        let fresh = path.with_extension("new");
        fs::write(&fresh, &data)?;
        let file = OpenOptions::new().read(true).write(true).open(&fresh)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        let length = data.len() as u64;
        Ok(Self { path: path.to_owned(), file, head, length, length_when_new: length, untidy: false })
    }

    /// Adds a frame, synced if commits are.
    ///
    /// # Errors
    /// When it cannot be written; then it is not there.
    pub(super) fn append(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let mut data = Vec::new();
        frame.encode(KEY, &mut data)?;
        let written = append_at(&self.file, self.length, &data, self.untidy, self.head.synced);
        self.untidy = written.is_err();
        written.map_err(|error| io_error(&error))?;
        self.length += data.len() as u64;
        Ok(())
    }

    /// Whether it is worth writing anew.
    pub(super) fn has_grown(&self) -> bool {
        self.length - self.length_when_new > GROWTH_BYTES.max(self.length_when_new)
    }

    /// Writes it anew with what is left of it.
    ///
    /// # Errors
    /// When it cannot be written; then it goes on as it is.
    pub(super) fn compact(&mut self, floor: u64, entries: &Entries) -> io::Result<()> {
        *self = Self::create(&self.path, Head { floor, ..self.head.clone() }, entries)?;
        Ok(())
    }

    /// Writes down that nothing is left to write.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn leave_clean(&mut self) -> io::Result<()> {
        self.head.clean = true;
        self.file.write_all_at(&encode_head(&self.head), 0)?;
        self.file.sync_all()
    }
}

/// Writes behind a file's last whole frame. On failure what was written of it is cut off again.
///
/// # Errors
/// When it was not written, or not synced; the caller passes `untidy` next time.
pub(super) fn append_at(file: &File, length: u64, data: &[u8], untidy: bool, sync: bool) -> io::Result<()> {
    if untidy {
        file.set_len(length)?;
    }
    let written = file.write_all_at(data, length).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
    if written.is_err() {
        // If this fails too, the next write does it.
        let _ = file.set_len(length);
    }
    written
}

fn encode_head(head: &Head) -> [u8; HEAD_BYTES] {
    let mut out = [0u8; HEAD_BYTES];
    out[4..12].copy_from_slice(&head.floor.to_le_bytes());
    out[12..16].copy_from_slice(&head.generation.to_le_bytes());
    out[16] = u8::from(head.clean) | u8::from(head.synced) << 1;
    let boot = &head.boot.as_bytes()[..head.boot.len().min(HEAD_BYTES - 18)];
    out[17] = boot.len() as u8;
    out[18..18 + boot.len()].copy_from_slice(boot);
    seal(&mut out, KEY);
    out
}

fn decode_head(data: &[u8; HEAD_BYTES]) -> Option<Head> {
    let rest = open_seal(data, KEY)?;
    let (floor, rest) = rest.split_first_chunk::<8>()?;
    let (generation, rest) = rest.split_first_chunk::<4>()?;
    let [flags, length, boot @ ..] = rest else { return None };
    let boot = boot.get(..usize::from(*length))?;
    Some(Head {
        floor: u64::from_le_bytes(*floor),
        generation: u32::from_le_bytes(*generation),
        clean: flags & 1 != 0,
        synced: flags & 2 != 0,
        boot: String::from_utf8_lossy(boot).into_owned(),
    })
}
