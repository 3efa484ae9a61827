//! Decides, from the request alone, what the demo provider will do.

use std::{collections::VecDeque, time::Duration};

use serde_json::{Value, json};

use super::{
    directives::{Directives, PlannedCall},
    sample::sample,
};
use crate::provider::{ModelMessage, ModelRequest, ModelToolCall, ToolSpec};

/// A plan is never larger than its prompt and these bounds: long answers are made word by word.
pub(super) struct Plan {
    pub(super) pace: Option<Duration>,
    pub(super) parts: VecDeque<Part>,
    pub(super) input_words: u64,
    pub(super) truncated: bool,
}

pub(super) enum Part {
    Reasoning(Words),
    Text(Words),
    Call(ModelToolCall),
    Fail(u16),
    Hang,
    End,
}

pub(super) enum Words {
    Text(Text),
    Stamps(usize),
}

impl Words {
    pub(super) const fn len(&self) -> usize {
        match self {
            Words::Text(text) => text.len,
            Words::Stamps(len) => *len,
        }
    }
}

/// Words with the space that follows them: first those given, then filler up to the length.
pub(super) struct Text {
    head: Vec<Box<str>>,
    len: usize,
}

impl Text {
    fn new(text: &str, len: Option<usize>) -> Self {
        let head = split_words(text);
        let len = len.unwrap_or(head.len());
        Text { head, len }
    }

    pub(super) fn word(&self, index: usize) -> String {
        match self.head.get(index) {
            // The head's last word has no space; filler must not stick to it.
            Some(word) if index + 1 == self.head.len() && index + 1 < self.len => format!("{word} "),
            Some(word) => word.to_string(),
            None => FILLER[(index - self.head.len()) % FILLER.len()].to_owned(),
        }
    }
}

const FILLER: [&str; 24] = [
    "So ", "the ", "story ", "goes ", "on, ", "word ", "after ", "word, ", "and ", "every ", "one ", "of ", "them ", "arrives ", "in ",
    "order, ", "exactly ", "once, ", "however ", "often ", "the ", "network ", "goes ", "away. ",
];

const THOUGHTS: &str = "Let me think about this: what was asked, what I know, what to say first. ";

impl Plan {
    pub(super) fn of(request: &ModelRequest) -> Self {
        let turn = Turn::of(request);
        let directives = Directives::parse(turn.prompt);
        let mut parts = VecDeque::new();
        if let Some(len) = directives.reason {
            parts.push_back(Part::Reasoning(Words::Text(Text::repeated(THOUGHTS, len))));
        }
        let mut truncated = false;
        let calls = planned_calls(&directives, request);
        match calls.get(turn.results.len()) {
            Some(call) => parts.push_back(Part::Call(numbered(call, request))),
            None => truncated = push_answer(&mut parts, &directives, &turn, request),
        }
        parts.push_back(Part::End);
        Plan { pace: directives.pace, parts, input_words: input_words(request), truncated }
    }
}

impl Text {
    fn repeated(text: &str, len: usize) -> Self {
        // The bound of `/reason` is also the bound of this.
        Text { head: split_words(text).into_iter().cycle().take(len).collect(), len }
    }
}

/// The conversation as seen from its last prompt.
struct Turn<'a> {
    prompt: &'a str,
    earlier: Vec<&'a str>,
    /// What tools returned since the prompt: the tool, its result, and whether that is a failure.
    results: Vec<(&'a str, &'a str, bool)>,
}

impl<'a> Turn<'a> {
    fn of(request: &'a ModelRequest) -> Self {
        let mut turn = Turn { prompt: "", earlier: Vec::new(), results: Vec::new() };
        let mut prompts = Vec::new();
        for message in &request.messages {
            match message {
                ModelMessage::User(text) => {
                    prompts.push(text.as_str());
                    turn.results.clear();
                }
                ModelMessage::ToolResult { tool, content, is_error, .. } => turn.results.push((tool, content, *is_error)),
                ModelMessage::Assistant { .. } => {}
            }
        }
        turn.prompt = prompts.pop().unwrap_or_default();
        turn.earlier = prompts;
        turn
    }
}

/// The calls to make one after another before answering.
fn planned_calls(directives: &Directives, request: &ModelRequest) -> Vec<PlannedCall> {
    let Some(steps) = directives.steps else { return directives.calls.clone() };
    // One that takes what is given here; asking a person would not be a step but a pause.
    let takes_query = |tool: &&ToolSpec| tool.parameters["properties"]["query"].is_object();
    let offered = request.tools.iter().find(takes_query).map_or("web_search", |tool| tool.name.as_str());
    (1..=steps)
        .map(|step| match directives.calls.as_slice() {
            [] => PlannedCall { tool: offered.to_owned(), arguments: json!({ "query": format!("step {step} of {steps}") }) },
            calls => calls[(step - 1) % calls.len()].clone(),
        })
        .collect()
}

/// Gives a call the id its place in the conversation determines.
fn numbered(call: &PlannedCall, request: &ModelRequest) -> ModelToolCall {
    let made: usize = request
        .messages
        .iter()
        .map(|message| match message {
            ModelMessage::Assistant { tool_calls, .. } => tool_calls.len(),
            _ => 0,
        })
        .sum();
    ModelToolCall { call_id: format!("demo_{}", made + 1), tool: call.tool.clone(), arguments: call.arguments.clone() }
}

