//! Reads the directives out of a prompt.

use std::time::Duration;

use serde_json::{Map, Value};

/// More would only be a way to keep a node busy.
const MAX_TOKENS: usize = 1_000_000;
/// Reasoning is made in one piece, unlike the answer.
const MAX_REASONING: usize = 10_000;
const MAX_STEPS: usize = 100;
/// One token an hour is slow enough for everybody.
const MAX_PACE_MS: f64 = 3_600_000.0;

/// What a prompt asks of the demo provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Directives {
    pub(super) pace: Option<Duration>,
    pub(super) tokens: Option<usize>,
    pub(super) echo: Option<String>,
    pub(super) stamp: bool,
    pub(super) reason: Option<usize>,
    pub(super) calls: Vec<PlannedCall>,
    pub(super) steps: Option<usize>,
    pub(super) fail: Option<Fail>,
    pub(super) hang: Option<usize>,
    /// The prompt without its directives.
    pub(super) rest: String,
}

/// A call of `/tool` or `/ask`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedCall {
    pub(super) tool: String,
    pub(super) arguments: Value,
}

/// `/fail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fail {
    pub(super) status: u16,
    pub(super) after: usize,
}

impl Directives {
    pub(super) fn parse(prompt: &str) -> Self {
        let mut reader = Reader { left: prompt };
        let mut directives = Directives::default();
        while let Some(word) = reader.next_before_directive(&mut directives.rest) {
            directives.apply(word, &mut reader);
        }
        directives.rest = directives.rest.trim().to_owned();
        directives
    }

    fn apply(&mut self, word: Word, reader: &mut Reader<'_>) {
        match word {
            Word::Pace => {
                let ms = reader.argument::<f64>().filter(|ms| ms.is_finite()).map(|ms| ms.clamp(0.0, MAX_PACE_MS));
                self.pace = ms.map(|ms| Duration::from_secs_f64(ms / 1000.0)).or(self.pace);
            }
            Word::Tokens => self.tokens = reader.argument::<usize>().map(|n| n.min(MAX_TOKENS)).or(self.tokens),
            Word::Echo => self.echo = Some(reader.text()),
            Word::Stamp => self.stamp = true,
            Word::Reason => self.reason = Some(reader.argument::<usize>().unwrap_or(12).min(MAX_REASONING)),
            Word::Tool => {
                if let Some(tool) = reader.argument::<String>() {
                    self.calls.push(PlannedCall { tool, arguments: reader.json_object() });
                }
            }
            Word::Ask => {
                let question = Value::String(reader.text());
                let arguments = Value::Object(Map::from_iter([("question".to_owned(), question)]));
                self.calls.push(PlannedCall { tool: "ask_user".to_owned(), arguments });
            }
            Word::Steps => self.steps = reader.argument::<usize>().map(|n| n.min(MAX_STEPS)).or(self.steps),
            Word::Fail => {
                let status = reader.argument::<u16>().filter(|status| (400..600).contains(status)).unwrap_or(500);
                let after = if reader.keyword("after") { reader.argument::<usize>().unwrap_or(0) } else { 0 };
                self.fail = Some(Fail { status, after });
            }
            Word::Hang => self.hang = Some(reader.argument::<usize>().unwrap_or(5)),
        }
    }
}

#[derive(Clone, Copy)]
enum Word {
    Pace,
    Tokens,
    Echo,
    Stamp,
    Reason,
    Tool,
    Ask,
    Steps,
    Fail,
    Hang,
}

impl Word {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "/pace" => Word::Pace,
            "/tokens" => Word::Tokens,
            "/echo" => Word::Echo,
            "/stamp" => Word::Stamp,
            "/reason" => Word::Reason,
            "/tool" => Word::Tool,
            "/ask" => Word::Ask,
            "/steps" => Word::Steps,
            "/fail" => Word::Fail,
            "/hang" => Word::Hang,
            _ => return None,
        })
    }
}

struct Reader<'a> {
    left: &'a str,
}

