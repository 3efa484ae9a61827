//! The hub as its users meet it: real sockets, real files, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod agents;
mod cli;
mod compat;
mod config;
mod conformance;
mod dependencies;
mod deviations;
mod harness;
mod http;
mod layers;
mod library;
mod provider;
mod resume;
mod soak_small;
mod support;
mod tools;
mod trouble;
mod workflows;
mod ws;
