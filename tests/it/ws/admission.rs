//! Who may come in, and how long.

use serde_json::json;

use crate::harness::{Client, Hub, Opening, SECRET, new_id, now, sign, token};

/// The socket is closed with this code before any other frame.
async fn closed_silently(mut client: Client, code: u16, what: &str) {
    assert_eq!(client.closed().await, code, "{what}");
    assert!(client.log.is_empty(), "{what}: {:?}", client.log);
}

#[tokio::test]
async fn every_kind_of_credentials_opens_the_hub() {
    let hub = Hub::start(&[]).await;
    let token = token("ada");
    let (status, ticket) = hub.http("POST", "/auth/ticket", "ada").await;
    assert_eq!(status, 200, "{ticket}");
    let ticket = format!("ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    let ways = [
        ("query", Opening::new().query(&format!("token={token}")), None),
        ("header", Opening::new().header("authorization", format!("Bearer {token}")), None),
        ("ticket", Opening::new().query(&ticket), None),
        ("subprotocol alone", Opening::new().header("sec-websocket-protocol", format!("bearer.{token}")), None),
        ("subprotocol", Opening::new().header("sec-websocket-protocol", format!("bearer.{token}, agent-hub.v1")), Some("agent-hub.v1")),
        (
            "version",
            Opening::new().query(&format!("token={token}")).header("sec-websocket-protocol", "other.v9, agent-hub.v1"),
            Some("agent-hub.v1"),
        ),
    ];
    for (what, opening, chosen) in ways {
        let mut client = hub.open(&opening).await;
        assert_eq!(client.subprotocol.as_deref(), chosen, "{what}");
        let welcome = client.next().await;
        assert_eq!((&welcome["type"], &welcome["user"]), (&json!("welcome"), &json!("ada")), "{what}");
        assert_eq!(welcome["protocol"], "agent-hub.v1");
        assert_eq!(welcome["limits"]["messageBytes"], 1024 * 1024);
        let session = client.create(json!({})).await;
        assert_eq!(client.position(&session), 1, "{what}");
    }
    closed_silently(hub.open(&Opening::new().query(&ticket)).await, 4001, "a ticket used before").await;
    let log = hub.log();
    assert!(!log.contains(&token) && !log.contains(&ticket["ticket=".len()..]), "credentials in the log");
}

#[tokio::test]
async fn whoever_may_not_come_in_is_upgraded_and_told_4001() {
    let hub = Hub::start(&[]).await;
    let good = token("ada");
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let claims = |claims| format!("token={}", sign(&claims, SECRET));
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhZGEiLCJleHAiOjk5OTk5OTk5OTl9.";
    let queries = [
        ("nothing", String::new()),
        ("an empty token", "token=".to_owned()),
        ("garbage", "token=garbage".to_owned()),
        ("no signature", format!("token={head}.")),
        ("another signature", format!("token={head}.{}", signature.chars().rev().collect::<String>())),
        ("alg none", format!("token={none}")),
        ("another secret", format!("token={}", sign(&json!({"sub": "ada", "exp": now() + 60}), "another-secret-that-is-long-enough-1234"))),
        ("expired", claims(json!({"sub": "ada", "exp": now() - 60}))),
        ("no expiry", claims(json!({"sub": "ada"}))),
        ("an expiry as text", claims(json!({"sub": "ada", "exp": "never"}))),
        ("not yet", claims(json!({"sub": "ada", "exp": now() + 600, "nbf": now() + 300}))),
        ("no user", claims(json!({"exp": now() + 60}))),
        ("an empty user", claims(json!({"sub": "", "exp": now() + 60}))),
        ("a huge token", format!("token={}", "x".repeat(9000))),
        ("no such ticket", "ticket=0123456789abcdef".to_owned()),
        ("a bad ticket beside a good token", format!("ticket=0123456789abcdef&token={good}")),
    ];
    for (what, query) in queries {
        closed_silently(hub.open(&Opening::new().query(&query)).await, 4001, what).await;
    }
    for (what, header) in [("another scheme", format!("Basic {good}")), ("no token", "Bearer".to_owned())] {
        let opening = Opening::new().header("authorization", header).query(&format!("token={good}"));
        closed_silently(hub.open(&opening).await, 4001, what).await;
    }
    let opening = Opening::new().header("sec-websocket-protocol", "agent-hub.v1, bearer.garbage");
    let client = hub.open(&opening).await;
    assert_eq!(client.subprotocol.as_deref(), Some("agent-hub.v1"));
    closed_silently(client, 4001, "a bad token as subprotocol").await;
}

#[tokio::test]
async fn of_many_who_come_with_one_ticket_one_comes_in() {
    let hub = Hub::start(&[]).await;
    let (_, ticket) = hub.http("POST", "/auth/ticket", "ada").await;
    let opening = Opening::new().query(&format!("ticket={}", ticket["ticket"].as_str().expect("a ticket")));
    let attempts = (0..30).map(|_| async { hub.open(&opening).await.closed_or_welcome().await });
    let outcomes = futures::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "welcome").count(), 1, "{outcomes:?}");
}

#[tokio::test]
async fn foreign_pages_are_told_4003() {
    let hub = Hub::start(&[("ALLOWED_ORIGINS", "https://app.example.com")]).await;
    let query = format!("token={}", token("ada"));
    let own = format!("http://{}", hub.address);
    for origin in ["https://app.example.com", own.as_str()] {
        let mut client = hub.open(&Opening::new().query(&query).header("origin", origin)).await;
        assert_eq!(client.next().await["type"], "welcome", "{origin}");
    }
    let foreign = [
        "null",
        "https://evil.example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.com",
        "https://evil.com/https://app.example.com",
        "https://app.example.com@evil.com",
        "https://xapp.example.com",
        "file://",
        "https://app.example.com, https://evil.com",
    ];
    for origin in foreign {
        closed_silently(hub.open(&Opening::new().query(&query).header("origin", origin)).await, 4003, origin).await;
    }
}

