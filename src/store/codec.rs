//! How the stores that keep bytes write things down: small integers, texts of events, records, values. Everything that is
//! shown to somebody later carries a checksum over itself and over where it belongs, so that neither a flipped bit nor a
//! row in the wrong place is ever taken for an event.

use std::borrow::Cow;

use agent_hub_protocol::{SessionId, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{SessionRecord, Space, StoreError};

/// Bytes of a checksum.
const CRC_BYTES: usize = 4;

/// Appends `value` in 7-bit groups, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a [`put_varint`] off the front; `None` if there is none.
pub(super) fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (place, byte) in from.iter().enumerate().take(10) {
        let group = u64::from(byte & 0x7f);
        let shifted = group.checked_shl(7 * place as u32)?;
        if shifted >> (7 * place) != group {
            return None;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            *from = &from[place + 1..];
            return Some(value);
        }
    }
    None
}

/// Takes `count` bytes off the front; `None` if there are fewer.
pub(super) fn take_bytes<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

/// A record without its id, which is the key it is kept under and may be an id that no longer parses.
#[derive(Serialize, Deserialize)]
struct RecordBody<'a> {
    #[serde(borrow)]
    owner: Cow<'a, str>,
    birth: u32,
    agent: Cow<'a, str>,
    name: Option<Cow<'a, str>>,
    tags: Cow<'a, [String]>,
    task_count: u32,
    unfinished: u32,
    ended: bool,
    had_socket: bool,
    /// Milliseconds, and so is the next.
    created_at: i64,
    updated_at: i64,
}

/// A record as bytes, sealed to its session.
pub(super) fn encode_record(id: SessionId, record: &SessionRecord) -> Vec<u8> {
    let body = RecordBody {
        owner: Cow::Borrowed(&record.owner),
        birth: record.birth,
        agent: Cow::Borrowed(&record.agent),
        name: record.name.as_deref().map(Cow::Borrowed),
        tags: Cow::Borrowed(&record.tags),
        task_count: record.task_count,
        unfinished: record.unfinished,
        ended: record.ended,
        had_socket: record.had_socket,
        created_at: record.created_at.as_millis(),
        updated_at: record.updated_at.as_millis(),
    };
    let mut out = vec![0; CRC_BYTES];
    // Writing plain strings and numbers to memory cannot fail; if it did, the record would read as damaged, not as another.
    let _ = serde_json::to_writer(&mut out, &body);
    seal(&mut out, id.as_uuid().as_bytes());
    out
}

/// # Errors
/// [`StoreError::Damaged`] unless `data` is what [`encode_record`] wrote for this session.
pub(super) fn decode_record(id: SessionId, data: &[u8]) -> Result<SessionRecord, StoreError> {
    let damaged = || StoreError::Damaged(format!("the record of session {id} does not match its checksum"));
    let body = open_seal(data, id.as_uuid().as_bytes()).ok_or_else(damaged)?;
    let body: RecordBody<'_> = serde_json::from_slice(body).map_err(|_| damaged())?;
    Ok(SessionRecord {
        id,
        owner: body.owner.into_owned(),
        birth: body.birth,
        agent: body.agent.into_owned(),
        name: body.name.map(Cow::into_owned),
        tags: body.tags.into_owned(),
        task_count: body.task_count,
        unfinished: body.unfinished,
        ended: body.ended,
        had_socket: body.had_socket,
        created_at: Timestamp::from_millis(body.created_at),
        updated_at: Timestamp::from_millis(body.updated_at),
    })
}

/// An entry's value as bytes, sealed to its key.
pub(super) fn encode_value(space: Space, key: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(CRC_BYTES + value.len());
    out.extend_from_slice(&[0; CRC_BYTES]);
    out.extend_from_slice(value);
    seal(&mut out, &entry_key(space, key));
    out
}

/// # Errors
/// [`StoreError::Damaged`] unless `data` is what [`encode_value`] wrote for this key.
pub(super) fn decode_value(space: Space, key: &str, data: &[u8]) -> Result<Bytes, StoreError> {
    match open_seal(data, &entry_key(space, key)) {
        Some(value) => Ok(Bytes::copy_from_slice(value)),
        None => Err(StoreError::Damaged(format!("the entry {space:?} {key} does not match its checksum"))),
    }
}

fn entry_key(space: Space, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(space as u8);
    out.extend_from_slice(key.as_bytes());
    out
}

/// Fills in the checksum at the front of `out`, over `key` and what follows.
pub(super) fn seal(out: &mut [u8], key: &[u8]) {
    let crc = keyed_crc(key, &out[CRC_BYTES..]);
    out[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// What a [`seal`] guards, if it holds.
pub(super) fn open_seal<'a>(data: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    check_sum(data, |body| keyed_crc(key, body))
}

fn keyed_crc(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

fn check_sum(data: &[u8], crc: impl FnOnce(&[u8]) -> u32) -> Option<&[u8]> {
    let (written, body) = data.split_first_chunk::<CRC_BYTES>()?;
    (crc(body) == u32::from_le_bytes(*written)).then_some(body)
}

/// A counter after adding `by`: decimal text, never below 0, stopping at the largest number instead of wrapping.
///
/// # Errors
/// [`StoreError::Failed`] when the entry holds something else than a counter.
pub(super) fn add_to_counter(now: Option<&[u8]>, by: i64) -> Result<Bytes, StoreError> {
    let before = match now {
        None => 0,
        Some(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or_else(|| StoreError::Failed("the entry to add to is not a counter".into()))?,
    };
    Ok(Bytes::from(before.saturating_add(by).max(0).to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_cut_ones_do_not() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(take_varint(&mut out.as_slice()), Some(value));
            assert_eq!(take_varint(&mut &out[..out.len() - 1]), None);
        }
        assert_eq!(take_varint(&mut [0xff; 12].as_slice()), None, "longer than any number");
    }

    #[test]
    fn a_counter_stays_between_zero_and_the_largest_number() {
        assert_eq!(add_to_counter(None, 2).unwrap(), "2");
        assert_eq!(add_to_counter(Some(b"2"), -5).unwrap(), "0");
        assert_eq!(add_to_counter(Some(b"9223372036854775807"), 1).unwrap(), "9223372036854775807");
        assert!(add_to_counter(Some(b"two"), 1).is_err());
    }
}