impl Reader<'_> {
    /// Moves past the next directive's word; what stands before it goes to `rest`.
    fn next_before_directive(&mut self, rest: &mut String) -> Option<Word> {
        let (at, found) = find_directive(self.left);
        rest.push_str(&self.left[..at]);
        self.left = &self.left[at..];
        let word = found?;
        let end = self.left.find(char::is_whitespace).unwrap_or(self.left.len());
        self.left = &self.left[end..];
        Some(word)
    }

    /// The next word, if it is a `T`; otherwise it stays.
    fn argument<T: std::str::FromStr>(&mut self) -> Option<T> {
        let text = self.left.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let word = &text[..end];
        if word.is_empty() || Word::of(word).is_some() {
            return None;
        }
        let value = word.parse().ok()?;
        self.left = &text[end..];
        Some(value)
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let text = self.left.trim_start();
        let Some(after) = text.strip_prefix(keyword) else { return false };
        if after.starts_with(|c: char| !c.is_whitespace()) {
            return false;
        }
        self.left = after;
        true
    }

    /// Everything up to the next directive, without the space around it.
    fn text(&mut self) -> String {
        let (at, _) = find_directive(self.left);
        let text = self.left[..at].trim().to_owned();
        self.left = &self.left[at..];
        text
    }

    /// The JSON object that comes next; an empty one if none does.
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

/// Where the next directive starts, and which it is; the end of the text if there is none.
fn find_directive(text: &str) -> (usize, Option<Word>) {
    let mut after_space = true;
    for (at, c) in text.char_indices() {
        if c == '/' && after_space {
            let word = text[at..].split(char::is_whitespace).next().unwrap_or_default();
            if let Some(word) = Word::of(word) {
                return (at, Some(word));
            }
        }
        after_space = c.is_whitespace();
    }
    (text.len(), None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn directives_stand_anywhere() {
        let read = Directives::parse("tell me /pace 0 a story /tokens 7 about a/pace and /etc/hosts");
        assert_eq!(read.pace, Some(Duration::ZERO));
        assert_eq!(read.tokens, Some(7));
        assert_eq!(read.rest, "tell me  a story  about a/pace and /etc/hosts");
    }

    #[test]
    fn text_arguments_end_at_the_next_directive() {
        let read = Directives::parse("/echo one two\nthree /pace 0.5 /ask which one? /stamp");
        assert_eq!(read.echo.as_deref(), Some("one two\nthree"));
        assert_eq!(read.pace, Some(Duration::from_micros(500)));
        assert_eq!(read.calls, [PlannedCall { tool: "ask_user".into(), arguments: json!({"question": "which one?"}) }]);
        assert!(read.stamp);
    }

    #[test]
    fn tools_take_an_object_or_nothing() {
        let read = Directives::parse(r#"/tool web_search {"q": "a } /pace 3"} /tool now /tool odd {broken"#);
        let tools: Vec<_> = read.calls.iter().map(|call| (call.tool.as_str(), call.arguments.clone())).collect();
        assert_eq!(tools, [("web_search", json!({"q": "a } /pace 3"})), ("now", json!({})), ("odd", json!({}))]);
        assert_eq!(read.pace, None);
        assert_eq!(read.rest, "{broken");
    }

    #[test]
    fn missing_or_senseless_arguments_mean_the_default() {
        let read = Directives::parse("/pace fast /tokens -1 /fail /hang /reason /steps 5000");
        assert_eq!((read.pace, read.tokens), (None, None));
        assert_eq!(read.fail, Some(Fail { status: 500, after: 0 }));
        assert_eq!((read.hang, read.reason, read.steps), (Some(5), Some(12), Some(100)));
        assert_eq!(Directives::parse("/fail 429 after 3").fail, Some(Fail { status: 429, after: 3 }));
        assert_eq!(Directives::parse("/pace NaN /fail 200").fail, Some(Fail { status: 500, after: 0 }));
    }
}
