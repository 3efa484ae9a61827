//! Tools of a real MCP server, in the hands of an agent; and what such a server can do wrong.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::harness::{Client, Hub};

/// The server, which is built beside this.
pub(crate) fn puppet() -> PathBuf {
    let own = std::env::current_exe().expect("a program");
    own.parent().and_then(Path::parent).expect("target").join("examples/mcp_server")
}

async fn hub_with(settings: &[(&str, &str)]) -> Hub {
    let program = puppet();
    let mut all = vec![
        ("AGENT_HUB_MCP__PUPPET__COMMAND", program.to_str().expect("a path")),
        ("AGENT_HUB_MCP__PUPPET__ARGS", "."),
        ("AGENT_HUB_AGENTS__ASSISTANT__TOOLS", "puppet__*"),
    ];
    all.extend(settings);
    let hub = Hub::start(&all).await;
    connected(&hub).await;
    hub
}

/// Waits until the server's tools are there.
async fn connected(hub: &Hub) {
    for _ in 0..1000 {
        let (_, agents) = hub.http("GET", "/agents/assistant", "ada").await;
        if agents["data"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the server is not connected: {}", hub.log());
}

async fn call(ada: &mut Client, session: &str, tool: &str, arguments: Value) -> Value {
    let seen = ada.events(session).len();
    ada.run(&format!("/pace 0 /tool puppet__{tool} {arguments}")).await;
    let events = ada.events(session);
    events[seen..].iter().find(|event| event["type"] == "tool_result").unwrap_or_else(|| panic!("{tool}: {events:?}"))["data"].clone()
}

#[tokio::test]
async fn its_tools_are_called_by_agents_under_its_name() {
    let hub = hub_with(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let (_, agent) = hub.http("GET", "/agents/assistant", "ada").await;
    let names: Vec<&str> = agent["data"]["tools"].as_array().expect("tools").iter().filter_map(|tool| tool["name"].as_str()).collect();
    for name in ["puppet__echo", "puppet__hang", "puppet__name_with_spaces_and_more"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.contains(&"puppet__broken"), "its schema is none");
    assert_eq!(call(&mut ada, &session, "echo", json!({ "text": "hello" })).await["output"], json!("hello"));
    assert_eq!(call(&mut ada, &session, "structured", json!({})).await["output"], json!({ "answer": 42 }));
    let failed = call(&mut ada, &session, "fail", json!({})).await;
    assert_eq!((&failed["code"], &failed["error"]), (&json!("failed"), &json!("it did not work")));
    assert_eq!(call(&mut ada, &session, "echo", json!({ "text": 7 })).await["code"], json!("invalid_arguments"));
    let lied = call(&mut ada, &session, "liar", json!({ "n": 1 })).await;
    assert_eq!((&lied["code"], &lied["error"]), (&json!("failed"), &json!("I wanted a text")));
    let flood = call(&mut ada, &session, "flood", json!({ "megabytes": 2 })).await;
    let text = flood["output"].as_str().expect("a text");
    assert!(text.len() < 70 * 1024 && text.contains("[cut: the first"), "{}", text.len());
    // A call says which it is.
    call(&mut ada, &session, "effect", json!({ "text": "once" })).await;
    let effects = fs::read_to_string(hub.directory().join("effects")).expect("an effect");
    assert!(effects.starts_with(&format!("{session}/")) && effects.ends_with(" once\n"), "{effects}");
}

#[tokio::test]
async fn a_server_that_dies_in_a_call_is_started_again() {
    let hub = hub_with(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let died = call(&mut ada, &session, "die", json!({})).await;
    assert_eq!(died["code"], json!("unavailable"), "{died}");
    for _ in 0..500 {
        let result = call(&mut ada, &session, "echo", json!({ "text": "again" })).await;
        if result["output"] == json!("again") {
            return;
        }
        assert_eq!(result["code"], json!("unavailable"), "{result}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it does not come back: {}", hub.log());
}

#[tokio::test]
async fn a_call_that_hangs_ends_in_time_and_a_cancel_reaches_the_server() {
    let hub = hub_with(&[("AGENT_HUB_MCP__PUPPET__CALL_TIMEOUT", "1 s")]).await;
    let (mut ada, session) = hub.session("ada").await;
    assert_eq!(call(&mut ada, &session, "hang", json!({})).await["code"], json!("timed_out"));
    let noted = |file: &str, count: usize| {
        let place = hub.directory().join(file);
        async move {
            for _ in 0..2000 {
                if fs::read_to_string(&place).unwrap_or_default().lines().count() >= count {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("the server has not noted that: {}", place.display());
        }
    };
    noted("cancelled", 1).await;
    let task = ada.submit("/tool puppet__hang {}").await;
    // Only a call that has reached the server can be given up there.
    noted("hanging", 2).await;
    ada.done(json!({ "type": "cancel_task", "taskId": task })).await;
    let end = ada.end_of(&task).await;
    assert_eq!((&end["type"], &end["data"]["upstreamStopped"]), (&json!("task_cancelled"), &json!(true)));
    noted("cancelled", 2).await;
    assert_eq!(call(&mut ada, &session, "echo", json!({ "text": "on" })).await["output"], json!("on"));
}

#[tokio::test]
async fn fifty_megabytes_are_cut_or_given_up_and_the_hub_goes_on() {
    let hub = hub_with(&[("AGENT_HUB_MCP__PUPPET__CALL_TIMEOUT", "3 s")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let flood = call(&mut ada, &session, "flood", json!({ "megabytes": 50 })).await;
    let cut = flood["output"].as_str().is_some_and(|text| text.len() < 70 * 1024 && text.contains("[cut: the first"));
    assert!(cut || flood["code"] == "timed_out", "{}", flood.to_string().len());
    let (mut bob, other) = hub.session("bob").await;
    bob.run("/pace 0 /echo still here").await;
    assert_eq!(bob.events(&other).last().expect("an end")["data"]["result"], json!("still here"));
}

#[tokio::test]
async fn a_tool_that_changes_what_it_says_is_not_called_any_more() {
    let hub = hub_with(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    assert_eq!(call(&mut ada, &session, "rug", json!({})).await["output"], json!("hello"));
    call(&mut ada, &session, "change", json!({})).await;
    for _ in 0..500 {
        let result = call(&mut ada, &session, "rug", json!({})).await;
        if result["code"] == json!("refused") {
            let (_, agent) = hub.http("GET", "/agents/assistant", "ada").await;
            assert!(!agent.to_string().contains("Send all files"), "no model is told the new text");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it is still called");
}

#[tokio::test]
async fn a_server_over_http_works_the_same_and_one_that_is_not_there_harms_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server: Child =
        Command::new(puppet()).arg(folder.path()).arg("--http").stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let address = lines.next_line().await.expect("readable").expect("an address");
    let url = format!("http://{address}/mcp");
    let hub = Hub::start(&[
        ("AGENT_HUB_MCP__PUPPET__URL", &url),
        ("AGENT_HUB_MCP__PUPPET__TOKEN", "secret-token"),
        ("AGENT_HUB_MCP__GHOST__COMMAND", "/nowhere/at/all"),
        ("AGENT_HUB_MCP__SILENT__URL", "http://127.0.0.1:9/mcp"),
        ("AGENT_HUB_AGENTS__ASSISTANT__TOOLS", "puppet__*,ghost__*,silent__*"),
    ])
    .await;
    connected(&hub).await;
    let (mut ada, session) = hub.session("ada").await;
    assert_eq!(call(&mut ada, &session, "echo", json!({ "text": "over http" })).await["output"], json!("over http"));
    let (status, _) = hub.http("GET", "/ready", "ada").await;
    assert_eq!(status, 200);
    assert!(!hub.log().contains("secret-token"));
    server.kill().await.expect("killed");
    assert_eq!(call(&mut ada, &session, "echo", json!({ "text": "x" })).await["code"], json!("unavailable"));
}
