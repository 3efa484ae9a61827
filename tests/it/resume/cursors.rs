//! What a cursor is answered with: everything behind it, or a snapshot that is called one.

use serde_json::{Value, json};

use crate::harness::{Client, Hub, new_id};

/// Attaches, and returns the answer with the events up to `caught_up`.
async fn attach(client: &mut Client, session: &str, after: Option<&str>) -> (Value, Vec<String>) {
    let attached = client.attach(session, after).await;
    let from = client.event_texts(session).len();
    let caught_up = client.until("caught_up").await;
    assert_eq!(caught_up["seq"], attached["head"]);
    (attached, client.event_texts(session).split_off(from))
}

#[tokio::test]
async fn every_kind_of_cursor() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    for prompt in ["/pace 1 /tokens 20", "/echo one", "/echo two"] {
        ada.run(prompt).await;
    }
    let other = ada.create(json!({})).await;
    let log = ada.event_texts(&session);
    let (epoch, head) = (ada.epoch(&session).to_owned(), log.len() as u64);

    let mut tab = hub.connect("ada").await;
    for seq in 0..=head {
        let (attached, events) = attach(&mut tab, &session, Some(&format!("{epoch}.{seq}"))).await;
        assert_eq!((&attached["recovered"], &attached["from"], &attached["head"]), (&json!(true), &json!(seq + 1), &json!(head)));
        assert!(attached.get("snapshot").is_none());
        assert_eq!(events, log[seq as usize..]);
    }
    let beyond = [head + 1, head + 1000, u64::from(u32::MAX), u64::MAX].map(|seq| format!("{epoch}.{seq}"));
    let unreadable = ["", ".", "5", "x.y", "..", "-1", &epoch, &format!("{epoch}."), &format!("{epoch}.-1"), &format!("{epoch}.1.2")];
    let odd = [&format!("{epoch}.1e1"), &format!("{epoch}. 1"), &format!("{epoch}.99999999999999999999"), "\u{0}", "é.1"];
    let foreign = [format!("{}.1", ada.epoch(&other)), "00000000.1".to_owned(), "00000000.0".to_owned()];
    let all =
        beyond.iter().map(String::as_str).chain(unreadable).chain(odd.map(|text| text as &str)).chain(foreign.iter().map(String::as_str));
    for cursor in all {
        let (attached, events) = attach(&mut tab, &session, Some(cursor)).await;
        assert_eq!(
            (&attached["recovered"], &attached["from"], &attached["head"]),
            (&json!(false), &json!(head + 1), &json!(head)),
            "{cursor:?}"
        );
        assert_eq!(attached["snapshot"]["messages"][5]["text"], "two", "{cursor:?}");
        assert!(events.is_empty(), "{cursor:?} was replayed in part");
    }
    for no_text in [json!(5), json!({}), json!(true)] {
        tab.refused(json!({"type": "attach_session", "sessionId": session, "after": no_text}), "invalid_message").await;
    }
    let (attached, _) = attach(&mut tab, &session, None).await;
    assert_eq!(attached["recovered"], false);
    // It still follows.
    let task = ada.done(json!({"type": "submit_task", "sessionId": session, "prompt": "/echo on"})).await["taskId"].clone();
    tab.end_of(task.as_str().expect("an id")).await;
}

#[tokio::test]
async fn a_thousand_forged_cursors_get_no_partial_replay() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let other = ada.create(json!({})).await;
    ada.done(json!({"type": "submit_task", "sessionId": session, "prompt": "/echo a b c"})).await;
    ada.until("task_completed").await;
    let (epoch, head) = (ada.epoch(&session).to_owned(), ada.position(&session));
    let forged = |number: u64| match number % 4 {
        0 => format!("{epoch}.{}", head + 1 + number),
        1 => format!("{}.{}", ada.epoch(&other), number % (head + 1)),
        2 => format!("{:08x}.{}", number * 0x9E37, number % (head + 1)),
        _ => format!("{}.{}", &epoch[..7], number % (head + 1)),
    };
    let cursors: Vec<String> = (0..1000).map(forged).collect();
    let mut tab = hub.connect("ada").await;
    // Several at once: each is answered all the same.
    for some in cursors.chunks(10) {
        for cursor in some {
            tab.say(json!({"type": "attach_session", "sessionId": session, "after": cursor})).await;
        }
        for cursor in some {
            let attached = tab.until("session_attached").await;
            assert_eq!((&attached["recovered"], &attached["from"]), (&json!(false), &json!(head + 1)), "{cursor}");
            assert!(attached["snapshot"]["messages"][1]["text"] == "a b c", "{cursor}");
        }
    }
    assert!(tab.event_texts(&session).is_empty());
}

