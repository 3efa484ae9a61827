//! What holds for every frame of every socket, whatever a script is about.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::pattern::{cut, short};

/// What a socket has been shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    welcomed: bool,
    sessions: HashMap<String, Followed>,
}

/// Where a socket stands in a session.
#[derive(Debug)]
struct Followed {
    epoch: String,
    last: u64,
    /// `caught_up` is due when this event has been shown.
    until: Option<u64>,
    /// Tasks whose terminal event was shown since the attach. A later attach may show everything again.
    ended: HashSet<String>,
}

/// Types of terminal events.
pub(super) const TERMINAL: [&str; 4] = ["task_completed", "task_failed", "task_cancelled", "task_timeout"];

impl Shown {
    /// Takes in a frame.
    ///
    /// # Errors
    /// The rule it breaks.
    pub(super) fn take(&mut self, frame: &Value) -> Result<(), String> {
        let Some(kind) = frame["type"].as_str() else { return Err(format!("a frame without a type: {}", short(frame))) };
        if (kind == "welcome") == self.welcomed {
            return Err(if self.welcomed {
                "a second welcome".to_owned()
            } else {
                format!("the first frame is no welcome: {}", short(frame))
            });
        }
        self.welcomed = true;
        match kind {
            "session_attached" => self.attached(frame),
            "caught_up" => self.caught_up(frame),
            "ack" if frame["received"] == "detach_session" => {
                self.sessions.remove(frame["sessionId"].as_str().unwrap_or_default());
                Ok(())
            }
            _ if is_event(frame) => self.event(kind, frame),
            _ => Ok(()),
        }
    }

    /// `<epoch>.<seq>` of what was shown last.
    pub(super) fn cursor(&self, session: &str) -> Option<String> {
        self.sessions.get(session).map(|followed| format!("{}.{}", followed.epoch, followed.last))
    }

    fn attached(&mut self, frame: &Value) -> Result<(), String> {
        let (session, epoch) = (text(frame, "sessionId")?, text(frame, "epoch")?);
        let (from, head) = (number(frame, "from")?, number(frame, "head")?);
        let recovered = frame["recovered"].as_bool().ok_or("session_attached without `recovered`")?;
        if recovered == frame["snapshot"].is_object() {
            return Err(format!("a snapshot comes with recovered:false, and only then: {}", short(frame)));
        }
        if from == 0 || from > head + 1 || (!recovered && from != head + 1) {
            return Err(format!("`from` is {from} where the head is {head}"));
        }
        if epoch.is_empty() || epoch.contains('.') {
            return Err(format!("an epoch that no cursor can name: {epoch:?}"));
        }
        let followed = Followed { epoch: epoch.to_owned(), last: from - 1, until: Some(head), ended: HashSet::new() };
        self.sessions.insert(session.to_owned(), followed);
        Ok(())
    }

    fn caught_up(&mut self, frame: &Value) -> Result<(), String> {
        let (session, seq) = (text(frame, "sessionId")?, number(frame, "seq")?);
        let followed =
            self.sessions.get_mut(session).ok_or_else(|| format!("caught_up of a session that is not attached: {}", short(frame)))?;
        match followed.until.take() {
            Some(head) if head == seq && followed.last == head => Ok(()),
            Some(head) => Err(format!("caught_up at {seq} where {head} is the head and {} was shown", followed.last)),
            None => Err("caught_up came twice for one attach".to_owned()),
        }
    }

    fn event(&mut self, kind: &str, frame: &Value) -> Result<(), String> {
        let (session, seq) = (text(frame, "sessionId")?, number(frame, "seq")?);
        let at = text(frame, "at")?;
        if !is_time(at) {
            return Err(format!("`at` is no RFC 3339 with milliseconds and Z: {at}"));
        }
        if !frame["data"].is_object() {
            return Err(format!("an event without data: {}", short(frame)));
        }
        let followed =
            self.sessions.get_mut(session).ok_or_else(|| format!("an event of a session that is not attached: {}", short(frame)))?;
        if seq != followed.last + 1 {
            return Err(format!("a hole or a repetition: event {seq} behind event {}", followed.last));
        }
        if followed.until.is_some_and(|head| seq > head) {
            return Err(format!("event {seq} came before caught_up, and the head was {:?}", followed.until));
        }
        followed.last = seq;
        if kind.starts_with("session_") {
            return Ok(());
        }
        let task = text(frame, "taskId")?;
        if followed.ended.contains(task) {
            return Err(format!("an event behind the task's end: {}", short(frame)));
        }
        if TERMINAL.contains(&kind) {
            followed.ended.insert(task.to_owned());
        }
        Ok(())
    }
}

/// The texts of events, of all sockets of a script: the same event is the same bytes everywhere.
#[derive(Debug, Default)]
pub(super) struct Logs {
    texts: HashMap<(String, String), Vec<(u64, String)>>,
}

impl Logs {
    /// Takes in an event as it came.
    ///
    /// # Errors
    /// It was other text elsewhere.
    pub(super) fn take(&mut self, epoch: &str, frame: &Value, text: &str) -> Result<(), String> {
        let session = frame["sessionId"].as_str().unwrap_or_default().to_owned();
        let seq = frame["seq"].as_u64().unwrap_or_default();
        let log = self.texts.entry((session, epoch.to_owned())).or_default();
        match log.iter().find(|(known, _)| *known == seq) {
            Some((_, known)) if known == text => Ok(()),
            Some((_, known)) => Err(format!("event {seq} is not the same text everywhere: {} and {}", cut(known), cut(text))),
            None => {
                log.push((seq, text.to_owned()));
                Ok(())
            }
        }
    }

