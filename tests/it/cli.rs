//! The program from outside: what it does to a store, how it ends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command as Process, Stdio},
    time::Duration,
};

use agent_hub::store::{
    Append, SessionRecord, Store as _,
    sqlite::{SqliteConfig, SqliteStore},
};
use agent_hub_protocol::{SessionId, Timestamp};
use assert_cmd::{Command, cargo::cargo_bin};
use bytes::Bytes;
use serde_json::{Value, json};

fn hub(directory: &Path) -> Command {
    let mut command = Command::cargo_bin("agent-hub").expect("built");
    command.env_clear().current_dir(directory).timeout(Duration::from_secs(20));
    command
}

/// A store at the default place with one session of two events.
async fn store(directory: &Path, owner: &str) -> (SqliteStore, SessionId) {
    let store = SqliteStore::open(SqliteConfig::new(directory.join("data/agent-hub.db"))).expect("opened");
    let (session, now) = (SessionId::random(), Timestamp::now());
    let event = |kind: &str, seq: u32, data: Value| {
        Bytes::from(json!({"type": kind, "sessionId": session, "seq": seq, "at": now, "data": data}).to_string())
    };
    let long = "prompt ".repeat(100);
    let events = vec![
        event("session_created", 1, json!({"agent": "assistant"})),
        event("task_queued", 2, json!({"prompt": format!("\u{1b}[2J{long}"), "position": 0})),
    ];
    let record = SessionRecord {
        id: session,
        owner: owner.to_owned(),
        birth: 1,
        agent: "assistant".to_owned(),
        name: None,
        tags: Vec::new(),
        task_count: 1,
        unfinished: 0,
        ended: false,
        had_socket: false,
        created_at: now,
        updated_at: now,
    };
    let append = Append { session, expected: 0, events, record: Some(record), writes: Vec::new(), audience: None };
    store.append(append).await.expect("appended");
    (store, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_of_a_store_nobody_uses() {
    let directory = tempfile::tempdir().expect("directory");
    let (store, session) = store(directory.path(), "ada\u{1b}[2J").await;
    store.close().await.expect("closed");
    drop(store);
    let run = |arguments: &[&str]| {
        let output = hub(directory.path()).args(arguments).output().expect("ran");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let id = session.to_string();
    let list = run(&["sessions", "list"]);
    assert!(list.contains(&id) && list.contains("idle") && list.contains("ada") && !list.contains('\u{1b}'), "{list}");
    assert!(!run(&["sessions", "list", "--user", "nobody"]).contains(&id));
    let row: Value = serde_json::from_str(&run(&["sessions", "list", "--json"])).expect("one object per line");
    assert_eq!((row["id"].as_str(), row["taskCount"].as_u64()), (Some(id.as_str()), Some(1)));

    let trail = run(&["sessions", "show", &id]);
    let lines: Vec<&str> = trail.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("1  session_created") && lines[1].contains("2  task_queued"), "{trail}");
    assert!(lines[1].ends_with('…') && !trail.contains('\u{1b}'), "{trail}");
    let raw = run(&["sessions", "show", &id, "--json"]);
    let events: Vec<Value> = raw.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    assert_eq!(events[1]["data"]["position"], 0);

    let missing = SessionId::random().to_string();
    hub(directory.path()).args(["sessions", "show", &missing]).assert().code(1);
    hub(directory.path()).args(["sessions", "show", "no-id"]).assert().code(2);
    hub(directory.path()).args(["sessions", "list", "--storage", "memory"]).assert().code(4);
    hub(directory.path()).args(["sessions", "list", "--storage-path", "other.db"]).assert().code(4);
    assert!(!directory.path().join("other.db").exists(), "looking makes no store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_ends_with_4_and_one_in_memory_can_be_asked_only() {
    let directory = tempfile::tempdir().expect("directory");
    let (store, session) = store(directory.path(), "ada").await;
    let id = session.to_string();
    let output = hub(directory.path()).args(["sessions", "show", &id, "--storage", "memory", "--port", "4000"]).output().expect("ran");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains(&format!("http://127.0.0.1:4000/api/v1/agents/sessions/{session}/events")), "{told}");

    let output = hub(directory.path()).args(["--port", "0"]).output().expect("ran");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && told.contains("in use by another process"), "{told}");
    store.close().await.expect("closed");
}

/// A hub that said on standard output that it serves, and everything it said.
fn serving(directory: &Path, arguments: &[&str]) -> (Child, String) {
    let mut process = Process::new(cargo_bin("agent-hub"));
    process.env_clear().current_dir(directory).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut hub = process.spawn().expect("started");
    let mut lines = BufReader::new(hub.stdout.take().expect("piped")).lines();
    let mut banner = String::new();
    while !banner.contains("provider") {
        let line = lines.next().expect("the banner has a line about the provider").expect("text");
        banner.push_str(&line);
        banner.push('\n');
    }
    (hub, banner)
}

fn signal(hub: &Child, name: &str) {
    let sent = Process::new("kill").args([&format!("-{name}"), &hub.id().to_string()]).status().expect("sent");
    assert!(sent.success());
}

#[test]
fn serves_until_told_to_stop_and_stops_cleanly() {
    let directory = tempfile::tempdir().expect("directory");
    for name in ["TERM", "INT"] {
        let (mut hub, banner) = serving(directory.path(), &["--port", "0", "--set", "limits=off"]);
        assert!(banner.contains("development mode") && banner.contains("sqlite in ./data/agent-hub.db"), "{banner}");
        assert!(banner.contains("http://127.0.0.1:") && !banner.contains("127.0.0.1:0/"), "{banner}");
        signal(&hub, name);
        assert!(hub.wait().expect("ended").success());
        let mut said = String::new();
        hub.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        assert!(said.contains("LIMITS ARE OFF") && said.contains("stopped"), "{said}");
    }
    let mut made: Vec<_> = std::fs::read_dir(directory.path().join("data")).expect("made").map(|entry| entry.expect("entry")).collect();
    made.retain(|entry| entry.file_name() == "dev-secret");
    assert_eq!(made.len(), 1);
}

#[test]
fn logs_for_programs_are_one_object_per_line_and_no_banner() {
    let directory = tempfile::tempdir().expect("directory");
    let mut process = Process::new(cargo_bin("agent-hub"));
    process.env_clear().current_dir(directory.path()).args(["--port", "0", "--log", "json", "--storage", "memory"]);
    let mut hub = process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(hub.stderr.take().expect("piped")).lines();
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &Value| line["message"] == "listening") {
        let line = lines.next().expect("it says so").expect("text");
        seen.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line} is no object")));
    }
    signal(&hub, "TERM");
    for line in lines {
        let line = line.expect("text");
        let _: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line} is no object"));
    }
    assert!(hub.wait().expect("ended").success());
    let mut banner = String::new();
    hub.stdout.take().expect("piped").read_to_string(&mut banner).expect("text");
    assert_eq!(banner, "");
}

