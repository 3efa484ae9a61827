//! The hub passes the conformance kit; the same hub, lied about, does not. The Rust client behind a network that breaks passes too.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use agent_hub_conformance::{
    driver::DriverCommand,
    network::{self, Size},
    sabotage::{Lie, Thing, Way, lie, lying_driver, start, truth},
    server::{self, ServerArgs},
    suite::Selection,
    verdict::Verdict,
};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::harness::{Hub, token};

/// Plays scripts against whoever listens there.
async fn play(address: &str, only: &[&str], patience: u64) -> Vec<Verdict> {
    let args = ServerArgs {
        url: format!("ws://{address}"),
        token: token("user-1"),
        other_token: Some(token("user-2")),
        prompt_long: "/pace 20 /tokens 400".into(),
        prompt_short: "/pace 1 /tokens 12".into(),
        selection: Selection { only: only.iter().map(|name| (*name).to_owned()).collect(), patience, ..Selection::default() },
    };
    server::run(&args, |_| {}).await.expect("the scripts can be read")
}

/// The same, with a liar before it.
async fn play_lying(hub: &Hub, lie: Lie, only: &[&str], patience: u64) -> Vec<Verdict> {
    let (address, lying) = start(&hub.address, lie).await.expect("a free port");
    let lying = tokio::spawn(lying);
    let verdicts = play(&address.to_string(), only, patience).await;
    lying.abort();
    verdicts
}

