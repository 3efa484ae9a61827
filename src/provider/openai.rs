//! OpenAI's chat completions, and the many servers that speak the same.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use reqwest::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    CallEnd, ModelEvent, ModelMessage, ModelProvider, ModelRequest, ModelStream, ModelToolCall, ToolSpec,
    vendor::{
        CallOptions, Vendor, VendorConfig, VendorConfigError,
        answer::{Dialect, WireError},
        arguments_object, insert_extra, knows, parameters_schema, parse_arguments,
    },
};

/// More calls in one answer are a vendor gone wrong.
const MAX_TOOL_CALLS: usize = 128;

/// A provider for OpenAI or a compatible server.
pub struct OpenAi {
    vendor: Vendor,
}

impl OpenAi {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn new(config: VendorConfig) -> Result<Self, VendorConfigError> {
        let vendor = Vendor::new("openai", config, "chat/completions", |key| (AUTHORIZATION, format!("Bearer {key}")))?;
        Ok(OpenAi { vendor })
    }

    fn body(&self, request: &ModelRequest) -> Value {
        let options = CallOptions::read(&request.options);
        let model = request.model.as_deref().unwrap_or(&self.vendor.config.default_model);
        let mut body = Map::new();
        body.insert("model".into(), model.into());
        body.insert("messages".into(), messages(request));
        if !request.tools.is_empty() {
            body.insert("tools".into(), request.tools.iter().map(tool).collect());
        }
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({ "include_usage": true }));
        if let Some(max) = options.max_tokens.or(self.vendor.config.default_max_tokens.map(u64::from)) {
            body.insert(self.max_tokens_field(model).into(), max.into());
        }
        if let Some(temperature) = options.temperature {
            body.insert("temperature".into(), temperature.into());
        }
        if let Some(top_p) = options.top_p {
            body.insert("top_p".into(), top_p.into());
        }
        if !options.stop.is_empty() {
            body.insert("stop".into(), options.stop.into());
        }
        if let Some(seed) = options.seed {
            body.insert("seed".into(), seed.into());
        }
        if let Some(penalty) = options.frequency_penalty {
            body.insert("frequency_penalty".into(), penalty.into());
        }
        if let Some(penalty) = options.presence_penalty {
            body.insert("presence_penalty".into(), penalty.into());
        }
        if let Some(schema) = &request.answer_schema {
            // Not strict: that mode refuses most schemas people write. The answer is checked here in any case.
            let format = json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": false } });
            body.insert("response_format".into(), format);
        }
        insert_extra(self.vendor.name, &request.options, &mut body);
        Value::Object(body)
    }

    /// OpenAI has renamed the limit and refuses the old name for its newer models; compatible servers often know only the old one.
    fn max_tokens_field(&self, model: &str) -> &'static str {
        const RENAMED_FOR: [&str; 5] = ["gpt-5", "gpt-6", "o1", "o3", "o4"];
        let name = model.rsplit('/').next().unwrap_or(model);
        let renamed = self.vendor.url.host_str() == Some("api.openai.com") || RENAMED_FOR.iter().any(|prefix| name.starts_with(prefix));
        if renamed { "max_completion_tokens" } else { "max_tokens" }
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenAi").field(&self.vendor).finish()
    }
}

impl ModelProvider for OpenAi {
    fn name(&self) -> &str {
        self.vendor.name
    }

    fn default_model(&self) -> &str {
        &self.vendor.config.default_model
    }

    fn knows_option(&self, name: &str) -> bool {
        knows(name, &["seed", "frequencyPenalty", "presencePenalty"])
    }

    fn call(&self, request: ModelRequest) -> ModelStream {
        self.vendor.post(&self.body(&request), OpenAiAnswer::default())
    }
}

fn messages(request: &ModelRequest) -> Value {
    let system = request.instructions.iter().map(|text| json!({ "role": "system", "content": text }));
    system.chain(request.messages.iter().map(message)).collect()
}

fn message(message: &ModelMessage) -> Value {
    match message {
        ModelMessage::User(text) => json!({ "role": "user", "content": text }),
        ModelMessage::Assistant { text, tool_calls } if tool_calls.is_empty() => json!({ "role": "assistant", "content": text }),
        ModelMessage::Assistant { text, tool_calls } => {
            let content = if text.is_empty() { Value::Null } else { text.as_str().into() };
            let tool_calls: Vec<Value> = tool_calls.iter().map(tool_call).collect();
            json!({ "role": "assistant", "content": content, "tool_calls": tool_calls })
        }
        // The vendor has no field for failures; the text says it.
        ModelMessage::ToolResult { call_id, content, .. } => json!({ "role": "tool", "tool_call_id": call_id, "content": content }),
    }
}

