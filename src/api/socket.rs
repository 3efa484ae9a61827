//! The route of the WebSocket: hands the request over.

use std::sync::Arc;

use agent_hub_protocol::CloseCode;
use axum::{
    extract::{Request, State},
    response::Response,
};
use hyper::upgrade::OnUpgrade;

use super::support::ApiQuery;
use crate::transport::{
    Edge, Problem,
    client_address::ClientAddress,
    credentials::PresentedCredentials,
    front::ConnectionPermit,
    origin::RequestOrigin,
    ws::{self, WsQuery, WsRequest},
};

/// `GET /ws/agents`
pub(super) async fn agents(
    State(edge): State<Arc<Edge>>,
    from: ClientAddress,
    ApiQuery(query): ApiQuery<WsQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut head, _) = request.into_parts();
    let extensions = &mut head.extensions;
    let (credentials, origin, refuse) = match extensions.remove::<RequestOrigin>() {
        // A foreign page's credentials are not even looked at: whatever the socket does with `refuse`, it is nobody's.
        Some(RequestOrigin::Foreign) => (PresentedCredentials::default(), None, Some(CloseCode::Forbidden)),
        other => {
            let credentials = extensions.remove::<PresentedCredentials>().unwrap_or_default();
            let origin = match other {
                Some(RequestOrigin::Allowed(origin)) => origin.to_str().ok().map(str::to_owned),
                _ => None,
            };
            (credentials, origin, None)
        }
    };
    let request = WsRequest {
        credentials,
        query,
        origin,
        refuse,
        from,
        permit: extensions.remove::<ConnectionPermit>(),
        upgrade: extensions.remove::<OnUpgrade>(),
        method: head.method,
        version: head.version,
        uri: head.uri,
        headers: head.headers,
    };
    Ok(ws::upgrade(edge, request).await)
}