fn shown(verdicts: &[Verdict]) -> String {
    verdicts.iter().map(|verdict| format!("{verdict}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_passes_every_script() {
    let hub = Hub::start(&[]).await;
    let verdicts = play(&hub.address, &[], 30).await;
    assert!(
        verdicts.len() >= 40 && verdicts.iter().all(|verdict| verdict.outcome == agent_hub_conformance::verdict::Outcome::Passed),
        "{}",
        shown(&verdicts)
    );
}

/// A lie about what the server says.
fn about(change: impl Fn(Value) -> Vec<Value> + Send + Sync + 'static) -> Lie {
    Arc::new(move |way, _, thing| match thing {
        Thing::Json(json) if way == Way::Down => change(json).into_iter().map(Thing::Json).collect(),
        other => vec![other],
    })
}

fn dropped(kind: &'static str) -> Lie {
    about(move |json| if json["type"] == kind { Vec::new() } else { vec![json] })
}

fn without_after() -> Lie {
    Arc::new(|way, _, thing| match thing {
        Thing::Json(mut json) if way == Way::Up => {
            json.as_object_mut().into_iter().for_each(|fields| drop(fields.remove("after")));
            vec![Thing::Json(json)]
        }
        other => vec![other],
    })
}

/// A submit that was made before makes another task.
fn repeats_effects() -> Lie {
    lie(HashSet::new(), |seen: &mut HashSet<String>, way, _, thing| match thing {
        Thing::Json(mut json) if way == Way::Up && json["type"] == "submit_task" => {
            if !seen.insert(json["taskId"].as_str().unwrap_or_default().to_owned()) {
                json["taskId"] = uuid::Uuid::new_v4().to_string().into();
            }
            vec![Thing::Json(json)]
        }
        other => vec![other],
    })
}

/// Neighbours change places.
fn swaps() -> Lie {
    lie(None, |held: &mut Option<Thing>, way, _, thing| match thing {
        Thing::Json(json) if way == Way::Down && json["seq"] == 3 && json.get("at").is_some() => {
            *held = Some(Thing::Json(json));
            Vec::new()
        }
        other if way == Way::Down => std::iter::once(other).chain(held.take()).collect(),
        other => vec![other],
    })
}

fn close_code(from: u16, to: u16) -> Lie {
    Arc::new(move |way, _, thing| match thing {
        Thing::Close(code) if way == Way::Down && code == from => vec![Thing::Close(to)],
        other => vec![other],
    })
}

/// Each socket gets the events in other words.
fn not_the_same_bytes() -> Lie {
    Arc::new(|way, connection, thing| match thing {
        Thing::Json(mut json) if way == Way::Down && json.get("at").is_some() => {
            json["connection"] = connection.into();
            vec![Thing::Json(json)]
        }
        other => vec![other],
    })
}

/// What is wrong with the server then, the lie, and the scripts that must see it.
type Case = (&'static str, fn() -> Lie, &'static [&'static str]);

fn lies() -> Vec<Case> {
    vec![
        (
            "loses an event",
            || about(|json| if json["seq"] == 4 && json.get("at").is_some() { Vec::new() } else { vec![json] }),
            &["submit_again"],
        ),
        ("repeats an event", || about(|json| vec![json.clone(); 1 + usize::from(json["type"] == "task_queued")]), &["submit_again"]),
        ("changes the order", swaps, &["submit_again"]),
        ("does not acknowledge", || dropped("ack"), &["ack_echo", "cancel"]),
        ("does not say caught_up", || dropped("caught_up"), &["attach_query", "detach"]),
        (
            "ends a task twice",
            || {
                about(|json| {
                    let mut second = json.clone();
                    second["seq"] = (json["seq"].as_u64().unwrap_or_default() + 1).into();
                    if json["type"] == "task_cancelled" { vec![json, second] } else { vec![json] }
                })
            },
            &["cancel_twice"],
        ),
        ("does not tell that it was asked to cancel", || dropped("cancel_requested"), &["cancel"]),
        ("ignores cursors", without_after, &["attach_after"]),
        ("has an effect twice", repeats_effects, &["submit_again", "submit_lost_socket"]),
        (
            "changes a word",
            || {
                about(|mut json| {
                    if json["type"] == "message" {
                        json["data"]["text"] = "something else".into();
                    }
                    vec![json]
                })
            },
            &["submit", "steer_now"],
        ),
        ("does not send the same bytes", not_the_same_bytes, &["attach_after", "second_tab"]),
        ("has another code for bad credentials", || close_code(4001, 1008), &["credentials_bad"]),
        ("has another code for what is too big", || close_code(1009, 1002), &["too_big"]),
        ("says nothing first", || dropped("welcome"), &["welcome"]),
        (
            "does not answer what it does not know",
            || about(|json| if json["code"] == "unknown_type" { Vec::new() } else { vec![json] }),
            &["bad_input"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_seen_and_the_truth_is_not() {
    let hub = Hub::start(&[]).await;
    let all: Vec<&str> = lies().iter().flat_map(|(_, _, scripts)| scripts.iter().copied()).collect();
    let honest = play_lying(&hub, truth(), &all, 30).await;
    assert!(honest.iter().all(Verdict::kept), "{}", shown(&honest));
    let hub = &hub;
    let told = futures::stream::iter(lies()).map(|(what, make, scripts)| async move {
        // Whatever must come and does not is waited for.
        let verdicts = play_lying(hub, make(), scripts, 2).await;
        for script in scripts {
            let seen = verdicts.iter().any(|verdict| verdict.name == *script && !verdict.kept());
            assert!(seen, "a server that {what} passes {script}");
        }
    });
    told.buffer_unordered(6).for_each(async |()| {}).await;
}

fn size(cuts: usize) -> Size {
    Size { cuts, clients: 2, sessions: 3, hub: Some(PathBuf::from(env!("CARGO_BIN_EXE_agent-hub"))), seed: Some(11) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_loses_and_repeats_nothing_behind_a_broken_network() {
    let report = network::run_with(&DriverCommand::rust(), &size(20)).await.expect("it runs");
    assert!(report.kept() && report.events > 100 && report.model_calls > 10, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_repeats_or_loses_is_seen_behind_a_broken_network() {
    let doubled = || about_reports(|report| vec![report.clone(); 1 + usize::from(report["event"]["seq"] == 7)]);
    let report = network::run_with(&lying_driver(doubled), &size(3)).await.expect("it runs");
    assert!(!report.kept() && report.misplaced > 0, "{report}");
    let lost = || about_reports(|report| if report["event"]["seq"] == 7 { Vec::new() } else { vec![report] });
    let report = network::run_with(&lying_driver(lost), &size(3)).await.expect("it runs");
    assert!(!report.kept() && report.misplaced > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_without_its_cursor_is_seen_behind_a_broken_network() {
    let report = network::run_with(&lying_driver(without_after), &size(6)).await.expect("it runs");
    assert!(!report.kept() && report.violations.iter().any(|violation| violation.contains("forgot what it had")), "{report}");
}

fn about_reports(change: impl Fn(Value) -> Vec<Value> + Send + Sync + 'static) -> Lie {
    Arc::new(move |way, _, thing| match thing {
        Thing::Json(json) if way == Way::Report => change(json).into_iter().map(Thing::Json).collect(),
        other => vec![other],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_submits_have_a_second_effect_is_seen_behind_a_broken_network() {
    let twice = || -> Lie {
        Arc::new(|way, _, thing| match thing {
            Thing::Json(json) if way == Way::Up && json["type"] == "submit_task" => {
                let mut second = json.clone();
                second["taskId"] = uuid::Uuid::new_v4().to_string().into();
                second["id"] = json!("nobody waits for it");
                vec![Thing::Json(json), Thing::Json(second)]
            }
            other => vec![other],
        })
    };
    let report = network::run_with(&lying_driver(twice), &size(3)).await.expect("it runs");
    assert!(!report.kept() && report.repeated_effects > 0, "{report}");
}
