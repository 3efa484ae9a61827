//! One session's file: a head that names its incarnation, then frames.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use agent_hub_protocol::{Seq, SessionId};

use super::frame::{Frame, Frames, Next};
use crate::store::{
    SessionRecord,
    codec::{open_seal, seal},
    entries::Changes,
};

/// Checksum, generation, stamp of the first frame, reserved.
pub(super) const HEAD_BYTES: usize = 4 + 4 + 8 + 16;

/// Binds the checksum of the head to this format, together with the session.
const HEAD_KEY: &[u8] = b"agent-hub session 1";

/// Bytes of frames between two remembered positions: what a read may have to skip.
const MARK_EVERY_BYTES: u64 = 64 * 1024;

/// What is remembered of a session's file.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) record: SessionRecord,
    pub(super) head: Seq,
    pub(super) generation: u32,
    /// Up to the last whole frame.
    pub(super) length: u64,
    /// Some first events and where their frames begin; ascending.
    marks: Vec<(Seq, u64)>,
    /// Something in the middle of it is not what was written.
    pub(super) damaged: bool,
    /// There may be bytes behind `length`, of a write that failed.
    pub(super) untidy: bool,
}

impl Session {
    pub(super) fn new(record: SessionRecord) -> Self {
        Self { record, head: 0, generation: 0, length: 0, marks: Vec::new(), damaged: false, untidy: false }
    }

    /// Takes in a frame that is in the file from `length` on.
    pub(super) fn extend(&mut self, at: u64, bytes: u64, frame: &Frame) {
        self.length = at + bytes;
        if let Some(record) = &frame.record {
            self.record = record.clone();
        }
        if frame.events.is_empty() {
            return;
        }
        self.head = frame.last();
        if self.marks.last().is_none_or(|(_, marked)| at - marked >= MARK_EVERY_BYTES) {
            self.marks.push((frame.first, at));
        }
    }

    /// Where to start reading for an event.
    pub(super) fn position_of(&self, wanted: Seq) -> u64 {
        let behind = self.marks.partition_point(|(first, _)| *first <= wanted);
        behind.checked_sub(1).map_or(HEAD_BYTES as u64, |mark| self.marks[mark].1)
    }
}

/// What a scan of a whole file found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// `None` if nobody can have been told that it exists.
    pub(super) session: Option<Session>,
    /// The changes of entries, each with its frame's stamp.
    pub(super) changes: Vec<(u64, Changes)>,
    /// Of the frame that made it; 0 if unknown.
    pub(super) created: u64,
    pub(super) last_stamp: u64,
    /// Something behind the last whole frame.
    pub(super) torn: bool,
    /// It has whole frames or damage: more than the beginning of a first write.
    pub(super) has_content: bool,
}

/// Reads all of a session's file. Changes behind a damaged frame are still found where the next frame is.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn scan(path: &Path, id: SessionId) -> io::Result<Scanned> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut found = Scanned { session: None, changes: Vec::new(), created: 0, last_stamp: 0, torn: false, has_content: false };
    if size < HEAD_BYTES as u64 {
        found.torn = true;
        return Ok(found);
    }
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let mut head = [0u8; HEAD_BYTES];
    io::Read::read_exact(&mut reader, &mut head)?;
    let head = decode_head(&head, id);
    let mut damaged = head.is_none();
    let mut at = HEAD_BYTES as u64;
    let mut frames = Frames::new(reader, size - at, *id.as_uuid().as_bytes());
    loop {
        match frames.next()? {
            Next::Frame(frame, bytes) => {
                found.take(&frame, at, bytes, &mut damaged);
                at += bytes;
            }
            Next::End => break,
            Next::Torn => {
                found.torn = true;
                break;
            }
            Next::Spoiled => {
                // Cut off and said so, but not a whole session on one bad frame.
                (found.torn, found.has_content) = (true, true);
                break;
            }
            Next::Damaged(skip) => {
                (damaged, found.has_content) = (true, true);
                match skip {
                    Some(bytes) => at += bytes,
                    None => break,
                }
            }
        }
    }
    if let Some((generation, created)) = head {
        found.created = created;
        if let Some(session) = &mut found.session {
            session.generation = generation;
        }
    }
    if let Some(session) = &mut found.session {
        session.damaged = damaged;
    }
    Ok(found)
}

impl Scanned {
    fn take(&mut self, frame: &Frame, at: u64, bytes: u64, damaged: &mut bool) {
        self.has_content = true;
        self.last_stamp = self.last_stamp.max(frame.stamp);
        if !frame.changes.is_empty() {
            self.changes.push((frame.stamp, frame.changes.clone()));
        }
        if self.session.is_none() {
            self.session = frame.record.clone().map(Session::new);
        }
        if let Some(session) = &mut self.session {
            // A frame that is missing as a whole.
            *damaged |= !frame.events.is_empty() && frame.first != session.head + 1;
            session.extend(at, bytes, frame);
        }
    }
}

/// The head of a new file.
pub(super) fn encode_head(id: SessionId, generation: u32, created: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0u8; HEAD_BYTES];
    head[4..8].copy_from_slice(&generation.to_le_bytes());
    head[8..16].copy_from_slice(&created.to_le_bytes());
    seal(&mut head, &head_key(id));
    head
}

fn decode_head(head: &[u8; HEAD_BYTES], id: SessionId) -> Option<(u32, u64)> {
    let rest = open_seal(head, &head_key(id))?;
    let (generation, rest) = rest.split_first_chunk::<4>()?;
    let (created, _) = rest.split_first_chunk::<8>()?;
    Some((u32::from_le_bytes(*generation), u64::from_le_bytes(*created)))
}

fn head_key(id: SessionId) -> Vec<u8> {
    [HEAD_KEY, id.as_uuid().as_bytes()].concat()
}

/// Cuts the file off behind its last whole frame, after writing down that its head may have gone back.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn repair(path: &Path, id: SessionId, scanned: &mut Scanned) -> io::Result<()> {
    let Some(session) = &mut scanned.session else { return Ok(()) };
    let file = OpenOptions::new().write(true).open(path)?;
    session.generation += 1;
    // First the generation: cut off first and stopped again in between, the next start would not know.
    file.write_all_at(&encode_head(id, session.generation, scanned.created), 0)?;
    file.sync_all()?;
    file.set_len(session.length)?;
    file.sync_all()
}

/// Frames from a position of the file up to `until`.
///
/// # Errors
/// When the file cannot be opened.
pub(super) fn frames_from(path: &Path, id: SessionId, position: u64, until: u64) -> io::Result<Frames<BufReader<File>>> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
    reader.seek(SeekFrom::Start(position))?;
    Ok(Frames::new(reader, until - position, *id.as_uuid().as_bytes()))
}

/// Where the session's file is.
pub(super) fn path_of(sessions: &Path, id: SessionId) -> PathBuf {
    sessions.join(format!("{id}.log"))
}

/// Whose file it is.
pub(super) fn id_of(name: &str) -> Option<SessionId> {
    let uuid = uuid::Uuid::try_parse(name.strip_suffix(".log")?).ok()?;
    Some(SessionId::from_uuid(uuid))
}
