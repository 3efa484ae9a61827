//! Event streams: endings, positions, resets.

use agent_hub::transport::EdgeParts;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Frame, Frames, Server, Setup, read};
use std::time::Duration;

async fn open(hub: &Server, path: &str, last: Option<&str>) -> Response {
    let request = hub.as_user("u", Method::GET, path);
    let request = if let Some(last) = last { request.header("last-event-id", last) } else { request };
    request.send().await.unwrap()
}

fn names(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.event.as_str()).collect()
}

async fn task(hub: &Server, prompt: &str) -> (String, String, String) {
    let session = hub.session("u").await;
    let task = hub.task("u", &session, prompt).await;
    let path = format!("/api/v1/agents/tasks/{task}/stream");
    (session, task, path)
}

#[tokio::test]
async fn live_and_late_readers_see_the_same() {
    let hub = Server::start(&[]).await;
    let (_, task, path) = task(&hub, "/tokens 60 /pace 2").await;
    let live = Frames::of(open(&hub, &path, None).await).rest().await;
    hub.ended("u", &task).await;
    let late = Frames::of(open(&hub, &path, None).await).rest().await;
    assert_eq!(live[1..], late[1..], "all but the opening status");
    let with_ids: Vec<&str> = late.iter().filter(|f| f.id.is_some()).map(|f| f.event.as_str()).collect();
    assert!(!with_ids.contains(&"result") && with_ids.contains(&"done"));
}

#[tokio::test]
async fn resuming_at_any_position_repeats_nothing_and_misses_nothing() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let (_, task, path) = task(&hub, "/tokens 40 /pace 1 /tool web_search {\"query\":\"x\"}").await;
    hub.ended("u", &task).await;
    let all = Frames::of(open(&hub, &path, None).await).rest().await;
    for (at, frame) in all.iter().enumerate() {
        let Some(id) = &frame.id else { continue };
        if at + 1 == all.len() {
            assert_eq!(open(&hub, &path, Some(id)).await.status(), 204, "there is nothing after the end");
            let in_query = open(&hub, &format!("{path}?lastEventId={id}"), None).await;
            assert_eq!(in_query.status(), 204);
            continue;
        }
        let rest = Frames::of(open(&hub, &path, Some(id)).await).rest().await;
        assert_eq!(rest[1..], all[at + 1..], "behind {id}");
    }
}

#[tokio::test]
async fn a_position_nobody_knows_starts_again_and_says_so() {
    let hub = Server::start(&[]).await;
    let (_, task, path) = task(&hub, "hello").await;
    hub.ended("u", &task).await;
    let all = Frames::of(open(&hub, &path, None).await).rest().await;
    for last in ["nonsense", "otherepoch.3", "0.0.0", "-1"] {
        let frames = Frames::of(open(&hub, &path, Some(last)).await).rest().await;
        assert_eq!(names(&frames[..2]), ["status", "reset"], "{last}");
        assert_eq!(frames[2..], all[1..]);
    }
    let beyond = all.last().unwrap().id.clone().unwrap().replace('.', ".9999");
    assert_eq!(names(&Frames::of(open(&hub, &path, Some(&beyond)).await).rest().await)[..2], ["status", "reset"]);
}

#[tokio::test]
async fn failure_timeout_and_cancel_end_in_their_own_ways() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let (_, id, path) = task(&hub, "/fail 400").await;
    let frames = Frames::of(open(&hub, &path, None).await).rest().await;
    let last = frames.last().unwrap();
    assert_eq!((last.event.as_str(), last.id.is_some()), ("error", true));
    assert!(last.data["error"].is_string() && last.data["code"].is_string());
    let polled = hub.ended("u", &id).await;
    assert_eq!(polled["status"], "failed");
    assert_eq!(polled["error"]["error"], last.data["error"]);
    assert!(polled.get("result").is_none());

    let session = hub.session("u").await;
    let tasks = format!("/api/v1/agents/sessions/{session}/tasks");
    let (_, body) = hub.post("u", &tasks, json!({"prompt":"/hang 3","timeoutMs":1000})).await;
    let stream = format!("/api/v1/agents/tasks/{}/stream", body["taskId"].as_str().unwrap());
    let frames = Frames::of(open(&hub, &stream, None).await).rest().await;
    let last = frames.last().unwrap();
    assert_eq!((last.event.as_str(), &last.data), ("error", &json!({"error":"Task timed out after 1 second","code":"timeout"})));

    let (_, id, path) = task(&hub, "/tokens 5000 /pace 20").await;
    let mut frames = Frames::of(open(&hub, &path, None).await);
    while frames.next().await.unwrap().event != "token" {}
    let (status, body) = hub.post("u", &format!("/api/v1/agents/tasks/{id}/cancel"), json!({"reason":"enough"})).await;
    assert_eq!((status, &body["cancelRequested"]), (202, &json!(true)));
    let rest = frames.rest().await;
    let [.., status, done] = rest.as_slice() else { panic!("{rest:?}") };
    assert_eq!((status.event.as_str(), &status.data, &status.id), ("status", &json!({"status":"cancelled"}), &None));
    assert_eq!((done.event.as_str(), done.id.is_some()), ("done", true));
    let polled = hub.ended("u", &id).await;
    assert_eq!((&polled["status"], &polled["error"]["code"]), (&json!("cancelled"), &json!("cancelled")));
    let (status, body) = hub.ask("u", Method::DELETE, &format!("/api/v1/agents/tasks/{id}"), Value::Null).await;
    assert_eq!((status, &body["code"]), (409, &json!("already_terminal")));
}

