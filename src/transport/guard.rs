//! The first and the last thing that happens to a request: is its target ours, which id does it have, where does it come from; and
//! afterwards, that its answer is JSON where it is an error, tells browsers to be careful, and leaves no doubt where the next request begins.

use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use agent_hub_protocol::ErrorCode;
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use hyper::body::{Body as _, Incoming};
use tower::ServiceExt;
use tracing::Instrument;

use super::{
    auth,
    body::{BodyError, BoundedBody},
    client_address::ClientAddress,
    credentials::PresentedCredentials,
    edge::Edge,
    hosts::{self, HostError},
    origin::{self, RequestOrigin},
    problem::Problem,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 128;
/// Asked by those who watch the process, by whatever name or address they reach it.
const PROBES: [&str; 2] = ["/health", "/ready"];

/// The id of a request, in its answer and in the hub's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// Answers requests. Cheap to clone; one per process.
#[derive(Clone, Debug)]
pub struct Guard {
    edge: Arc<Edge>,
    router: Router,
}

/// What the guard knows once it has looked at a head.
struct Passed {
    request: Request,
    probe: bool,
}

impl Guard {
    /// Stands before `router`.
    pub fn new(edge: Arc<Edge>, router: Router) -> Self {
        Self { edge, router }
    }

    /// Answers one request of `peer`. `crowded`: its connection is one too many, so only probes are served.
    pub async fn answer(self, mut request: Request<Incoming>, peer: SocketAddr, crowded: bool) -> Response {
        let id = request_id(request.headers());
        let credentials = PresentedCredentials::take_from(&mut request);
        let upgrade = request.headers().contains_key(header::UPGRADE);
        let from = ClientAddress::of(peer, request.headers(), &self.edge.settings.trusted_proxies);
        let host = self.check_host(&request);
        let origin = match &host {
            Ok(host) => self.edge.origins.judge(request.headers(), from.scheme(), host.as_deref()),
            Err(_) => RequestOrigin::None,
        };
        let began = Instant::now();
        let span = tracing::debug_span!("request", id = %id.0, method = %request.method(), path = request.uri().path());
        let response = match host {
            Err(problem) => closing(problem.into_response()),
            Ok(_) => {
                let passed = self.pass(request, (credentials, from, origin.clone(), id.clone()));
                self.route(passed, &origin, crowded).instrument(span.clone()).await
            }
        };
        let response = finish(response, &id, &origin, upgrade);
        span.in_scope(|| tracing::debug!(status = response.status().as_u16(), took = ?began.elapsed(), "answered"));
        response
    }

    /// Exactly one Host, and ours. Probes come from load balancers that know only an address, or send none.
    fn check_host<B>(&self, request: &Request<B>) -> Result<Option<String>, Problem> {
        if PROBES.contains(&request.uri().path()) {
            return hosts::only_host(request.headers()).map_err(host_problem);
        }
        self.edge.hosts.check(request.uri(), request.headers()).map(Some).map_err(host_problem)
    }

    fn pass(&self, request: Request<Incoming>, facts: (PresentedCredentials, ClientAddress, RequestOrigin, RequestId)) -> Passed {
        let (mut head, body) = request.into_parts();
        let probe = PROBES.contains(&head.uri.path());
        head.uri = origin_form(&head.uri);
        let (credentials, from, origin, id) = facts;
        head.extensions.insert(credentials);
        head.extensions.insert(from);
        head.extensions.insert(origin);
        head.extensions.insert(id);
        let settings = &self.edge.settings;
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            Body::new(BoundedBody::new(body, settings.body_bytes, settings.body_timeout))
        };
        Passed { request: Request::from_parts(head, body), probe }
    }

    async fn route(self, passed: Passed, origin: &RequestOrigin, crowded: bool) -> Response {
        let Passed { request, probe } = passed;
        if crowded && !probe {
            return closing(Problem::new(ErrorCode::Overloaded, "The hub has too many connections").into_response());
        }
        if origin::is_preflight(request.method(), request.headers()) {
            return preflight(origin);
        }
        if self.will_be_too_large(request.headers()) {
            // The client waits for leave to send its body; it does not get it.
            return closing(BodyError::TooLarge.problem().into_response());
        }
        // A router's own error type is `Infallible`.
        let answer = AssertUnwindSafe(self.router.oneshot(request)).catch_unwind().await;
        match answer {
            Ok(Ok(response)) => response,
            Err(_panic) => {
                tracing::error!("a handler panicked");
                closing(internal().into_response())
            }
        }
    }

    fn will_be_too_large(&self, headers: &HeaderMap) -> bool {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        headers.contains_key(header::EXPECT) && length.is_some_and(|length| length > self.edge.settings.body_bytes as u64)
    }
}

