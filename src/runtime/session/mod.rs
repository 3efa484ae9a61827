//! One conversation: its state (pure), its actor (the only writer of its log), and the handle others hold.

mod actor;
mod entry;
mod handle;
mod load;
mod pages;
mod request;
mod state;

pub(crate) use actor::spawn;
pub(crate) use entry::TaskEntry;
pub(crate) use handle::{Inbox, PostError, SessionHandle};
pub(crate) use pages::{events, message_page, unreadable};
pub use request::{After, Attach, Attached, Change, Done, MessagePage, SessionView, TaskView};
pub(crate) use request::{Ask, Envelope};
pub(crate) use state::{Call, CallReport, ModelAsk, Rules, Work};