#[tokio::test]
async fn a_client_of_another_version_is_told_4006() {
    let hub = Hub::start(&[]).await;
    let opening = Opening::new().query(&format!("token={}", token("ada"))).header("sec-websocket-protocol", "graphql-ws, agent-hub.v9");
    let client = hub.open(&opening).await;
    assert_eq!(client.subprotocol, None);
    closed_silently(client, 4006, "no common version").await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_4054_and_a_place_is_given_back() {
    let hub = Hub::with_limits(&[("AGENT_HUB_SERVER__CONNECTIONS_PER_USER", "2")]).await;
    let mut first = hub.connect("ada").await;
    let mut second = hub.connect("ada").await;
    let opening = Opening::new().query(&format!("token={}", token("ada")));
    closed_silently(hub.open(&opening).await, 4054, "the third").await;
    drop(hub.connect("bob").await);
    second.say(json!({"type": "ping"})).await;
    second.until("pong").await;
    drop(second);
    // The place is free once the hub has noticed.
    loop {
        let mut client = hub.open(&opening).await;
        if client.closed_or_welcome().await == "welcome" {
            break;
        }
    }
    first.done(json!({"type": "create_session"})).await;
}

#[tokio::test]
async fn a_token_is_refreshed_by_its_own_user_only() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.refused(json!({"type": "refresh_token", "token": "garbage"}), "unauthorized").await;
    let expired = sign(&json!({"sub": "ada", "exp": now() - 60}), SECRET);
    ada.refused(json!({"type": "refresh_token", "token": expired}), "unauthorized").await;
    ada.refused(json!({"type": "refresh_token", "token": token("bob")}), "forbidden").await;
    ada.refused(json!({"type": "refresh_token"}), "invalid_message").await;
    // The old one is still in force.
    assert_eq!(ada.run("/echo still here").await["data"]["result"], "still here");
    ada.done(json!({"type": "refresh_token", "token": token("ada")})).await;
    assert_eq!(ada.run("/echo and now").await["data"]["result"], "and now");
    assert!(ada.log.iter().all(|frame| !frame.contains(&token("ada")[..40])), "a token came back");
    let (mut bob, _) = hub.session("bob").await;
    bob.refused(json!({"type": "attach_session", "sessionId": session}), "forbidden").await;
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_of_a_stream_is_announced_and_can_be_renewed() {
    let hub = Hub::start(&[]).await;
    // Leeway of five seconds included, there are about six.
    let short = || format!("token={}", sign(&json!({"sub": "ada", "plan": "enterprise", "exp": now() + 1}), SECRET));
    let mut lost = hub.open(&Opening::new().query(&short())).await;
    let mut kept = hub.open(&Opening::new().query(&short())).await;
    let in_ms = kept.until("auth_expiring").await["inMs"].as_u64().expect("a number");
    let session = lost.create(json!({})).await;
    kept.attach(&session, None).await;
    let task = lost.submit("/pace 10 /tokens 700").await;
    assert!(in_ms <= 7000, "{in_ms}");
    let renewed = sign(&json!({"sub": "ada", "plan": "enterprise", "exp": now() + 300}), SECRET);
    kept.done(json!({"type": "refresh_token", "token": renewed})).await;
    assert_eq!(lost.closed().await, 4050);
    assert!(lost.log.iter().any(|frame| frame.contains("auth_expiring")));
    assert_eq!(kept.end_of(&task).await["type"], "task_completed");

    // What was lost is there for the next token.
    let cursor = lost.cursor(&session);
    let mut back = hub.connect("ada").await;
    assert_eq!(back.attach(&session, Some(&cursor)).await["recovered"], true);
    back.end_of(&task).await;
    let all: Vec<String> = [lost.event_texts(&session), back.event_texts(&session)].concat();
    assert!(all.ends_with(&kept.event_texts(&session)));
}

#[tokio::test]
async fn the_address_may_name_the_session_and_the_cursor() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let end = ada.run("/echo one two").await;
    let token = token("ada");

    let mut fresh = hub.open(&Opening::new().query(&format!("token={token}&sessionId={session}"))).await;
    assert_eq!(fresh.next().await["type"], "welcome");
    let attached = fresh.next().await;
    assert_eq!((&attached["type"], &attached["recovered"]), (&json!("session_attached"), &json!(false)));
    assert_eq!(attached["snapshot"]["messages"][1]["text"], "one two");
    assert_eq!(fresh.next().await, json!({"type": "caught_up", "sessionId": session, "seq": end["seq"]}));
    // It is the current session.
    fresh.run("/echo three").await;

    let after = format!("{}.1", ada.epoch(&session));
    let mut back = hub.open(&Opening::new().query(&format!("sessionId={session}&after={after}&token={token}"))).await;
    assert_eq!(back.until("session_attached").await["recovered"], true);
    back.until("caught_up").await;
    assert_eq!(back.event_texts(&session)[0], ada.event_texts(&session)[1]);

    let mut missing = hub.open(&Opening::new().query(&format!("token={token}&sessionId={}", new_id()))).await;
    assert_eq!(missing.until("error").await["code"], "session_not_found");
    missing.create(json!({})).await;
    let mut odd = hub.open(&Opening::new().query(&format!("token={token}&sessionId=odd"))).await;
    assert_eq!(odd.closed().await, 4000);
}
