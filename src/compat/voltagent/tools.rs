//! Tools, called by hand.

use std::{sync::Arc, time::Instant};

use agent_hub_protocol::{ErrorCode, SessionId, TaskId, Timestamp};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Reply, id_of};
use crate::{
    api::support::limited,
    compat::run::problem,
    runtime::{Refusal, rate::RateCategory},
    tool::{Invocation, Output, ToolErrorCode},
    transport::{Edge, Problem, auth::Who, json::ApiJson},
};

/// What a tool is called with.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct CallBody {
    /// Checked against the tool's schema.
    #[schema(value_type = Object)]
    input: Option<Value>,
}

/// List tools
#[utoipa::path(get, path = "/tools", tag = "Tools", responses((status = 200, description = "Tools", body = Reply)))]
pub(super) async fn list(State(edge): State<Arc<Edge>>, _: Who) -> Json<Reply> {
    let specs = edge.hub.agents().tools().specs(&["*".to_owned()]);
    Reply::of(
        specs
            .into_iter()
            .map(|spec| json!({ "name": spec.name, "description": spec.description, "parameters": spec.parameters }))
            .collect(),
    )
}

/// Call a tool
///
/// With a token always. Files are those of one workspace of the user that no session has.
#[utoipa::path(
    post, path = "/tools/{name}/execute", tag = "Tools", params(("name" = String, Path)), request_body = CallBody,
    responses(
        (status = 200, description = "What it returned", body = Reply), (status = 400, description = "The input does not fit"),
        (status = 404, description = "Tool not found"), (status = 500, description = "It failed")
    ),
    security(("bearerAuth" = []))
)]
pub(super) async fn execute(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path(name): Path<String>,
    ApiJson(body): ApiJson<CallBody>,
) -> Response {
    let work = async {
        let tools = edge.hub.agents().tools();
        if !tools.has(&name) {
            return Err(Problem::new(ErrorCode::NotFound, "Tool not found"));
        }
        let input = body.input.unwrap_or_else(|| Value::Object(Map::new()));
        let arguments = tools.check(&name, &input).map_err(|error| problem(Refusal::invalid("input", error.message)))?;
        let session = SessionId::from_uuid(id_of(who.user(), "tools", &[]));
        let (task, user) = (TaskId::random(), who.user().to_owned());
        let call = Invocation { session, task, call_id: task.to_string(), user, arguments, output: Output::unread() };
        let begun = Instant::now();
        // Dropped, and so stopped, with the connection.
        let result = tools.run(&name, call).await.map_err(|error| {
            let status = match error.code {
                ToolErrorCode::InvalidArguments | ToolErrorCode::Refused | ToolErrorCode::NotFound => StatusCode::BAD_REQUEST,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let mut problem = Problem::new(ErrorCode::UpstreamError, error.message.clone()).with_status(status);
            problem.details = Box::new(json!({ "code": error.code.as_str() }));
            problem
        })?;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Reply::of(json!({ "toolName": name, "result": result, "executionTime": took, "timestamp": Timestamp::now() })))
    };
    limited(&edge, RateCategory::Task, &who, work).await
}
