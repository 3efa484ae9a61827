//! Anthropic's messages.

use std::{collections::VecDeque, fmt};

use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    CallEnd, ModelEvent, ModelMessage, ModelProvider, ModelRequest, ModelStream, ModelToolCall, ToolSpec,
    vendor::{
        CallOptions, Vendor, VendorConfig, VendorConfigError,
        answer::{Dialect, WireError},
        arguments_object, insert_extra, knows, parameters_schema, parse_arguments,
    },
};

/// The vendor demands a number; every model that is not retired can write this much.
const DEFAULT_MAX_TOKENS: u32 = 8192;
/// More calls in one answer are a vendor gone wrong.
const MAX_TOOL_CALLS: usize = 128;

/// A provider for Anthropic.
pub struct Anthropic {
    vendor: Vendor,
}

impl Anthropic {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn new(config: VendorConfig) -> Result<Self, VendorConfigError> {
        if config.api_key.is_none() {
            return Err(VendorConfigError::MissingKey("anthropic"));
        }
        let mut vendor = Vendor::new("anthropic", config, "messages", |key| (HeaderName::from_static("x-api-key"), key.to_owned()))?;
        vendor.insert_header(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
        Ok(Anthropic { vendor })
    }

    fn body(&self, request: &ModelRequest) -> Value {
        let options = CallOptions::read(&request.options);
        let config = &self.vendor.config;
        let max_tokens = options.max_tokens.unwrap_or_else(|| config.default_max_tokens.unwrap_or(DEFAULT_MAX_TOKENS).into());
        let mut body = Map::new();
        body.insert("model".into(), request.model.as_deref().unwrap_or(&config.default_model).into());
        body.insert("max_tokens".into(), max_tokens.into());
        if let Some(instructions) = request.instructions.as_deref().filter(|text| !text.trim().is_empty()) {
            body.insert("system".into(), instructions.into());
        }
        body.insert("messages".into(), messages(&request.messages));
        if !request.tools.is_empty() {
            body.insert("tools".into(), request.tools.iter().map(tool).collect());
        }
        body.insert("stream".into(), true.into());
        if let Some(temperature) = options.temperature {
            body.insert("temperature".into(), temperature.into());
        }
        if let Some(top_p) = options.top_p {
            body.insert("top_p".into(), top_p.into());
        }
        if !options.stop.is_empty() {
            body.insert("stop_sequences".into(), options.stop.into());
        }
        insert_extra(self.vendor.name, &request.options, &mut body);
        Value::Object(body)
    }
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Anthropic").field(&self.vendor).finish()
    }
}

impl ModelProvider for Anthropic {
    fn name(&self) -> &str {
        self.vendor.name
    }

    fn default_model(&self) -> &str {
        &self.vendor.config.default_model
    }

    fn knows_option(&self, name: &str) -> bool {
        knows(name, &[])
    }

    fn call(&self, request: ModelRequest) -> ModelStream {
        self.vendor.post(&self.body(&request), AnthropicAnswer::default())
    }
}

/// Messages of blocks. Neighbours of one role become one message: the results of parallel calls have to stand together, and before
/// what the person says next.
fn messages(conversation: &[ModelMessage]) -> Value {
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in conversation {
        let (role, blocks) = blocks(message);
        match messages.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    messages.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn blocks(message: &ModelMessage) -> (&'static str, Vec<Value>) {
    match message {
        ModelMessage::User(text) => ("user", text_block(text).into_iter().collect()),
        ModelMessage::Assistant { text, tool_calls } => {
            let calls = tool_calls.iter().map(
                |call| json!({ "type": "tool_use", "id": call.call_id, "name": call.tool, "input": arguments_object(&call.arguments) }),
            );
            ("assistant", text_block(text).into_iter().chain(calls).collect())
        }
        ModelMessage::ToolResult { call_id, content, is_error, .. } => {
            let mut block = json!({ "type": "tool_result", "tool_use_id": call_id, "content": content });
            if *is_error {
                block["is_error"] = true.into();
            }
            ("user", vec![block])
        }
    }
}

/// The vendor refuses text that is only space.
fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({ "type": "text", "text": text }))
}

fn tool(tool: &ToolSpec) -> Value {
    json!({ "name": tool.name, "description": tool.description, "input_schema": parameters_schema(&tool.parameters) })
}

