//! The scenario program against a hub that lies: every kind of lie is found, told from the others, and fails the run.

// Failing loudly is what a test is for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod liar;

use std::{path::Path, process::Command};

use agent_hub_load::{
    results::Results,
    run::{self, RunArgs, figures::Count},
};
use liar::{Liar, Lie};

/// Two sockets, two sessions each; the connection breaks once, and at the end everything is compared with what a fresh socket sees.
const SCRIPT: &str = r#"
name = "lies"
limit = "1 min"
[[group]]
name = "people"
sockets = 2
sessions = 2
within = "10 s"
steps = [
  { do = "create" },
  { do = "submit", prompt = "12 tokens" },
  { do = "expect", end = "completed" },
  { do = "drop", how = "reset" },
  { do = "come-back" },
  { do = "submit", prompt = "endless" },
  { do = "cancel", after_tokens = 5 },
  { do = "expect", end = "cancelled" },
  { do = "verify", via = "attach" },
]
"#;

async fn results(script: &str, lie: Lie) -> Results {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let liar = Liar::start(lie).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scenario.toml");
    std::fs::write(&file, script).unwrap();
    let args = RunArgs {
        scenario: file.to_str().unwrap().to_owned(),
        url: Some(liar.url()),
        token: Some("any".to_owned()),
        scale: 1.0,
        quiet: true,
        ..RunArgs::default()
    };
    run::results_of(&args).await.unwrap()
}

/// The counters that are never anything but zero, where they are not.
fn wrong(results: &Results) -> Vec<(&'static str, u64)> {
    let wrong = Count::ALL.into_iter().filter(|count| count.is_always_zero());
    wrong.map(|count| (count.name(), results.count(count))).filter(|(_, found)| *found > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_hub_passes() {
    let found = results(SCRIPT, Lie::None).await;
    assert_eq!(wrong(&found), [], "{:#?}", found.complaints);
    assert!(found.kept());
    assert_eq!((found.count(Count::Sessions), found.count(Count::Verified), found.count(Count::Resumes)), (4, 4, 2));
    assert_eq!((found.count(Count::Completed), found.count(Count::Cancelled)), (4, 4));
    assert_eq!(found.timings["first_token"].count, 8);
    assert_eq!(found.timings["resume"].count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_loses_is_caught() {
    let found = results(SCRIPT, Lie::Loses).await;
    assert_eq!(wrong(&found), [("lost", 4)], "one a session: {:#?}", found.complaints);
    assert!(!found.kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_repeats_is_caught() {
    assert_eq!(wrong(&results(SCRIPT, Lie::Repeats).await), [("repeated", 4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_reorders_is_caught() {
    assert_eq!(wrong(&results(SCRIPT, Lie::Reorders).await), [("reordered", 4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_tells_the_live_reader_something_else_is_caught() {
    assert_eq!(wrong(&results(SCRIPT, Lie::Alters).await), [("altered", 4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_goes_on_after_a_cancel_is_caught() {
    for lie in [Lie::GoesOn, Lie::GoesOnUnacknowledged] {
        let found = results(SCRIPT, lie).await;
        assert_eq!(wrong(&found), [("tokens_after_cancel", 4 * liar::AFTER_THE_CANCEL)], "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_keeps_the_end_to_itself_is_caught() {
    let script = SCRIPT.replace("within = \"10 s\"", "within = \"500 ms\"");
    let found = results(&script, Lie::NeverEnds).await;
    assert_eq!(wrong(&found), [("unmet", 2)], "both scripts end there");
    assert!(
        found.complaints.iter().any(|complaint| complaint.contains("expect: not every task had ended within 500ms")),
        "{:?}",
        found.complaints
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_task_has_not_ended() {
    let script = SCRIPT.replace("end = \"completed\"", "end = \"any\"");
    let found = results(&script, Lie::Refuses).await;
    assert_eq!((wrong(&found), found.count(Count::Errors)), (vec![("unmet", 2)], 4), "{:?}", found.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_that_is_cut_again_is_timed_from_its_begin() {
    let found = results(SCRIPT, Lie::HangsUp).await;
    assert_eq!(wrong(&found), [], "{:#?}", found.complaints);
    let resume = &found.timings["resume"];
    // Once for each of the two sessions of a socket.
    assert_eq!((resume.count, found.count(Count::Closed)), (2, 4));
    assert!(u128::from(resume.min) >= liar::BEFORE_IT_HANGS_UP.as_nanos() * 2, "{resume:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_meet_across_processes_and_figures_are_added_up() {
    let liar = Liar::start(Lie::None).await;
    let dir = tempfile::tempdir().unwrap();
    let (file, json, html) = (dir.path().join("s.toml"), dir.path().join("r.json"), dir.path().join("r.html"));
    let script = SCRIPT
        .replace("sockets = 2", "sockets = 7")
        .replace("{ do = \"create\" },", "{ do = \"create\" }, { do = \"meet\", name = \"all\" },");
    std::fs::write(&file, script).unwrap();
    let program = |arguments: Vec<String>| {
        tokio::task::spawn_blocking(move || Command::new(env!("CARGO_BIN_EXE_agent-hub-load")).args(arguments).output().unwrap())
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = [
        "run",
        &text(&file),
        "--url",
        &liar.url(),
        "--token",
        "any",
        "--processes",
        "3",
        "--sources",
        "2",
        "--json",
        &text(&json),
        "--html",
        &text(&html),
    ];
    let output = program(arguments.map(str::to_owned).to_vec()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("all thresholds kept"), "{said}");
    let found: Results = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((found.processes, found.count(Count::Sessions), found.count(Count::Verified)), (3, 14, 14));
    assert_eq!(found.timings["connect"].count, 7, "first connects; coming back is resume");
    assert_eq!(found.meetings.len(), 1);
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(
        page.contains("<svg") && page.contains("prefers-color-scheme") && !page.contains("http://"),
        "one file, nothing from elsewhere"
    );
    let same = program(["compare", &text(&json), &text(&json)].map(str::to_owned).to_vec()).await.unwrap();
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_that_is_not_kept_is_the_exit_code() {
    let liar = Liar::start(Lie::Repeats).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    std::fs::write(&file, SCRIPT).unwrap();
    let (file, url) = (file.to_str().unwrap().to_owned(), liar.url());
    let output = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_agent-hub-load"))
            .args(["run", &file, "--url", &url, "--token", "any", "--quiet"])
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("FAIL repeated") && said.contains("came twice"), "{said}");
}
