//! The client for browsers as one file, so that a page needs no package manager: `import { connect } from "…/client/agent-hub-client.js"`.
//! Its sources are in `clients/typescript/`.

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::Embed;

use crate::transport::{
    Problem,
    auth::{Access, AccessTable},
};

const PATH: &str = "/client/agent-hub-client.js";

#[derive(Embed)]
#[folder = "clients/typescript/bundle/"]
struct Files;

/// The file. Pages of other origins may import it once they are allowed, as everything else.
pub(super) fn routes() -> (Router, AccessTable) {
    (Router::new().route(PATH, get(client)), AccessTable::default().with(PATH, Access::Public))
}

async fn client(asked: HeaderMap) -> Response {
    let Some(file) = Files::get("agent-hub-client.js") else { return Problem::not_found().into_response() };
    let digits: String = file.metadata.sha256_hash()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let Ok(tag) = HeaderValue::try_from(format!("\"{digits}\"")) else { return Problem::not_found().into_response() };
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|given| *given == tag);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8")),
        // Kept, and asked about each time: after an update of the hub the client is the new one.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, tag),
        // A page that isolates itself may load it all the same.
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
    ];
    if known { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, file.data.into_owned()).into_response() }
}
