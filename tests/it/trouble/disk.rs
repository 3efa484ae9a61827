//! A disk that is full, and then is not.
//!
//! The process is made to meet the limit by what the system has for it: a bound on the size of files, which can be set and lifted while it
//! runs. (The signal that comes with it is ignored, so that writes fail with an error as they do on a full disk.)

use std::process::Command;

use agent_hub_load::vendor::{FakeVendor, FakeVendorConfig, Outcome};
use serde_json::json;

use crate::harness::{Client, Hub, texts};

fn bound_files(hub: &Hub, bytes: &str) {
    let set = Command::new("prlimit").args(["--pid", &hub.pid().to_string(), &format!("--fsize={bytes}:unlimited")]).status();
    assert!(set.expect("prlimit is there").success());
}

/// Submits until it is taken. Returns the task and how often it was refused.
async fn submit_until_taken(client: &mut Client, prompt: &str) -> (String, u32) {
    let mut refused = 0;
    loop {
        let answer = client.ask(json!({"type": "submit_task", "prompt": prompt})).await;
        if answer["type"] == "ack" {
            return (answer["taskId"].as_str().expect("an id").to_owned(), refused);
        }
        assert_eq!((&answer["code"], &answer["retryable"]), (&json!("overloaded"), &json!(true)), "{answer}");
        refused += 1;
        assert!(refused < 600, "it never works again");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_model_and_nothing_else() {
    for (kind, path) in [("sqlite", "data/hub.db"), ("file", "data/log")] {
        let vendor = FakeVendor::start(FakeVendorConfig::default()).await.expect("a fake vendor");
        let url = vendor.base_url();
        let settings = [
            ("STORAGE_TYPE", kind),
            ("STORAGE_PATH", path),
            ("MODEL_PROVIDER", "openai"),
            ("OPENAI_BASE_URL", url.as_str()),
            ("OPENAI_API_KEY", "k"),
        ];
        let mut hub = Hub::prepared(&settings).through(&["sh", "-c", r#"trap "" XFSZ; exec "$0""#]);
        hub.run().await;
        let (mut ada, session) = hub.session("ada").await;
        let (mut other, idle) = hub.session("ada").await;
        other.run("/echo before").await;
        let task = ada.submit("/pace 2 /tokens 100000").await;
        ada.until("token").await;

        bound_files(&hub, "1");
        vendor.until(|calls| calls.iter().any(|call| call.outcome == Outcome::Aborted)).await;
        for _ in 0..3 {
            ada.refused(json!({"type": "submit_task", "prompt": "/echo now?"}), "overloaded").await;
            other.refused(json!({"type": "submit_task", "prompt": "/echo now?"}), "overloaded").await;
            other.refused(json!({"type": "create_session"}), "overloaded").await;
        }
        let calls = vendor.counters().calls;
        assert_eq!(calls, 2, "{kind}: nothing is asked that cannot be kept");
        // The process lives, and says that it is not ready.
        assert_eq!(hub.http("GET", "/health", "ada").await.0, 200);
        assert_eq!(hub.http("GET", "/ready", "ada").await.0, 503, "{kind}");
        // What is there can be read, unless the session has something to write first.
        let mut reader = hub.connect("ada").await;
        reader.attach(&idle, Some(&format!("{}.0", other.epoch(&idle)))).await;
        reader.until("caught_up").await;
        assert!(reader.event_texts(&idle) == other.event_texts(&idle), "{kind}");
        reader.refused(json!({"type": "attach_session", "sessionId": session}), "overloaded").await;
        bound_files(&hub, "unlimited");

        let (next, _) = submit_until_taken(&mut ada, "/echo again").await;
        let failed = ada.end_of(&task).await;
        assert_eq!((&failed["type"], &failed["data"]["code"]), (&json!("task_failed"), &json!("overloaded")), "{kind}: {failed}");
        assert_eq!(failed["data"]["partial"], texts(&ada.events(&session), &task), "{kind}");
        assert_eq!(ada.end_of(&next).await["data"]["result"], "again");
        let (next, _) = submit_until_taken(&mut other, "/echo again").await;
        assert_eq!(other.end_of(&next).await["data"]["result"], "again");

        // Nothing that was seen is gone.
        hub.crash().await;
        for (before, session) in [(&ada, &session), (&other, &idle)] {
            let mut back = hub.connect("ada").await;
            let attached = back.attach(session, Some(&before.cursor(session))).await;
            assert_eq!((&attached["recovered"], &attached["head"]), (&json!(true), &json!(before.position(session))), "{kind}");
            back.attach(session, Some(&format!("{}.0", before.epoch(session)))).await;
            back.until("caught_up").await;
            assert!(back.event_texts(session) == before.event_texts(session), "{kind}");
        }
    }
}

/// The same on a file system that really is full, where one can be had without being anybody special.
#[tokio::test]
async fn a_full_file_system_is_the_same() {
    let possible = Command::new("unshare").args(["-rm", "sh", "-c", "mount -t tmpfs -o size=1m t /mnt"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no file system of our own can be mounted here");
        return;
    }
    for (kind, path) in [("sqlite", "small/hub.db"), ("file", "small/log")] {
        full_file_system(kind, path).await;
    }
}

async fn full_file_system(kind: &str, path: &str) {
    let script = r#"mkdir small && mount -t tmpfs -o size=3m t small && exec "$0""#;
    let mut hub = Hub::prepared(&[("STORAGE_TYPE", kind), ("STORAGE_PATH", path)]).through(&["unshare", "-rm", "sh", "-c", script]);
    hub.run().await;
    let (mut ada, session) = hub.session("ada").await;
    let filler = format!("/proc/{}/root{}/small/filler", hub.pid(), hub.directory().display());
    let task = ada.submit("/pace 1 /tokens 1000000").await;
    ada.until("token").await;
    // Takes all there is; the write ends with an error.
    drop(std::fs::write(&filler, vec![0; 8 * 1024 * 1024]));
    let mut refused = 0;
    while refused < 3 {
        let answer = ada.ask(json!({"type": "submit_task", "prompt": "/echo now?"})).await;
        refused += u32::from(answer["code"] == "overloaded");
    }
    std::fs::remove_file(&filler).expect("removed");
    let (next, _) = submit_until_taken(&mut ada, "/echo again").await;
    let failed = ada.end_of(&task).await;
    assert_eq!((&failed["type"], &failed["data"]["code"]), (&json!("task_failed"), &json!("overloaded")), "{kind}: {failed}");
    assert_eq!(failed["data"]["partial"], texts(&ada.events(&session), &task), "{kind}");
    assert_eq!(ada.end_of(&next).await["data"]["result"], "again");
    let mut back = hub.connect("ada").await;
    back.attach(&session, Some(&format!("{}.0", ada.epoch(&session)))).await;
    back.until("caught_up").await;
    assert!(back.event_texts(&session).starts_with(&ada.event_texts(&session)));
}
