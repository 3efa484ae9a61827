//! VoltAgent's core API: agents that answer with text or objects, whole or as streams, and workflows that can be suspended.
//!
//! `docs/voltagent.md` lists where the real one and its documents disagree, and where this differs from both on purpose.

mod agents;
mod answer;
mod chat;
mod executions;
mod generation;
mod history;
mod input;
mod narrator;
mod story;
mod tools;
mod views;
mod workflows;

use std::sync::Arc;

use agent_hub_protocol::ErrorCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::Surface,
    compat::run,
    transport::{
        Edge, Problem,
        auth::{Access, AccessTable},
    },
};

/// Says in metadata whose words a session or task goes by.
const DIALECT: &str = "voltagent";

/// A reply that says what was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct Reply {
    /// Always true.
    success: bool,
    /// What was asked for.
    data: Value,
}

impl Reply {
    const fn of(data: Value) -> axum::Json<Self> {
        axum::Json(Self { success: true, data })
    }
}

/// The routes.
pub fn surface(edge: &Arc<Edge>) -> Surface {
    let (router, document) = OpenApiRouter::new()
        .routes(routes!(agents::list))
        .routes(routes!(agents::read))
        .routes(routes!(generation::text))
        .routes(routes!(generation::stream))
        .routes(routes!(generation::object))
        .routes(routes!(generation::stream_object))
        .routes(routes!(history::of_agent))
        .routes(routes!(chat::send))
        .routes(routes!(chat::attach, chat::stop))
        .routes(routes!(tools::list))
        .routes(routes!(tools::execute))
        .routes(routes!(workflows::list))
        // Before the routes with an id, which would take them for one.
        .routes(routes!(executions::list))
        .routes(routes!(workflows::read))
        .routes(routes!(history::of_workflow))
        .routes(routes!(workflows::execute))
        .routes(routes!(workflows::stream))
        .routes(routes!(executions::suspend))
        .routes(routes!(executions::resume))
        .routes(routes!(executions::cancel))
        .routes(routes!(executions::replay))
        .routes(routes!(executions::state))
        .routes(routes!(executions::attach))
        .with_state(Arc::clone(edge))
        .split_for_parts();
    // Calling a tool by hand passes by what agents ask people first, so it takes a token also where adapters take none.
    let open = document.paths.paths.keys().filter(|path| *path != "/tools/{name}/execute").cloned();
    let access = open.fold(AccessTable::default(), |table, path| table.with(path, Access::Adapter));
    Surface { router, access, document }
}

/// The id that stands for one of the API's own, of this kind and under these names; the same for the same user.
fn id_of(user: &str, kind: &str, names: &[&str]) -> uuid::Uuid {
    run::id_of(user, DIALECT, kind, names)
}

fn agent_not_found() -> Problem {
    Problem::new(ErrorCode::NotFound, "Agent not found")
}

/// A text among options.
fn text_of(options: &Map<String, Value>, name: &str) -> Option<String> {
    options.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}
