//! What every way in is given.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use ipnet::IpNet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{Drain, SocketSettings},
    failed_auth::FailedAuth,
    hosts::Hosts,
    origin::Origins,
    slots::Slots,
};
use crate::{
    dependencies::Dependencies,
    runtime::{Hub, Plan, Principal},
};

/// The hub as its edge sees it. Shared by all connections.
pub struct Edge {
    /// The runtime.
    pub hub: Hub,
    /// Turns credentials into users.
    pub identify: Arc<dyn Identify>,
    /// Pages that may talk to the hub.
    pub origins: Origins,
    /// Names the hub answers to.
    pub hosts: Hosts,
    /// Numbers and switches.
    pub settings: EdgeSettings,
    /// Sockets that stay, per user and address.
    pub slots: Slots,
    /// Failures to authenticate, per address.
    pub failed_auth: Arc<FailedAuth>,
    /// Measurements in Prometheus' text form; `None` where none are taken.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// What agents need besides the hub.
    pub dependencies: Dependencies,
    /// Cancelled when the hub begins to drain: streams end, nothing new is taken.
    pub stop: CancellationToken,
    /// Sockets that were upgraded; waited for at a drain.
    pub sockets: TaskTracker,
    /// How sockets work.
    pub socket: Arc<SocketSettings>,
    /// How they are told that the hub stops.
    pub drain: Drain,
    /// Sockets ever opened; the next one's number.
    pub opened: AtomicU64,
}

/// What an [`Edge`] is made of.
pub struct EdgeParts {
    /// The runtime.
    pub hub: Hub,
    /// Turns credentials into users.
    pub identify: Arc<dyn Identify>,
    /// Pages that may talk to the hub besides its own.
    pub origins: Origins,
    /// Names the hub answers to besides the loopback ones.
    pub hosts: Hosts,
    /// Numbers and switches.
    pub settings: EdgeSettings,
    /// See [`Edge::metrics`].
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// What agents need besides the hub.
    pub dependencies: Dependencies,
    /// How sockets work.
    pub socket: SocketSettings,
    /// How they are told that the hub stops.
    pub drain: Drain,
    /// See [`Edge::stop`].
    pub stop: CancellationToken,
}

/// Numbers and switches of the edge.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Whether `/auth/token` exists.
    pub development: bool,
    /// Whether `?token=` is accepted where a browser cannot send a header.
    pub query_token: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// From the head of a request to its whole body.
    pub body_timeout: Duration,
    /// Sockets that stay, of one user; `None`: not bounded.
    pub sockets_per_user: Option<u32>,
    /// Sockets that stay, of one address; `None`: not bounded.
    pub sockets_per_address: Option<u32>,
    /// How often an SSE stream without events says that it lives.
    pub sse_keep_alive: Duration,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            development: false,
            query_token: true,
            trusted_proxies: Vec::new(),
            body_bytes: agent_hub_protocol::limits::MESSAGE_BYTES,
            body_timeout: Duration::from_secs(15),
            sockets_per_user: Some(20),
            sockets_per_address: Some(100),
            sse_keep_alive: Duration::from_secs(15),
        }
    }
}

/// Turns credentials into users. Every refusal looks the same, so that nothing is learned from it.
pub trait Identify: Send + Sync + 'static {
    /// The user a token stands for; `None` for anything but a valid one.
    fn verify(&self, token: &str) -> Option<Principal>;

    /// The user a single-use ticket stands for; `None` if it was never given out, was used or has expired.
    fn redeem_ticket(&self, ticket: &str, origin: Option<&str>) -> Option<Principal>;

    /// A single-use ticket for a socket, and how long it is good for; bound to `origin` if there is one.
    fn issue_ticket(&self, who: &Principal, origin: Option<&str>) -> Result<(String, Duration), crate::runtime::Refusal>;

    /// A token for anybody; `None` outside development.
    fn mint(&self, user: &str, plan: Plan) -> Option<String>;

    /// Who somebody without credentials is on the routes of systems that know none; `None`: nobody.
    fn anonymous(&self) -> Option<Principal>;
}

impl Edge {
    /// An edge of these parts.
    pub fn new(parts: EdgeParts) -> Arc<Self> {
        let EdgeParts { hub, identify, origins, hosts, settings, metrics, dependencies, socket, drain, stop } = parts;
        let slots = Slots::new(settings.sockets_per_user, settings.sockets_per_address);
        let failed_auth = Arc::new(FailedAuth::new(hub.settings().rates.map(|rates| rates.failed_auth_per_minute)));
        Arc::new(Self {
            hub,
            identify,
            origins,
            hosts,
            settings,
            slots,
            failed_auth,
            metrics,
            dependencies,
            stop,
            sockets: TaskTracker::new(),
            socket: Arc::new(socket),
            drain,
            opened: AtomicU64::new(0),
        })
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("settings", &self.settings).finish_non_exhaustive()
    }
}
