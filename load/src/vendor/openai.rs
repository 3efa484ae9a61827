//! OpenAI's chat completions: what it refuses and how it writes.

use std::collections::HashSet;

use hyper::{HeaderMap, Method, header::AUTHORIZATION};
use serde_json::{Map, Value, json};

use super::{
    FakeVendorConfig, ScriptedCall,
    answer::{Dialect, End},
    server::{Ask, Refusal},
};

pub(super) fn unknown_path(method: &Method, path: &str) -> Refusal {
    refusal(404, &format!("Invalid URL ({method} {path})"), Value::Null)
}

pub(super) fn error_body(status: u16) -> Value {
    let (kind, code) = match status {
        401 => ("invalid_request_error", json!("invalid_api_key")),
        429 => ("requests", json!("rate_limit_exceeded")),
        400..500 => ("invalid_request_error", Value::Null),
        _ => ("server_error", Value::Null),
    };
    let message = format!("The scripted vendor was told to fail with {status}. You sent sk-not-for-logs.");
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

/// Reads a request as strictly as the vendor does.
pub(super) fn read(headers: &HeaderMap, body: Option<Value>, config: &FakeVendorConfig) -> Result<Ask, Refusal> {
    check_key(headers, config)?;
    let body = body.ok_or_else(|| {
        refusal(400, "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload.", Value::Null)
    })?;
    let model = body["model"].as_str().filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| refusal(400, "you must provide a model parameter", Value::Null))?;
    if !config.models.is_empty() && !config.models.iter().any(|known| known == model) {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        return Err(refusal(404, &message, json!("model_not_found")));
    }
    let messages = body.get("messages").ok_or_else(|| missing("messages"))?;
    let messages = messages.as_array().ok_or_else(|| invalid("messages", "expected an array of objects"))?;
    if messages.is_empty() {
        return Err(refusal(
            400,
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            json!("empty_array"),
        ));
    }
    check_conversation(messages)?;
    check_tools(&body["tools"])?;
    check_options(&body)?;
    if body["stream"] != json!(true) {
        return Err(invalid("stream", "this fake only streams"));
    }
    let include_usage = body["stream_options"]["include_usage"] == json!(true);
    Ok(ask(model, messages, &body, include_usage))
}

fn check_key(headers: &HeaderMap, config: &FakeVendorConfig) -> Result<(), Refusal> {
    let Some(expected) = &config.api_key else { return Ok(()) };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    match given {
        Some(given) if given == expected => Ok(()),
        Some(given) => Err(refusal(401, &format!("Incorrect API key provided: {given}."), json!("invalid_api_key"))),
        None => Err(refusal(401, "You didn't provide an API key.", Value::Null)),
    }
}

fn check_conversation(messages: &[Value]) -> Result<(), Refusal> {
    // Ids of calls whose results have not come yet.
    let mut open: HashSet<&str> = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let at = |field: &str| format!("messages[{index}].{field}");
        let role = message["role"].as_str().ok_or_else(|| missing(&at("role")))?;
        if role == "tool" {
            check_result(message, &mut open, &at)?;
            continue;
        }
        check_answered(&open)?;
        match role {
            "system" | "developer" | "user" => check_content(&message["content"], &at("content"))?,
            "assistant" => check_assistant(message, &mut open, &at)?,
            other => {
                let supported = "'system', 'assistant', 'user', 'function', 'tool', and 'developer'";
                let message = format!("Invalid value: '{other}'. Supported values are: {supported}.");
                return Err(refusal(400, &message, json!("invalid_value")));
            }
        }
    }
    check_answered(&open)
}

fn check_result<'a>(message: &'a Value, open: &mut HashSet<&'a str>, at: &dyn Fn(&str) -> String) -> Result<(), Refusal> {
    let id = message["tool_call_id"].as_str().ok_or_else(|| missing(&at("tool_call_id")))?;
    if !open.remove(id) {
        return Err(refusal(
            400,
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
            Value::Null,
        ));
    }
    if message["content"].is_string() || message["content"].is_array() { Ok(()) } else { Err(missing(&at("content"))) }
}