/// An answer being read.
#[derive(Default)]
struct AnthropicAnswer {
    /// The call whose arguments are arriving: its block's index, its id, its tool, its arguments so far.
    call: Option<(u64, ModelToolCall, String)>,
    calls_made: usize,
    end: CallEnd,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Started,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u64,
        delta: Delta,
    },
    ContentBlockStop {
        index: u64,
    },
    MessageDelta {
        delta: Stopped,
        usage: Option<Usage>,
    },
    MessageStop,
    Error {
        error: VendorError,
    },
    /// `ping`, and what the vendor may invent: its documentation asks to pass over it.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Started {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
    },
    ToolUse {
        id: String,
        name: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Stopped {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// A failure inside the stream. Only its kind is read, never its text.
#[derive(Deserialize)]
struct VendorError {
    #[serde(rename = "type")]
    kind: String,
}

impl VendorError {
    /// The status it would have been before the stream, by the vendor's own table.
    fn status(&self) -> u16 {
        match self.kind.as_str() {
            "invalid_request_error" => 400,
            "authentication_error" => 401,
            "billing_error" => 402,
            "permission_error" => 403,
            "not_found_error" => 404,
            "request_too_large" => 413,
            "rate_limit_error" => 429,
            "timeout_error" => 504,
            "overloaded_error" => 529,
            _ => 500,
        }
    }
}

impl Dialect for AnthropicAnswer {
    fn on_event(&mut self, _event: &str, data: &str, out: &mut VecDeque<ModelEvent>) -> Result<(), WireError> {
        // The event's name is also the type inside the data.
        let event: Event = serde_json::from_str(data).map_err(|_| WireError::Garbage("an event that is not its own format"))?;
        match event {
            Event::MessageStart { message } => self.on_usage(message.usage),
            Event::ContentBlockStart { index, content_block } => self.on_block(index, content_block, out)?,
            Event::ContentBlockDelta { index, delta } => self.on_delta(index, delta, out),
            Event::ContentBlockStop { index } => self.end_call(Some(index), out),
            Event::MessageDelta { delta, usage } => {
                self.on_usage(usage);
                self.end.truncated = matches!(delta.stop_reason.as_deref(), Some("max_tokens" | "model_context_window_exceeded"));
            }
            Event::MessageStop => {
                // A call cut by the limit may not have ended.
                self.end_call(None, out);
                out.push_back(ModelEvent::End(self.end));
            }
            Event::Error { error } => return Err(WireError::Vendor(error.status())),
            Event::Other => {}
        }
        Ok(())
    }
}

impl AnthropicAnswer {
    fn on_usage(&mut self, usage: Option<Usage>) {
        let Some(usage) = usage else { return };
        if let Some(fresh) = usage.input_tokens {
            let cached = usage.cache_creation_input_tokens.unwrap_or(0).saturating_add(usage.cache_read_input_tokens.unwrap_or(0));
            self.end.input_tokens = fresh.saturating_add(cached);
        }
        self.end.output_tokens = usage.output_tokens.unwrap_or(self.end.output_tokens);
    }

    fn on_block(&mut self, index: u64, block: Block, out: &mut VecDeque<ModelEvent>) -> Result<(), WireError> {
        match block {
            Block::Text { text } => push_text(text, out),
            Block::Thinking { thinking } => push_reasoning(thinking, out),
            Block::ToolUse { id, name } => {
                self.end_call(None, out);
                self.calls_made += 1;
                if self.calls_made > MAX_TOOL_CALLS {
                    return Err(WireError::Garbage("more tool calls than anybody makes"));
                }
                let call = ModelToolCall { call_id: id, tool: name, arguments: Value::Null };
                self.call = Some((index, call, String::new()));
            }
            Block::Other => {}
        }
        Ok(())
    }

    fn on_delta(&mut self, index: u64, delta: Delta, out: &mut VecDeque<ModelEvent>) {
        match delta {
            Delta::Text { text } => push_text(text, out),
            Delta::Thinking { thinking } => push_reasoning(thinking, out),
            // Blocks of tools the vendor runs itself have arguments too; they are not ours to make.
            Delta::InputJson { partial_json } => {
                if let Some((_, _, arguments)) = self.call.as_mut().filter(|(open, ..)| *open == index) {
                    arguments.push_str(&partial_json);
                }
            }
            Delta::Other => {}
        }
    }

    /// The arguments of the call are complete; only if it is the one of the block, when a block is named.
    fn end_call(&mut self, index: Option<u64>, out: &mut VecDeque<ModelEvent>) {
        let ended = self.call.take_if(|(open, ..)| index.is_none_or(|index| *open == index));
        if let Some((_, mut call, arguments)) = ended {
            call.arguments = parse_arguments(arguments);
            out.push_back(ModelEvent::ToolCall(call));
        }
    }
}

fn push_text(text: String, out: &mut VecDeque<ModelEvent>) {
    if !text.is_empty() {
        out.push_back(ModelEvent::Text(text));
    }
}

fn push_reasoning(text: String, out: &mut VecDeque<ModelEvent>) {
    if !text.is_empty() {
        out.push_back(ModelEvent::Reasoning(text));
    }
}
