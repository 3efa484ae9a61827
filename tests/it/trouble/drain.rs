//! Stopping as asked.

use serde_json::json;

use crate::harness::{Hub, Opening, token};

#[tokio::test]
async fn a_hub_that_stops_under_load_loses_nothing() {
    let mut hub = Hub::start(&[("AGENT_HUB_SERVER__DRAIN", "3 s")]).await;
    let mut all = Vec::new();
    for number in 0..12 {
        let (mut client, session) = hub.session("ada").await;
        // Some end in time, most do not.
        let prompt = if number < 3 { "/pace 2 /tokens 300" } else { "/pace 2 /tokens 100000" };
        let task = client.submit(prompt).await;
        all.push((client, session, task));
    }
    for (client, ..) in &mut all {
        client.until("token").await;
    }
    hub.terminate();
    let mut reconnects = Vec::new();
    let mut left = Vec::new();
    for (mut client, session, task) in all {
        let going_away = client.until("going_away").await;
        reconnects.push(going_away["reconnectAfterMs"].as_u64().expect("a time"));
        let code = client.closed().await;
        assert!([1001, 1012].contains(&code), "{code}");
        left.push((client, session, task));
    }
    assert_eq!(hub.ended().await.code(), Some(0));
    reconnects.sort_unstable();
    reconnects.dedup();
    assert!(reconnects.len() > 6, "they all come back together: {reconnects:?}");

    hub.run().await;
    for (number, (before, session, task)) in left.into_iter().enumerate() {
        let mut back = hub.connect("ada").await;
        let attached = back.attach(&session, Some(&before.cursor(&session))).await;
        assert_eq!(attached["recovered"], true, "session {number}");
        if number >= 3 {
            back.until("task_recovering").await;
            back.done(json!({"type": "cancel_task", "taskId": task})).await;
            assert_eq!(back.end_of(&task).await["type"], "task_cancelled");
        }
        let mut whole = hub.connect("ada").await;
        whole.attach(&session, Some(&format!("{}.0", back.epoch(&session)))).await;
        whole.until("caught_up").await;
        let log = whole.event_texts(&session);
        let ends =
            log.iter().filter(|e| ["completed", "cancelled", "failed"].iter().any(|end| e.contains(&format!("\"task_{end}\"")))).count();
        assert_eq!(ends, 1);
        let seen = [before.event_texts(&session), back.event_texts(&session)].concat();
        assert!(log.starts_with(&seen), "session {number}: what was seen is what is there");
    }
}

#[tokio::test]
async fn a_hub_that_stops_takes_nobody_in_and_ends_at_once_when_idle() {
    let mut hub = Hub::start(&[("AGENT_HUB_SERVER__DRAIN", "30 s")]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.run("/echo a").await;
    let started = std::time::Instant::now();
    let opening = Opening::new().query(&format!("token={}", token("ada")));
    let _idle = hub.open(&opening).await;
    hub.terminate();
    let code = ada.closed().await;
    assert!([1001, 1012].contains(&code), "{code}");
    assert_eq!(hub.ended().await.code(), Some(0));
    assert!(started.elapsed().as_secs() < 30, "it waited for its whole allowance with nothing to wait for");
    hub.run().await;
    let mut back = hub.connect("ada").await;
    let attached = back.attach(&session, Some(&ada.cursor(&session))).await;
    assert_eq!((&attached["recovered"], &attached["from"]), (&json!(true), &json!(ada.position(&session) + 1)));
}
