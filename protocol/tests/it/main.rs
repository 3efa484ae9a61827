//! What the messages of this version look like, and that every document about them says the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod documents;
mod golden_messages;
mod goldens;
mod properties;
mod protocol_text;
