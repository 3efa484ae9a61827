//! `kill -9` at any moment of executions that do things in the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{Hub, Random, new_id},
    tools::mcp::puppet,
};

/// Twelve steps: seven that do something once, two that wait for somebody, three that compute.
const TWELVE: &str = r#"
input: { type: object, properties: { run: { type: string } }, required: [run] }
result: "=#{ run: workflow.input.run, done: steps.last }"
steps:
  - { id: begin, type: transform, value: "=workflow.input.run" }
  - { id: e1, type: tool, tool: puppet__effect, arguments: { text: "=`${workflow.input.run}-1`" } }
  - { id: e2, type: tool, tool: puppet__effect, arguments: { text: "=`${workflow.input.run}-2`" } }
  - { id: w1, type: suspend, resume: { type: string } }
  - { id: e3, type: tool, tool: puppet__effect, arguments: { text: "=`${workflow.input.run}-3`" } }
  - id: fan
    type: parallel
    branches:
      - [{ id: e4, type: tool, tool: puppet__effect, arguments: { text: "=`${workflow.input.run}-4`" } }]
      - [{ id: e5, type: tool, tool: puppet__effect, arguments: { text: "=`${workflow.input.run}-5`" } }]
  - { id: between, type: transform, value: "=steps.w1" }
  - { id: e6, type: tool, tool: puppet__effect, arguments: { text: "=`${workflow.input.run}-6`" } }
  - { id: w2, type: suspend }
  - { id: e7, type: tool, tool: puppet__effect, arguments: { text: "=`${workflow.input.run}-7`" } }
  - { id: shape, type: transform, value: "=input" }
  - { id: last, type: transform, value: "=steps.between" }
"#;
const KILLS: usize = 100;
const SESSIONS: usize = 3;

/// One session, and the execution that goes on in it.
struct Line {
    session: String,
    task: String,
    run: String,
    ended: usize,
}

impl Line {
    fn submit(&self) -> Value {
        json!({ "type": "submit_task", "sessionId": self.session, "taskId": self.task, "workflow": "twelve", "input": { "run": self.run } })
    }

    /// The next execution.
    fn again(&mut self) {
        (self.task, self.run) = (new_id(), new_id());
        self.ended += 1;
    }
}

fn lines_of(hub: &Hub, file: &str) -> Vec<String> {
    fs::read_to_string(hub.directory().join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// How often each call was made.
fn attempts(hub: &Hub) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    lines_of(hub, "attempts").into_iter().for_each(|key| *count.entry(key).or_default() += 1);
    count
}

/// Lets every execution go on for a while: submits what is new, resumes what waits, takes note of what has settled.
async fn go_on(hub: &Hub, lines: &mut [Line], settled: &mut BTreeMap<String, usize>, until: tokio::time::Instant) {
    let mut client = hub.connect("ada").await;
    for line in lines.iter() {
        client.say(json!({ "type": "create_session", "sessionId": line.session, "tools": [] })).await;
        client.say(line.submit()).await;
    }
    // A hub that comes back says where its executions stand; each is looked at in its snapshot first.
    let mut waiting: BTreeSet<String> = lines.iter().map(|line| line.task.clone()).collect();
    while let Ok(frame) = tokio::time::timeout_at(until, client.next()).await {
        let task = frame["taskId"].as_str().unwrap_or_default().to_owned();
        match frame["type"].as_str().unwrap_or_default() {
            "task_suspended" if frame["data"]["stepId"].is_string() => {
                client.say(json!({ "type": "resume_task", "taskId": task, "data": "yes" })).await;
            }
            "tool_result" if frame["data"]["output"].is_string() => {
                let key = format!("{}/{}", frame["sessionId"].as_str().expect("an id"), frame["data"]["callId"].as_str().expect("an id"));
                settled.entry(key.clone()).or_insert_with(|| attempts(hub).get(&key).copied().unwrap_or_default());
            }
            "task_completed" => {
                if let Some(line) = lines.iter_mut().find(|line| line.task == task) {
                    assert_eq!(frame["data"]["result"], json!({ "run": line.run, "done": "yes" }));
                    waiting.remove(&line.task);
                    line.again();
                    waiting.insert(line.task.clone());
                    client.say(line.submit()).await;
                }
            }
            kind @ ("task_failed" | "task_cancelled" | "task_timeout") => panic!("{kind}: {frame}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_hundred_kills_repeat_nothing_that_has_settled_and_every_execution_ends() {
    let program = puppet();
    let mut hub = super::hub_with(
        &[("twelve", TWELVE)],
        &[("AGENT_HUB_MCP__PUPPET__COMMAND", program.to_str().expect("a path")), ("AGENT_HUB_MCP__PUPPET__ARGS", ".")],
    )
    .await;
    let mut random = Random::seeded();
    let mut lines: Vec<Line> = (0..SESSIONS).map(|_| Line { session: new_id(), task: new_id(), run: new_id(), ended: 0 }).collect();
    let mut settled = BTreeMap::new();
    for _ in 0..KILLS {
        let moment = Duration::from_micros(50_000 + random.next(300_000));
        go_on(&hub, &mut lines, &mut settled, tokio::time::Instant::now() + moment).await;
        hub.crash().await;
    }
    // Undisturbed, each of them ends.
    let before: Vec<usize> = lines.iter().map(|line| line.ended).collect();
    for _ in 0..60 {
        if lines.iter().zip(&before).all(|(line, before)| line.ended > *before) {
            break;
        }
        go_on(&hub, &mut lines, &mut settled, tokio::time::Instant::now() + Duration::from_secs(1)).await;
    }
    assert!(lines.iter().zip(&before).all(|(line, before)| line.ended > *before), "one of them does not end: {}", hub.log());
    let ended: usize = lines.iter().map(|line| line.ended).sum();
    // What has settled was not done again, whatever happened afterwards.
    let now = attempts(&hub);
    for (key, then) in &settled {
        assert_eq!(now.get(key), Some(then), "{key} had settled and was called again");
    }
    // And in the world each effect is there once.
    let mut effects: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines_of(&hub, "effects") {
        *effects.entry(line.split_once(' ').expect("a key and a text").1.to_owned()).or_default() += 1;
    }
    assert!(effects.values().all(|times| *times == 1), "{effects:?}");
    assert!(effects.len() >= ended * 7, "{} effects of {ended} executions", effects.len());
    eprintln!("{KILLS} kills, {ended} executions ended, {} effects, {} settled calls watched", effects.len(), settled.len());
}