fn check_answered(open: &HashSet<&str>) -> Result<(), Refusal> {
    if open.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = open.iter().copied().collect();
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
         The following tool_call_ids did not have response messages: {}",
        ids.join(", ")
    );
    Err(refusal(400, &message, Value::Null))
}

fn check_assistant<'a>(message: &'a Value, open: &mut HashSet<&'a str>, at: &dyn Fn(&str) -> String) -> Result<(), Refusal> {
    let calls = match &message["tool_calls"] {
        Value::Null => return check_content(&message["content"], &at("content")),
        calls => calls.as_array().filter(|calls| !calls.is_empty()).ok_or_else(|| invalid(&at("tool_calls"), "empty array"))?,
    };
    if !message["content"].is_null() && !message["content"].is_string() {
        return Err(invalid(&at("content"), "expected a string or null"));
    }
    for call in calls {
        let id = call["id"].as_str().filter(|id| !id.is_empty()).ok_or_else(|| missing(&at("tool_calls[].id")))?;
        if call["type"] != json!("function") {
            return Err(invalid(&at("tool_calls[].type"), "expected 'function'"));
        }
        check_name(&call["function"]["name"], &at("tool_calls[].function.name"))?;
        let arguments = call["function"]["arguments"].as_str();
        let arguments = arguments.ok_or_else(|| invalid(&at("tool_calls[].function.arguments"), "expected a string"))?;
        // The vendor itself takes any text; the servers that speak like it parse it and fail.
        if !serde_json::from_str::<Value>(arguments).is_ok_and(|arguments| arguments.is_object()) {
            return Err(invalid(&at("tool_calls[].function.arguments"), "expected a JSON object"));
        }
        if !open.insert(id) {
            return Err(invalid(&at("tool_calls[].id"), "expected unique ids"));
        }
    }
    Ok(())
}

fn check_content(content: &Value, at: &str) -> Result<(), Refusal> {
    match content {
        Value::String(text) if !text.is_empty() => Ok(()),
        Value::Array(parts) if !parts.is_empty() => Ok(()),
        Value::Null => Err(invalid(at, "expected a string, got null")),
        _ => Err(invalid(at, "expected content that is not empty")),
    }
}

fn check_tools(tools: &Value) -> Result<(), Refusal> {
    let tools = match tools {
        Value::Null => return Ok(()),
        tools => tools.as_array().filter(|tools| !tools.is_empty()).ok_or_else(|| invalid("tools", "empty array"))?,
    };
    tools.iter().try_for_each(|tool| {
        if tool["type"] != json!("function") {
            return Err(invalid("tools[].type", "expected 'function'"));
        }
        check_name(&tool["function"]["name"], "tools[].function.name")?;
        match &tool["function"]["parameters"] {
            Value::Null => Ok(()),
            parameters if parameters["type"] == json!("object") => Ok(()),
            _ => Err(invalid("tools[].function.parameters", "schema must be a JSON Schema of 'type: \"object\"'")),
        }
    })
}

