//! agent-hub: a WebSocket-first realtime hub for AI agents.

pub mod provider;
pub mod runtime;
pub mod store;