fn tool_call(call: &ModelToolCall) -> Value {
    let arguments = arguments_object(&call.arguments).to_string();
    json!({ "id": call.call_id, "type": "function", "function": { "name": call.tool, "arguments": arguments } })
}

fn tool(tool: &ToolSpec) -> Value {
    let parameters = parameters_schema(&tool.parameters);
    json!({ "type": "function", "function": { "name": tool.name, "description": tool.description, "parameters": parameters } })
}

/// An answer being read.
#[derive(Default)]
struct OpenAiAnswer {
    calls: BTreeMap<u32, PartialCall>,
    end: CallEnd,
    finished: bool,
}

#[derive(Default)]
struct PartialCall {
    id: String,
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<VendorError>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<u32>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// A failure inside the stream. Only what it is about is read, never its text.
#[derive(Deserialize)]
struct VendorError {
    code: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl VendorError {
    /// The status it would have been before the stream. Routers put a number into `code`.
    fn status(&self) -> u16 {
        let code = self.code.as_ref();
        if let Some(status) = code.and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok())
            && (400..600).contains(&status)
        {
            return status;
        }
        let names = [code.and_then(Value::as_str), self.kind.as_deref()];
        let is = |wanted: &str| names.iter().flatten().any(|name| name.contains(wanted));
        match () {
            () if is("rate_limit") || is("quota") => 429,
            () if is("invalid_request") || is("context_length") => 400,
            () if is("api_key") || is("authentication") => 401,
            () => 500,
        }
    }
}

impl Dialect for OpenAiAnswer {
    fn on_event(&mut self, _event: &str, data: &str, out: &mut VecDeque<ModelEvent>) -> Result<(), WireError> {
        if data.trim() == "[DONE]" {
            self.finish(out);
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|_| WireError::Garbage("an event that is not its own format"))?;
        if let Some(error) = chunk.error {
            return Err(WireError::Vendor(error.status()));
        }
        if let Some(usage) = chunk.usage {
            self.end.input_tokens = usage.prompt_tokens.unwrap_or(self.end.input_tokens);
            self.end.output_tokens = usage.completion_tokens.unwrap_or(self.end.output_tokens);
        }
        // One choice is asked for; usage comes in a chunk without any.
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(()) };
        self.on_delta(choice.delta.unwrap_or_default(), out)?;
        if let Some(reason) = choice.finish_reason {
            self.finished = true;
            self.end.truncated = reason == "length";
        }
        Ok(())
    }

    fn on_close(&mut self, out: &mut VecDeque<ModelEvent>) {
        // Some compatible servers never say `[DONE]`; with a finish reason the answer is whole.
        if self.finished {
            self.finish(out);
        }
    }
}

impl OpenAiAnswer {
    fn on_delta(&mut self, delta: Delta, out: &mut VecDeque<ModelEvent>) -> Result<(), WireError> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        out.extend(some(delta.reasoning_content).or(some(delta.reasoning)).map(ModelEvent::Reasoning));
        out.extend(some(delta.content).map(ModelEvent::Text));
        out.extend(some(delta.refusal).map(ModelEvent::Text));
        delta.tool_calls.unwrap_or_default().into_iter().try_for_each(|call| self.on_call_delta(call))
    }

    fn on_call_delta(&mut self, delta: CallDelta) -> Result<(), WireError> {
        let index = delta.index.unwrap_or_else(|| self.guess_index(delta.id.as_deref()));
        if self.calls.len() >= MAX_TOOL_CALLS && !self.calls.contains_key(&index) {
            return Err(WireError::Garbage("more tool calls than anybody makes"));
        }
        let call = self.calls.entry(index).or_default();
        if let Some(id) = delta.id.filter(|_| call.id.is_empty()) {
            call.id = id;
        }
        if let Some(function) = delta.function {
            if let Some(name) = function.name.filter(|_| call.name.is_empty()) {
                call.name = name;
            }
            call.arguments.push_str(function.arguments.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    /// For servers that do not number their calls: an id starts a new one, a piece without belongs to the last.
    fn guess_index(&self, id: Option<&str>) -> u32 {
        let last = self.calls.last_key_value();
        match (last, id) {
            (None, _) => 0,
            (Some((index, call)), Some(id)) if call.id != id => index.saturating_add(1),
            (Some((index, _)), _) => *index,
        }
    }

    fn finish(&mut self, out: &mut VecDeque<ModelEvent>) {
        for call in std::mem::take(&mut self.calls).into_values() {
            let call_id = if call.id.is_empty() { format!("call_{}", Uuid::new_v4().simple()) } else { call.id };
            let arguments = parse_arguments(call.arguments);
            out.push_back(ModelEvent::ToolCall(ModelToolCall { call_id, tool: call.name, arguments }));
        }
        out.push_back(ModelEvent::End(self.end));
    }
}
