//! The console: what a browser gets at `/`. Programs get a list of URLs there. Its sources are in `console/`; what is served is what
//! was built from them into `console/dist/`, part of this binary.

use axum::{
    Json, Router,
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::{Embed, EmbeddedFile};
use serde_json::json;

use crate::transport::{
    Problem,
    auth::{Access, AccessTable},
};

/// Scripts and styles of our own only, none of them inline, and connections back to the hub.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The name of a file in here changes with what is in it.
const HASHED: &str = "assets/";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Kept, and asked about each time: after an update of the hub the page is the new one.
const ASK_FIRST: &str = "no-cache";

#[derive(Embed)]
#[folder = "console/dist/"]
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
        served("index.html", &headers)
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    response
}

async fn file(Path(file): Path<String>, headers: HeaderMap) -> Response {
    served(&file, &headers)
}

fn served(path: &str, asked: &HeaderMap) -> Response {
    let Some(EmbeddedFile { data, metadata, .. }) = Files::get(path) else { return Problem::not_found().into_response() };
    let kind = HeaderValue::from_str(metadata.mimetype()).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let tag = tag(&metadata.sha256_hash());
    let known = asked.get_all(header::IF_NONE_MATCH).iter().any(|tags| is_named(tags, &tag));
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, HeaderValue::from_static(if path.starts_with(HASHED) { FOR_EVER } else { ASK_FIRST })),
        (header::ETAG, tag),
        (HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if known { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, data.into_owned()).into_response() }
}

/// What the file is, whatever it is called.
fn tag(hash: &[u8; 32]) -> HeaderValue {
    let digits: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether a list of tags has this one; a proxy may have made it a weak one.
fn is_named(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    tags.as_bytes()
        .split(|byte| *byte == b',')
        .map(|one| one.trim_ascii())
        .any(|one| one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == tag.as_bytes())
}
