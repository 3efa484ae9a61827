//! What agents and usage look like.

use agent_hub_protocol::event::Usage;
use serde_json::{Value, json};

use crate::runtime::{
    agent::{Agent, Agents},
    template::Template,
};

/// Sub-agents inside of sub-agents that are shown.
const DEPTH: usize = 3;

/// An agent; `whole` with what it is told.
pub(super) fn agent(agent: &Agent, agents: &Agents, whole: bool) -> Value {
    let mut view = at_depth(agent, agents, DEPTH);
    if whole {
        let instructions = agent.instructions.as_ref().map(Template::as_str).unwrap_or_default();
        view["instructions"] = instructions.into();
        view["node_id"] = format!("agent_{}", agent.name).into();
        view["retriever"] = Value::Null;
    }
    view
}

fn at_depth(agent: &Agent, agents: &Agents, depth: usize) -> Value {
    let names: Vec<String> = agent.tools.iter().map(|name| name.as_str().to_owned()).collect();
    let tools: Vec<Value> = agents
        .tools()
        .specs(&names)
        .into_iter()
        .map(|spec| json!({ "name": spec.name, "description": spec.description, "parameters": spec.parameters }))
        .collect();
    let sub_agents: Vec<Value> = match depth {
        0 => Vec::new(),
        _ => agents.sub_agents(agent).iter().map(|sub_agent| at_depth(sub_agent, agents, depth - 1)).collect(),
    };
    json!({
        "id": agent.name,
        "name": agent.name,
        "description": agent.description,
        "status": "idle",
        "model": agent.model.as_ref().map_or_else(|| agent.provider.default_model(), Template::as_str),
        "tools": tools,
        "subAgents": sub_agents,
        "memory": { "type": "agent-hub", "resourceId": agent.name, "options": {}, "available": true, "status": "idle", "node_id": format!("memory_{}", agent.name) },
        "isTelemetryEnabled": false,
    })
}

/// Under the names of both times.
pub(super) fn usage(usage: &Usage) -> Value {
    json!({
        "promptTokens": usage.input_tokens,
        "completionTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
    })
}
