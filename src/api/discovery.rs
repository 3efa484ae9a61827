//! What this hub can do, and whether it can do it now.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::docs::CommonErrors;
use crate::{
    dependencies::Found,
    provider::ToolSpec,
    runtime::{
        agent::{Agent, KNOWN_TOOLS, OTHER_TOOLS, known_spec},
        template::Template,
    },
    tool::Toolbox,
    transport::{Edge, Problem, auth::Who, credentials::PresentedCredentials},
};

/// What a client may ask for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Capabilities {
    /// Tools a session may name.
    tools: Vec<ToolInfo>,
    /// Models that answer.
    models: Vec<String>,
    /// Seconds without activity after which a session ends; `null`: never.
    max_session_duration: Option<u64>,
    /// Tasks one session may ever have; `null`: not bounded.
    max_tasks_per_session: Option<u32>,
    /// Tasks of one user that run at the same time; `null`: not bounded.
    max_concurrent_tasks: Option<u32>,
    /// Agents a session may name.
    agents: Vec<AgentInfo>,
    /// Workflows a task may execute.
    workflows: Vec<WorkflowInfo>,
    /// Characters of a prompt.
    max_prompt_length: usize,
    /// A task's deadline in milliseconds, unless it names its own.
    default_timeout_ms: u64,
    /// The longest deadline a task may name, in milliseconds.
    max_timeout_ms: u64,
}

/// A tool.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToolInfo {
    /// Its name.
    name: String,
    /// What it is for.
    description: String,
    /// Its parameters by name: `{type, required?, default?}`.
    #[schema(value_type = Object)]
    parameters: Value,
    /// Whether it is set up. A session may name one that is not; a call of it answers that it is not configured.
    available: bool,
}

/// An agent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentInfo {
    /// Its name.
    name: String,
    /// What it is for.
    description: String,
    /// The model that answers unless a session or task names one.
    model: String,
    /// Tools it may always call and that are there, `delegate_task` and `ask_user` aside.
    tools: Vec<String>,
    /// Agents it hands work to.
    sub_agents: Vec<String>,
}

/// A workflow.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkflowInfo {
    /// What `submit_task` calls it.
    id: String,
    /// For people.
    name: String,
    /// What it is for.
    description: String,
    /// JSON Schema of its input; `null`: anything.
    #[schema(value_type = Object)]
    input: Option<Value>,
}

/// That the process lives.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Health {
    /// `ok`
    status: &'static str,
    /// Sessions in memory.
    active_sessions: usize,
    /// Tasks that wait for their turn.
    queued_tasks: usize,
}

/// Whether the hub can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// `ready` or `not_ready`
    status: &'static str,
    /// Why it is not; empty when it is.
    reasons: Vec<String>,
    /// Vendors of models that are left alone for a moment because they kept failing. Agents with another vendor still answer.
    unavailable: Vec<String>,
}

/// List capabilities
///
/// Tools, models, agents and bounds, as they really are.
#[utoipa::path(
    get, path = "/api/v1/agents/capabilities", tag = "Discovery",
    responses((status = 200, description = "Agent capabilities", body = Capabilities), CommonErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn capabilities(State(edge): State<Arc<Edge>>, _: Who) -> Json<Capabilities> {
    let settings = edge.hub.settings();
    let model_of = |agent: &Agent| agent.model.as_ref().map_or_else(|| agent.provider.default_model(), Template::as_str).to_owned();
    let tools_of = |agent: &Agent| {
        // A name that follows the user context is not known here.
        let names: Vec<String> = agent.tools.iter().map(|name| name.as_str().to_owned()).collect();
        edge.hub.agents().tools().specs(&names).into_iter().map(|spec| spec.name).collect()
    };
    let agents: Vec<AgentInfo> = edge
        .hub
        .agents()
        .iter()
        .map(|agent| AgentInfo {
            name: agent.name.clone(),
            description: agent.description.clone(),
            model: model_of(agent),
            tools: tools_of(agent),
            sub_agents: agent.sub_agents.clone(),
        })
        .collect();
    let workflows = edge.hub.workflows().iter().map(|workflow| WorkflowInfo {
        id: workflow.id.clone(),
        name: workflow.name.clone(),
        description: workflow.purpose.clone(),
        input: workflow.input.clone(),
    });
    let workflows = workflows.collect();
    let mut models: Vec<String> = agents.iter().map(|agent| agent.model.clone()).collect();
    models.sort();
    models.dedup();
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Json(Capabilities {
        tools: tools(edge.hub.agents().tools()),
        models,
        max_session_duration: settings.session_ttl.map(|ttl| ttl.as_secs()),
        max_tasks_per_session: settings.tasks_per_session,
        max_concurrent_tasks: settings.tasks_per_user,
        agents,
        workflows,
        max_prompt_length: settings.prompt_chars,
        default_timeout_ms: millis(settings.task_timeout),
        max_timeout_ms: millis(settings.max_task_timeout),
    })
}

/// Say that the process lives
#[utoipa::path(get, path = "/health", tag = "Operations", responses((status = 200, description = "It does", body = Health)))]
pub(super) async fn health(State(edge): State<Arc<Edge>>) -> Json<Health> {
    Json(Health { status: "ok", active_sessions: edge.hub.active_sessions(), queued_tasks: edge.hub.queued_tasks() })
}

/// Say whether the hub can do its work
///
/// The store takes writes, a model can be reached, what is declared as required answers, and the hub is not about to stop.
#[utoipa::path(
    get, path = "/ready", tag = "Operations",
    responses((status = 200, description = "It can", body = Readiness), (status = 503, description = "It cannot", body = Readiness))
)]
pub(super) async fn ready(State(edge): State<Arc<Edge>>) -> (StatusCode, Json<Readiness>) {
    let mut reasons = Vec::new();
    if edge.stop.is_cancelled() || edge.hub.is_stopping() {
        reasons.push("the hub is stopping".to_owned());
    }
    if let Err(error) = edge.hub.store().probe().await {
        // What exactly is wrong with the disk is for the log, not for anybody who asks.
        tracing::warn!(%error, "not ready: the store cannot be written");
        reasons.push(format!("the {} store cannot be written", edge.hub.store().kind()));
    }
    let providers: BTreeMap<&str, bool> =
        edge.hub.agents().iter().map(|agent| (agent.provider.name(), agent.provider.available())).collect();
    let unavailable: Vec<String> = providers.iter().filter(|(_, available)| !**available).map(|(name, _)| (*name).to_owned()).collect();
    // One vendor of several may be down: some agents still answer.
    if unavailable.len() == providers.len() {
        reasons.push(format!("no model can be reached ({})", unavailable.join(", ")));
    }
    let missing = |found: &Found| found.trouble.filter(|_| found.required).map(|trouble| format!("{}: {trouble}", found.name));
    reasons.extend(edge.dependencies.look().await.iter().filter_map(missing));
    let (code, status) = if reasons.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    (code, Json(Readiness { status, reasons, unavailable }))
}

