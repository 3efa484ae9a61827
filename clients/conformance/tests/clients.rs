//! The Rust client passes every script; the same client, lied about, fails where the lie is.
#![allow(clippy::panic, reason = "a test that cannot go on says so")]

use std::{collections::HashSet, sync::Arc};

use agent_hub_conformance::{
    client,
    driver::DriverCommand,
    sabotage::{Lie, Thing, Way, lie, lying_driver, truth},
    suite::Selection,
    verdict::Verdict,
};
use futures::StreamExt;
use serde_json::{Value, json};

async fn play(driver: &DriverCommand, only: &[&str], patience: u64) -> Vec<Verdict> {
    let only = only.iter().map(|name| (*name).to_owned()).collect();
    client::run(driver, &Selection { only, patience, ..Selection::default() }, |_| {}).await.expect("the scripts can be read")
}

fn failed(verdicts: &[Verdict]) -> Vec<&str> {
    verdicts.iter().filter(|verdict| !verdict.kept()).map(|verdict| verdict.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_passes() {
    let program = format!("{} rust-driver", env!("CARGO_BIN_EXE_agent-hub-conformance"));
    let verdicts = play(&DriverCommand::Program(program), &[], 30).await;
    assert!(verdicts.len() > 40);
    assert!(verdicts.iter().all(Verdict::kept), "{}", verdicts.iter().map(|verdict| format!("{verdict}\n")).collect::<String>());
}

/// A lie about one kind of message, without memory.
fn about(way: Way, change: impl Fn(Value) -> Vec<Value> + Send + Sync + 'static) -> Lie {
    Arc::new(move |on, _, thing| match thing {
        Thing::Json(json) if on == way => change(json).into_iter().map(Thing::Json).collect(),
        other => vec![other],
    })
}

fn about_close(from: u16, to: u16) -> Lie {
    Arc::new(move |way, _, thing| match thing {
        Thing::Close(code) if way == Way::Down && code == from => vec![Thing::Close(to)],
        other => vec![other],
    })
}

/// A field of messages of a type gets another value.
fn changed(way: Way, kind: &'static str, field: &'static str, value: Value) -> Lie {
    about(way, move |mut json| {
        if json["type"] == kind && !json[field].is_null() {
            json[field] = value.clone();
        }
        vec![json]
    })
}

fn dropped(way: Way, kind: &'static str) -> Lie {
    about(way, move |json| if json["type"] == kind { Vec::new() } else { vec![json] })
}

/// Submits that were sent before: what is sent when they come again.
fn repeated_submits(change: fn(Value) -> Vec<Value>) -> Lie {
    lie(HashSet::new(), move |seen: &mut HashSet<String>, way, _, thing| match thing {
        Thing::Json(json) if way == Way::Up && json["type"] == "submit_task" => {
            let again = !seen.insert(json["taskId"].as_str().unwrap_or_default().to_owned());
            if again { change(json).into_iter().map(Thing::Json).collect() } else { vec![Thing::Json(json)] }
        }
        other => vec![other],
    })
}

/// What is wrong with the client then, the lie, and the scripts that must see it.
type Case = (&'static str, fn() -> Lie, &'static [&'static str]);

fn lies() -> Vec<Case> {
    vec![
        (
            "applies repeated events",
            || about(Way::Report, |report| vec![report.clone(); 1 + usize::from(report["event"]["seq"] == 3)]),
            &["events_repeated"],
        ),
        (
            "loses an event",
            || about(Way::Report, |report| if report["event"]["seq"] == 3 { Vec::new() } else { vec![report] }),
            &["events_repeated"],
        ),
        ("does not resend", || repeated_submits(|_| Vec::new()), &["submit_lost_before_effect", "submit_lost_after_effect"]),
        (
            "resends under another id",
            || {
                repeated_submits(|mut submit| {
                    submit["taskId"] = "0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6".into();
                    vec![submit]
                })
            },
            &["submit_lost_before_effect", "submit_lost_after_effect"],
        ),
        (
            "forgets its cursor",
            || {
                about(Way::Up, |mut json| {
                    json.as_object_mut().into_iter().for_each(|fields| drop(fields.remove("after")));
                    vec![json]
                })
            },
            &["close_resume_codes", "attach_cursor"],
        ),
        ("comes back after a final code", || about_close(4001, 1012), &["close_4001", "close_first_4001"]),
        ("stops after a code that is not final", || about_close(1012, 4001), &["close_resume_codes"]),
        ("ignores going_away", || dropped(Way::Down, "going_away"), &["going_away"]),
        (
            "does not wait longer each time",
            || {
                about(Way::Order, |mut order| {
                    if order["do"] == "connect" {
                        order["backoffMs"] = json!([1, 1]);
                    }
                    vec![order]
                })
            },
            &["backoff_grows"],
        ),
        ("never misses the hub", || changed(Way::Down, "welcome", "heartbeatMs", json!(3_600_000)), &["silent_peer"]),
        ("passes over events it does not know", || dropped(Way::Down, "not_yet_invented"), &["events_unknown"]),
        (
            "does not see gaps",
            || {
                lie(0, |last: &mut u64, way, _, thing| match thing {
                    Thing::Json(mut json) if way == Way::Down && json.get("at").is_some() => {
                        *last += 1;
                        json["seq"] = (*last).into();
                        vec![Thing::Json(json)]
                    }
                    other => vec![other],
                })
            },
            &["events_gap", "events_out_of_order"],
        ),
        (
            "keeps what it has to forget",
            || {
                about(Way::Report, |mut report| {
                    if report.get("attached").is_some() {
                        report["attached"]["kept"] = true.into();
                    }
                    vec![report]
                })
            },
            &["epoch_changed", "not_recovered", "attach_snapshot"],
        ),
        (
            "says more than it is asked to",
            || about(Way::Up, |command| vec![command.clone(); 1 + usize::from(command["type"] == "cancel_task")]),
            &["cancel_too_late"],
        ),
        ("does not refresh its token", || dropped(Way::Down, "auth_expiring"), &["token_refreshed"]),
        (
            "hides refusals",
            || {
                about(Way::Report, |report| match report.get("error") {
                    Some(_) => vec![json!({"answer": report["answer"], "ok": true})],
                    None => vec![report],
                })
            },
            &["submit_refused", "cancel_too_late"],
        ),
        (
            "answers twice",
            || about(Way::Report, |report| vec![report.clone(); 1 + usize::from(report.get("answer").is_some())]),
            &["submit_ack_and_event"],
        ),
        (
            "hides how it stands",
            || about(Way::Report, |report| if report["state"] == "replaying" { Vec::new() } else { vec![report] }),
            &["states"],
        ),
        (
            "sends what is too big",
            || changed(Way::Down, "welcome", "limits", json!({"messageBytes": 1_000_000, "promptChars": 10_000, "attachedSessions": 64})),
            &["submit_too_big"],
        ),
        ("sends again what was too big", || about_close(1009, 1011), &["submit_closed_1009"]),
        ("does not wait as long as it is told", || changed(Way::Down, "error", "retryAfterMs", json!(1)), &["attach_refused_for_now"]),
        ("asks for ever for what is gone", || changed(Way::Down, "error", "retryable", json!(true)), &["attach_gone_later"]),
        (
            "answers without asking",
            || {
                lie((), |(), way, _, thing| match thing {
                    Thing::Json(json) if way == Way::Up && json["type"] == "steer_task" => Vec::new(),
                    other => vec![other],
                })
            },
            &["commands_of_all_kinds", "steer_resent"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_truth_passes_where_lies_are_told() {
    let mut scripts: Vec<&str> = lies().iter().flat_map(|(_, _, scripts)| scripts.iter().copied()).collect();
    scripts.dedup();
    let verdicts = play(&lying_driver(truth), &scripts, 30).await;
    assert!(failed(&verdicts).is_empty(), "{}", verdicts.iter().map(|verdict| format!("{verdict}\n")).collect::<String>());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_seen() {
    let told = futures::stream::iter(lies()).map(|(what, make, scripts)| async move {
        // Whatever must come and does not is waited for.
        let verdicts = play(&lying_driver(make), scripts, 2).await;
        let seen = failed(&verdicts);
        for script in scripts {
            assert!(seen.contains(script), "a client that {what} passes {script}");
        }
    });
    told.buffer_unordered(6).for_each(async |()| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_breaks_its_contract_fails_and_is_not_waited_for() {
    for (command, problem) in [
        ("echo no report", "no report"),
        ("exit 3", "has ended"),
        ("cat >/dev/null; exit 3", "nothing was reported"),
        ("/nowhere/at/all", "has ended"),
    ] {
        let verdicts = play(&DriverCommand::Program(command.to_owned()), &["closed_while_away"], 1).await;
        let verdict = verdicts[0].to_string();
        // A driver that is gone takes no orders, or is seen to be gone, whichever comes first.
        let known = [problem, "takes no orders", "does not connect"];
        assert!(!verdicts[0].kept() && known.iter().any(|known| verdict.contains(known)), "{command}: {verdict}");
    }
}
