//! A position in a session's log, together with the log's history.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of an event in its session, dense from 1. As a position, 0 is "before the first event".
pub type Seq = u64;

/// Names one incarnation of a log. It changes whenever the durable head may have gone back, so that a cursor from before
/// is recognised instead of pointing at other events. Lower-case letters and digits, at most 32.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[a-z0-9]{1,32}$"))]
pub struct Epoch(Box<str>);

impl Epoch {
    /// # Errors
    /// [`InvalidCursor`] unless the text is 1 to 32 lower-case letters and digits.
    pub fn new(text: &str) -> Result<Self, InvalidCursor> {
        let valid = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if valid { Ok(Self(text.into())) } else { Err(InvalidCursor) }
    }

    /// The epoch of a log from the number its session was created with and how often the store may have lost its head.
    pub fn derive(birth: u32, generation: u32) -> Self {
        if generation == 0 { Self(format!("{birth:08x}").into()) } else { Self(format!("{birth:08x}g{generation}").into()) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Epoch::new(&text).map_err(serde::de::Error::custom)
    }
}

/// `<epoch>.<seq>`: everything up to and including `seq` of that log has been read.
/// The same text is the WebSocket `after`, the SSE `id:` and `Last-Event-ID`, and the page token of REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which incarnation of the log.
    pub epoch: Epoch,
    /// The last event read; 0 for none.
    pub seq: Seq,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    /// # Errors
    /// [`InvalidCursor`] for anything but an epoch, one dot and a decimal number without sign or leading zero.
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (epoch, seq) = text.split_once('.').ok_or(InvalidCursor)?;
        let plain = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit()) && (seq == "0" || !seq.starts_with('0'));
        if !plain {
            return Err(InvalidCursor);
        }
        Ok(Self { epoch: Epoch::new(epoch)?, seq: seq.parse().map_err(|_| InvalidCursor)? })
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Cursor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cursor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A position in a session's log: `<epoch>.<seq>`.",
            "pattern": "^[a-z0-9]{1,32}\\.(0|[1-9][0-9]*)$"
        })
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of the form <epoch>.<seq>")]
pub struct InvalidCursor;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_spelling() {
        for text in ["a.0", "00ff12ab.17", "00ff12abg2.18446744073709551615"] {
            assert_eq!(text.parse::<Cursor>().map(|c| c.to_string()).as_deref(), Ok(text));
        }
        for text in ["", ".", "a", "a.", ".1", "a.01", "a.+1", "a.-1", "a.1.2", "A.1", "a b.1", "a.18446744073709551616", "a.1e3"] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text:?}");
        }
    }
}