/// Read the hub's measurements
///
/// In Prometheus' text form; from the machine itself, or with a token of scope `metrics`.
#[utoipa::path(
    get, path = "/metrics", tag = "Operations",
    responses((status = 200, description = "Measurements", content_type = "text/plain", body = String), CommonErrors),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn metrics(State(edge): State<Arc<Edge>>) -> Result<Response, Problem> {
    let render = edge.metrics.as_ref().ok_or_else(Problem::not_found)?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], render()).into_response())
}

/// The unversioned paths mean the latest version. Who asks is asked there.
pub(super) async fn latest_version(uri: Uri, credentials: Option<Extension<PresentedCredentials>>) -> Response {
    let rest = uri.path().strip_prefix("/api/agents").unwrap_or_default().trim_end_matches('/');
    // An `EventSource` follows the redirect with nothing but its URL, so what was taken out of that goes back to where it came from.
    let token = credentials.as_ref().and_then(|credentials| credentials.query_token.as_ref()).map(ExposeSecret::expose_secret);
    // A JWT needs no escaping; what does is none.
    let plain = |token: &&str| token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let token = token.filter(plain).map(|token| format!("token={token}"));
    let query: Vec<&str> = uri.query().into_iter().chain(token.as_deref()).filter(|part| !part.is_empty()).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    // A part of a valid URI is a valid header value.
    match HeaderValue::try_from(format!("/api/v1/agents{rest}{query}")) {
        Ok(mut place) => {
            place.set_sensitive(true);
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, place)]).into_response()
        }
        Err(_) => Problem::not_found().into_response(),
    }
}

/// Those of the first API, and what else there is.
fn tools(toolbox: &Toolbox) -> Vec<ToolInfo> {
    let info = |spec: ToolSpec, available| ToolInfo {
        parameters: flat(&spec.parameters),
        name: spec.name,
        description: spec.description,
        available,
    };
    let there = toolbox.specs(&["*".to_owned()]);
    let find = |name: &str| there.iter().find(|spec| spec.name == name).cloned();
    let known = KNOWN_TOOLS.iter().map(|(name, _)| match find(name) {
        Some(spec) => info(spec, true),
        None => info(known_spec(name), false),
    });
    let others = there.iter().filter(|spec| KNOWN_TOOLS.iter().all(|(name, _)| *name != spec.name));
    let nameable = |spec: &&ToolSpec| OTHER_TOOLS.iter().any(|(name, _)| *name == spec.name);
    known.chain(others.filter(nameable).map(|spec| info(spec.clone(), true))).collect()
}

/// From JSON Schema to `{query: {type, required: true}}`, the form of the first API.
fn flat(schema: &Value) -> Value {
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    let Some(properties) = schema["properties"].as_object() else { return json!({}) };
    let flat = properties.iter().map(|(name, property)| {
        let mut property = property.clone();
        if required(name) {
            property["required"] = Value::Bool(true);
        }
        (name.clone(), property)
    });
    Value::Object(flat.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_have_the_parameters_of_the_first_api() {
        let tools = serde_json::to_value(tools(&Toolbox::default())).expect("JSON");
        let want = json!({
            "name": "web_search",
            "description": "Search the web for current information",
            "parameters": { "query": { "type": "string", "required": true }, "maxResults": { "type": "integer", "default": 5 } },
            "available": false
        });
        assert_eq!(tools[0], want);
    }
}
