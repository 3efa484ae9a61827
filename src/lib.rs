//! agent-hub: a WebSocket-first realtime hub for AI agents.
//!
//! Read in this order: [`runtime`] (what happens), [`store`] and [`provider`] (where it lives, who answers), [`transport`] and
//! [`api`] (the ways in), [`config`], [`server`] (how it is put together).

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod compat;
pub mod config;
pub mod dependencies;
pub mod duration;
pub mod expression;
pub mod outbound;
pub mod provider;
pub mod runtime;
pub mod schema;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod tool;
pub mod transport;
pub mod workflow;
pub mod workspace;

pub use server::{HubBuilder, Route};
