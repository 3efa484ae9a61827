//! How files are cut: frames with a length and checksums, and what is in one.
//!
//! A frame's head has a checksum of its own, so that a flipped bit in a length is told from a frame that was cut off: the first is damage,
//! the second is what a crash leaves and is repaired.

use std::io::{self, BufRead};

use agent_hub_protocol::{Seq, SessionId, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

use crate::store::{
    SessionRecord, Space, StoreError,
    codec::{decode_record, encode_record, open_seal, put_varint, seal, take_bytes, take_varint},
    entries::{Changes, Entry},
};

/// Checksum of the head, length of the body, checksum of the body, stamp.
pub(super) const HEAD_BYTES: usize = 4 + 4 + 4 + 8;

/// What one append, write or erasure wrote.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Orders the frames of all files.
    pub(super) stamp: u64,
    /// The first event's number, if there are events.
    pub(super) first: Seq,
    pub(super) events: Vec<Bytes>,
    pub(super) record: Option<SessionRecord>,
    pub(super) changes: Changes,
    /// The session whose file was taken away.
    pub(super) erased: Option<SessionId>,
}

impl Frame {
    /// The last event after it, when it has events.
    pub(super) fn last(&self) -> Seq {
        self.first + self.events.len() as Seq - 1
    }

    /// Appends the frame to `out`, sealed to the file it is for.
    pub(super) fn encode(&self, file: &[u8; 16], out: &mut Vec<u8>) -> Result<(), StoreError> {
        let mut body = vec![0; 4];
        self.encode_body(&mut body);
        seal(&mut body, file);
        let length = u32::try_from(body.len() - 4).map_err(|_| StoreError::Failed("one append is larger than a frame can be".into()))?;
        let mut head = [0u8; HEAD_BYTES];
        head[4..8].copy_from_slice(&length.to_le_bytes());
        head[8..12].copy_from_slice(&body[..4]);
        head[12..].copy_from_slice(&self.stamp.to_le_bytes());
        seal(&mut head, file);
        out.extend_from_slice(&head);
        out.extend_from_slice(&body[4..]);
        Ok(())
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        put_varint(out, self.first);
        put_varint(out, self.events.len() as u64);
        for event in &self.events {
            put_varint(out, event.len() as u64);
        }
        for event in &self.events {
            out.extend_from_slice(event);
        }
        match &self.record {
            None => put_varint(out, 0),
            Some(record) => {
                let data = encode_record(record.id, record);
                put_varint(out, data.len() as u64);
                out.extend_from_slice(&data);
            }
        }
        put_varint(out, self.changes.len() as u64);
        for ((space, key), change) in &self.changes {
            encode_change(*space, key, change.as_ref(), out);
        }
        out.extend_from_slice(self.erased.as_ref().map_or(&[][..], |id| id.as_uuid().as_bytes()));
    }

    /// `None` when the body is not what was encoded for a session of this id.
    fn decode(stamp: u64, id: SessionId, body: &Bytes) -> Option<Self> {
        let mut rest: &[u8] = body;
        let first = take_varint(&mut rest)?;
        let count = take_length(&mut rest)?;
        let lengths = (0..count).map(|_| take_length(&mut rest)).collect::<Option<Vec<_>>>()?;
        let texts = lengths.into_iter().map(|length| Some(body.slice_ref(take_bytes(&mut rest, length)?)));
        let events = texts.collect::<Option<Vec<_>>>()?;
        let record = match take_length(&mut rest)? {
            0 => None,
            length => Some(decode_record(id, take_bytes(&mut rest, length)?).ok()?),
        };
        let count = take_length(&mut rest)?;
        let changes = (0..count).map(|_| decode_change(&mut rest)).collect::<Option<Changes>>()?;
        let erased = match rest.len() {
            0 => None,
            _ => Some(SessionId::from_uuid(Uuid::from_bytes(rest.try_into().ok()?))),
        };
        Some(Self { stamp, first, events, record, changes, erased })
    }
}

fn encode_change(space: Space, key: &str, change: Option<&Entry>, out: &mut Vec<u8>) {
    out.push(space as u8);
    put_varint(out, key.len() as u64);
    out.extend_from_slice(key.as_bytes());
    match change {
        None => out.push(0),
        Some(entry) => {
            out.push(1);
            // One more than the time, so that 0 can mean never.
            put_varint(out, entry.expires_at.map_or(0, |at| at.as_millis().cast_unsigned() + 1));
            put_varint(out, entry.value.len() as u64);
            out.extend_from_slice(&entry.value);
        }
    }
}

