//! Peers that stop reading, stop answering, or vanish.

use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio::{io::AsyncWriteExt, time::sleep};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::harness::Hub;

#[tokio::test]
async fn a_silent_peer_is_let_go_and_may_come_back() {
    let hub = Hub::start(&[("AGENT_HUB_SERVER__HEARTBEAT", "200 ms")]).await;
    let (mut silent, session) = hub.session("ada").await;
    let mut lively = hub.connect("ada").await;
    lively.attach(&session, None).await;
    let task = lively.submit("/pace 5 /tokens 500").await;
    // It reads nothing, so it answers no ping.
    let busy = async { lively.end_of(&task).await };
    let (end, ()) = tokio::join!(busy, sleep(Duration::from_secs(2)));
    assert_eq!(end["type"], "task_completed");
    let code = silent.closed().await;
    assert!([4051, 0].contains(&code), "{code}");
    let cursor = silent.cursor(&session);
    let mut back = hub.connect("ada").await;
    assert_eq!(back.attach(&session, Some(&cursor)).await["recovered"], true);
    back.until("caught_up").await;
    assert_eq!(back.position(&session), lively.position(&session));
}

#[tokio::test]
async fn a_peer_that_accepts_nothing_is_let_go_and_costs_nobody_else() {
    let hub = Hub::start(&[("AGENT_HUB_SERVER__STALL_TIMEOUT", "1 s")]).await;
    let (mut stalled, session) = hub.session("ada").await;
    let mut lively = hub.connect("ada").await;
    lively.attach(&session, None).await;
    // More than every buffer between the two holds: made in a few large events.
    for _ in 0..3 {
        let end = lively.run("/pace 0 /tokens 400000").await;
        assert_eq!(end["type"], "task_completed");
    }
    sleep(Duration::from_millis(3500)).await;
    let code = stalled.closed().await;
    assert!([4052, 0].contains(&code), "{code}");
    assert!(stalled.position(&session) < lively.position(&session), "it was never behind");
    let cursor = stalled.cursor(&session);
    let mut back = hub.connect("ada").await;
    assert_eq!(back.attach(&session, Some(&cursor)).await["recovered"], true);
    back.until("caught_up").await;
    let seen = [stalled.event_texts(&session), back.event_texts(&session)].concat();
    assert!(seen.ends_with(&lively.event_texts(&session)));
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_its_own_time() {
    let hub = Hub::start(&[]).await;
    let (mut slow, session) = hub.session("ada").await;
    let mut fast = hub.connect("ada").await;
    fast.attach(&session, Some(&format!("{}.0", slow.epoch(&session)))).await;
    let end = fast.run("/pace 0 /tokens 300000").await;
    for _ in 0..50 {
        slow.next().await;
        sleep(Duration::from_millis(2)).await;
    }
    slow.end_of(end["taskId"].as_str().expect("an id")).await;
    assert!(slow.event_texts(&session) == fast.event_texts(&session));
}

#[tokio::test]
async fn connections_that_break_leave_nothing_behind() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/pace 3 /tokens 600").await;
    let files = || std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).expect("a process").count();
    let before = files();
    for round in 0..40_usize {
        let mut client = hub.connect("ada").await;
        client.attach(&session, None).await;
        let half = br#"{"type":"submit_task","prompt":"never"}"#;
        let mut frame = vec![0x81, 0x80 | 100, 0, 0, 0, 0];
        frame.extend(&half[..round % half.len()]);
        client.wire().write_all(&frame[..1 + round % frame.len()]).await.expect("sent");
        if round % 2 == 0 {
            // A reset instead of a goodbye.
            SockRef::from(&*client.wire()).set_linger(Some(Duration::ZERO)).expect("set");
        }
    }
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    assert!(!ada.log.iter().any(|frame| frame.contains("never")));
    for _ in 0..400 {
        if files() <= before {
            break;
        }
        sleep(Duration::from_millis(25)).await;
    }
    assert!(files() <= before, "{} files are open, {before} were before", files());
    ada.done(json!({"type": "submit_task", "prompt": "/echo fine"})).await;
}

#[tokio::test]
async fn a_goodbye_is_answered() {
    let hub = Hub::start(&[]).await;
    let (mut idle, _) = hub.session("ada").await;
    let (mut busy, _) = hub.session("ada").await;
    busy.submit("/pace 0 /tokens 100000").await;
    for (client, code) in [(&mut idle, 1000), (&mut busy, 4321)] {
        let goodbye = CloseFrame { code: code.into(), reason: "enough".into() };
        client.send(Message::Close(Some(goodbye))).await;
        // Without the hub's frame the browser would call it a lost connection (1006).
        assert_eq!(client.closed().await, code);
    }
}
