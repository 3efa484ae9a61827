//! Bad servers of the test's own, each against a script of the test's own.
#![allow(clippy::panic, reason = "a test that cannot go on says so")]

use std::{fs, path::PathBuf};

use agent_hub_conformance::{
    server::{self, ServerArgs},
    suite::Selection,
    verdict::Verdict,
};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

type Stream = WebSocketStream<TcpStream>;

/// Plays the steps against a server that does this with each connection.
async fn play<F>(name: &str, steps: &str, serve: fn(Stream) -> F) -> Verdict
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move {
        let mut served = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            served.spawn(async move {
                if let Ok(stream) = accept_async(stream).await {
                    serve(stream).await;
                }
            });
        }
    });
    let scripts = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("scripts-{name}"));
    fs::create_dir_all(&scripts).expect("a directory");
    fs::write(scripts.join("only.toml"), format!("about = \"x\"\nsteps = [ {steps} ]\n")).expect("a script");
    let args = ServerArgs {
        url,
        token: "token-1".into(),
        other_token: None,
        prompt_long: "long".into(),
        prompt_short: "short".into(),
        selection: Selection { scripts: Some(scripts), patience: 2, ..Selection::default() },
    };
    let mut verdicts = server::run(&args, |_| {}).await.expect("the script can be read");
    serving.abort();
    verdicts.remove(0)
}

async fn say(stream: &mut Stream, message: Value) {
    // The kit may have left, which is for the verdict to tell.
    let _ = stream.send(Message::text(message.to_string())).await;
}

async fn welcome(stream: &mut Stream) {
    let limits = json!({"messageBytes": 1_048_576, "promptChars": 10_000, "attachedSessions": 64});
    say(
        stream,
        json!({"type": "welcome", "connectionId": "c", "protocol": "agent-hub.v1", "user": "u", "heartbeatMs": 20_000, "limits": limits}),
    )
    .await;
}

async fn does_not_read(mut stream: Stream) {
    welcome(&mut stream).await;
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_read_is_not_waited_for_for_ever() {
    // More than the system keeps for a socket.
    let verdict = play("unread", "{ open = {} }, { send_binary = 33554432 }", does_not_read).await;
    assert!(!verdict.kept() && verdict.to_string().contains("does not read"), "{verdict}");
}

/// Welcomes, says what else it has to say, and answers pings, with or without a second welcome before.
async fn answers(mut stream: Stream, second_at_once: bool, second_at_ping: bool) {
    welcome(&mut stream).await;
    if second_at_once {
        welcome(&mut stream).await;
    }
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let command: Value = serde_json::from_str(&text).expect("the kit sends JSON");
        if second_at_ping {
            welcome(&mut stream).await;
        }
        say(&mut stream, json!({"type": "pong", "id": command["id"]})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_the_last_step_is_looked_at() {
    let good = play("good", "{ open = {} }", |stream| answers(stream, false, false)).await;
    assert!(good.kept(), "{good}");
    let bad = play("behind", "{ open = {} }", |stream| answers(stream, false, true)).await;
    assert!(bad.to_string().contains("after the last step: on main, ") && bad.to_string().contains("a second welcome"), "{bad}");
    let silent = play("silent", "{ open = {} }", |mut stream| async move {
        welcome(&mut stream).await;
        while let Some(Ok(_)) = stream.next().await {}
    })
    .await;
    assert!(!silent.kept(), "{silent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_a_goodbye_is_answered_is_looked_at() {
    let good = play("polite", "{ open = {} }, { close = true }", |stream| answers(stream, false, false)).await;
    assert!(good.kept(), "{good}");
    let bad = play("before", "{ open = {} }, { close = true }", |stream| answers(stream, true, false)).await;
    assert!(bad.to_string().contains("a second welcome"), "{bad}");
}
