//! Clients that send what they should not.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Hub, new_id, texts};

#[tokio::test]
async fn frames_that_are_no_commands_are_answered_and_nothing_else_happens() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/pace 2 /tokens 300").await;
    let deep = |levels: usize| format!(r#"{{"type":"ping","x":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let frames = [
        (String::new(), "invalid_json"),
        ("{".to_owned(), "invalid_json"),
        ("hello".to_owned(), "invalid_json"),
        (r#"{"type":"ping"} {"#.to_owned(), "invalid_json"),
        (r#"{"type":"submit_task","prompt":"\ud800"}"#.to_owned(), "invalid_message"),
        (r#"{"type":"submit_task","prompt":"x","timeoutMs":1e400}"#.to_owned(), "invalid_message"),
        ("\u{feff}{\"type\":\"ping\"}".to_owned(), "invalid_json"),
        (deep(100_000), "invalid_json"),
        (deep(40), "invalid_json"),
        ("[]".to_owned(), "invalid_message"),
        (r#"["x","ping"]"#.to_owned(), "invalid_message"),
        ("5".to_owned(), "invalid_message"),
        ("null".to_owned(), "invalid_message"),
        (r#""ping""#.to_owned(), "invalid_message"),
        ("{}".to_owned(), "invalid_message"),
        (r#"{"type":5}"#.to_owned(), "invalid_message"),
        (r#"{"type":null}"#.to_owned(), "invalid_message"),
        (r#"{"type":"ping","id":{}}"#.to_owned(), "invalid_message"),
        (r#"{"type":"ping","id":1.5}"#.to_owned(), "invalid_message"),
        (format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(129)), "invalid_message"),
        (r#"{"type":"reboot"}"#.to_owned(), "unknown_type"),
        (r#"{"type":""}"#.to_owned(), "unknown_type"),
        (r#"{"type":"welcome"}"#.to_owned(), "unknown_type"),
        (r#"{"type":"submit_task"}"#.to_owned(), "invalid_message"),
        (r#"{"type":"submit_task","prompt":5}"#.to_owned(), "invalid_message"),
        (r#"{"type":"submit_task","prompt":"x","taskId":"../../etc"}"#.to_owned(), "invalid_message"),
        (r#"{"type":"submit_task","prompt":"x","options":[]}"#.to_owned(), "invalid_message"),
        (r#"{"type":"submit_task","prompt":"x","onBusy":"explode"}"#.to_owned(), "invalid_message"),
        (r#"{"type":"cancel_task"}"#.to_owned(), "invalid_message"),
        (r#"{"type":"attach_session","sessionId":7}"#.to_owned(), "invalid_message"),
    ];
    for (frame, code) in &frames {
        ada.send(Message::text(frame.clone())).await;
        let error = ada.until("error").await;
        let shown: String = frame.chars().take(60).collect();
        assert_eq!(error["code"], *code, "{shown}: {error}");
        assert!(error.to_string().len() < 1000, "{shown}: {error}");
    }
    for bytes in [vec![], vec![0, 159, 146, 150], br#"{"type":"ping"}"#.to_vec()] {
        ada.send(Message::binary(bytes)).await;
        assert_eq!(ada.until("error").await["code"], "invalid_message");
    }
    // What is said is in the sender's words: which field, and what it must be.
    for (frame, message) in [
        ("[1]", "Invalid message: must be a JSON object"),
        ("[1,2,3]", "Invalid message: must be a JSON object"),
        (r#""x""#, "Invalid message: must be a JSON object"),
        (r#"{"type":"ping","type":"ping"}"#, "Invalid message: type is given twice"),
        (r#"{"type":"cancel_task"}"#, "Invalid cancel_task: taskId is required"),
        (
            r#"{"type":"submit_task","prompt":5,"timeoutMs":"x"}"#,
            "Invalid submit_task: prompt must be a string; timeoutMs must be a whole number, 0 or more",
        ),
        (
            r#"{"type":"submit_task","prompt":"x","onBusy":"zz"}"#,
            "Invalid submit_task: onBusy must be one of queue, reject, interrupt, rollback, steer",
        ),
        (r#"{"type":"submit_task","prompt":"x","timeoutMs":1e400}"#, "Invalid submit_task: it has a text or a number that cannot be read"),
    ] {
        ada.send(Message::text(frame)).await;
        assert_eq!(ada.until("error").await["message"], message, "{frame}");
    }
    // An error names the command it answers, where that could be read.
    ada.say(json!({"type": "reboot", "id": "r1"})).await;
    assert_eq!(ada.answer("r1").await["code"], "unknown_type");
    // Unknown fields and nulls are no mistake.
    ada.done(json!({"type": "attach_session", "sessionId": session, "after": null, "colour": "red"})).await;
    let end = ada.end_of(&task).await;
    assert_eq!(end["type"], "task_completed");
    assert_eq!(ada.run("/echo fine").await["data"]["result"], "fine");
}

#[tokio::test]
async fn prompts_are_bounded_and_cleaned() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let submit = |prompt: String| json!({"type": "submit_task", "prompt": prompt});
    ada.refused(submit("é".repeat(10_001)), "prompt_too_long").await;
    for empty in ["", "   ", "\u{0}\u{7}", "\n\t"] {
        ada.refused(submit(empty.to_owned()), "invalid_message").await;
    }
    assert_eq!(ada.events(&session).len(), 1, "nothing of it is in the log");
    let most = ada.done(submit(format!("/echo {}", "é".repeat(9_994)))).await;
    assert_eq!(ada.end_of(most["taskId"].as_str().expect("an id")).await["data"]["result"], "é".repeat(9_994));
    assert_eq!(ada.run("/echo a\u{0}b\u{1b}[31m\u{7}\u{85}c").await["data"]["result"], "ab[31mc");
    let odd = "\u{202e}\u{1F469}\u{200D}\u{1F680} \"quotes\" \\ </script> %00 日本";
    let end = ada.run(&format!("/echo {odd}")).await;
    assert_eq!(end["data"]["result"], odd);
    assert_eq!(texts(&ada.events(&session), end["taskId"].as_str().expect("an id")), odd);
    // Context is bounded by the frame alone.
    let ack = ada.done(json!({"type": "submit_task", "prompt": "/echo ok", "context": "c".repeat(900_000)})).await;
    assert_eq!(ada.end_of(ack["taskId"].as_str().expect("an id")).await["data"]["result"], "ok");
    ada.refused(json!({"type": "create_session", "name": "n".repeat(201)}), "invalid_message").await;
    ada.refused(json!({"type": "create_session", "tags": vec!["t"; 33]}), "invalid_message").await;
    ada.refused(json!({"type": "create_session", "metadata": {"k": "v".repeat(17_000)}}), "invalid_message").await;
}

#[tokio::test]
async fn a_message_that_is_too_big_closes_with_1009() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/pace 2 /tokens 300").await;
    let filled = |bytes: usize| {
        let (head, tail) = (r#"{"type":"ping","id":"big","x":""#, r#""}"#);
        format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
    };
    ada.send(Message::text(filled(1024 * 1024))).await;
    assert_eq!(ada.answer("big").await["type"], "pong");
    ada.send(Message::text(filled(1024 * 1024 + 1))).await;
    assert_eq!(ada.closed().await, 1009);

    // A message in many fragments is as big as all of them; the last never comes.
    let mut endless = hub.connect("ada").await;
    let cursor = ada.cursor(&session);
    let fragment = frame(0x01, &[b'x'; 60_000]);
    let more = frame(0x00, &[b'x'; 60_000]);
    endless.wire().write_all(&fragment).await.expect("sent");
    for _ in 0..20 {
        if endless.wire().write_all(&more).await.is_err() {
            break;
        }
    }
    assert!([1009, 0].contains(&endless.closed().await));
    let mut back = hub.connect("ada").await;
    assert_eq!(back.attach(&session, Some(&cursor)).await["recovered"], true);
    assert_eq!(back.end_of(&task).await["type"], "task_completed");
}

/// Fragments are not counted; what they weigh together with their framing is.
#[tokio::test]
async fn a_message_in_too_many_fragments_closes_with_1009() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/pace 2 /tokens 300").await;
    // Nobody needs 1000 fragments, and nobody is hurt by them.
    let ping = format!(r#"{{"type":"ping","id":"parts","x":"{}"}}"#, "x".repeat(1000));
    let (last, parts) = ping.as_bytes().split_last().expect("not empty");
    let mut wire = Vec::new();
    for (at, byte) in parts.iter().enumerate() {
        wire.extend(short_frame(if at == 0 { 0x01 } else { 0x00 }, &[*byte]));
    }
    wire.extend(short_frame(0x80, &[*last]));
    ada.wire().write_all(&wire).await.expect("sent");
    assert_eq!(ada.answer("parts").await["type"], "pong");

    for (what, payload) in [("of one byte", b"x".as_slice()), ("of none", b"")] {
        let mut endless = hub.connect("ada").await;
        endless.wire().write_all(&short_frame(0x01, payload)).await.expect("sent");
        let many = short_frame(0x00, payload).repeat(10_000);
        let mut sent = 0;
        // A hundred times 10,000: far more than is read of it.
        while sent < 100 && endless.wire().write_all(&many).await.is_ok() {
            sent += 1;
        }
        let code = endless.closed().await;
        assert!([1009, 0].contains(&code), "fragments {what}: {code}");
    }
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    assert_eq!(ada.position(&session), ada.events(&session).len() as u64);
}

/// A masked frame of a client of at most 125 bytes.
fn short_frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[head, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// A masked frame of a client, its last bit not set.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode, 0x80 | 126];
    frame.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
    // A mask of zeros changes nothing.
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn broken_frames_close_their_own_socket_only() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/pace 2 /tokens 400").await;
    let mut long_ping = vec![0x89, 0xFE, 0x00, 0x80];
    long_ping.extend([0; 4 + 128]);
    let broken: [(&str, &[u8], &[u16]); 9] = [
        ("not masked", &[0x81, 0x02, b'{', b'}'], &[1002]),
        ("a reserved bit", &[0xC1, 0x80, 0, 0, 0, 0], &[1002]),
        ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], &[1002]),
        ("a long ping", &long_ping, &[1002]),
        ("a ping in parts", &[0x09, 0x80, 0, 0, 0, 0], &[1002]),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], &[1002]),
        ("text that is not UTF-8", &[0x81, 0x82, 0, 0, 0, 0, 0xC3, 0x28], &[1007]),
        ("a length of 2^63", &[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[1002, 1009]),
        ("a close frame of one byte", &[0x88, 0x81, 0, 0, 0, 0, 1], &[1002]),
    ];
    for (what, bytes, codes) in broken {
        let mut client = hub.connect("ada").await;
        client.wire().write_all(bytes).await.expect("sent");
        let code = client.closed().await;
        assert!(codes.contains(&code), "{what}: {code}");
    }
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    assert_eq!(ada.cursor(&session), format!("{}.{}", ada.epoch(&session), ada.events(&session).len()));
}

#[tokio::test]
async fn a_flood_is_told_to_slow_down_and_then_cut_off() {
    let hub = Hub::with_limits(&[("AGENT_HUB_SERVER__MESSAGE_BURST", "30"), ("AGENT_HUB_SERVER__MESSAGES_PER_SECOND", "5")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let mut flooder = hub.connect("ada").await;
    let task = ada.submit("/pace 2 /tokens 500").await;
    for number in 0..40 {
        flooder.say(json!({"type": "ping", "id": number})).await;
    }
    let limited = flooder.until("error").await;
    assert_eq!((&limited["code"], &limited["retryable"]), (&json!("rate_limited"), &json!(true)));
    assert!(limited["retryAfterMs"].as_u64().expect("a time") > 0 && limited["id"].as_u64() >= Some(30), "{limited}");
    for number in 40..400 {
        if flooder.try_say(json!({"type": "ping", "id": number})).await.is_err() {
            break;
        }
    }
    let code = flooder.closed().await;
    assert!([4053, 0].contains(&code), "{code}");
    // Pings of the protocol below count as well.
    let mut flooder = hub.connect("ada").await;
    for _ in 0..400 {
        if flooder.try_send(Message::Ping(Vec::new().into())).await.is_err() {
            break;
        }
    }
    let code = flooder.closed().await;
    assert!([4053, 0].contains(&code), "{code}");
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    assert_eq!(ada.position(&session), ada.events(&session).len() as u64);
}

#[tokio::test]
async fn a_full_inbox_refuses_and_what_it_took_happens_once() {
    let hub = Hub::start(&[("AGENT_HUB_RUNTIME__INBOX", "8")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let mut sockets = Vec::new();
    for _ in 0..8 {
        sockets.push(hub.connect("ada").await);
    }
    let mut asked: Vec<Vec<String>> = Vec::new();
    for socket in &mut sockets {
        let tasks: Vec<String> = (0..25).map(|_| new_id()).collect();
        for task in &tasks {
            socket.say(json!({"type": "submit_task", "sessionId": session, "taskId": task, "prompt": "/pace 0 /echo x", "id": task})).await;
        }
        asked.push(tasks);
    }
    let (mut taken, mut refused) = (Vec::new(), 0);
    for (socket, tasks) in sockets.iter_mut().zip(&asked) {
        for task in tasks {
            let answer = socket.answer(task).await;
            if answer["type"] == "ack" {
                taken.push(task.clone());
            } else {
                assert_eq!((&answer["code"], &answer["retryable"]), (&json!("overloaded"), &json!(true)), "{answer}");
                refused += 1;
            }
        }
    }
    let last = ada.done(json!({"type": "submit_task", "prompt": "/echo last"})).await;
    ada.end_of(last["taskId"].as_str().expect("an id")).await;
    let events = ada.events(&session);
    let mut queued: Vec<&str> = events.iter().filter(|e| e["type"] == "task_queued").filter_map(|e| e["taskId"].as_str()).collect();
    assert_eq!(queued.pop(), last["taskId"].as_str());
    let mut taken: Vec<&str> = taken.iter().map(String::as_str).collect();
    queued.sort_unstable();
    taken.sort_unstable();
    assert!(queued == taken, "{} were acknowledged, {refused} refused, {} are in the log", taken.len(), queued.len());
    let completed: Vec<&Value> = events.iter().filter(|e| e["type"] == "task_completed").collect();
    assert_eq!(completed.len(), taken.len() + 1);
}
