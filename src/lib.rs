//! agent-hub: a WebSocket-first realtime hub for AI agents.

pub mod api;
pub mod app;
pub mod auth;
pub mod config;
pub mod provider;
pub mod runtime;
pub mod store;
pub mod telemetry;
pub mod transport;
