//! Anthropic's messages: what it refuses and how it writes.

use std::collections::HashSet;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::{
    FakeVendorConfig, ScriptedCall,
    answer::{Dialect, End},
    openai::{pieces, text_of},
    server::{Ask, Refusal},
};

pub(super) fn unknown_path() -> Refusal {
    refusal(404, "Not Found")
}

pub(super) fn error_body(status: u16) -> Value {
    let message = format!("The scripted vendor was told to fail with {status}. You sent sk-not-for-logs.");
    json!({ "type": "error", "error": { "type": kind(status), "message": message }, "request_id": "req_fake" })
}

fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

/// Reads a request as strictly as the vendor does.
pub(super) fn read(headers: &HeaderMap, body: Option<Value>, config: &FakeVendorConfig) -> Result<Ask, Refusal> {
    check_headers(headers, config)?;
    let body = body.ok_or_else(|| refusal(400, "The request body is not valid JSON."))?;
    let model = body["model"].as_str().filter(|model| !model.is_empty()).ok_or_else(|| required("model"))?;
    if !config.models.is_empty() && !config.models.iter().any(|known| known == model) {
        return Err(refusal(404, &format!("model: {model}")));
    }
    let max_tokens = body["max_tokens"].as_u64().filter(|max| *max > 0).ok_or_else(|| required("max_tokens"))?;
    let messages = body["messages"].as_array().ok_or_else(|| required("messages"))?;
    check_conversation(messages)?;
    check_options(&body)?;
    if body["stream"] != json!(true) {
        return Err(refusal(400, "stream: this fake only streams"));
    }
    let last_prompt = messages.iter().rposition(|message| message["role"] == json!("user") && !text_of(&message["content"]).is_empty());
    let since = last_prompt.map_or(messages.as_slice(), |at| &messages[at..]);
    // Results in the same message as the prompt came before it.
    let results = since.iter().skip(1).map(|message| count_results(&message["content"])).sum();
    Ok(Ask {
        prompt: last_prompt.map(|at| last_text(&messages[at]["content"])).unwrap_or_default(),
        results,
        input_tokens: messages.iter().map(|message| text_of(&message["content"]).split_whitespace().count()).sum(),
        max_tokens: Some(usize::try_from(max_tokens).unwrap_or(usize::MAX)),
        dialect: Dialect::Anthropic(Writer { model: model.to_owned(), blocks: 0, open: None }),
    })
}

fn check_headers(headers: &HeaderMap, config: &FakeVendorConfig) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Either way: the vendor's own newer clients send the second.
    let key = text("x-api-key").or_else(|| text("authorization")?.strip_prefix("Bearer "));
    match (key, &config.api_key) {
        (None, _) => return Err(refusal(401, "x-api-key header is required")),
        (Some(given), Some(expected)) if given != expected => return Err(refusal(401, "invalid x-api-key")),
        _ => {}
    }
    match text("anthropic-version") {
        Some("2023-06-01" | "2026-10-21") => Ok(()),
        Some(other) => Err(refusal(400, &format!("anthropic-version: \"{other}\" is not a valid version."))),
        None => Err(refusal(400, "anthropic-version: header is required")),
    }
}

fn check_conversation(messages: &[Value]) -> Result<(), Refusal> {
    let Some(first) = messages.first() else { return Err(refusal(400, "messages: at least one message is required")) };
    if first["role"] != json!("user") {
        return Err(refusal(400, "messages: first message must use the \"user\" role"));
    }
    // Ids of the calls in the message before.
    let mut open: HashSet<&str> = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let blocks = match (&message["role"], &message["content"]) {
            (role, _) if role != "user" && role != "assistant" => {
                return Err(refusal(400, &format!("messages.{index}.role: Input should be 'user' or 'assistant'")));
            }
            (_, Value::String(text)) if !text.trim().is_empty() => &[][..],
            (_, Value::Array(blocks)) if !blocks.is_empty() => blocks,
            _ => return Err(refusal(400, &format!("messages.{index}: all messages must have non-empty content"))),
        };
        check_results(index, message, blocks, &open)?;
        open = blocks.iter().filter(|block| block["type"] == json!("tool_use")).filter_map(|block| block["id"].as_str()).collect();
        blocks.iter().try_for_each(|block| check_block(index, &message["role"], block))?;
    }
    check_answered(messages.len(), &open)?;
    let ends_with_space = |text: &str| text.ends_with(char::is_whitespace);
    match messages.last() {
        Some(last) if last["role"] == json!("assistant") && ends_with_space(&last_text(&last["content"])) => {
            Err(refusal(400, "messages: final assistant content cannot end with trailing whitespace"))
        }
        _ => Ok(()),
    }
}

/// Results answer exactly the calls of the message before, and come before anything else.
fn check_results(index: usize, message: &Value, blocks: &[Value], open: &HashSet<&str>) -> Result<(), Refusal> {
    let is_result = |block: &&Value| block["type"] == json!("tool_result");
    let leading: Vec<&Value> = blocks.iter().take_while(is_result).collect();
    if blocks.iter().filter(is_result).count() > leading.len() {
        return Err(refusal(400, &format!("messages.{index}: `tool_result` blocks must come first")));
    }
    let mut unanswered = open.clone();
    for block in leading {
        let id = block["tool_use_id"].as_str().unwrap_or_default();
        if message["role"] != json!("user") || !unanswered.remove(id) {
            let why = "Each `tool_result` block must have a corresponding `tool_use` block in the previous message.";
            let text = format!("messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. {why}");
            return Err(refusal(400, &text));
        }
    }
    check_answered(index, &unanswered)
}

