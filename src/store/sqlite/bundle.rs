//! One row of the log: the appends of as many sessions as fit a page.
//!
//! A row costs the database more than a small event does, and reading an event reads its page anyway. So the appends of one commit share
//! rows of about a page; larger ones get rows of their own.

use agent_hub_protocol::Seq;
use bytes::Bytes;

use crate::store::{
    StoreError,
    codec::{open_seal, put_varint, seal, take_bytes, take_varint},
};

/// What fits a leaf of 4 KiB with the row's own head, so that a full row is one page.
pub(super) const ROW_BYTES: usize = 4_000;

/// A checksum.
const SEAL_BYTES: usize = 4;

/// A run of one session's events in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) session: i64,
    pub(super) first: Seq,
    pub(super) count: u32,
    /// Bytes of it in the row's data.
    bytes: usize,
}

/// A row while it fills.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Which parts: sealed to the row.
    parts: Vec<u8>,
    /// Lengths and texts of each part: sealed to the row and to `parts`.
    data: Vec<u8>,
}

impl Default for Bundle {
    fn default() -> Self {
        Self { parts: vec![0; SEAL_BYTES], data: vec![0; SEAL_BYTES] }
    }
}

impl Bundle {
    pub(super) fn is_empty(&self) -> bool {
        self.data.len() == SEAL_BYTES
    }

    pub(super) fn is_full(&self) -> bool {
        self.parts.len() + self.data.len() >= ROW_BYTES
    }

    /// Whether these events can still go in; into an empty one anything can.
    pub(super) fn has_room_for(&self, events: &[Bytes]) -> bool {
        // Three numbers in the parts and a length each, generously.
        let bytes = 16 + events.iter().map(|event| event.len() + 3).sum::<usize>();
        self.is_empty() || self.parts.len() + self.data.len() + bytes <= ROW_BYTES
    }

    /// How many bytes it adds.
    pub(super) fn push(&mut self, session: i64, first: Seq, events: &[Bytes]) -> usize {
        let before = self.data.len();
        for event in events {
            put_varint(&mut self.data, event.len() as u64);
        }
        for event in events {
            self.data.extend_from_slice(event);
        }
        let bytes = self.data.len() - before;
        self.push_part(Part { session, first, count: events.len() as u32, bytes });
        bytes
    }

    fn push_part(&mut self, part: Part) {
        put_varint(&mut self.parts, part.session.cast_unsigned());
        put_varint(&mut self.parts, part.first);
        put_varint(&mut self.parts, part.count.into());
        put_varint(&mut self.parts, part.bytes as u64);
    }

    /// Parts and data as they are written into this row.
    pub(super) fn seal(&mut self, row: i64) -> (&[u8], &[u8]) {
        seal(&mut self.parts, &row.to_le_bytes());
        seal(&mut self.data, &data_key(row, &self.parts));
        (&self.parts, &self.data)
    }

    pub(super) fn clear(&mut self) {
        self.parts.truncate(SEAL_BYTES);
        self.data.truncate(SEAL_BYTES);
        // One huge append must not keep its memory for ever.
        self.data.shrink_to(64 * 1024);
    }
}

/// The parts of a row, in order.
///
/// # Errors
/// [`StoreError::Damaged`] unless they were written into this row.
pub(super) fn parts(row: i64, parts: &[u8]) -> Result<Vec<Part>, StoreError> {
    let mut rest = open_seal(parts, &row.to_le_bytes()).ok_or_else(|| damaged(row))?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        found.push(take_part(&mut rest).ok_or_else(|| damaged(row))?);
    }
    Ok(found)
}

fn take_part(rest: &mut &[u8]) -> Option<Part> {
    let session = take_varint(rest)?.cast_signed();
    let first = take_varint(rest)?;
    let count = u32::try_from(take_varint(rest)?).ok()?;
    Some(Part { session, first, count, bytes: usize::try_from(take_varint(rest)?).ok()? })
}

