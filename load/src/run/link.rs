//! What the coordinator and its load processes say to each other: one JSON document a line.

use serde::{Deserialize, Serialize};

use super::figures::Exported;

/// The first line to a load process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The scenario's text.
    pub scenario: String,
    /// Factor on all numbers of sockets.
    pub scale: f64,
    /// Of all random choices.
    pub seed: u64,
    /// Makes the ids of this run's sessions other than those of the run before.
    pub run: u64,
    /// This process: the `index`-th of `of`.
    pub index: usize,
    /// See `index`.
    pub of: usize,
    /// Source addresses; 0: the system chooses.
    pub sources: u8,
    /// `host:port`
    pub authority: String,
    /// One per user; sockets take turns.
    pub tokens: Vec<String>,
    /// When the run begins, in nanoseconds since 1970.
    pub begins_at: u64,
}

/// A further line to a load process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Everybody is there.
    Release(Meeting),
    /// The run is broken off.
    Stop,
}

/// A meeting of the sockets of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Meeting {
    /// The group.
    pub group: String,
    /// The meeting.
    pub name: String,
    /// How often it was there before, from 1.
    pub round: u32,
}

/// A line from a load process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// How it stands, once a second.
    Progress {
        /// The counters and the last second. Distributions are left out.
        so_far: Box<Exported>,
        /// Sockets whose script has ended.
        finished: usize,
    },
    /// All of its sockets are at a meeting.
    Met(Meeting),
    /// All of its sockets of a group have ended their scripts.
    Gone {
        /// The group.
        group: String,
    },
    /// It has ended; everything it found.
    Done {
        /// Found.
        found: Box<Exported>,
    },
    /// It cannot go on.
    Failed {
        /// Why.
        why: String,
    },
}
