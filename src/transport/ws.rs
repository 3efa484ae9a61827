//! The WebSocket's way in.

use std::sync::{Arc, atomic::Ordering};

use agent_hub_protocol::{CloseCode, ErrorCode, Version};
use axum::{
    body::Body,
    http::{self, HeaderMap, HeaderValue, Method, Uri, header::SEC_WEBSOCKET_PROTOCOL},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::server::create_response_with_body, protocol::Role},
};

use super::{
    auth::let_in,
    client_address::ClientAddress,
    connection::{Metered, Parts, refuse, serve, websocket_config},
    credentials::{AuthorizationHeader, PresentedCredentials},
    edge::Edge,
    front::{ConnectionPermit, reclaim},
    problem::Problem,
    slots::Slot,
};
use crate::runtime::{Principal, Refusal, revocation::TokenWatch};

/// A request to become a socket. Its Host is ours, and its head holds no credentials any more.
#[derive(Debug)]
pub struct WsRequest {
    /// `GET`, or the handshake is refused.
    pub method: Method,
    /// HTTP/1.1, or the handshake is refused.
    pub version: http::Version,
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
///
/// Whoever may not come in is upgraded all the same and closed with the code that says why, because script in a browser sees no
/// status; a request that is no handshake at all gets its error as JSON.
pub async fn upgrade(edge: Arc<Edge>, mut request: WsRequest) -> Response {
    let mut handshake = http::Request::new(());
    *handshake.method_mut() = request.method.clone();
    *handshake.version_mut() = request.version;
    *handshake.uri_mut() = request.uri.clone();
    *handshake.headers_mut() = request.headers.clone();
    let (Ok(mut response), Some(upgrade)) = (create_response_with_body(&handshake, Body::empty), request.upgrade.take()) else {
        return Problem::new(ErrorCode::InvalidMessage, "This route is a WebSocket; connect with a WebSocket client").into_response();
    };
    let offered = offered_versions(&request.headers);
    let version = offered.iter().find_map(|name| Version::from_subprotocol(name));
    if let Some(version) = version {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(version.subprotocol()));
    }
    let entry = match admit(&edge, &request).await {
        Err(code) => Err(code),
        Ok(_) if version.is_none() && !offered.is_empty() => Err(CloseCode::NoCommonVersion),
        Ok(entry) => Ok(entry),
    };
    let tracker = edge.sockets.clone();
    // The head of the request is not kept for as long as the socket lives.
    let WsRequest { permit, query, from, .. } = request;
    tracker.spawn(converse(edge, upgrade, entry, query, from, permit));
    response
}

/// Who may come in, and the place that is kept for as long as the socket lives.
struct Entry {
    who: Principal,
    token: Option<TokenWatch>,
    _slot: Slot,
}

async fn admit(edge: &Edge, request: &WsRequest) -> Result<Entry, CloseCode> {
    if let Some(code) = request.refuse {
        return Err(code);
    }
    if edge.stop.is_cancelled() {
        return Err(CloseCode::Restart);
    }
    // Nothing that could be right was tried, so it is no failure that counts.
    let found = identify(edge, request).ok_or(CloseCode::AuthenticationFailed)?;
    let who = let_in(found, &edge.hub, &edge.failed_auth, &request.from).await.map_err(|refusal| close_code(&refusal))?;
    let slot = edge.slots.enter(&who, &request.from).map_err(|_| CloseCode::ConnectionLimit)?;
    edge.hub.welcome(&who).await.map_err(|refusal| close_code(&refusal))?;
    let token = edge.hub.watch_token(&who).await.map_err(|refusal| close_code(&refusal))?;
    Ok(Entry { who, token, _slot: slot })
}

/// By the table of codes: a client that may come back is not told to stop.
fn close_code(refusal: &Refusal) -> CloseCode {
    refusal.code.close_code().unwrap_or(CloseCode::Overloaded)
}

/// Whose credentials they are, if anybody's; `None` if there are none. The first kind that is there decides.
fn identify(edge: &Edge, request: &WsRequest) -> Option<Option<Principal>> {
    let PresentedCredentials { header, query_token, ticket, subprotocol } = &request.credentials;
    let verify = |token: &SecretString| edge.identify.verify(token.expose_secret());
    match (header, ticket, subprotocol, query_token) {
        (AuthorizationHeader::Bearer(token), ..) => Some(verify(token)),
        (AuthorizationHeader::Malformed, ..) => None,
        (_, Some(ticket), ..) => Some(edge.identify.redeem_ticket(ticket.expose_secret(), request.origin.as_deref())),
        (_, _, Some(token), _) => Some(verify(token)),
        (_, _, _, Some(token)) if edge.settings.query_token => Some(verify(token)),
        _ => None,
    }
}

async fn converse(
    edge: Arc<Edge>,
    upgrade: OnUpgrade,
    entry: Result<Entry, CloseCode>,
    query: WsQuery,
    from: ClientAddress,
    permit: Option<ConnectionPermit>,
) {
    // The peer may be gone before the 101 is written.
    let Ok(upgraded) = upgrade.await else { return };
    let Ok((stream, read)) = reclaim(upgraded) else {
        tracing::error!("a connection that the front does not serve was upgraded");
        return;
    };
    let part = read.to_vec();
    // Otherwise the buffer that HTTP was read into would stay for as long as the socket.
    drop(read);
    let config = Some(websocket_config(&edge.socket));
    let socket = WebSocketStream::from_partially_read(Metered::new(stream), part, Role::Server, config).await;
    match entry {
        Err(code) => refuse(socket, code).await,
        Ok(Entry { who, token, _slot }) => {
            let attach = match query.session_id.as_deref().map(str::parse) {
                Some(Ok(session)) => Some((session, query.after)),
                Some(Err(_)) => return refuse(socket, CloseCode::ProtocolViolation).await,
                None => None,
            };
            let connection_id = edge.opened.fetch_add(1, Ordering::Relaxed);
            let parts = Parts {
                hub: edge.hub.clone(),
                identify: Arc::clone(&edge.identify),
                failed_auth: Arc::clone(&edge.failed_auth),
                from,
                who,
                token,
                connection_id,
                settings: Arc::clone(&edge.socket),
                drain: edge.drain.clone(),
                attach,
            };
            drop(edge);
            serve(socket, parts).await;
        }
    }
    drop(permit);
}

fn offered_versions(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}
