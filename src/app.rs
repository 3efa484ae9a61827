//! Everything a way in needs, made once at start.

use std::{sync::Arc, time::Instant};

use crate::{
    auth::{Authenticator, Tickets},
    config::Config,
    runtime::Hub,
    telemetry::MetricsHandle,
};

/// What every transport is given. Shared as `Arc<App>`.
#[derive(Debug)]
pub struct App {
    /// The runtime.
    pub hub: Hub,
    /// Checks and mints tokens.
    pub auth: Arc<Authenticator>,
    /// Tickets that wait to be used.
    pub tickets: Tickets,
    /// What the hub was told.
    pub config: Config,
    /// Renders `/metrics`.
    pub metrics: MetricsHandle,
    /// When the process began to serve.
    pub started_at: Instant,
}
