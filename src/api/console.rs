//! The console: what a browser gets at `/`. Programs get a list of URLs there.

use axum::{
    Json, Router,
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::{Embed, EmbeddedFile};
use serde_json::json;

use crate::transport::{
    Problem,
    auth::{Access, AccessTable},
};

/// Scripts and styles of our own only, and connections back to the hub.
const POLICY: &str =
    "default-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Embed)]
#[folder = "console/"]
struct Files;

/// `/` and the files it needs.
pub(super) fn routes() -> (Router, AccessTable) {
    let router = Router::new().route("/", get(landing)).route("/console/{*file}", get(file));
    let access = AccessTable::default().with("/", Access::Public).with("/console/{*file}", Access::Public);
    (router, access)
}

async fn landing(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if accept.contains("application/json") && !accept.contains("text/html") {
        Json(json!({
            "name": "agent-hub",
            "version": env!("CARGO_PKG_VERSION"),
            "urls": {
                "console": "/",
                "docs": "/docs",
                "openapi": "/openapi.json",
                "health": "/health",
                "ready": "/ready",
                "api": "/api/v1/agents",
                "websocket": "/ws/agents",
            }
        }))
        .into_response()
    } else {
        served("index.html")
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    response
}

async fn file(Path(file): Path<String>) -> Response {
    served(&file)
}

fn served(path: &str) -> Response {
    let Some(EmbeddedFile { data, metadata, .. }) = Files::get(path) else { return Problem::not_found().into_response() };
    let kind = HeaderValue::from_str(metadata.mimetype()).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY)),
    ];
    (headers, data.into_owned()).into_response()
}