/// The events of the part of `session` that begins with `first`.
///
/// # Errors
/// [`StoreError::Damaged`] when the row is not what was written, or has no such part.
pub(super) fn events(row: i64, sealed_parts: &[u8], data: &[u8], session: i64, first: Seq) -> Result<Vec<Bytes>, StoreError> {
    let found = parts(row, sealed_parts)?;
    let mut rest = open_seal(data, &data_key(row, sealed_parts)).ok_or_else(|| damaged(row))?;
    for part in found {
        let section = take_bytes(&mut rest, part.bytes).ok_or_else(|| damaged(row))?;
        if (part.session, part.first) == (session, first) {
            // A copy, so that one small event does not keep the page of all its neighbours in memory.
            return texts(part.count, Bytes::copy_from_slice(section)).ok_or_else(|| damaged(row));
        }
    }
    Err(StoreError::Damaged(format!("row {row} of the log has no events from {first}")))
}

fn texts(count: u32, section: Bytes) -> Option<Vec<Bytes>> {
    let mut rest: &[u8] = &section;
    let lengths = (0..count).map(|_| usize::try_from(take_varint(&mut rest)?).ok()).collect::<Option<Vec<_>>>()?;
    let texts = lengths.into_iter().map(|length| Some(section.slice_ref(take_bytes(&mut rest, length)?))).collect::<Option<Vec<_>>>()?;
    rest.is_empty().then_some(texts)
}

/// The row without the parts of one session; empty if there were no others.
///
/// # Errors
/// [`StoreError::Damaged`] when the row is not what was written.
pub(super) fn without(row: i64, sealed_parts: &[u8], data: &[u8], session: i64) -> Result<Bundle, StoreError> {
    let mut rest = open_seal(data, &data_key(row, sealed_parts)).ok_or_else(|| damaged(row))?;
    let mut left = Bundle::default();
    for part in parts(row, sealed_parts)? {
        let section = take_bytes(&mut rest, part.bytes).ok_or_else(|| damaged(row))?;
        if part.session != session {
            left.data.extend_from_slice(section);
            left.push_part(part);
        }
    }
    Ok(left)
}

/// The data belongs to the row and to exactly these parts.
fn data_key(row: i64, sealed_parts: &[u8]) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&row.to_le_bytes());
    for (place, byte) in key[8..].iter_mut().zip(sealed_parts) {
        *place = *byte;
    }
    key
}

fn damaged(row: i64) -> StoreError {
    StoreError::Damaged(format!("row {row} of the log does not match its checksum"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_bit_and_no_other_row_reads_as_events() {
        let texts = [Bytes::from_static(b"one"), Bytes::from_static(b"")];
        let mut bundle = Bundle::default();
        bundle.push(7, 3, &texts);
        bundle.push(8, 1, &texts[..1]);
        let (parts, data) = bundle.seal(5);
        let (parts, data) = (parts.to_vec(), data.to_vec());
        assert_eq!(events(5, &parts, &data, 7, 3).unwrap(), texts);
        assert_eq!(events(5, &parts, &data, 8, 1).unwrap(), texts[..1]);
        for (row, session, first) in [(6, 7, 3), (5, 7, 4), (5, 9, 3)] {
            assert!(events(row, &parts, &data, session, first).is_err());
        }
        for bit in 0..(parts.len() + data.len()) * 8 {
            let (mut parts, mut data) = (parts.clone(), data.clone());
            let byte = bit / 8;
            if byte < parts.len() {
                parts[byte] ^= 1 << (bit % 8)
            } else {
                data[byte - parts.len()] ^= 1 << (bit % 8)
            }
            assert!(events(5, &parts, &data, 7, 3).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_session_is_taken_out_and_its_neighbours_stay() {
        let texts = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let mut bundle = Bundle::default();
        for (session, first) in [(7, 3), (8, 1), (7, 5)] {
            bundle.push(session, first, &texts);
        }
        let (parts, data) = bundle.seal(5);
        let mut left = without(5, parts, data, 7).unwrap();
        let (parts, data) = left.seal(5);
        assert_eq!(events(5, parts, data, 8, 1).unwrap(), texts);
        assert!(events(5, parts, data, 7, 3).is_err());
        assert!(without(5, parts, data, 8).unwrap().is_empty());
    }
}