    /// Whether a task's tokens spell its messages, and its result is the last of them.
    ///
    /// # Errors
    /// They do not, or the task has no result.
    pub(super) fn spells(&self, task: &str) -> Result<(), String> {
        let mut events: Vec<Value> = self.texts.values().flatten().filter_map(|(_, text)| serde_json::from_str(text).ok()).collect();
        events.retain(|event| event["taskId"] == task);
        events.sort_by_key(|event| event["seq"].as_u64());
        let mut spelt: HashMap<&str, String> = HashMap::new();
        let mut last = None;
        for event in &events {
            let data = &event["data"];
            let message = data["messageId"].as_str().unwrap_or_default();
            match event["type"].as_str().unwrap_or_default() {
                "token" => spelt.entry(message).or_default().push_str(data["token"].as_str().unwrap_or_default()),
                "message" => {
                    let whole = data["text"].as_str().unwrap_or_default();
                    let tokens = spelt.get(message).map_or("", String::as_str);
                    if tokens != whole {
                        return Err(format!("the tokens of {message} spell {} and the message says {}", cut(tokens), cut(whole)));
                    }
                    last = Some(whole);
                }
                "task_completed" if data["result"].as_str() != last => {
                    return Err(format!("the result is {} and the last message {last:?}", short(&data["result"])));
                }
                "task_completed" => return Ok(()),
                _ => {}
            }
        }
        Err(format!("task {task} has not completed"))
    }
}

/// Events come from a log: they have a place in it and a time.
pub(super) fn is_event(frame: &Value) -> bool {
    frame.get("seq").is_some() && frame.get("at").is_some() && frame.get("sessionId").is_some()
}

fn text<'a>(frame: &'a Value, name: &str) -> Result<&'a str, String> {
    frame[name].as_str().ok_or_else(|| format!("`{name}` is missing or no text: {}", short(frame)))
}

fn number(frame: &Value, name: &str) -> Result<u64, String> {
    frame[name].as_u64().ok_or_else(|| format!("`{name}` is missing or no number: {}", short(frame)))
}

/// `2026-11-20T14:02:01.037Z`
fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00.000Z";
    let fits = |(form, byte): (&u8, u8)| if *form == b'0' { byte.is_ascii_digit() } else { *form == byte };
    text.len() == FORM.len() && FORM.iter().zip(text.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u64, kind: &str) -> Value {
        json!({"type": kind, "sessionId": "s", "taskId": "t", "seq": seq, "at": "2026-11-20T14:02:01.037Z", "data": {}})
    }

    fn attached(from: u64, head: u64) -> Value {
        json!({"type": "session_attached", "sessionId": "s", "epoch": "e", "recovered": true, "from": from, "head": head})
    }

    fn check(frames: &[Value]) -> Result<(), String> {
        let mut shown = Shown::default();
        [json!({"type": "welcome"})].iter().chain(frames).try_for_each(|frame| shown.take(frame))
    }

    #[test]
    fn an_honest_stream_passes() {
        let caught_up = json!({"type": "caught_up", "sessionId": "s", "seq": 2});
        assert_eq!(check(&[attached(2, 2), event(2, "token"), caught_up, event(3, "task_completed")]), Ok(()));
    }

    #[test]
    fn a_task_that_has_ended_may_be_shown_again_by_another_attach() {
        let whole =
            [attached(1, 2), event(1, "token"), event(2, "task_completed"), json!({"type": "caught_up", "sessionId": "s", "seq": 2})];
        assert_eq!(check(&[whole.clone(), whole].concat()), Ok(()));
    }

    #[test]
    fn each_broken_rule_is_named() {
        let caught_up = |seq: u64| json!({"type": "caught_up", "sessionId": "s", "seq": seq});
        let broken = |frames: &[Value], word: &str| {
            let problem = check(frames).expect_err(word);
            assert!(problem.contains(word), "{problem}");
        };
        broken(&[event(1, "token")], "not attached");
        broken(&[attached(1, 3), event(2, "token")], "a hole");
        broken(&[attached(1, 3), event(1, "token"), event(1, "token")], "repetition");
        broken(&[attached(1, 0), event(1, "token")], "before caught_up");
        broken(&[attached(1, 1), caught_up(1)], "caught_up at 1");
        broken(&[attached(1, 0), caught_up(0), caught_up(0)], "twice");
        broken(&[attached(1, 2), event(1, "task_failed"), event(2, "token")], "behind the task's end");
        broken(&[json!({"type": "welcome"})], "second welcome");
        broken(&[attached(5, 2)], "`from`");
        assert!(Shown::default().take(&json!({"type": "ack"})).is_err());
    }

    #[test]
    fn the_same_event_is_the_same_text() {
        let mut logs = Logs::default();
        let one = event(1, "token");
        assert_eq!(logs.take("e", &one, "text"), Ok(()));
        assert_eq!(logs.take("e", &one, "text"), Ok(()));
        assert!(logs.take("e", &one, "other").is_err());
        assert_eq!(logs.take("f", &one, "other"), Ok(()));
    }

    #[test]
    fn texts_are_spelt_by_their_tokens() {
        let spells = |tokens: &[&str], message: &str, result: &str| {
            let mut logs = Logs::default();
            let mut seq = 0;
            let mut take = |kind: &str, data: Value| {
                seq += 1;
                let mut frame = event(seq, kind);
                frame["data"] = data;
                logs.take("e", &frame, &frame.to_string()).expect("new");
            };
            tokens.iter().for_each(|token| take("token", json!({"token": token, "messageId": "m1"})));
            take("message", json!({"messageId": "m1", "text": message}));
            take("task_completed", json!({ "result": result }));
            logs.spells("t").is_ok()
        };
        assert!(spells(&["a", "b "], "ab ", "ab "));
        assert!(!spells(&["a", "b "], "ab", "ab") && !spells(&["a"], "a", "b"));
    }
}
