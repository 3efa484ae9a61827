//! agent-hub: a WebSocket-first realtime hub for AI agents.

pub mod api;
pub mod provider;
pub mod runtime;
pub mod store;
pub mod transport;
