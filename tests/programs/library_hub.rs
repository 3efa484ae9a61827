//! A hub as somebody builds it who uses this crate as a library: an agent, a tool, a workflow and routes of their own.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a program of tests")]

use std::{process::ExitCode, sync::Arc};

use agent_hub::{
    HubBuilder, Route,
    config::{Config, Inputs},
    provider::{ToolSpec, demo::DemoProvider},
    runtime::{agent::Agent, template::Template},
    tool::{Invocation, Tool, ToolError},
    workflow::Workflow,
};
use axum::{Json, extract::Path};
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};

/// Says a text backwards.
#[derive(Debug)]
struct Backwards(ToolSpec);

impl Tool for Backwards {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    fn call(&self, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
        async move { Ok(call.text("text")?.chars().rev().collect::<String>().into()) }.boxed()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let parameters = json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] });
    let tool = Backwards(ToolSpec { name: "backwards".into(), description: "Says a text backwards".into(), parameters });
    let mut agent = Agent::new("mirror", "Turns things round", Arc::new(DemoProvider::default()));
    agent.tools = vec![Template::parse("backwards").unwrap()];
    let workflow = "steps: [{ id: turn, type: tool, tool: backwards, arguments: { text: \"=input\" } }, { id: ask, type: agent, agent: mirror, prompt: \"=`/pace 0 /echo ${input}`\" }]";
    let workflow = Workflow::from_yaml("turn", workflow).unwrap();
    let environment = std::env::vars().filter(|(name, _)| name.starts_with("AGENT_HUB_") || name == "PORT").collect();
    let config = Config::load(&Inputs { environment, ..Inputs::default() }).unwrap();
    let hub = HubBuilder::new()
        .agent(agent)
        .tool(Arc::new(tool))
        .workflow(workflow)
        .route(Route::get("/api/health", || async { Json(json!({ "status": "healthy" })) }).describe("Health check endpoint").open())
        .route(Route::post("/api/users", || async { Json(json!({ "success": true })) }))
        .route(Route::get("/api/users/{id}", |Path(id): Path<String>| async move { Json(json!({ "id": id })) }).describe("Read a user"))
        .route(Route::delete("/api/users/{id}", |Path(_): Path<String>| async { Json(json!({})) }));
    match hub.serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
