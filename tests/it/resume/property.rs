//! The promise of an attach: from any moment, with any cursor, a reader gets exactly the log from there on, and a snapshot is exactly
//! the log up to there. Checked at random moments of a busy session.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::fold::State;
use crate::harness::{Client, Hub, Random};

const READERS: usize = 6;
/// At least so many are looked at.
const ATTACHES: usize = 200;

/// What one attach was given.
struct Attach {
    after: Option<u64>,
    attached: Value,
    events: Vec<String>,
}

/// Keeps the session busy with everything a task can do, and tells how far its log has come.
async fn keep_busy(mut ada: Client, session: String, head: Arc<AtomicU64>, attached_so_far: &AtomicUsize) -> Vec<String> {
    let follow = |ada: &Client| head.store(ada.position(&session), Ordering::Relaxed);
    for prompt in ["/pace 1 /tokens 900", "/reason 40 /pace 1 /tokens 300", "/pace 1 /tool web_search {\"q\": 1} /tokens 100"] {
        let task = ada.submit(prompt).await;
        loop {
            let event = ada.next().await;
            follow(&ada);
            if event["type"] == "task_completed" && event["taskId"] == *task {
                break;
            }
        }
    }
    // Cancelled, waiting behind it, and jumping the queue.
    let cut = ada.submit("/pace 1 /tokens 5000").await;
    ada.until("token").await;
    let waits = ada.submit("/pace 1 /tokens 100").await;
    ada.done(json!({"type": "submit_task", "prompt": "/pace 1 /tokens 100", "onBusy": "interrupt"})).await;
    ada.end_of(&cut).await;
    follow(&ada);
    ada.end_of(&waits).await;
    follow(&ada);
    // Put aside twice, by a person and for a person.
    let task = ada.submit("/pace 1 /tokens 200").await;
    ada.until("token").await;
    ada.done(json!({"type": "suspend_task", "taskId": task})).await;
    ada.done(json!({"type": "resume_task", "taskId": task})).await;
    ada.end_of(&task).await;
    let task = ada.submit("/ask which one? /pace 1 /tokens 100").await;
    let request = ada.until("input_requested").await["data"]["requestId"].clone();
    ada.done(json!({"type": "respond_input", "taskId": task, "requestId": request, "outcome": "accept", "payload": "that"})).await;
    ada.end_of(&task).await;
    follow(&ada);
    ada.run("/pace 1 /fail 500 after 60").await;
    ada.run("/pace 0 /tokens 3000").await;
    // However slow the machine is, there is something to see for all who are to attach.
    while attached_so_far.load(Ordering::Relaxed) < ATTACHES {
        ada.run("/pace 1 /tokens 200").await;
        follow(&ada);
    }
    ada.event_texts(&session)
}

/// Attaches again and again, with and without cursors, on fresh and on used sockets, and reads on for a while.
async fn keep_attaching(
    hub: Arc<Hub>,
    session: String,
    epoch: String,
    mut random: Random,
    head: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    attached_so_far: Arc<AtomicUsize>,
) -> Vec<Attach> {
    let mut seen = Vec::new();
    let mut client = hub.connect("ada").await;
    while !done.load(Ordering::Relaxed) {
        if random.next(3) == 0 {
            client = hub.connect("ada").await;
        }
        let known = head.load(Ordering::Relaxed);
        let after = match random.next(4) {
            0 | 1 => None,
            2 => Some(random.next(known + 1)),
            _ => Some(known - random.next(known.min(20) + 1)),
        };
        let cursor = after.map(|seq| format!("{epoch}.{seq}"));
        let attached = client.attach(&session, cursor.as_deref()).await;
        let mark = client.log.len();
        client.until("caught_up").await;
        let mut more = random.next(40);
        while more > 0 && !done.load(Ordering::Relaxed) {
            // A session that has ended its work says nothing more.
            match tokio::time::timeout(Duration::from_millis(200), client.next()).await {
                Ok(_) => more -= 1,
                Err(_) => break,
            }
        }
        let events = client.log[mark..].iter().filter(|text| text.contains(r#""at":"#)).cloned().collect();
        seen.push(Attach { after, attached, events });
        attached_so_far.fetch_add(1, Ordering::Relaxed);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attach_gets_the_whole_log_from_there_on() {
    let mut random = Random::seeded();
    let hub = Arc::new(Hub::start(&[]).await);
    let (ada, session) = hub.session("ada").await;
    let epoch = ada.epoch(&session).to_owned();
    let (head, done, count) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let random = random.another();
        let (head, done, count) = (Arc::clone(&head), Arc::clone(&done), Arc::clone(&count));
        readers.spawn(keep_attaching(Arc::clone(&hub), session.clone(), epoch.clone(), random, head, done, count));
    }
    let texts = keep_busy(ada, session.clone(), head, &count).await;
    done.store(true, Ordering::Relaxed);
    let attaches: Vec<Attach> = readers.join_all().await.into_iter().flatten().collect();
    let with = attaches.iter().filter(|attach| attach.after.is_some()).count();
    eprintln!("{} events, {} attaches, {with} with a cursor", texts.len(), attaches.len());
    assert!(attaches.len() >= ATTACHES && with >= 50 && attaches.len() - with >= 50);

    // What followed is the log, byte for byte.
    for Attach { after, attached, events } in &attaches {
        assert_eq!(attached["recovered"], after.is_some());
        let from = attached["from"].as_u64().expect("from") as usize;
        let head = attached["head"].as_u64().expect("head") as usize;
        assert_eq!(from, after.map_or(head, |seq| seq as usize) + 1, "{attached}");
        assert!(events.len() + from > head, "caught up before everything up to {head} was there");
        assert!(*events == texts[from - 1..from - 1 + events.len()], "another log from {from} on");
    }

    // What was summed up is the log as well, and stays so with what followed.
    let log: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let mut checks: Vec<(usize, &Attach)> = Vec::new();
    for attach in attaches.iter().filter(|attach| attach.after.is_none()) {
        let head = attach.attached["head"].as_u64().expect("head") as usize;
        checks.push((head, attach));
        checks.push((head + attach.events.len(), attach));
    }
    checks.sort_by_key(|(seq, _)| *seq);
    let mut state = State::default();
    let mut at = 0;
    for (seq, attach) in checks {
        log[at..seq].iter().for_each(|event| state.apply(event));
        at = seq;
        let mut theirs = State::of_snapshot(&attach.attached["snapshot"]);
        let head = attach.attached["head"].as_u64().expect("head") as usize;
        log[head..seq].iter().for_each(|event| theirs.apply(event));
        assert_eq!(theirs.shown(), state.shown(), "a snapshot at {head}, seen from {seq}");
    }
}
