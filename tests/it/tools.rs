//! The built-in tools, run as the hub runs them.

mod clients;
#[cfg(feature = "js")]
mod code;
#[cfg(feature = "mcp")]
pub(crate) mod mcp;
mod web;

use agent_hub::tool::{Invocation, Output};
use agent_hub_protocol::{SessionId, TaskId};
use serde_json::Value;

/// A call by this user.
pub(crate) fn invocation(user: &str, arguments: &Value, output: Output) -> Invocation {
    let arguments = arguments.as_object().expect("an object").clone();
    Invocation { session: SessionId::random(), task: TaskId::random(), call_id: "c1".into(), user: user.into(), arguments, output }
}