/// Adds the answer and what is to go wrong with it; says whether the limit cut it.
fn push_answer(parts: &mut VecDeque<Part>, directives: &Directives, turn: &Turn<'_>, request: &ModelRequest) -> bool {
    let limit = max_tokens(request);
    let mut words = answer(directives, turn, request.answer_schema.as_ref());
    let truncated = limit.is_some_and(|limit| words.len() > limit);
    let fault = match (directives.fail, directives.hang) {
        (Some(fail), Some(hang)) if hang < fail.after => Some((hang, Part::Hang)),
        (Some(fail), _) => Some((fail.after, Part::Fail(fail.status))),
        (None, Some(hang)) => Some((hang, Part::Hang)),
        (None, None) => None,
    };
    if let Some(limit) = limit {
        words.cut(limit);
    }
    match fault {
        Some((after, fault)) => {
            words.cut(after);
            parts.extend([Part::Text(words), fault]);
        }
        None => parts.push_back(Part::Text(words)),
    }
    truncated
}

impl Words {
    fn cut(&mut self, max: usize) {
        match self {
            Words::Text(text) => text.len = text.len.min(max),
            Words::Stamps(len) => *len = (*len).min(max),
        }
    }
}

fn answer(directives: &Directives, turn: &Turn<'_>, schema: Option<&Value>) -> Words {
    if directives.stamp {
        return Words::Stamps(directives.tokens.unwrap_or(50));
    }
    let text = match (&directives.echo, turn.results.as_slice()) {
        (Some(echo), _) => echo.clone(),
        (None, _) if let Some(schema) = schema => format!("{:#}", sample(schema, &excerpt(&directives.rest, 60))),
        (None, []) => friendly(directives, turn),
        (None, results) => about_results(results),
    };
    Words::Text(Text::new(&text, directives.tokens))
}

fn friendly(directives: &Directives, turn: &Turn<'_>) -> String {
    let mut text = match directives.rest.as_str() {
        "" => "Hello! I am the demo agent: no model behind me, no network, the same answer every time.".to_owned(),
        asked => format!("You asked: \"{}\". I am the demo agent, so I have no real opinion, but I listened.", excerpt(asked, 200)),
    };
    match turn.earlier.as_slice() {
        [] => text.push_str(" This is your first message here."),
        [.., previous] => {
            let count = turn.earlier.len() + 1;
            text.push_str(&format!(" This is your message number {count}; the one before was: \"{}\".", excerpt(previous, 120)));
        }
    }
    text.push_str(
        " Try \"/tokens 200\" for a longer answer, \"/pace 100\" for a slower one, \"/reason\" to see me think, \
         \"/steps 3\" for tool calls, or \"/ask Which colour?\" to be asked something.",
    );
    text
}

fn about_results(results: &[(&str, &str, bool)]) -> String {
    let Some((tool, content, is_error)) = results.last() else { return String::new() };
    let content = excerpt(&plain(content), 500);
    let intro = match results.len() {
        1 => String::new(),
        count => format!("All {count} steps are done. "),
    };
    match (*tool, is_error) {
        ("ask_user", false) => format!("{intro}You said: {content}. Thank you, that is what I needed to know."),
        (tool, false) => format!("{intro}The tool {tool} returned: {content}"),
        (tool, true) => format!("{intro}The tool {tool} did not work: {content}. I carry on without it."),
    }
}

/// A result as a person would write it: the text of a JSON string, or of an object's only value.
fn plain(content: &str) -> String {
    match serde_json::from_str(content) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(fields)) if fields.len() == 1 => match fields.values().next() {
            Some(Value::String(text)) => text.clone(),
            _ => content.to_owned(),
        },
        _ => content.to_owned(),
    }
}

fn excerpt(text: &str, max_chars: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(max_chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Cuts between a space and the word that follows it: nothing is lost.
fn split_words(text: &str) -> Vec<Box<str>> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut after_space = false;
    for (at, c) in text.char_indices() {
        if after_space && !c.is_whitespace() && !text[start..at].trim().is_empty() {
            words.push(text[start..at].into());
            start = at;
        }
        after_space = c.is_whitespace();
    }
    if start < text.len() {
        words.push(text[start..].into());
    }
    words
}

fn max_tokens(request: &ModelRequest) -> Option<usize> {
    let option = request.options.get("maxOutputTokens").or_else(|| request.options.get("maxTokens"))?;
    option.as_u64().map(|max| usize::try_from(max).unwrap_or(usize::MAX))
}

fn input_words(request: &ModelRequest) -> u64 {
    let count = |text: &str| text.split_whitespace().count() as u64;
    let messages: u64 = request
        .messages
        .iter()
        .map(|message| match message {
            ModelMessage::User(text) => count(text),
            ModelMessage::Assistant { text, .. } => count(text),
            ModelMessage::ToolResult { content, .. } => count(content),
        })
        .sum();
    messages + request.instructions.as_deref().map_or(0, count)
}
