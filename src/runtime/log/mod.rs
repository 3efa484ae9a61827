//! The one reading path: a position in a session's log, then live.

mod reader;
mod tail;

pub use reader::{ReadError, Reader};
pub use tail::{LogEvent, Tail, TailEnd};
