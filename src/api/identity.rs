//! Tokens for development, tickets for sockets, and the end of a token before its time.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::docs::CommonErrors;
use crate::{
    runtime::Plan,
    transport::{Edge, Problem, auth::Who, json::ApiJson, origin::RequestOrigin},
};

const MAX_USER_CHARS: usize = 200;

/// Whom the token is for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TokenBody {
    /// The user; `user-1` otherwise.
    user_id: Option<String>,
    /// `free`, `pro` or `enterprise`; `enterprise` otherwise.
    plan: Option<String>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Token {
    /// For `Authorization: Bearer …`.
    token: String,
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ticket {
    /// For `/ws/agents?ticket=…`, once.
    ticket: String,
    /// Seconds it is good for.
    expires_in: u64,
}

/// Get a token
///
/// In development mode only.
#[utoipa::path(
    post, path = "/auth/token", tag = "Identity", request_body = TokenBody,
    responses((status = 200, description = "A token", body = Token), CommonErrors)
)]
pub(super) async fn token(State(edge): State<Arc<Edge>>, ApiJson(body): ApiJson<TokenBody>) -> Result<Json<Token>, Problem> {
    let user = body.user_id.unwrap_or_else(|| "user-1".to_owned());
    if user.is_empty() || user.chars().count() > MAX_USER_CHARS || user.chars().any(char::is_control) {
        return Err(Problem::invalid("userId", format!("userId must be 1 to {MAX_USER_CHARS} characters")));
    }
    let plan = body.plan.as_deref().map_or(Plan::Enterprise, Plan::from_claim);
    let token = edge.identify.mint(&user, plan).ok_or_else(Problem::not_found)?;
    Ok(Json(Token { token }))
}

/// Get a ticket for a WebSocket
///
/// Good for one connection within seconds, so that no token has to stand in a URL.
#[utoipa::path(
    post, path = "/auth/ticket", tag = "Identity",
    responses((status = 200, description = "A ticket", body = Ticket), CommonErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn ticket(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Extension(origin): Extension<RequestOrigin>,
) -> Result<Json<Ticket>, Problem> {
    let origin = match &origin {
        RequestOrigin::Allowed(origin) => origin.to_str().ok(),
        RequestOrigin::None | RequestOrigin::Foreign => None,
    };
    let (ticket, good_for) = edge.identify.issue_ticket(&who, origin)?;
    Ok(Json(Ticket { ticket, expires_in: good_for.as_secs() }))
}

/// Revoke the token of this request
///
/// From now on it is refused like any other that does not hold, also after a restart, until it would have expired; so are tickets that were
/// given for it. Sockets that stand on it are closed with 4001, event streams end. A token can be revoked if it has a `jti`.
#[utoipa::path(
    post, path = "/auth/revoke", tag = "Identity",
    responses((status = 204, description = "The token is revoked"), CommonErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn revoke(State(edge): State<Arc<Edge>>, Who(who): Who) -> Result<StatusCode, Problem> {
    edge.hub.revoke(&who).await?;
    Ok(StatusCode::NO_CONTENT)
}