#[test]
fn at_the_most_talkative_level_no_log_holds_a_token_or_a_prompt() {
    let directory = tempfile::tempdir().expect("directory");
    let (token, prompt) = ("canary.token.8f31", "canary-prompt-77aa");
    let mut process = Process::new(cargo_bin("agent-hub"));
    process.env_clear().env("AGENT_HUB_LOG", "trace").current_dir(directory.path()).args(["--port", "0", "--storage", "memory"]);
    let log = std::fs::File::create(directory.path().join("log")).expect("made");
    let mut hub = process.stdout(Stdio::piped()).stderr(log).spawn().expect("started");
    let mut lines = BufReader::new(hub.stdout.take().expect("piped")).lines();
    let url = lines.find_map(|line| Some(line.ok()?.split_once("http://")?.1.trim_end_matches('/').to_owned())).expect("the banner");
    let good = self::hub(directory.path()).args(["token", "--user", "ada"]).output().expect("ran");
    let good = String::from_utf8(good.stdout).expect("text").trim().to_owned();

    let body = json!({"prompt": prompt}).to_string();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==";
    let session = "6b1f0f0e-8f0e-4a0f-9d3c-0123456789ab";
    for head in [
        format!("GET /ws/agents?token={token} HTTP/1.1\r\n{upgrade}"),
        format!("GET /ws/agents?token={good} HTTP/1.1\r\n{upgrade}"),
        format!("GET /ws/agents HTTP/1.1\r\n{upgrade}\r\nsec-websocket-protocol: agent-hub.v1, bearer.{token}"),
        format!("GET /no/such/page?ticket={token} HTTP/1.1\r\nauthorization: Bearer {token}"),
        format!("GET /api/v1/agents/sessions/{session}?token={token} HTTP/1.1"),
        format!("POST /api/v1/agents/sessions/{session}/tasks HTTP/1.1\r\nauthorization: Bearer {good}\r\ncontent-type: application/json"),
        format!("POST /auth/ticket HTTP/1.1\r\nauthorization: Bearer {good}"),
        format!("BROKEN {token}"),
    ] {
        let mut socket = std::net::TcpStream::connect(&url).expect("connected");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
        let request = format!("{head}\r\nhost: {url}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains(token), "{head}: {}", String::from_utf8_lossy(&answer));
    }
    signal(&hub, "TERM");
    assert!(hub.wait().expect("ended").success());
    let log = std::fs::read_to_string(directory.path().join("log")).expect("read");
    assert!(log.contains("listening"), "{log}");
    for secret in [token, prompt, good.as_str(), good.rsplit('.').next().expect("a signature")] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
