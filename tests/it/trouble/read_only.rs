//! Media that can be read and not written.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::harness::Hub;

/// A hub that modes hold for: root may write everywhere, unless it gives that up. `None` where it cannot.
fn ordinary(settings: &[(&str, &str)]) -> Option<Hub> {
    const GIVE_UP: [&str; 2] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let hub = Hub::prepared(settings);
    if fs::metadata(hub.directory()).expect("a directory").uid() != 0 {
        return Some(hub);
    }
    let tried = Command::new(GIVE_UP[0]).args([GIVE_UP[1], "true"]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("SKIPPED: this runs as root, and root cannot be made to mind modes here");
        return None;
    }
    Some(hub.through(&GIVE_UP))
}

/// Takes away the right to write, for as long as it lives.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn make(path: PathBuf) -> Self {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
        Self(path)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let mode = if self.0.is_dir() { 0o755 } else { 0o644 };
        drop(fs::set_permissions(&self.0, Permissions::from_mode(mode)));
    }
}

/// The program must end with this code, naming this file and what to do.
async fn refuses(hub: &Hub, case: &str, code: i32, file: &str, advice: &str) {
    let output = hub.tool(&[]).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{case}: {told}");
    let last = told.lines().last().unwrap_or_default();
    assert!(last.starts_with("agent-hub: ") && last.contains(file) && last.contains(advice), "{case}: {told}");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_refused_at_start_with_its_name_and_what_to_do() {
    for (kind, path, new, old) in [
        ("sqlite", "data/hub.db", "hub.db", &["data", "data/hub.db", "data/hub.db-lock", "data/hub.db-mark"][..]),
        ("file", "data/log", "log", &["data/log", "data/log/lock"][..]),
    ] {
        let Some(mut hub) = ordinary(&[("STORAGE_TYPE", kind), ("STORAGE_PATH", path)]) else { return };
        let place = |name: &str| hub.directory().join(name);
        fs::create_dir(place("data")).expect("made");
        {
            let _read_only = ReadOnly::make(place("data"));
            // Where a store is a directory, it is the directory that cannot be made.
            let (code, advice) = if kind == "file" { (2, "Permission denied") } else { (4, "STORAGE_PATH") };
            refuses(&hub, &format!("{kind}, none yet"), code, new, advice).await;
        }
        hub.run().await;
        let (mut ada, session) = hub.session("ada").await;
        ada.run("/echo kept").await;
        hub.terminate();
        hub.ended().await;
        for name in old {
            let path = hub.directory().join(name);
            assert!(path.exists(), "{name}");
            let _read_only = ReadOnly::make(path);
            // The file itself, or for a directory the store in it.
            let named = if name.contains('.') { name } else { new };
            refuses(&hub, &format!("{kind}, {name}"), 4, named, "STORAGE_PATH").await;
            // Reading is another matter.
            let output = hub.tool(&["sessions", "show", &session]).await;
            assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("kept"), "{name}: {output:?}");
        }
        // Nothing of it was for ever.
        hub.run().await;
        let mut back = hub.connect("ada").await;
        assert_eq!(back.attach(&session, Some(&ada.cursor(&session))).await["recovered"], json!(true));
        assert_eq!(back.run("/echo again").await["data"]["result"], "again");
    }
}

#[tokio::test]
async fn a_directory_that_becomes_read_only_refuses_new_sessions_and_keeps_the_old() {
    let Some(mut hub) = ordinary(&[("STORAGE_TYPE", "file"), ("STORAGE_PATH", "data/log")]) else { return };
    hub.run().await;
    let (mut ada, session) = hub.session("ada").await;
    let mut other = hub.connect("ada").await;
    {
        let _read_only = ReadOnly::make(hub.directory().join("data/log/sessions"));
        for _ in 0..3 {
            assert_eq!(other.refused(json!({"type": "create_session"}), "overloaded").await["retryable"], true);
        }
        assert_eq!(hub.http("GET", "/ready", "ada").await.0, 503);
        assert_eq!(hub.http("GET", "/health", "ada").await.0, 200);
        // A session whose file is there is written as ever.
        assert_eq!(ada.run("/echo meanwhile").await["data"]["result"], "meanwhile");
    }
    assert_eq!(hub.http("GET", "/ready", "ada").await.0, 200);
    let second = other.create(json!({})).await;
    assert_eq!(other.run("/echo again").await["data"]["result"], "again");
    hub.crash().await;
    for (before, session) in [(&ada, &session), (&other, &second)] {
        let mut back = hub.connect("ada").await;
        back.attach(session, Some(&format!("{}.0", before.epoch(session)))).await;
        back.until("caught_up").await;
        assert!(back.event_texts(session) == before.event_texts(session));
    }
}

/// A copy of a store on a medium that nobody can write to, as for an audit.
#[tokio::test]
async fn a_store_on_a_read_only_medium_can_be_looked_into() {
    let Some(mut hub) = ordinary(&[("STORAGE_PATH", "data/a copy?#%.db")]) else { return };
    hub.run().await;
    let (mut ada, session) = hub.session("ada").await;
    ada.run("/echo kept").await;
    hub.terminate();
    hub.ended().await;
    let directory = hub.directory().join("data");
    let database = directory.join("a copy?#%.db");
    for entry in fs::read_dir(&directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path != database {
            fs::remove_file(path).expect("removed");
        }
    }
    let (_file, _directory) = (ReadOnly::make(database), ReadOnly::make(directory.clone()));
    for arguments in [&["sessions", "show", &session, "--json"][..], &["sessions", "list"], &["check"]] {
        let output = hub.tool(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    assert_eq!(names(&directory), ["a copy?#%.db"]);
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}
