//! What agents and workflows have done, page by page.

use std::sync::Arc;

use agent_hub_protocol::{Event, EventBody, TaskId};
use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{Reply, agents, answer::End, story, views, workflows};
use crate::{
    api::support::{ApiQuery, limited},
    compat::run::problem,
    runtime::{Principal, Refusal, rate::RateCategory},
    transport::{Edge, Problem, auth::Who},
};

const USUAL_PAGE: usize = 10;
const LARGEST_PAGE: usize = 100;

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// From 0.
    #[param(value_type = Option<usize>)]
    page: Option<String>,
    /// How many, 100 at most; otherwise 10.
    #[param(value_type = Option<usize>)]
    limit: Option<String>,
}

/// List what an agent has done
#[utoipa::path(
    get, path = "/agents/{id}/history", tag = "Agent History", params(("id" = String, Path), PageQuery),
    responses((status = 200, description = "A page, newest first", body = Reply), (status = 404, description = "Agent not found"))
)]
pub(super) async fn of_agent(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path(id): Path<String>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Response {
    // Whole logs are read for it.
    limited(&edge, RateCategory::Poll, &who, agent_page(&edge, &who, &id, &query)).await
}

async fn agent_page(edge: &Edge, who: &Principal, id: &str, query: &PageQuery) -> Result<Json<Reply>, Problem> {
    agents::find(edge, id)?;
    let (page, limit) = query.read()?;
    let mut entries = Vec::new();
    for record in story::sessions(&edge.hub, who, |record| record.agent == id && record.task_count > 0).await? {
        let view = edge.hub.session(who, record.id).await.map_err(problem)?;
        let metadata = view.info.metadata.unwrap_or_default();
        let events = edge.hub.events(who, record.id, 0).await.map_err(problem)?;
        let mut of_session = entries_of(id, &events);
        for entry in &mut of_session {
            entry["userId"] = metadata.get("userId").cloned().unwrap_or_default();
            entry["conversationId"] = metadata.get("conversationId").cloned().unwrap_or_else(|| record.id.to_string().into());
        }
        entries.extend(of_session);
    }
    // Times of one form compare like their texts.
    entries.sort_by(|a, b| b["startTime"].as_str().cmp(&a["startTime"].as_str()));
    Ok(Reply::of(paged("entries", entries, page, limit)))
}

/// List executions of a workflow
#[utoipa::path(
    get, path = "/workflows/{id}/history", tag = "Workflow Management", params(("id" = String, Path), PageQuery),
    responses((status = 200, description = "A page, newest first", body = Reply), (status = 404, description = "Workflow not found"))
)]
pub(super) async fn of_workflow(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path(id): Path<String>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Response {
    limited(&edge, RateCategory::Poll, &who, workflow_page(&edge, &who, &id, &query)).await
}

async fn workflow_page(edge: &Edge, who: &Principal, id: &str, query: &PageQuery) -> Result<Json<Reply>, Problem> {
    workflows::find(edge, id)?;
    let (page, limit) = query.read()?;
    let stories = story::all(&edge.hub, who, |story| story.workflow() == id).await?;
    let executions = stories.iter().map(|story| story.state(&edge.hub)).collect();
    Ok(Reply::of(paged("executions", executions, page, limit)))
}

impl PageQuery {
    fn read(&self) -> Result<(usize, usize), Problem> {
        let number = |name: &str, text: &Option<String>, usual: usize| match text.as_deref().map(str::parse::<usize>) {
            None => Ok(usual),
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(problem(Refusal::invalid(name, format!("{name} must be a whole number")))),
        };
        Ok((number("page", &self.page, 0)?, number("limit", &self.limit, USUAL_PAGE)?.clamp(1, LARGEST_PAGE)))
    }
}

fn paged(name: &str, all: Vec<Value>, page: usize, limit: usize) -> Value {
    let total = all.len();
    let shown: Vec<Value> = all.into_iter().skip(page.saturating_mul(limit)).take(limit).collect();
    json!({ name: shown, "pagination": { "page": page, "limit": limit, "total": total, "totalPages": total.div_ceil(limit) } })
}

/// The tasks among events that are no sub-agents' and no executions.
fn entries_of(agent: &str, events: &[Event]) -> Vec<Value> {
    let mut entries: Vec<(TaskId, Value)> = Vec::new();
    for event in events {
        let Some(task) = event.task_id else { continue };
        if let EventBody::TaskQueued(queued) = &event.body
            && queued.parent_task_id.is_none()
            && let Some(prompt) = &queued.prompt
        {
            let entry = json!({
                "id": task, "_agentId": agent, "agentId": agent, "entityId": agent, "startTime": event.at, "endTime": Value::Null, "timestamp": event.at,
                "status": "working", "input": prompt, "output": Value::Null, "usage": Value::Null, "metadata": {}, "steps": [], "events": [],
            });
            entries.push((task, entry));
        }
        let Some((_, entry)) = entries.iter_mut().find(|(of, _)| *of == task) else { continue };
        if let Some(end) = End::of(&event.body) {
            entry["endTime"] = event.at.to_string().into();
            entry["status"] = match &end {
                End::Completed { .. } => "completed",
                End::Cancelled { .. } => "cancelled",
                End::Failed(_) | End::TimedOut => "error",
            }
            .into();
            match end {
                End::Completed { result, usage } => (entry["output"], entry["usage"]) = (result, views::usage(&usage)),
                other => entry["error"] = json!({ "message": other.error(true).map(|(message, _)| message) }),
            }
        }
    }
    entries.into_iter().map(|(_, entry)| entry).collect()
}
