//! The HTTP side: connections, paths, bodies.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_TYPE, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    Fault, Outcome, Script, Shared,
    answer::{Answer, Dialect},
    anthropic,
    calls::Tracked,
    openai,
};
use crate::rng::Rng;

/// Larger than any request of the hub.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a vendor says instead of answering.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// What a request asks for, as far as a script cares.
pub(super) struct Ask {
    /// The last thing the person said.
    pub(super) prompt: String,
    /// Tool results that came since.
    pub(super) results: usize,
    pub(super) input_tokens: usize,
    pub(super) max_tokens: Option<usize>,
    pub(super) dialect: Dialect,
}

/// Accepts for ever. Connections die with it.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => drop(connections.spawn(serve_connection(socket, shared.clone()))),
                // Out of file descriptors: closing connections will free some.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(socket: TcpStream, shared: Arc<Shared>) {
    // Without it small events wait for the acknowledgement of the ones before. A socket that refuses it still works.
    let _ = socket.set_nodelay(true);
    let service = service_fn(|request| respond(request, shared.clone()));
    // The server notices a peer that closes while an answer runs, however silent that is, and drops the answer. How a connection
    // ends is recorded there.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

async fn respond(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
    let json: Option<Value> = serde_json::from_slice(&body).ok();
    let tracked = Tracked::start(shared.clone(), head.uri.path(), json.clone().unwrap_or_default());
    let asked = match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/chat/completions") => openai::read(&head.headers, json, &shared.config),
        (&Method::POST, "/v1/messages") => anthropic::read(&head.headers, json, &shared.config),
        (_, path) if path.starts_with("/v1/messages") => Err(anthropic::unknown_path()),
        (method, path) => Err(openai::unknown_path(method, path)),
    };
    match asked {
        Ok(ask) => follow(ask, &shared, tracked).await,
        Err(refusal) => {
            tracked.end(Outcome::Refused(refusal.status));
            Ok(refuse(refusal, None))
        }
    }
}

/// Answers as the script says.
async fn follow(ask: Ask, shared: &Shared, tracked: Tracked) -> Result<Response<Body>, io::Error> {
    let script = next_script(shared, tracked.number()).directed_by(&ask.prompt);
    match &script.fault {
        Some((Fault::Status(status, retry_after), _)) => {
            tracked.end(Outcome::Refused(*status));
            let body = ask.dialect.error_body(*status);
            return Ok(refuse(Refusal { status: *status, body }, retry_after.as_deref()));
        }
        Some((Fault::EndlessError(status), _)) => return Ok(endless_error(*status, tracked)),
        Some((Fault::HangBeforeHeaders, _)) => std::future::pending().await,
        Some((Fault::CutBeforeHeaders, _)) => {
            tracked.end(Outcome::Cut);
            return Err(io::Error::other("cut by the script"));
        }
        Some((Fault::WebPage, _)) => {
            tracked.end(Outcome::Cut);
            return Ok(response(StatusCode::OK, "text/html", whole("<html>Please log in</html>".into())));
        }
        _ => {}
    }
    let answer = Answer::new(script, ask, tracked, shared.config.burst);
    Ok(response(StatusCode::OK, "text/event-stream; charset=utf-8", answer.boxed_unsync()))
}

fn next_script(shared: &Shared, call: u64) -> Script {
    let script = {
        let mut scripts = shared.scripts();
        scripts.next.pop().unwrap_or_else(|| scripts.then.clone())
    };
    // The same calls have the same faults in every run.
    let mut dice = Rng::new(call).child(FAULT_DICE).fraction();
    for chance in &shared.config.faults {
        if dice < chance.share {
            return script.with_fault(chance.fault.clone(), chance.after);
        }
        dice -= chance.share;
    }
    script
}

/// Parts the dice for faults from those for anything else.
const FAULT_DICE: u64 = 0xFA17;

fn refuse(refusal: Refusal, retry_after: Option<&str>) -> Response<Body> {
    let mut refused = response(status(refusal.status), "application/json", whole(refusal.body.to_string()));
    if let Some(value) = retry_after.and_then(|value| value.parse().ok()) {
        refused.headers_mut().insert(RETRY_AFTER, value);
    }
    refused
}

fn endless_error(code: u16, tracked: Tracked) -> Response<Body> {
    let noise = Bytes::from(vec![b'x'; 16 * 1024]);
    let body = futures::stream::repeat_with(move || {
        tracked.token_sent();
        Ok(Frame::data(noise.clone()))
    });
    response(status(code), "application/json", StreamBody::new(body.boxed()).boxed_unsync())
}

fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn whole(text: String) -> Body {
    Full::from(text).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
