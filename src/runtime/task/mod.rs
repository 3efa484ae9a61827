//! One piece of work inside a session: model calls and tool calls, until there is nothing left to do.

mod runner;

pub(crate) use runner::{Bench, Delta, Report, Run};
