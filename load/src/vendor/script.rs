//! What a fake does with a call.

use std::time::Duration;

use serde_json::{Map, Value};

/// The answer to a call.
#[derive(Clone, Debug)]
pub struct Script {
    /// Time per token, kept without drift; zero: as fast as the socket takes it.
    pub pace: Duration,
    /// By how much of the pace a token may come late, at random: 0 to 1. What is late does not make the next one late.
    pub jitter: f64,
    /// Tokens of text.
    pub tokens: usize,
    /// Says this, word by word, instead of filler; `tokens` does not count then.
    pub echo: Option<String>,
    /// Every token is the time it was made, in nanoseconds since 1970, and a space.
    pub stamp: bool,
    /// Tokens of reasoning before the text.
    pub reasoning: usize,
    /// Calls to ask for, before the final answer.
    pub calls: Vec<ScriptedCall>,
    /// Asks for all calls in one answer; otherwise for one after the other, as their results come in.
    pub parallel: bool,
    /// What goes wrong, and after how many tokens of text. Faults before the headers ignore the number.
    pub fault: Option<(Fault, usize)>,
}

/// A fault that some answers have.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultChance {
    /// What goes wrong.
    pub fault: Fault,
    /// After so many tokens of text.
    pub after: usize,
    /// In this share of the answers.
    pub share: f64,
}

impl Default for Script {
    /// Twenty words at once.
    fn default() -> Self {
        Script {
            pace: Duration::ZERO,
            jitter: 0.0,
            tokens: 20,
            echo: None,
            stamp: false,
            reasoning: 0,
            calls: Vec::new(),
            parallel: false,
            fault: None,
        }
    }
}

/// A tool call to ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptedCall {
    /// The tool.
    pub tool: String,
    /// A JSON object.
    pub arguments: Value,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and the vendor's error body, and a `retry-after` header if given.
    Status(u16, Option<String>),
    /// Answers with this status and an error body that never ends.
    EndlessError(u16),
    /// Accepts the request and never answers.
    HangBeforeHeaders,
    /// Accepts the request and closes the connection.
    CutBeforeHeaders,
    /// Answers 200 with a web page.
    WebPage,
    /// Stops talking and keeps the connection.
    Hang,
    /// Closes the connection between two events.
    Cut,
    /// Closes the connection in the middle of an event.
    CutInsideToken,
    /// Closes the connection in the middle of a character.
    CutInsideCharacter,
    /// Ends the answer properly, without its last events.
    EndEarly,
    /// Sends an event whose data is half a JSON document.
    BrokenJson,
    /// Sends a line that is no part of any event.
    GarbageLine,
    /// Sends bytes that are not UTF-8.
    NotUtf8,
    /// Reports a failure as an event.
    ErrorEvent,
    /// Sends one line of so many bytes.
    LongLine(usize),
    /// Sends everything after this byte by byte, with this pause between two.
    Drip(Duration),
    /// Sends so many bytes of harmless comments, then goes on.
    Comments(usize),
}

impl Fault {
    /// Names of faults, for `/fault` and for scenarios.
    pub const NAMES: [&'static str; 18] = [
        "endless-error",
        "hang-headers",
        "cut-headers",
        "web-page",
        "hang",
        "cut",
        "cut-token",
        "cut-char",
        "end-early",
        "broken-json",
        "garbage-line",
        "not-utf8",
        "error-event",
        "long-line",
        "drip",
        "comments",
        "unavailable",
        "rate-limited",
    ];

    /// By its name: one of [`Fault::NAMES`].
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "unavailable" => Fault::Status(503, None),
            "rate-limited" => Fault::Status(429, Some("1".to_owned())),
            "endless-error" => Fault::EndlessError(500),
            "hang-headers" => Fault::HangBeforeHeaders,
            "cut-headers" => Fault::CutBeforeHeaders,
            "web-page" => Fault::WebPage,
            "hang" => Fault::Hang,
            "cut" => Fault::Cut,
            "cut-token" => Fault::CutInsideToken,
            "cut-char" => Fault::CutInsideCharacter,
            "end-early" => Fault::EndEarly,
            "broken-json" => Fault::BrokenJson,
            "garbage-line" => Fault::GarbageLine,
            "not-utf8" => Fault::NotUtf8,
            "error-event" => Fault::ErrorEvent,
            "long-line" => Fault::LongLine(100 * 1024 * 1024),
            "drip" => Fault::Drip(Duration::from_secs(1)),
            "comments" => Fault::Comments(100 * 1024 * 1024),
            _ => return None,
        })
    }
}

impl Script {
    /// Ends with a fault after so many tokens.
    pub fn with_fault(self, fault: Fault, after: usize) -> Self {
        Script { fault: Some((fault, after)), ..self }
    }