fn decode_change(rest: &mut &[u8]) -> Option<((Space, String), Option<Entry>)> {
    let space = match take_bytes(rest, 1)? {
        [1] => Space::Task,
        [2] => Space::Usage,
        [3] => Space::Erased,
        [4] => Space::Checkpoint,
        [5] => Space::Foreign,
        [6] => Space::Revoked,
        _ => return None,
    };
    let length = take_length(rest)?;
    let key = String::from_utf8(take_bytes(rest, length)?.to_vec()).ok()?;
    let entry = match take_bytes(rest, 1)? {
        [0] => None,
        _ => {
            let expires = take_varint(rest)?.checked_sub(1);
            let length = take_length(rest)?;
            let value = Bytes::copy_from_slice(take_bytes(rest, length)?);
            Some(Entry { value, expires_at: expires.map(|at| Timestamp::from_millis(at.cast_signed())) })
        }
    };
    Some(((space, key), entry))
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    // Nothing in a body is longer than the body, so a length that cannot be true reserves no memory.
    usize::try_from(take_varint(rest)?).ok().filter(|length| *length <= rest.len())
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    /// A frame, and the bytes it takes.
    Frame(Box<Frame>, u64),
    /// The file ends with the last whole frame.
    End,
    /// What follows was being written when everything stopped.
    Torn,
    /// The last frame has its full length and is not what was written: a loss of power, or damage.
    Spoiled,
    /// What follows is not what was written; `Some` bytes to skip if the frame behind it can be found.
    Damaged(Option<u64>),
}

/// Reads frames one after the other.
#[derive(Debug)]
pub(super) struct Frames<R> {
    from: R,
    /// Bytes of the file that are not read yet.
    left: u64,
    file: [u8; 16],
    id: SessionId,
}

impl<R: BufRead> Frames<R> {
    /// `left` bytes of frames, sealed to `file`.
    pub(super) fn new(from: R, left: u64, file: [u8; 16]) -> Self {
        Self { from, left, file, id: SessionId::from_uuid(Uuid::from_bytes(file)) }
    }

    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        if self.left == 0 {
            return Ok(Next::End);
        }
        if self.left < HEAD_BYTES as u64 {
            return Ok(Next::Torn);
        }
        let mut head = [0u8; HEAD_BYTES];
        self.from.read_exact(&mut head)?;
        self.left -= HEAD_BYTES as u64;
        let Some((length, crc, stamp)) = decode_head(&head, &self.file) else {
            // Space that was given to the file and never written reads as zeros, to the end of it.
            let unwritten = head.iter().all(|byte| *byte == 0) && self.rest_is_zero()?;
            return Ok(if unwritten { Next::Torn } else { Next::Damaged(None) });
        };
        if u64::from(length) > self.left {
            return Ok(Next::Torn);
        }
        let mut body = vec![0; 4 + length as usize];
        body[..4].copy_from_slice(&crc);
        self.from.read_exact(&mut body[4..])?;
        self.left -= u64::from(length);
        let frame = open_seal(&body, &self.file).is_some().then(|| Bytes::from(body).slice(4..));
        match frame.and_then(|body| Frame::decode(stamp, self.id, &body)) {
            Some(frame) => Ok(Next::Frame(Box::new(frame), HEAD_BYTES as u64 + u64::from(length))),
            None if self.left == 0 => Ok(Next::Spoiled),
            None => Ok(Next::Damaged(Some(HEAD_BYTES as u64 + u64::from(length)))),
        }
    }

    fn rest_is_zero(&mut self) -> io::Result<bool> {
        loop {
            let some = self.from.fill_buf()?;
            if some.is_empty() {
                return Ok(true);
            }
            if some.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            let length = some.len();
            self.from.consume(length);
        }
    }
}

fn decode_head(head: &[u8; HEAD_BYTES], file: &[u8; 16]) -> Option<(u32, [u8; 4], u64)> {
    let rest = open_seal(head, file)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, stamp) = rest.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*length), *crc, u64::from_le_bytes(stamp.try_into().ok()?)))
}
