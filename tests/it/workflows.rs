//! Workflows: steps that are events, that wait, and that a crash does not repeat.

use std::fs;

use serde_json::{Value, json};

use crate::harness::Hub;

#[cfg(feature = "mcp")]
mod kills;
mod talk;

/// A hub with these workflows and files for its sessions.
async fn hub_with(workflows: &[(&str, &str)], settings: &[(&str, &str)]) -> Hub {
    let mut hub = prepared(workflows, settings);
    hub.run().await;
    hub
}

fn prepared(workflows: &[(&str, &str)], settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![("WORKSPACE_PATH", "./workspace"), ("AGENT_HUB_WORKFLOWS__PATH", "./flows")];
    all.extend(settings);
    let hub = Hub::prepared(&all);
    let folder = hub.directory().join("flows");
    fs::create_dir(&folder).expect("a folder");
    for (id, text) in workflows {
        fs::write(folder.join(format!("{id}.yaml")), text).expect("a file");
    }
    hub
}

/// What happened to the steps of an execution, as `phase place`.
fn steps(events: &[Value], task: &str) -> Vec<String> {
    let of = events.iter().filter(|event| event["type"] == "step" && event["taskId"] == *task);
    of.map(|event| format!("{} {}", event["data"]["phase"].as_str().expect("a phase"), event["data"]["name"].as_str().expect("a name")))
        .collect()
}

fn execute(workflow: &str, input: Value) -> Value {
    json!({ "type": "submit_task", "workflow": workflow, "input": input })
}