#[tokio::test]
async fn coming_back_without_traffic_replays_nothing() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let mut cursor = format!("{}.0", ada.epoch(&session));
    for round in 0..100 {
        if round == 1 {
            ada.run("/echo a").await;
        }
        let mut back = hub.connect("ada").await;
        let (attached, events) = attach(&mut back, &session, Some(&cursor)).await;
        assert_eq!(attached["recovered"], true, "round {round}");
        assert!(round < 2 || events.is_empty(), "round {round}: {events:?}");
        cursor = back.cursor(&session);
    }
}

#[tokio::test]
async fn what_has_left_memory_comes_from_the_store() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    // More than 1,024 events, then more than 256 KiB of them.
    let many = ada.run("/pace 1 /tokens 2500").await;
    assert!(many["seq"].as_u64().expect("seq") > 1100, "events merged more than this test can use: {}", many["seq"]);
    ada.run("/pace 0 /tokens 60000").await;
    let log = ada.event_texts(&session);
    let epoch = ada.epoch(&session).to_owned();
    assert!(log.iter().map(String::len).sum::<usize>() > 512 * 1024);
    for start in [0, 1, 700, log.len() - 2] {
        let mut back = hub.connect("ada").await;
        let (attached, events) = attach(&mut back, &session, Some(&format!("{epoch}.{start}"))).await;
        assert_eq!(attached["recovered"], true);
        assert!(events == log[start..], "replay from {start}");
    }
    // While more is made, a reader that starts at the beginning ends up at the end.
    let task = ada.submit("/pace 0 /tokens 60000").await;
    let mut back = hub.connect("ada").await;
    back.attach(&session, Some(&format!("{epoch}.0"))).await;
    back.end_of(&task).await;
    ada.end_of(&task).await;
    assert!(back.event_texts(&session) == ada.event_texts(&session));
}

#[tokio::test]
async fn a_deleted_session_says_goodbye_and_its_id_stays_taken() {
    let mut hub = Hub::start(&[]).await;
    let mut ada = hub.connect("ada").await;
    let (id, task) = (new_id(), new_id());
    let session = ada.create(json!({"sessionId": id})).await;
    ada.done(json!({"type": "submit_task", "prompt": "/echo half /hang 1", "taskId": task})).await;
    let mut tab = hub.connect("ada").await;
    tab.attach(&session, None).await;
    let cursor = ada.cursor(&session);
    assert_eq!(hub.http("DELETE", &format!("/api/v1/agents/sessions/{session}"), "ada").await.0, 204);
    for reader in [&mut ada, &mut tab] {
        assert_eq!(reader.end_of(&task).await["type"], "task_cancelled");
        assert_eq!(reader.until("session_ended").await["data"]["reason"], "deleted");
    }
    for restart in [false, true] {
        if restart {
            hub.crash().await;
        }
        let mut ada = hub.connect("ada").await;
        for after in [None, Some(cursor.as_str())] {
            ada.refused(json!({"type": "attach_session", "sessionId": id, "after": after}), "session_not_found").await;
        }
        ada.refused(json!({"type": "submit_task", "sessionId": id, "prompt": "x"}), "session_not_found").await;
        ada.refused(json!({"type": "create_session", "sessionId": id}), "idempotency_conflict").await;
        let mut bob = hub.connect("bob").await;
        bob.refused(json!({"type": "create_session", "sessionId": id}), "forbidden").await;
        ada.create(json!({})).await;
        ada.refused(json!({"type": "submit_task", "prompt": "/echo again", "taskId": task}), "idempotency_conflict").await;
        ada.refused(json!({"type": "cancel_task", "taskId": task}), "task_not_found").await;
    }
}
