//! agent-hub: a WebSocket-first realtime hub for AI agents.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod provider;
pub mod runtime;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod transport;
