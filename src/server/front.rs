//! Puts the transports on: the listening socket, everything in [`App`], and the signal to stop.

use std::{io, sync::Arc, time::Duration};

use agent_hub_protocol::Timestamp;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Listener;
use crate::{
    api::{self, Surface},
    app::App,
    compat,
    dependencies::Dependencies,
    runtime::{Hub, Plan, Principal, Refusal},
    transport::{
        Edge, EdgeParts, EdgeSettings,
        connection::{Drain, SocketSettings},
        edge::Identify,
        front::{self, FrontSettings},
        hosts::Hosts,
        origin::Origins,
    },
};

/// Sockets leave in this many batches, so that they do not all come back at once.
const BATCHES: usize = 10;
/// Between two batches.
const BATCH_PAUSE: Duration = Duration::from_millis(100);
/// Reconnects are spread over this time.
const RECONNECT_SPREAD: Duration = Duration::from_secs(2);
/// How often a drain looks whether the last task has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a development token is good for (the seed's).
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The page a developer's own front end is served from (the seed's default).
const DEVELOPMENT_ORIGIN: &str = "http://localhost:3000";

/// Serves connections until `stop`, then drains: tells sockets to come back, lets tasks end that are about to, closes sockets in
/// batches. At most `config.server.drain`.
///
/// # Errors
/// When the listener fails; the drain is the same.
pub(super) async fn serve(app: Arc<App>, listener: Listener, custom: Surface, stop: CancellationToken) -> io::Result<()> {
    let edge = Edge::new(edge_parts(&app, stop.clone()));
    let guard = api::service(&edge, compat::surfaces(&edge).into_iter().chain([custom]));
    let settings = front_settings(&app);
    // Not a child of `stop`: the listener must not end before it is known why.
    let stop_accepting = CancellationToken::new();
    let connections = front::serve(listener.socket, guard, settings, stop_accepting.clone());
    tokio::pin!(connections);
    let mut ended = None;
    let failed = tokio::select! {
        () = stop.cancelled() => false,
        () = stop_accepting.cancelled() => true,
        result = &mut connections => {
            ended = Some(result);
            true
        }
    };
    if failed {
        tracing::error!("the listener failed; stopping, so that something can start this hub anew");
    }
    stop_accepting.cancel();
    let deadline = Instant::now() + app.config.server.drain;
    let last_connections = async {
        match ended {
            Some(result) => result,
            None => connections.await,
        }
    };
    let drained = async { tokio::join!(last_connections, drain(&app.hub, &edge, deadline)).0 };
    timeout_at(deadline, drained).await.unwrap_or_else(|_| {
        tracing::warn!("some connections did not end in time and are cut");
        if failed { Err(io::Error::other("it does not listen any more")) } else { Ok(()) }
    })
}

async fn drain(hub: &Hub, edge: &Edge, deadline: Instant) {
    edge.drain.announce.cancel();
    edge.sockets.close();
    // Most of the time is for the tasks: what ends now need not be run again by the next start.
    let left = deadline.saturating_duration_since(Instant::now());
    let patience = Instant::now() + left.mul_f64(0.6);
    while hub.running_tasks() > 0 && Instant::now() < patience {
        sleep(LOOK_EVERY).await;
    }
    for batch in edge.drain.batches.iter() {
        if edge.sockets.is_empty() {
            return;
        }
        batch.cancel();
        sleep(BATCH_PAUSE).await;
    }
    edge.sockets.wait().await;
}

/// What the edge of this hub is made of, as the configuration says.
pub fn edge_parts(app: &Arc<App>, stop: CancellationToken) -> EdgeParts {
    let (config, server) = (&app.config, &app.config.server);
    let development = config.is_development();
    let own_page = development.then(|| DEVELOPMENT_ORIGIN.to_owned());
    let metrics = app.metrics.clone();
    EdgeParts {
        hub: app.hub.clone(),
        identify: Arc::new(Identities(Arc::clone(app))),
        origins: Origins::new(server.allowed_origins.iter().cloned().chain(own_page)),
        hosts: Hosts::new(server.allowed_hosts.iter().cloned()),
        settings: EdgeSettings {
            development,
            query_token: config.auth.query_token,
            trusted_proxies: server.trusted_proxies.clone(),
            body_bytes: server.message_bytes,
            body_timeout: server.body_timeout,
            sockets_per_user: server.connections_per_user,
            sockets_per_address: server.connections_per_address,
            sse_keep_alive: server.sse_keep_alive,
        },
        metrics: Some(Arc::new(move || metrics.render())),
        dependencies: Dependencies::new(config.dependencies.clone()),
        socket: SocketSettings {
            heartbeat: server.heartbeat,
            stall_timeout: server.stall_timeout,
            window: server.socket_window,
            message_bytes: server.message_bytes,
            attached_sessions: server.attached_sessions,
            message_rate: server.message_rate.map(|rate| (rate.per_second, rate.burst)),
            max_age: server.max_socket_age,
        },
        drain: Drain::new(BATCHES, RECONNECT_SPREAD),
        stop,
    }
}

/// How connections are treated, as the configuration says.
pub fn front_settings(app: &App) -> FrontSettings {
    let server = &app.config.server;
    FrontSettings {
        max_connections: server.max_connections,
        // A tenth more, of which each only gets to hear that there is no room.
        reserve: (server.max_connections / 10).clamp(16, 1024),
        header_timeout: server.header_timeout,
        idle_timeout: server.idle_timeout,
        stall_timeout: server.stall_timeout,
        send_buffer: server.send_buffer,
    }
}

/// Tokens and tickets, as the edge asks for them.
struct Identities(Arc<App>);

impl Identify for Identities {
    fn verify(&self, token: &str) -> Option<Principal> {
        self.0.auth.verify(token).ok()
    }

    fn redeem_ticket(&self, ticket: &str, origin: Option<&str>) -> Option<Principal> {
        self.0.tickets.redeem(ticket, origin)
    }

    fn issue_ticket(&self, who: &Principal, origin: Option<&str>) -> Result<(String, Duration), Refusal> {
        self.0.tickets.issue(who, origin).map(|ticket| (ticket.ticket, ticket.expires_in))
    }

    fn mint(&self, user: &str, plan: Plan) -> Option<String> {
        let auth = &self.0.auth;
        auth.is_development().then(|| auth.mint(user, plan, &[], TOKEN_LIFETIME).ok()).flatten()
    }

    fn anonymous(&self) -> Option<Principal> {
        let user = self.0.config.auth.anonymous.clone()?;
        // Good for as long as the request; it has no token that could expire.
        Some(Principal::verified(user, Plan::Enterprise, Vec::new(), None::<Timestamp>))
    }
}
