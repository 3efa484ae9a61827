//! What the hub and the process of a script say to each other: one request, then lines, the last of which is the end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// All that the child is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) code: String,
    /// Of the engine, in bytes.
    pub(super) memory: usize,
    pub(super) cpu: Duration,
    /// What may be printed, in bytes, and again what the result may have.
    pub(super) output: usize,
}

/// A line of the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// Printed.
    Say(String),
    /// Nothing follows.
    End(End),
}

/// How a script ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// With this value, as JSON text. `cut`: the value or what was printed was longer.
    Value { json: String, cut: bool },
    /// With what it threw.
    Thrown { text: String },
    /// It wanted more memory than there is.
    OutOfMemory,
    /// It computed for too long.
    OutOfTime,
    /// Its process is gone. Only the parent says so.
    Killed,
}
