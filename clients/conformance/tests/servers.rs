//! Bad servers of the test's own, each against a script of the test's own.
#![allow(clippy::panic, reason = "a test that cannot go on says so")]

use std::{fs, path::PathBuf};

use agent_hub_conformance::{
    server::{self, ServerArgs},
    suite::Selection,
    verdict::Verdict,
};
use futures::SinkExt;
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
