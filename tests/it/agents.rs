//! Agents that act, as their users meet them.

mod sub_agents;
mod talk;
#[cfg(feature = "js")]
mod tools;
