//! Who asks. Everything that is not listed needs a token: a new route is closed until somebody opens it.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use agent_hub_protocol::ErrorCode;
use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};
use secrecy::ExposeSecret;

use super::{
    client_address::ClientAddress,
    credentials::{AuthorizationHeader, PresentedCredentials},
    edge::Edge,
    failed_auth::FailedAuth,
    origin::RequestOrigin,
    problem::Problem,
};
use crate::runtime::{Hub, Principal, Refusal};

/// The scope that opens `/metrics` to those who are not on this machine.
const METRICS_SCOPE: &str = "metrics";
/// For everybody's sessions and tasks.
const ADMIN_SCOPE: &str = "admin";

/// What a route asks of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing, from any page.
    Public,
    /// Nothing, but from allowed pages only; exists in development alone.
    Development,
    /// Checks credentials itself: a socket says what is wrong by its close code.
    Socket,
    /// The machine itself, or the scope `metrics`.
    Metrics,
    /// A token with the scope `admin`, in the `Authorization` header.
    Admin,
    /// A token in the `Authorization` header.
    Token,
    /// The same, or `?token=`, because an `EventSource` sends no headers.
    TokenOrQuery,
    /// A token if there is one; otherwise whoever somebody without credentials is. For systems that know no authentication.
    Adapter,
}

/// What each route asks, by its pattern; every other one asks for a token.
#[derive(Clone, Debug, Default)]
pub struct AccessTable(HashMap<Cow<'static, str>, Access>);

impl AccessTable {
    /// With one more route.
    #[must_use]
    pub fn with(mut self, pattern: impl Into<Cow<'static, str>>, access: Access) -> Self {
        self.0.insert(pattern.into(), access);
        self
    }

    /// With the routes of another table.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What the route with this pattern asks.
    pub fn of(&self, pattern: &str) -> Access {
        self.0.get(pattern).copied().unwrap_or(Access::Token)
    }
}

/// What the layer works with.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The edge.
    pub edge: Arc<Edge>,
    /// The table.
    pub table: Arc<AccessTable>,
}

/// The verified user of a request. Handlers get it from here and nowhere else.
#[derive(Clone, Debug)]
pub struct Who(pub Principal);

/// The layer. Behind the router, so that it sees the route's pattern and not what a path looks like.
pub async fn authenticate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let Some(pattern) = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()) else {
        // No route: there is nothing behind the door, so it is not locked.
        return next.run(request).await;
    };
    match admit(&gate, &pattern, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn admit(gate: &Gate, pattern: &str, request: &mut Request) -> Result<(), Problem> {
    let access = gate.table.of(pattern);
    if access == Access::Public {
        return Ok(());
    }
    let foreign = request.extensions().get::<RequestOrigin>() == Some(&RequestOrigin::Foreign);
    // A socket closes itself with the code that says so.
    if foreign && access != Access::Socket {
        return Err(foreign_origin());
    }
    let credentials = request.extensions().get::<PresentedCredentials>().cloned().unwrap_or_default();
    let Some(from) = request.extensions().get::<ClientAddress>().copied() else {
        return Err(missing());
    };
    let who = match access {
        Access::Public | Access::Socket => return Ok(()),
        Access::Development if gate.edge.settings.development => return Ok(()),
        Access::Development => return Err(Problem::not_found()),
        Access::Metrics if from.is_direct_loopback() => return Ok(()),
        Access::Metrics => scoped(by_token(&gate.edge, &credentials, &from, false).await?, METRICS_SCOPE)?,
        Access::Admin => scoped(by_token(&gate.edge, &credentials, &from, false).await?, ADMIN_SCOPE)?,
        Access::Token => by_token(&gate.edge, &credentials, &from, false).await?,
        Access::TokenOrQuery => by_token(&gate.edge, &credentials, &from, gate.edge.settings.query_token).await?,
        Access::Adapter if no_token(&credentials) => gate.edge.identify.anonymous().ok_or_else(missing)?,
        Access::Adapter => by_token(&gate.edge, &credentials, &from, gate.edge.settings.query_token).await?,
    };
    request.extensions_mut().insert(Who(who));
    Ok(())
}

/// Refuses a page that is not on the list.
pub fn foreign_origin() -> Problem {
    Problem::new(ErrorCode::Forbidden, "Not allowed by CORS")
}

/// Lets the user in whom credentials turned out to be of (`None`: nobody), unless they were revoked. Every failure counts for the
/// address, and all look the same.
///
/// # Errors
/// `unauthorized`; `rate_limited` when the address has failed too often; `overloaded` when it cannot be known whether they were revoked.
pub async fn let_in(found: Option<Principal>, hub: &Hub, failed: &FailedAuth, from: &ClientAddress) -> Result<Principal, Refusal> {
    match found {
        Some(who) if !hub.is_revoked(&who).await? => Ok(who),
        _ => Err(failed.refuse(from)),
    }
}

fn missing() -> Problem {
    Problem::new(ErrorCode::Unauthorized, "Missing or invalid authorization header")
}

fn no_token(credentials: &PresentedCredentials) -> bool {
    matches!(credentials.header, AuthorizationHeader::Missing) && credentials.query_token.is_none()
}

async fn by_token(edge: &Edge, credentials: &PresentedCredentials, from: &ClientAddress, query: bool) -> Result<Principal, Problem> {
    let token = match (&credentials.header, &credentials.query_token) {
        (AuthorizationHeader::Bearer(token), _) => token,
        (AuthorizationHeader::Missing, Some(token)) if query => token,
        _ => return Err(missing()),
    };
    let found = edge.identify.verify(token.expose_secret());
    Ok(let_in(found, &edge.hub, &edge.failed_auth, from).await?)
}

fn scoped(who: Principal, scope: &str) -> Result<Principal, Problem> {
    if who.has_scope(scope) { Ok(who) } else { Err(Problem::new(ErrorCode::Forbidden, "Access denied")) }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Who>().cloned().ok_or_else(missing)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Put there by the guard, which every request passes.
        parts.extensions.get::<ClientAddress>().copied().ok_or_else(|| Problem::new(ErrorCode::Internal, "Internal server error"))
    }
}