#[tokio::test]
async fn a_silent_stream_says_that_it_lives() {
    fn often(edge: &mut EdgeParts) {
        edge.settings.sse_keep_alive = Duration::from_millis(50);
    }
    let hub = Server::start_with(Setup { edge: Some(often), ..Setup::default() }).await;
    let (_, id, path) = task(&hub, "/hang 1").await;
    let mut frames = Frames::of(open(&hub, &path, None).await);
    while frames.next().await.unwrap().event != "token" {}
    tokio::time::sleep(Duration::from_millis(400)).await;
    hub.post("u", &format!("/api/v1/agents/tasks/{id}/cancel"), json!({})).await;
    while frames.next().await.is_some() {}
    assert!(frames.comments >= 3, "{}", frames.comments);
}

#[tokio::test]
async fn the_log_by_page_and_as_a_stream() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let (session, id, _) = task(&hub, "/tokens 20 /pace 1").await;
    hub.ended("u", &id).await;
    let path = format!("/api/v1/agents/sessions/{session}/events");
    let (mut after, mut events) = (None, Vec::new());
    loop {
        let query = after.map_or(String::new(), |after: String| format!("&after={after}"));
        let (status, page) = hub.get("u", &format!("{path}?limit=7{query}")).await;
        assert_eq!((status, &page["recovered"]), (200, &json!(true)));
        let some = page["events"].as_array().unwrap().clone();
        assert!(some.len() <= 7);
        if some.is_empty() {
            assert_eq!(page["next"], page["head"]);
            break;
        }
        events.extend(some);
        after = Some(page["next"].as_str().unwrap().to_owned());
    }
    let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>());
    let (_, page) = hub.get("u", &format!("{path}?after=other.3")).await;
    assert_eq!((&page["recovered"], &page["events"]), (&json!(false), &json!([])));
    assert_eq!(page["snapshot"]["session"]["id"], session);

    let stream = async |query: String| {
        hub.as_user("u", Method::GET, &format!("{path}{query}")).header("accept", "text/event-stream").send().await.unwrap()
    };
    let epoch = events[0]["data"]["epoch"].as_str().unwrap();
    let mut frames = Frames::of(stream(format!("?after={epoch}.0")).await);
    for event in &events {
        let frame = frames.next().await.unwrap();
        assert_eq!((&frame.data, frame.event.as_str()), (event, event["type"].as_str().unwrap()));
        assert_eq!(frame.id.unwrap(), format!("{epoch}.{}", event["seq"]));
    }
    let mut fresh = Frames::of(stream(String::new()).await);
    let snapshot = fresh.next().await.unwrap();
    assert_eq!((snapshot.event.as_str(), snapshot.id.as_deref()), ("snapshot", Some(format!("{epoch}.{}", events.len()).as_str())));
    assert_eq!(snapshot.data["recovered"], false);

    let (status, body) = hub.post("u", &format!("/api/v1/agents/sessions/{session}/end"), Value::Null).await;
    assert_eq!((status, &body["status"]), (200, &json!("ended")));
    assert_eq!(names(&frames.rest().await), ["session_ended"]);
    let ended = fresh.rest().await;
    let last = ended.last().unwrap().id.clone().unwrap();
    assert_eq!(stream(format!("?after={last}")).await.status(), 204);
    // Where nothing follows, the state is all there is to say, and the id it says it with leads to the 204.
    for query in ["", "?after=zz"] {
        let all = Frames::of(stream(query.to_owned()).await).rest().await;
        assert_eq!((names(&all), all[0].id.as_ref()), (vec!["snapshot"], Some(&last)), "{query}");
    }
}

#[tokio::test]
async fn errors_come_before_the_stream_and_streams_are_counted() {
    let hub = Server::start(&[("AGENT_HUB_SERVER__CONNECTIONS_PER_USER", "2")]).await;
    let (_, id, path) = task(&hub, "/hang 1").await;
    let first = open(&hub, &path, None).await;
    let second = open(&hub, &path, None).await;
    let response = open(&hub, &path, None).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let (status, body) = read(response).await;
    assert_eq!((status, &body["code"], &body["limit"]), (429, &json!("rate_limited"), &json!(2)));
    drop((first, second));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(open(&hub, &path, None).await.status(), 200, "places are given back");
    let (status, body) = read(open(&hub, &path.replace(&id, "5b0f7e0a-9d9c-4d3e-8a43-0f5d3a1b2c4d"), None).await).await;
    assert_eq!((status, &body["error"]), (404, &json!("Task not found")));
}
