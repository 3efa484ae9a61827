//! What an agent is told, and by whom it is answered.

use agent_hub_load::vendor::{FakeVendor, FakeVendorConfig, Fault, Script};
use serde_json::{Value, json};

use crate::harness::Hub;

/// The messages of the vendor's last call: who speaks, and what.
fn told(vendor: &FakeVendor) -> Vec<(String, String)> {
    let body = vendor.calls().last().expect("a call").body.clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    body["messages"].as_array().expect("a list").iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}

#[tokio::test]
async fn instructions_and_model_follow_the_user_context() {
    let (hub, vendor) = Hub::with_vendor(&[
        (
            "AGENT_HUB_AGENTS__ASSISTANT__INSTRUCTIONS",
            "Speak {{ userContext.language }}.{% if userContext.tier == 'pro' %} At length.{% endif %}",
        ),
        ("AGENT_HUB_AGENTS__ASSISTANT__MODEL", "{{ 'large' if userContext.tier == 'pro' else 'small' }}"),
    ])
    .await;
    let (mut ada, _) = hub.session("ada").await;
    for (context, instructions, model) in [
        (json!({"language": "Latin", "tier": "pro"}), "Speak Latin. At length.", "large"),
        (json!({"language": "Greek"}), "Speak Greek.", "small"),
    ] {
        let submit = json!({"type": "submit_task", "prompt": "/echo yes", "options": {"userContext": context}});
        let task = ada.done(submit).await["taskId"].as_str().expect("an id").to_owned();
        assert_eq!(ada.end_of(&task).await["type"], "task_completed");
        assert_eq!(told(&vendor)[0], ("system".into(), instructions.into()));
        assert_eq!(vendor.calls().last().expect("a call").body["model"], model);
    }
    let calls = vendor.counters().calls;
    let end = ada.run("/echo nothing is known").await;
    assert_eq!((&end["type"], &end["data"]["code"]), (&json!("task_failed"), &json!("invalid_message")), "{end}");
    assert!(end["data"]["message"].as_str().expect("text").contains("userContext"), "{end}");
    assert_eq!(vendor.counters().calls, calls, "the model was not asked");
}

#[tokio::test]
async fn the_context_limit_leaves_out_what_is_older() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    // Three prompts and three answers stand before each of these; a failed one leaves its prompt, so they are asked in sessions of their own.
    for (limit, kept) in [(0, 0), (1, 0), (2, 2), (3, 2), (4, 4), (100, 6)] {
        let (mut eve, _) = hub.session("eve").await;
        for n in 1..=3 {
            eve.run(&format!("/echo answer {n}")).await;
        }
        let submit = json!({"type": "submit_task", "prompt": "/echo now", "options": {"contextLimit": limit}});
        let task = eve.done(submit).await["taskId"].as_str().expect("an id").to_owned();
        eve.end_of(&task).await;
        let told = told(&vendor);
        assert_eq!(told.len(), kept + 1, "limit {limit}: {told:?}");
        assert_eq!((told[0].0.as_str(), told[kept].1.as_str()), ("user", "/echo now"), "{told:?}");
    }
}

#[tokio::test]
async fn another_model_answers_when_the_first_does_not_begin_to() {
    let second = FakeVendor::start(FakeVendorConfig::default()).await.expect("a fake vendor");
    let (hub, first) = Hub::with_vendor(&[
        ("ANTHROPIC_BASE_URL", &second.base_url()),
        ("ANTHROPIC_API_KEY", "k"),
        ("AGENT_HUB_AGENTS__ASSISTANT__FALLBACKS", "anthropic/claude-fallback"),
    ])
    .await;
    let (mut ada, session) = hub.session("ada").await;
    assert_eq!(ada.run("/echo first").await["data"]["result"], "first");
    assert_eq!(second.counters().calls, 0);
    first.set_script(Script::default().with_fault(Fault::Status(503, None), 0));
    second.set_script(Script { echo: Some("second".into()), ..Script::default() });
    assert_eq!(ada.run("hello").await["data"]["result"], "second");
    assert_eq!(second.calls().last().expect("a call").body["model"], "claude-fallback");
    // What has begun is not begun again by another: its words were seen.
    first.set_script(Script { tokens: 9, ..Script::default() }.with_fault(Fault::Cut, 5));
    let asked = second.counters().calls;
    let end = ada.run("hello").await;
    assert_eq!((&end["type"], &end["data"]["code"]), (&json!("task_failed"), &json!("upstream_error")), "{end}");
    assert_eq!(second.counters().calls, asked);
    assert!(ada.events(&session).iter().any(|event| event["type"] == "token"));
}

#[tokio::test]
async fn an_agent_says_how_often_its_model_is_asked() {
    let (hub, vendor) = Hub::with_vendor(&[("AGENT_HUB_AGENTS__ONCE__ATTEMPTS", "1"), ("AGENT_HUB_AGENTS__FOUR__ATTEMPTS", "4")]).await;
    for (agent, attempts) in [("once", 1), ("four", 4)] {
        let before = vendor.counters().calls;
        let failing = || Script::default().with_fault(Fault::Status(500, None), 0);
        vendor.set_next_scripts((0..attempts).map(|_| failing()));
        let mut ada = hub.connect("ada").await;
        ada.create(json!({"agent": agent})).await;
        let end = ada.run("/echo hello").await;
        assert_eq!((&end["type"], &end["data"]["code"]), (&json!("task_failed"), &json!("upstream_error")), "{end}");
        assert_eq!(vendor.counters().calls - before, attempts, "{agent}");
    }
}