impl PresentedCredentials {
    fn take_from<B>(request: &mut Request<B>) -> Self {
        let mut uri = std::mem::take(request.uri_mut());
        let found = Self::take(&mut uri, request.headers_mut());
        *request.uri_mut() = uri;
        found
    }
}

fn host_problem(error: HostError) -> Problem {
    match error {
        HostError::Malformed => Problem::new(ErrorCode::InvalidMessage, "Exactly one valid Host header is required"),
        HostError::Foreign => {
            Problem::new(ErrorCode::Forbidden, "This host is not served here").with_status(StatusCode::MISDIRECTED_REQUEST)
        }
    }
}

fn preflight(origin: &RequestOrigin) -> Response {
    if *origin == RequestOrigin::Foreign {
        return auth::foreign_origin().into_response();
    }
    (StatusCode::NO_CONTENT, origin::preflight_headers()).into_response()
}

fn internal() -> Problem {
    Problem::new(ErrorCode::Internal, "Internal server error")
}

/// Path and query alone, whatever form the request line had.
fn origin_form(uri: &Uri) -> Uri {
    if uri.authority().is_none() {
        return uri.clone();
    }
    uri.path_and_query().cloned().map(Uri::from).unwrap_or_default()
}

/// The client's own id if it is short and plain, otherwise one of ours.
fn request_id(headers: &HeaderMap) -> RequestId {
    let plain = |text: &&str| {
        (1..=MAX_REQUEST_ID).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
    };
    match headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain) {
        Some(id) => RequestId(id.into()),
        None => RequestId(uuid::Uuid::new_v4().to_string().into()),
    }
}

fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn finish(mut response: Response, id: &RequestId, origin: &RequestOrigin, upgrade: bool) -> Response {
    if let Some(problem) = problem_of(&mut response) {
        let body = problem.body(&id.0);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.remove(header::CONTENT_LENGTH);
        // The rest of a body that is too large or too slow would be read as the next request's beginning.
        if matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            response = closing(response);
        }
        *response.body_mut() = Body::from(body);
    }
    if upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response = closing(response);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(&*id.0) {
        headers.insert(REQUEST_ID, value);
    }
    origin.write(headers);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The problem to write: what a handler left, or what a library answered in plain text or without a word.
fn problem_of(response: &mut Response) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let plain = match response.headers().get(header::CONTENT_TYPE) {
        None => true,
        Some(kind) => kind.as_bytes().starts_with(b"text/plain"),
    };
    plain.then(|| match status {
        StatusCode::NOT_FOUND => Problem::not_found(),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(ErrorCode::MethodNotAllowed, "Method not allowed"),
        StatusCode::PAYLOAD_TOO_LARGE => BodyError::TooLarge.problem(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(ErrorCode::UnsupportedMediaType, "Unsupported media type"),
        status if status.is_server_error() => internal().with_status(status),
        status => Problem::new(ErrorCode::InvalidMessage, status.canonical_reason().unwrap_or("Bad request")).with_status(status),
    })
}