fn check_answered(index: usize, unanswered: &HashSet<&str>) -> Result<(), Refusal> {
    if unanswered.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = unanswered.iter().copied().collect();
    Err(refusal(
        400,
        &format!("messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {}.", ids.join(", ")),
    ))
}

fn check_block(index: usize, role: &Value, block: &Value) -> Result<(), Refusal> {
    let wrong = |why: &str| Err(refusal(400, &format!("messages.{index}.content: {why}")));
    match (block["type"].as_str(), role.as_str()) {
        (Some("text"), _) => match block["text"].as_str() {
            Some(text) if !text.trim().is_empty() => Ok(()),
            _ => wrong("text content blocks must contain non-whitespace text"),
        },
        (Some("tool_use"), Some("assistant")) => {
            let named = block["id"].is_string() && block["name"].is_string();
            if named && block["input"].is_object() { Ok(()) } else { wrong("tool_use.input: Input should be a valid dictionary") }
        }
        (Some("tool_result"), Some("user")) => Ok(()),
        _ => wrong("Input tag does not match any of the expected tags"),
    }
}

fn check_options(body: &Value) -> Result<(), Refusal> {
    let within = |field: &str| match &body[field] {
        Value::Null => Ok(()),
        value if value.as_f64().is_some_and(|value| (0.0..=1.0).contains(&value)) => Ok(()),
        _ => Err(refusal(400, &format!("{field}: Input should be between 0 and 1"))),
    };
    within("temperature")?;
    within("top_p")?;
    for unknown in ["seed", "stop", "stream_options"] {
        if !body[unknown].is_null() {
            return Err(refusal(400, &format!("{unknown}: Extra inputs are not permitted")));
        }
    }
    let object = |tool: &Value| tool["name"].is_string() && tool["input_schema"]["type"] == json!("object");
    match &body["tools"] {
        Value::Null => Ok(()),
        Value::Array(tools) if tools.iter().all(object) => Ok(()),
        _ => Err(refusal(400, "tools.0.input_schema: Field required")),
    }
}

fn count_results(content: &Value) -> usize {
    content.as_array().map_or(0, |blocks| blocks.iter().filter(|block| block["type"] == json!("tool_result")).count())
}

fn last_text(content: &Value) -> String {
    match content {
        Value::Array(blocks) => blocks.iter().rev().find_map(|block| block["text"].as_str()).unwrap_or_default().to_owned(),
        other => text_of(other),
    }
}

fn required(field: &str) -> Refusal {
    refusal(400, &format!("{field}: Field required"))
}

fn refusal(status: u16, message: &str) -> Refusal {
    let body = json!({ "type": "error", "error": { "type": kind(status), "message": message }, "request_id": "req_fake" });
    Refusal { status, body }
}

/// Writes events of blocks.
pub(super) struct Writer {
    model: String,
    blocks: usize,
    open: Option<Block>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
}

impl Writer {
    pub(super) fn open(&self, id: u64, input_tokens: usize) -> String {
        let usage = json!({ "input_tokens": input_tokens, "cache_read_input_tokens": 0, "output_tokens": 1 });
        let message = json!({
            "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage,
        });
        event("message_start", &json!({ "type": "message_start", "message": message })) + &event("ping", &json!({ "type": "ping" }))
    }

    pub(super) fn reasoning(&mut self, text: &str) -> String {
        self.in_block(Block::Thinking) + &self.delta(&json!({ "type": "thinking_delta", "thinking": text }))
    }

    pub(super) fn text(&mut self, text: &str) -> String {
        self.in_block(Block::Text) + &self.delta(&json!({ "type": "text_delta", "text": text }))
    }

    pub(super) fn call(&mut self, id: &str, call: &ScriptedCall) -> String {
        let mut text = self.end_block();
        text += &self.start(&json!({ "type": "tool_use", "id": id, "name": call.tool, "input": {} }));
        // The vendor begins with an empty piece.
        for piece in std::iter::once(String::new()).chain(pieces(&call.arguments)) {
            text += &self.delta(&json!({ "type": "input_json_delta", "partial_json": piece }));
        }
        text + &self.stop()
    }

    pub(super) fn close(&mut self, end: &End) -> String {
        let stop_reason = match end {
            End { called: true, .. } => "tool_use",
            End { truncated: true, .. } => "max_tokens",
            _ => "end_turn",
        };
        let delta = json!({ "stop_reason": stop_reason, "stop_sequence": null });
        let usage = json!({ "output_tokens": end.output_tokens });
        self.end_block()
            + &event("message_delta", &json!({ "type": "message_delta", "delta": delta, "usage": usage }))
            + &event("message_stop", &json!({ "type": "message_stop" }))
    }

    fn in_block(&mut self, block: Block) -> String {
        if self.open == Some(block) {
            return String::new();
        }
        let start = match block {
            Block::Thinking => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            Block::Text => json!({ "type": "text", "text": "" }),
        };
        let text = self.end_block() + &self.start(&start);
        self.open = Some(block);
        text
    }

    fn end_block(&mut self) -> String {
        match self.open.take() {
            // Thinking is signed at its end.
            Some(Block::Thinking) => self.delta(&json!({ "type": "signature_delta", "signature": "c2lnbmVk" })) + &self.stop(),
            Some(Block::Text) => self.stop(),
            None => String::new(),
        }
    }

    fn start(&self, block: &Value) -> String {
        let index = self.blocks;
        event("content_block_start", &json!({ "type": "content_block_start", "index": index, "content_block": block }))
    }

    fn delta(&self, delta: &Value) -> String {
        event("content_block_delta", &json!({ "type": "content_block_delta", "index": self.blocks, "delta": delta }))
    }

    fn stop(&mut self) -> String {
        let index = self.blocks;
        self.blocks += 1;
        event("content_block_stop", &json!({ "type": "content_block_stop", "index": index }))
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
