//! The WebSocket's way in.

use std::sync::Arc;

use agent_hub_protocol::{CloseCode, ErrorCode};
use axum::{
    http::{HeaderMap, Method, Uri, Version},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use serde::Deserialize;

use super::{client_address::ClientAddress, credentials::PresentedCredentials, edge::Edge, front::ConnectionPermit, problem::Problem};

/// A request to become a socket. Its Host is ours, and its head holds no credentials any more.
#[derive(Debug)]
pub struct WsRequest {
    /// `GET`, or the handshake is refused.
    pub method: Method,
    /// HTTP/1.1, or the handshake is refused.
    pub version: Version,
    /// Without credentials.
    pub uri: Uri,
    /// Without credentials; with the offered subprotocols but for `bearer.…`.
    pub headers: HeaderMap,
    /// What came in the header, the query or a subprotocol. Empty if `refuse` is set.
    pub credentials: PresentedCredentials,
    /// Where to begin.
    pub query: WsQuery,
    /// The page's origin, if it is an allowed one; tickets are bound to it.
    pub origin: Option<String>,
    /// Upgrade, close with this at once, send nothing: script in a browser sees no other refusal. Set for a foreign origin.
    pub refuse: Option<CloseCode>,
    /// Whom it counts for.
    pub from: ClientAddress,
    /// The connection's place among all of the process; kept as long as the socket lives.
    pub permit: Option<ConnectionPermit>,
    /// The connection, once the 101 is written. `None`: the request asked for no upgrade.
    pub upgrade: Option<OnUpgrade>,
}

/// `?sessionId=&after=`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WsQuery {
    /// The session to attach to at once.
    pub session_id: Option<String>,
    /// The cursor to attach behind.
    pub after: Option<String>,
}

/// Answers the handshake and starts the connection.
pub async fn upgrade(edge: Arc<Edge>, request: WsRequest) -> Response {
    let _ = (edge, request);
    Problem::new(ErrorCode::NotSupported, "WebSocket is not available").into_response()
}