fn check_name(name: &Value, at: &str) -> Result<(), Refusal> {
    let fits = |name: &str| {
        (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    if name.as_str().is_some_and(fits) { Ok(()) } else { Err(invalid(at, "string does not match pattern '^[a-zA-Z0-9_-]+$'")) }
}

fn check_options(body: &Value) -> Result<(), Refusal> {
    let within = |field: &str, max: f64| match &body[field] {
        Value::Null => Ok(()),
        value if value.as_f64().is_some_and(|value| (0.0..=max).contains(&value)) => Ok(()),
        _ => Err(invalid(field, "expected a number in its range")),
    };
    within("temperature", 2.0)?;
    within("top_p", 1.0)?;
    within("max_tokens", f64::MAX)?;
    within("max_completion_tokens", f64::MAX)?;
    match &body["stop"] {
        Value::Null | Value::String(_) => Ok(()),
        Value::Array(stops) if (1..=4).contains(&stops.len()) && stops.iter().all(Value::is_string) => Ok(()),
        _ => Err(invalid("stop", "expected a string or up to four")),
    }
}

fn ask(model: &str, messages: &[Value], body: &Value, include_usage: bool) -> Ask {
    let is = |message: &&Value, role: &str| message["role"] == json!(role);
    let last_prompt = messages.iter().rposition(|message| is(&message, "user"));
    let since = last_prompt.map_or(messages, |at| &messages[at..]);
    let max_tokens = body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64());
    Ask {
        prompt: last_prompt.map(|at| text_of(&messages[at]["content"])).unwrap_or_default(),
        results: since.iter().filter(|message| is(message, "tool")).count(),
        input_tokens: messages.iter().map(|message| text_of(&message["content"]).split_whitespace().count()).sum(),
        max_tokens: max_tokens.map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
        dialect: Dialect::OpenAi(Writer { model: model.to_owned(), include_usage, head: String::new() }),
    }
}

/// The text of a content: a string, or parts.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

fn missing(parameter: &str) -> Refusal {
    refusal(400, &format!("Missing required parameter: '{parameter}'."), json!("missing_required_parameter"))
}

fn invalid(parameter: &str, why: &str) -> Refusal {
    refusal(400, &format!("Invalid '{parameter}': {why}."), json!("invalid_value"))
}

fn refusal(status: u16, message: &str, code: Value) -> Refusal {
    let body = json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": code } });
    Refusal { status, body }
}

/// Writes `chat.completion.chunk`s.
pub(super) struct Writer {
    model: String,
    include_usage: bool,
    /// What every chunk begins with.
    head: String,
}

impl Writer {
    pub(super) fn open(&mut self, id: u64) -> String {
        let model = Value::from(self.model.as_str());
        self.head = format!(
            "data: {{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\"model\":{model},\"system_fingerprint\":\"fp_fake\""
        );
        self.delta(&json!({ "role": "assistant", "content": "", "refusal": null }))
    }

    pub(super) fn text(&self, text: &str) -> String {
        self.delta(&json!({ "content": text }))
    }

    pub(super) fn delta(&self, delta: &Value) -> String {
        self.choice(delta, "null")
    }

    fn choice(&self, delta: &Value, finish_reason: &str) -> String {
        let usage = if self.include_usage { ",\"usage\":null" } else { "" };
        let head = &self.head;
        format!("{head},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish_reason}}}]{usage}}}\n\n")
    }

    /// The call's name first, then its arguments in pieces.
    pub(super) fn call(&self, place: usize, id: &str, call: &ScriptedCall) -> String {
        let function = json!({ "name": call.tool, "arguments": "" });
        let first = json!({ "index": place, "id": id, "type": "function", "function": function });
        let mut text = self.delta(&json!({ "content": null, "tool_calls": [first] }));
        for piece in pieces(&call.arguments) {
            text += &self.delta(&json!({ "tool_calls": [{ "index": place, "function": { "arguments": piece } }] }));
        }
        text
    }

    pub(super) fn close(&self, end: &End) -> String {
        let finish_reason = match end {
            End { called: true, .. } => "\"tool_calls\"",
            End { truncated: true, .. } => "\"length\"",
            _ => "\"stop\"",
        };
        let mut text = self.choice(&Value::Object(Map::new()), finish_reason);
        if self.include_usage {
            let (input, output) = (end.input_tokens, end.output_tokens);
            let usage = json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output });
            text += &format!("{},\"choices\":[],\"usage\":{usage}}}\n\n", self.head);
        }
        text + "data: [DONE]\n\n"
    }
}

/// Arguments as vendors send them: a few characters at a time.
pub(super) fn pieces(arguments: &Value) -> Vec<String> {
    let text: Vec<char> = arguments.to_string().chars().collect();
    text.chunks(5).map(|piece| piece.iter().collect()).collect()
}
