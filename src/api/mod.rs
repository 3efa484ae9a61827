//! The native HTTP API: sessions and tasks, and what a client needs to find its way. Handlers check what they are given, ask the hub,
//! and write down what it says.

use std::sync::Arc;

use axum::{Router, middleware, response::IntoResponse};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::transport::{
    Edge, Problem,
    auth::{self, Access, AccessTable, Gate},
    guard::Guard,
};

mod admin;
mod client;
mod console;
mod discovery;
mod docs;
mod events;
mod identity;
mod sessions;
mod socket;
mod steering;
pub(crate) mod support;
mod tasks;
pub(crate) mod views;
mod wait;

pub use docs::document;

/// Routes, what they ask of a request, and what is written about them. Adapters and users of the library add theirs.
#[derive(Clone)]
pub struct Surface {
    /// The routes.
    pub router: Router,
    /// What they ask; a route that is not in it asks for a token.
    pub access: AccessTable,
    /// The OpenAPI document.
    pub document: OpenApi,
}

/// The native routes.
pub fn surface(edge: &Arc<Edge>) -> Surface {
    let (router, _) = documented(true).with_state(Arc::clone(edge)).split_for_parts();
    // What does not exist here is not written about; the gate answers for it.
    let document = documented(edge.settings.development).into_openapi();
    let router = router
        .route("/ws/agents", axum::routing::any(socket::agents))
        .route("/api/agents", axum::routing::any(discovery::latest_version))
        .route("/api/agents/", axum::routing::any(discovery::latest_version))
        .route("/api/agents/{*rest}", axum::routing::any(discovery::latest_version))
        .with_state(Arc::clone(edge));
    let access = AccessTable::default()
        .with("/health", Access::Public)
        .with("/ready", Access::Public)
        .with("/api/agents", Access::Public)
        .with("/api/agents/", Access::Public)
        .with("/api/agents/{*rest}", Access::Public)
        .with("/metrics", Access::Metrics)
        .with("/admin/sessions", Access::Admin)
        .with("/admin/sessions/{id}", Access::Admin)
        .with("/admin/sessions/{id}/end", Access::Admin)
        .with("/admin/tasks/{taskId}", Access::Admin)
        .with("/admin/tasks/{taskId}/cancel", Access::Admin)
        .with("/admin/overview", Access::Admin)
        .with("/admin/drain", Access::Admin)
        .with("/auth/token", Access::Development)
        .with("/ws/agents", Access::Socket)
        .with("/api/v1/agents/tasks/{taskId}/stream", Access::TokenOrQuery)
        .with("/api/v1/agents/sessions/{id}/events", Access::TokenOrQuery);
    Surface { router, access, document }
}

/// All of it, ready to be served: the native routes with those of `others`, the documents about them, and the console.
pub fn service(edge: &Arc<Edge>, others: impl IntoIterator<Item = Surface>) -> Guard {
    let mut all = surface(edge);
    for other in others {
        all.router = all.router.merge(other.router);
        all.access = all.access.merged(other.access);
        all.document.merge(other.document);
    }
    let Surface { router, access, document } = all;
    let (docs, docs_access) = docs::routes(&docs::finished(document), edge.settings.development);
    let (console, console_access) = console::routes();
    let (client, client_access) = client::routes();
    let table = Arc::new(access.merged(docs_access).merged(console_access).merged(client_access));
    let gate = Gate { edge: Arc::clone(edge), table };
    let router = router
        .merge(docs)
        .merge(console)
        .merge(client)
        .fallback(|| async { Problem::not_found().into_response() })
        .layer(middleware::from_fn_with_state(gate, auth::authenticate));
    Guard::new(Arc::clone(edge), router)
}

/// The routes that are written about, with or without those of development mode.
fn documented(development: bool) -> OpenApiRouter<Arc<Edge>> {
    let routes = OpenApiRouter::new();
    let routes = if development { routes.routes(routes!(identity::token)) } else { routes };
    routes
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::read, sessions::update, sessions::delete))
        .routes(routes!(sessions::end))
        .routes(routes!(tasks::submit))
        .routes(routes!(tasks::read, tasks::delete))
        .routes(routes!(tasks::stream))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::replay))
        .routes(routes!(steering::steer))
        .routes(routes!(steering::respond))
        .routes(routes!(steering::suspend))
        .routes(routes!(steering::resume))
        .routes(routes!(events::messages))
        .routes(routes!(events::events))
        .routes(routes!(discovery::capabilities))
        .routes(routes!(identity::ticket))
        .routes(routes!(identity::revoke))
        .routes(routes!(admin::sessions))
        .routes(routes!(admin::end))
        .routes(routes!(admin::erase))
        .routes(routes!(admin::task))
        .routes(routes!(admin::cancel))
        .routes(routes!(admin::overview))
        .routes(routes!(admin::drain))
        .routes(routes!(discovery::health))
        .routes(routes!(discovery::ready))
        .routes(routes!(discovery::metrics))
}
