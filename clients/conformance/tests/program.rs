//! The kit as a process.
#![allow(clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// For whatever is to happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(found) = found() {
            return Some(found);
        }
        sleep(Duration::from_millis(10));
    }
    None
}

fn send(signal: &str, process: u32) {
    // A process that is gone needs none.
    let _ = Command::new("kill").args([signal, &process.to_string()]).stderr(Stdio::null()).status().expect("there is `kill`");
}

/// A process that has ended may still be listed until somebody asks how it did.
fn runs(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// A program that says its number and then never answers.
fn idle_hub(name: &str) -> (PathBuf, PathBuf) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (program, number) = (directory.join(format!("{name}.sh")), directory.join(format!("{name}.pid")));
    let _ = fs::remove_file(&number);
    fs::write(&program, format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 600\n", number.display())).expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("may be started");
    (program, number)
}

#[test]
fn a_signal_ends_the_hub_that_was_started_too() {
    for (signal, status) in [("-TERM", 143), ("-INT", 130)] {
        let (hub, number) = idle_hub("idle-hub");
        let mut kit = Command::new(env!("CARGO_BIN_EXE_agent-hub-conformance"))
            .args(["network", "--cuts", "1", "--driver", "cat", "--hub"])
            .arg(hub)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the kit");
        let hub = wait_for(|| fs::read_to_string(&number).ok()?.trim().parse().ok()).expect("the hub is started");
        send(signal, kit.id());
        let ended = wait_for(|| kit.try_wait().expect("it is our child"));
        let gone = wait_for(|| (!runs(hub)).then_some(()));
        // Nothing is left behind, whatever is found.
        if ended.is_none() {
            send("-KILL", kit.id());
        }
        if gone.is_none() {
            send("-KILL", hub);
        }
        assert_eq!(ended.and_then(|ended| ended.code()), Some(status), "{signal}");
        assert!(gone.is_some(), "the hub runs on after {signal}");
    }
}
