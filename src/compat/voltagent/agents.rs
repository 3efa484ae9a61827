//! Which agents there are.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};

use super::{Reply, agent_not_found, views};
use crate::{
    runtime::agent::Agent,
    transport::{Edge, Problem, auth::Who},
};

/// List agents
#[utoipa::path(get, path = "/agents", tag = "Agent Management", responses((status = 200, description = "Agents", body = Reply)))]
pub(super) async fn list(State(edge): State<Arc<Edge>>, _: Who) -> Json<Reply> {
    let agents = edge.hub.agents();
    Reply::of(agents.iter().map(|agent| views::agent(agent, agents, false)).collect())
}

/// Describe an agent
#[utoipa::path(
    get, path = "/agents/{id}", tag = "Agent Management", params(("id" = String, Path)),
    responses((status = 200, description = "The agent", body = Reply), (status = 404, description = "Agent not found"))
)]
pub(super) async fn read(State(edge): State<Arc<Edge>>, _: Who, Path(id): Path<String>) -> Result<Json<Reply>, Problem> {
    let agents = edge.hub.agents();
    Ok(Reply::of(views::agent(&*find(&edge, &id)?, agents, true)))
}

/// The agent with this id.
///
/// # Errors
/// 404.
pub(super) fn find(edge: &Edge, id: &str) -> Result<Arc<Agent>, Problem> {
    edge.hub.agents().of_session(id).map_err(|_| agent_not_found())
}