    /// The script with the wishes of a prompt, which may hold these directives anywhere:
    ///
    /// | directive | effect |
    /// |---|---|
    /// | `/pace <ms>` | milliseconds per token |
    /// | `/jitter <share>` | each token late by up to this share of the pace, at random |
    /// | `/tokens <n>` | tokens of text |
    /// | `/echo <text>` | says the text, up to the next directive |
    /// | `/stamp` | tokens tell the time they were made |
    /// | `/reason [n]` | `n` tokens of reasoning first; default 12 |
    /// | `/tool <name> [json object]` | asks for the call |
    /// | `/parallel` | asks for all calls at once |
    /// | `/fail [status] [after <n>]` | refuses with the status (default 500); with `after`, an error event mid-stream |
    /// | `/hang [n]` | falls silent after `n` tokens; default 5 |
    /// | `/fault <name> [n]` | another [`Fault`] after `n` tokens: `cut`, `cut-token`, `cut-char`, `end-early`, `broken-json`, `garbage-line`, `not-utf8`, `error-event`, `long-line`, `drip`, `comments`, `hang-headers`, `cut-headers`, `web-page`, `endless-error`, `unavailable`, `rate-limited` |
    #[must_use]
    pub fn directed_by(mut self, prompt: &str) -> Self {
        let mut words = Words { left: prompt };
        while let Some(word) = words.next() {
            match word {
                "/pace" => {
                    let pace = words.number::<f64>().and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
                    self.pace = pace.unwrap_or(self.pace);
                }
                "/jitter" => self.jitter = words.number::<f64>().filter(|share| (0.0..=1.0).contains(share)).unwrap_or(self.jitter),
                "/tokens" => self.tokens = words.number().unwrap_or(self.tokens),
                "/echo" => self.echo = Some(words.text()),
                "/stamp" => self.stamp = true,
                "/reason" => self.reasoning = words.number().unwrap_or(12),
                "/tool" => {
                    if let Some(tool) = words.next().map(str::to_owned) {
                        self.calls.push(ScriptedCall { tool, arguments: words.json_object() });
                    }
                }
                "/parallel" => self.parallel = true,
                "/fail" => self.fault = Some(words.failure()),
                "/hang" => self.fault = Some((Fault::Hang, words.number().unwrap_or(5))),
                "/fault" => {
                    if let Some(fault) = words.next().and_then(Fault::named) {
                        self.fault = Some((fault, words.number().unwrap_or(0)));
                    }
                }
                _ => {}
            }
        }
        self
    }
}

struct Words<'a> {
    left: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let text = self.left.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (word, left) = text.split_at(end);
        self.left = left;
        (!word.is_empty()).then_some(word)
    }

    /// The next word, if it is a number; otherwise it stays.
    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        let before = self.left;
        let number = self.next().and_then(|word| word.parse().ok());
        if number.is_none() {
            self.left = before;
        }
        number
    }

    fn failure(&mut self) -> (Fault, usize) {
        let status = self.number().unwrap_or(500);
        let before = self.left;
        if self.next() == Some("after") {
            return (Fault::ErrorEvent, self.number().unwrap_or(0));
        }
        self.left = before;
        (Fault::Status(status, (status == 429).then(|| "1".to_owned())), 0)
    }

    /// Everything up to the next word with a slash in front.
    fn text(&mut self) -> String {
        let text = self.left;
        let end = text.match_indices('/').map(|(at, _)| at).find(|at| text[..*at].ends_with(char::is_whitespace));
        let (text, left) = text.split_at(end.unwrap_or(text.len()));
        self.left = left;
        text.trim().to_owned()
    }

    fn json_object(&mut self) -> Value {
        let text = self.left.trim_start();
        if text.starts_with('{') {
            let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            if let Some(Ok(value)) = values.next() {
                self.left = &text[values.byte_offset()..];
                return value;
            }
        }
        Value::Object(Map::new())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_that_has_a_name_is_found_by_it() {
        assert!(Fault::NAMES.iter().all(|name| Fault::named(name).is_some()));
        assert_eq!(Fault::named("flood"), None);
    }

    #[test]
    fn prompts_direct_the_script() {
        let script = Script::default().directed_by(r#"hi /pace 2.5 /tokens 9 /tool a {"b": "c d"} /tool e /stamp /fail 429"#);
        assert_eq!((script.pace, script.tokens, script.stamp), (Duration::from_micros(2500), 9, true));
        let call = |tool: &str, arguments| ScriptedCall { tool: tool.into(), arguments };
        assert_eq!(script.calls, [call("a", json!({"b": "c d"})), call("e", json!({}))]);
        assert_eq!(script.fault, Some((Fault::Status(429, Some("1".into())), 0)));
        let script = Script::default().directed_by("/echo a b/c d /hang /fault cut-char 3");
        assert_eq!(script.echo.as_deref(), Some("a b/c d"));
        assert_eq!(script.fault, Some((Fault::CutInsideCharacter, 3)));
        assert_eq!(Script::default().directed_by("/fail 500 after 7").fault, Some((Fault::ErrorEvent, 7)));
    }
}
