//! What every way in is given.

use std::{fmt, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{hosts::Hosts, origin::Origins, slots::Slots};
use crate::{
    app::App,
    runtime::{Hub, Plan, Principal},
};

/// How often an SSE stream without events says that it lives: well within the minute after which proxies give up.
const SSE_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Where the page that is being developed is usually served from.
const DEVELOPMENT_ORIGIN: &str = "http://localhost:3000";
/// Who somebody without credentials is in development, on the routes of systems that know none.
const DEVELOPMENT_USER: &str = "dev";

/// The hub as its edge sees it. Shared by all connections.
pub struct Edge {
    /// Everything that was made at start.
    pub app: Arc<App>,
    /// The runtime.
    pub hub: Hub,
    /// Pages that may talk to the hub.
    pub origins: Origins,
    /// Names the hub answers to.
    pub hosts: Hosts,
    /// Sockets that stay, per user and address.
    pub slots: Slots,
    /// How often an SSE stream without events says that it lives.
    pub sse_keep_alive: Duration,
    /// Cancelled when the hub begins to drain: streams end, nothing new is taken.
    pub stop: CancellationToken,
    /// Sockets that were upgraded; waited for at a drain.
    pub sockets: TaskTracker,
}

impl Edge {
    /// The edge of a hub.
    pub fn new(app: Arc<App>, stop: CancellationToken) -> Self {
        let server = &app.config.server;
        let own_page = app.config.is_development().then(|| DEVELOPMENT_ORIGIN.to_owned());
        Self {
            hub: app.hub.clone(),
            origins: Origins::new(server.allowed_origins.iter().cloned().chain(own_page)),
            hosts: Hosts::new(server.allowed_hosts.iter().cloned()),
            slots: Slots::new(server.connections_per_user, server.connections_per_address),
            sse_keep_alive: SSE_KEEP_ALIVE,
            stop,
            sockets: TaskTracker::new(),
            app,
        }
    }

    /// Whether tokens are given to anybody who asks.
    pub fn is_development(&self) -> bool {
        self.app.config.is_development()
    }

    /// Who somebody without credentials is on the routes of systems that know none; `None`: nobody, they need a token too.
    pub fn anonymous(&self) -> Option<Principal> {
        let (user, plan) = match &self.app.config.auth.anonymous {
            Some(user) => (user.clone(), Plan::Free),
            None if self.is_development() => (DEVELOPMENT_USER.to_owned(), Plan::Enterprise),
            None => return None,
        };
        Some(Principal::verified(user, plan, Vec::new(), None))
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("origins", &self.origins).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}
