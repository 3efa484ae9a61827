//! The OpenAPI document, made from the handlers, and Swagger UI.

use std::sync::Arc;

use axum::{Json, Router, routing::get};
use serde::Serialize;
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        self,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_swagger_ui::SwaggerUi;

use crate::transport::auth::{Access, AccessTable};

/// An error. Here only for its schema; `transport::problem` writes the real thing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorBody {
    /// Always false.
    success: bool,
    /// The text clients of the first days know.
    #[schema(example = "Validation failed")]
    error: String,
    /// For programs.
    #[schema(example = "invalid_message")]
    code: String,
    /// What exactly is wrong.
    message: String,
    /// A list of `{field, message}` where fields are wrong; otherwise an object or `null`.
    details: serde_json::Value,
    /// Names the request in the hub's log.
    request_id: String,
    /// The bound that was reached.
    limit: Option<u64>,
    /// When the day begins anew.
    #[schema(format = DateTime)]
    resets_at: Option<String>,
    /// Seconds to wait before trying again.
    retry_after: Option<u64>,
}

/// What every route may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) enum CommonErrors {
    /// Validation failed, or the body is no JSON
    #[response(status = 400)]
    BadRequest(#[to_schema] ErrorBody),
    /// No valid credentials
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorBody),
    /// Someone else's, or from a page that is not allowed
    #[response(status = 403)]
    Forbidden(#[to_schema] ErrorBody),
    /// No such thing
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
    /// The body did not arrive in time
    #[response(status = 408)]
    Timeout(#[to_schema] ErrorBody),
    /// The body is too large
    #[response(status = 413)]
    TooLarge(#[to_schema] ErrorBody),
    /// The body is not JSON
    #[response(status = 415)]
    MediaType(#[to_schema] ErrorBody),
    /// Rate limit exceeded, the plan's day is used up, or too many wrong tokens from this address
    #[response(status = 429)]
    TooMany(#[to_schema] ErrorBody),
    /// A fault of the hub
    #[response(status = 500)]
    Internal(#[to_schema] ErrorBody),
    /// Not available in this hub
    #[response(status = 501)]
    NotSupported(#[to_schema] ErrorBody),
    /// The hub cannot take this now
    #[response(status = 503)]
    Overloaded(#[to_schema] ErrorBody),
}

/// What routes of one session or task may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) enum ObjectErrors {
    /// The session or task has ended, or the id means something else
    #[response(status = 409)]
    Conflict(#[to_schema] ErrorBody),
}

/// What routes that change a task may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) enum BusyErrors {
    /// The session is busy, or the task has ended
    #[response(status = 409)]
    Busy(#[to_schema] ErrorBody),
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Agent API", description = "REST API for interacting with AI agents: sessions, tasks, streams."),
    components(schemas(ErrorBody)),
    tags(
        (name = "Sessions", description = "Conversations"),
        (name = "Tasks", description = "Units of work within a session"),
        (name = "Discovery", description = "What this hub can do"),
        (name = "Identity", description = "Tokens and tickets"),
        (name = "Operations", description = "For those who run it"),
    )
)]
struct Base;

/// The document of the native routes, as it is served in development mode without adapters.
pub fn document() -> openapi::OpenApi {
    finished(super::documented(true).into_openapi())
}

/// A document of routes with what all of them share.
pub(super) fn finished(routes: openapi::OpenApi) -> openapi::OpenApi {
    let mut document = Base::openapi();
    document.merge(routes);
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.bearer_format = Some("JWT".to_owned());
    document.components.get_or_insert_default().add_security_scheme("bearerAuth", SecurityScheme::Http(bearer));
    document
}

/// `/docs`, `/openapi.json` and `/doc`; in development `/ui` too, where VoltAgent's users look for it.
pub(super) fn routes(document: &openapi::OpenApi, development: bool) -> (Router, AccessTable) {
    let ui: Router = SwaggerUi::new("/docs").url("/openapi.json", document.clone()).into();
    let document = Arc::new(document.clone());
    let router = ui.route("/doc", get(move || std::future::ready(Json(Arc::clone(&document)))));
    let router = if development {
        router.merge(Router::from(SwaggerUi::new("/ui").config(utoipa_swagger_ui::Config::from("/openapi.json"))))
    } else {
        router
    };
    let access = ["/docs", "/docs/", "/docs/{*rest}", "/openapi.json", "/doc", "/ui", "/ui/", "/ui/{*rest}"]
        .into_iter()
        .fold(AccessTable::default(), |table, path| table.with(path, Access::Public));
    (router, access)
}
