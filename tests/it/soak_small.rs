//! The promises of `make soak`, small enough for every change. The program is the one that ships, killed and cut off for real.

use std::path::{Path, PathBuf};

use agent_hub_load::{
    results,
    run::{self, RunArgs, figures::Count},
    soak::{Report, Setup, autobahn, cancel_races, disconnects, kills},
};

/// Always the same choices, as far as the machine's timing lets them be the same.
fn setup() -> Setup {
    Setup { hub: PathBuf::from(env!("CARGO_BIN_EXE_agent-hub")), seed: 7 }
}

fn kept(report: &Report) {
    assert!(report.kept(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_lose_and_repeat_nothing() {
    let size = disconnects::Size { sessions: 10, drops: 50, per_second: 12 };
    kept(&disconnects::run(&setup(), size).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_hub_remembers_what_it_showed() {
    kept(&kills::run(&setup(), kills::Size { sessions: 10, kills: 5 }).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancels_agree_with_the_end_they_race() {
    kept(&cancel_races::run(&setup(), cancel_races::Size { sessions: 10, cancels: 300 }).await.unwrap());
}

/// Scripted sockets that talk, are cut, resume, cancel, steer and listen, as `agent-hub-load run smoke`.
#[tokio::test(flavor = "multi_thread")]
async fn scripted_sockets_find_nothing_wrong() {
    let scenario = "smoke".to_owned();
    let args = RunArgs { scenario, hub: Some(setup().hub), scale: 1.0, quiet: true, ..RunArgs::default() };
    let found = run::results_of(&args).await.unwrap();
    assert!(found.kept(), "{}", results::table(&found));
    // All of it was there to be wrong.
    for count in [Count::Completed, Count::Cancelled, Count::Resumes, Count::Verified, Count::Compared] {
        assert!(found.count(count) > 0, "{}: {}", count.name(), results::table(&found));
    }
    for timing in ["connect", "first_token", "token", "cancel_ack", "cancel_stop", "steer_ack", "resume", "missed"] {
        assert!(found.timings.contains_key(timing), "{timing}: {}", results::table(&found));
    }
}

/// The conformance suite needs Python 2.7. Where it is not there, this says so and checks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn websockets_conform() {
    // Cargo builds examples before it runs tests, beside the programs.
    let echo = Path::new(env!("CARGO_BIN_EXE_agent-hub")).with_file_name("examples").join("ws_echo");
    let suite = Path::new(env!("CARGO_TARGET_TMPDIR")).join("autobahn");
    let size = autobahn::Size { suite: Some(suite), ..autobahn::Size::quick(&echo) };
    let report = autobahn::run(size).await.unwrap();
    if report.not_run() {
        eprintln!("NOT CHECKED: {report}");
        return;
    }
    kept(&report);
}
