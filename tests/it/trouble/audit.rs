//! Looking into a store while a hub has it, after it crashed, and when it stopped.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::harness::Hub;

const KINDS: [(&str, &str); 2] = [("sqlite", "data/hub.db"), ("file", "data/log")];

/// What the program prints, which must end well.
async fn told(hub: &Hub, arguments: &[&str]) -> String {
    let output = hub.tool(arguments).await;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).expect("text")
}

/// The session's events as the program prints them.
async fn trail(hub: &Hub, session: &str) -> Vec<String> {
    told(hub, &["sessions", "show", session, "--json"]).await.lines().map(str::to_owned).collect()
}

fn signal(hub: &Hub, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &hub.pid().to_string()]).status().expect("kill is there").success());
}

/// Everything under `data`, except what SQLite's readers tell each other in memory they share.
fn kept(hub: &Hub) -> BTreeMap<PathBuf, Vec<u8>> {
    fn gather(directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                gather(&path, found);
            } else if !path.ends_with("hub.db-shm") {
                found.insert(path.clone(), fs::read(&path).expect("a file"));
            }
        }
    }
    let mut found = BTreeMap::new();
    gather(&hub.directory().join("data"), &mut found);
    found
}

#[tokio::test]
async fn a_session_can_be_read_beside_the_hub_that_writes_it() {
    for (kind, path) in KINDS {
        let hub = Hub::start(&[("STORAGE_TYPE", kind), ("STORAGE_PATH", path)]).await;
        let (mut ada, session) = hub.session("ada").await;
        let task = ada.submit("/pace 1 /tokens 1500").await;
        ada.until("token").await;
        // What was seen is in it, and what is in it comes to be seen.
        let mut looks = Vec::new();
        for _ in 0..4 {
            let seen = ada.event_texts(&session).len();
            let look = trail(&hub, &session).await;
            assert!(look.len() >= seen, "{kind}: {} of {seen} events", look.len());
            looks.push(look);
            for _ in 0..50 {
                ada.until("token").await;
            }
        }
        assert!(told(&hub, &["sessions", "list", "--user", "ada"]).await.contains(&session), "{kind}");
        assert!(told(&hub, &["sessions", "show", &session]).await.contains("task_started"), "{kind}");
        assert!(told(&hub, &["check"]).await.contains("all as written"), "{kind}");
        assert_eq!(ada.end_of(&task).await["type"], "task_completed");
        let whole = ada.event_texts(&session);
        assert!(looks.iter().all(|look| whole.starts_with(look)), "{kind}");
        assert!(looks[0].len() < looks[3].len(), "{kind}: it grew while it was looked at");
        assert!(trail(&hub, &session).await == whole, "{kind}");
    }
}

#[tokio::test]
async fn looking_changes_nothing_and_needs_nobody() {
    for (kind, path) in KINDS {
        let mut hub = Hub::start(&[("STORAGE_TYPE", kind), ("STORAGE_PATH", path)]).await;
        let (mut ada, session) = hub.session("ada").await;
        ada.run("/pace 0 /tokens 300").await;
        let whole = ada.event_texts(&session);
        let look = async |hub: &Hub, when: &str| {
            let before = kept(hub);
            assert!(trail(hub, &session).await == whole, "{kind} {when}");
            assert!(told(hub, &["sessions", "list"]).await.contains(&session), "{kind} {when}");
            assert_eq!(told(hub, &["check"]).await, format!("1 sessions, {} events: all as written\n", whole.len()), "{kind} {when}");
            assert!(kept(hub) == before, "{kind} {when}: {:?}", before.keys());
        };
        // A hub that hangs.
        signal(&hub, "STOP");
        look(&hub, "beside a hub that does not move").await;
        signal(&hub, "CONT");
        assert_eq!(ada.run("/echo fine").await["data"]["result"], "fine");
        let whole = ada.event_texts(&session);
        hub.kill().await;
        let before = kept(&hub);
        assert!(trail(&hub, &session).await == whole, "{kind} after a crash");
        assert!(kept(&hub) == before, "{kind} after a crash");
        hub.run().await;
        let mut back = hub.connect("ada").await;
        let attached = back.attach(&session, Some(&ada.cursor(&session))).await;
        assert_eq!((&attached["recovered"], &attached["head"]), (&json!(true), &json!(whole.len())), "{kind}");
        hub.terminate();
        assert!(hub.ended().await.success());
        let before = kept(&hub);
        assert!(trail(&hub, &session).await == whole, "{kind} after a clean stop");
        assert!(told(&hub, &["check"]).await.contains("all as written"), "{kind} after a clean stop");
        assert!(kept(&hub) == before, "{kind} after a clean stop: {:?}", before.keys());
        assert!(!hub.directory().join("data/hub.db-shm").exists(), "nothing is left behind");
    }
}

#[tokio::test]
async fn the_end_of_a_write_that_was_cut_off_is_passed_over_and_left() {
    let mut hub = Hub::start(&[("STORAGE_TYPE", "file"), ("STORAGE_PATH", "data/log")]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.run("/echo a b c").await;
    let whole = ada.event_texts(&session);
    hub.kill().await;
    let file = hub.directory().join(format!("data/log/sessions/{session}.log"));
    let bytes = fs::read(&file).expect("a log");
    for cut in [1, 7, 60] {
        let torn = &bytes[..bytes.len() - cut];
        fs::write(&file, torn).expect("written");
        let look = trail(&hub, &session).await;
        assert!(look.len() < whole.len() && whole.starts_with(&look), "{} of {}", look.len(), whole.len());
        assert!(fs::read(&file).expect("a log") == torn);
    }
}

#[tokio::test]
async fn a_check_names_what_is_damaged() {
    for (kind, path) in KINDS {
        let mut hub = Hub::start(&[("STORAGE_TYPE", kind), ("STORAGE_PATH", path)]).await;
        let (mut ada, session) = hub.session("ada").await;
        ada.run("/echo a-word-that-is-nowhere-else").await;
        hub.terminate();
        hub.ended().await;
        let file = if kind == "sqlite" { "data/hub.db".to_owned() } else { format!("data/log/sessions/{session}.log") };
        let file = hub.directory().join(file);
        let whole = fs::read(&file).expect("a file");
        let places = |word: &[u8]| -> Vec<usize> { (0..whole.len() - word.len()).filter(|at| whole[*at..].starts_with(word)).collect() };
        let words = places(b"a-word-that-is-nowhere-else");
        let mut damages = vec![words[0], words[words.len() - 1]];
        if kind == "sqlite" {
            // Wherever the session's id stands: in the list of sessions, and in what finds it by its id, by its owner or by its age.
            let id = uuid::Uuid::parse_str(&session).expect("an id");
            damages.extend(places(id.as_bytes()));
            assert!(damages.len() >= 6, "{damages:?}");
        }
        for at in damages {
            let mut bad = whole.clone();
            bad[at] ^= 4;
            fs::write(&file, &bad).expect("written");
            let output = hub.tool(&["check"]).await;
            let (found, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.status.code(), Some(4), "{kind} at {at}: {found}");
            assert!(found.lines().count() >= 2 && told.contains(path) && told.contains("damaged"), "{kind} at {at}: {found} {told}");
        }
    }
}

/// The events of a page of the HTTP interface are those of the audit trail.
#[tokio::test]
async fn the_trail_is_what_the_hub_says() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.run("/echo x").await;
    let (status, page) = hub.http("GET", &format!("/api/v1/agents/sessions/{session}/events?limit=100"), "ada").await;
    let shown: Vec<Value> = trail(&hub, &session).await.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((status, &page["events"]), (200, &json!(shown)));
}
