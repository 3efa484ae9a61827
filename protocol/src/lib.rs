//! The messages of `agent-hub.v1`, and nothing else: no sockets, no runtime, no files.
//!
//! Read in this order: [`client_message`] (what a client may send), [`server_message`] (what the hub answers about the
//! connection), [`event`] (what the session's log says), [`cursor`] (where a reader stands), [`error_code`] (what went wrong).
//! `PROTOCOL.md` beside this crate says when each message is allowed and what happens otherwise.

pub mod client_message;
pub mod complaint;
pub mod cursor;
pub mod error_code;
pub mod event;
pub mod ids;
pub mod limits;
pub mod schema;
pub mod server_message;
pub mod snapshot;
pub mod timestamp;
pub mod version;

pub use client_message::{ClientMessage, Command, CommandId, DecodeError};
pub use cursor::{Cursor, Epoch, InvalidCursor, Seq};
pub use error_code::{CloseCode, ErrorCode};
pub use event::{Event, EventBody, EventType};
pub use ids::{SessionId, TaskId};
pub use server_message::{ServerMessage, UnreadableMessage};
pub use snapshot::{MessageInfo, Snapshot, TaskInfo};
pub use timestamp::Timestamp;
pub use version::Version;
