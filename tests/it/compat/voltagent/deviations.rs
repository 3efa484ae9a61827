//! Where the hub differs from the real VoltAgent and its document: `docs/voltagent.md` names a test for each.

use std::{fs, path::Path};

use serde_json::json;

use crate::compat::{ANONYMOUS, Caller};
use crate::harness::Hub;

#[tokio::test]
async fn without_a_name_for_strangers_a_token_is_needed() {
    let hub = Hub::start(&[]).await;
    let volt = Caller::of(&hub);
    let (status, body) = volt.get("/agents").await;
    assert_eq!((status, &body["success"]), (401, &json!(false)));
    let (status, body) = hub.http("GET", "/agents", "ada").await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_tool_is_called_by_hand_with_a_token_only() {
    let hub = Hub::start(&[ANONYMOUS, ("AGENT_HUB_TOOLS__CODE_EXECUTION__ENABLED", "true")]).await;
    let volt = Caller::of(&hub);
    let (status, tools) = volt.get("/tools").await;
    assert_eq!((status, &tools["data"][0]["name"]), (200, &json!("code_execution")));
    let call = json!({ "input": { "code": "6 * 7" } });
    let (status, _) = volt.post("/tools/code_execution/execute", call.clone()).await;
    assert_eq!(status, 401);
    let ask = |name: &str, body: serde_json::Value| {
        crate::compat::read(
            volt.http.post(volt.url(&format!("/tools/{name}/execute"))).bearer_auth(crate::harness::token("ada")).json(&body),
        )
    };
    let (status, done) = ask("code_execution", call).await;
    assert_eq!(
        (status, &done["data"]["toolName"], &done["data"]["result"]["result"]),
        (200, &json!("code_execution"), &json!(42)),
        "{done}"
    );
    assert!(done["data"]["executionTime"].is_u64() && done["data"]["timestamp"].is_string());
    assert_eq!(ask("code_execution", json!({ "input": { "code": 7 } })).await.0, 400);
    assert_eq!(ask("nothing", json!({})).await.0, 404);
    assert_eq!(ask("code_execution", json!({ "input": { "code": "throw 1" } })).await.0, 500);
}

#[tokio::test]
async fn the_document_and_the_landing_page_say_what_there_is() {
    let hub = Hub::start(&[ANONYMOUS]).await;
    let volt = Caller::of(&hub);
    let (status, document) = volt.get("/doc").await;
    assert_eq!(status, 200);
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
    for path in ["/agents/{id}/text", "/agents/{id}/stream-object", "/workflows/{id}/executions/{executionId}/resume", "/agents/{id}/chat"]
    {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let landing = volt.http.get(volt.url("/")).header("accept", "application/json").send().await.expect("an answer");
    assert_eq!(landing.status(), 200);
}

/// Every test named in the last column of docs/voltagent.md exists.
#[test]
fn every_deviation_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/voltagent.md")).expect("the list");
    let tests: String = ["agents", "chat", "deviations", "workflows"]
        .iter()
        .map(|name| fs::read_to_string(root.join(format!("tests/it/compat/voltagent/{name}.rs"))).expect("tests"))
        .collect();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| VoltAgent")).collect();
    assert!(rows.len() > 15, "{rows:?}");
    for row in rows {
        let name = row.rsplit('`').nth(1).unwrap_or_else(|| panic!("no test: {row}"));
        assert!(tests.contains(&format!("fn {name}()")), "{name}");
    }
}
