//! Addresses that fail to authenticate again and again.

use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::support::{SOON, Server};

const PATH: &str = "/api/v1/agents/capabilities";

/// Status of a request with this token, as if forwarded for somebody.
async fn ask(hub: &Server, token: &str, forwarded: Option<&str>) -> u16 {
    let request = hub.request(Method::GET, PATH).bearer_auth(token);
    let request = if let Some(address) = forwarded { request.header("x-forwarded-for", address) } else { request };
    request.send().await.unwrap().status().as_u16()
}

/// The first message of a socket, or the code it is closed with.
async fn connect(hub: &Server, query: &str) -> Result<Value, u16> {
    let (mut socket, _) = connect_async(hub.url(&format!("/ws/agents{query}")).replace("http", "ws")).await.unwrap();
    read_one(&mut socket).await
}

async fn read_one<S>(socket: &mut S) -> Result<Value, u16>
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    match timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap() {
        Message::Text(text) => Ok(serde_json::from_str(&text).unwrap()),
        Message::Close(frame) => Err(frame.unwrap().code.into()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sockets_and_requests_fail_together_and_keep_nobody_else_out() {
    let hub = Server::start(&[]).await;
    let good = hub.token("u");
    let ticket = hub.post("u", "/auth/ticket", Value::Null).await.1["ticket"].as_str().unwrap().to_owned();
    for _ in 0..5 {
        assert_eq!(connect(&hub, "").await, Err(4001), "whoever presents nothing guesses nothing");
        assert_eq!(connect(&hub, "?token=forged").await, Err(4001));
        assert_eq!(connect(&hub, "?ticket=forged").await, Err(4001));
        assert_eq!(ask(&hub, "forged", None).await, 401);
        // Nobody believes a peer that speaks for others unasked.
        assert_eq!(ask(&hub, "forged", Some("203.0.113.9")).await, 401);
    }
    assert_eq!(ask(&hub, "forged", None).await, 429);
    assert_eq!(ask(&hub, "forged", Some("203.0.113.10")).await, 429);
    assert_eq!(connect(&hub, "?token=forged").await, Err(4053), "come back later: it is not said that the token is wrong");
    assert_eq!(connect(&hub, "?ticket=forged").await, Err(4053));
    assert_eq!(connect(&hub, "").await, Err(4001));

    // Others at the same address are let in.
    assert_eq!(ask(&hub, &good, None).await, 200);
    assert_eq!(connect(&hub, &format!("?token={good}")).await.unwrap()["type"], "welcome");
    assert_eq!(connect(&hub, &format!("?ticket={ticket}")).await.unwrap()["type"], "welcome");
}

#[tokio::test]
async fn guesses_of_a_socket_that_is_open_count_as_well() {
    let hub = Server::start(&[]).await;
    let (mut socket, _) = connect_async(hub.url(&format!("/ws/agents?token={}", hub.token("u"))).replace("http", "ws")).await.unwrap();
    assert_eq!(read_one(&mut socket).await.unwrap()["type"], "welcome");
    let mut codes = Vec::new();
    for id in 0..22 {
        let guess = json!({"type": "refresh_token", "token": "forged", "id": id}).to_string();
        socket.send(Message::text(guess)).await.unwrap();
        let answer = read_one(&mut socket).await.unwrap();
        codes.push(answer["code"].as_str().unwrap().to_owned());
        assert_eq!(answer["retryAfterMs"].is_u64(), id >= 20, "{answer}");
    }
    assert_eq!(codes, [["unauthorized"; 20].as_slice(), &["rate_limited"; 2]].concat());
    assert_eq!(ask(&hub, "forged", None).await, 429);
    let good = json!({"type": "refresh_token", "token": hub.token("u"), "id": "good"}).to_string();
    socket.send(Message::text(good)).await.unwrap();
    assert_eq!(read_one(&mut socket).await.unwrap()["type"], "ack");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_count() {
    let settings = [("AGENT_HUB_SERVER__TRUSTED_PROXIES", "127.0.0.1"), ("AGENT_HUB_RATES__FAILED_AUTH_PER_MINUTE", "3")];
    let hub = Server::start(&settings).await;
    let mut tries = Vec::new();
    for address in ["203.0.113.9", "::ffff:203.0.113.9", "203.0.113.9", "203.0.113.9", "203.0.113.10"] {
        tries.push(ask(&hub, "forged", Some(address)).await);
    }
    assert_eq!(tries, [401, 401, 401, 429, 401]);
    let mut tries = Vec::new();
    for address in ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::1", "2001:db8::4", "2001:db8:0:1::1"] {
        tries.push(ask(&hub, "forged", Some(address)).await);
    }
    assert_eq!(tries, [401, 401, 401, 429, 401], "a /64 is one subscriber");
}

#[tokio::test]
async fn without_limits_a_wrong_token_is_just_wrong() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    for _ in 0..50 {
        assert_eq!(ask(&hub, "forged", None).await, 401);
    }
    assert_eq!(connect(&hub, "?token=forged").await, Err(4001));
}
