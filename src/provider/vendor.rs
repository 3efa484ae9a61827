//! What all model vendors behind HTTP have in common: one streaming POST, answered with server-sent events, read within bounds.
//!
//! The wire is read here and not by a client library because the bounds have to hold at the bytes: a line that never ends, a byte per
//! second, an error body without end. The dialects ([`openai`](super::openai), [`anthropic`](super::anthropic)) only translate.

pub(super) mod answer;
pub(super) mod sse;

use std::{fmt, time::Duration};

use reqwest::{
    Client, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use thiserror::Error;

use self::answer::{Answer, Dialect};
use super::ModelStream;

/// How to reach a vendor. The limits are those every provider keeps unless configured otherwise.
#[derive(Clone, Debug)]
pub struct VendorConfig {
    /// Where the API lives, with or without the last slash: `https://api.openai.com/v1`. A URL without a path gets `/v1/`.
    pub base_url: String,
    /// The key. OpenAI-compatible servers at home may need none.
    pub api_key: Option<SecretString>,
    /// The model when a request names none.
    pub default_model: String,
    /// To reach the vendor, TLS included. 10 s.
    pub connect_timeout: Duration,
    /// From sending the request to the head of the answer, and again to its first line: models think before they speak. 60 s.
    pub first_byte_timeout: Duration,
    /// Between two whole lines, so that a byte per second does not pass for life. 30 s.
    pub idle_timeout: Duration,
    /// The longest line, and the longest data of one event. 1 MiB.
    pub max_line_bytes: usize,
    /// The longest answer on the wire. 64 MiB: 128 k tokens with 500 bytes of wrapping each.
    pub max_answer_bytes: usize,
    /// Tokens to ask for when a request does not say. Anthropic demands a number; `None` means 8,192 there and the model's own limit elsewhere.
    pub default_max_tokens: Option<u32>,
}

impl VendorConfig {
    /// OpenAI itself, or what speaks like it at another `base_url`.
    pub fn openai(api_key: Option<SecretString>, default_model: impl Into<String>) -> Self {
        VendorConfig::new("https://api.openai.com/v1/", api_key, default_model.into())
    }

    /// Anthropic.
    pub fn anthropic(api_key: Option<SecretString>, default_model: impl Into<String>) -> Self {
        VendorConfig::new("https://api.anthropic.com/v1/", api_key, default_model.into())
    }

    fn new(base_url: &str, api_key: Option<SecretString>, default_model: String) -> Self {
        VendorConfig {
            base_url: base_url.to_owned(),
            api_key,
            default_model,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
            max_line_bytes: 1024 * 1024,
            max_answer_bytes: 64 * 1024 * 1024,
            default_max_tokens: None,
        }
    }
}

/// Why a provider cannot be made from its configuration.
#[derive(Debug, Error)]
pub enum VendorConfigError {
    /// Not an absolute `http` or `https` URL, or one with a user, a query or a fragment.
    #[error("the base URL of {0} must be a plain http or https URL such as https://api.example.com/v1")]
    BaseUrl(&'static str),
    /// The vendor has no anonymous access.
    #[error("{0} needs an API key")]
    MissingKey(&'static str),
    /// The key has characters no header can carry, a line break for example.
    #[error("the API key of {0} contains characters that no key has")]
    MalformedKey(&'static str),
    /// No model named.
    #[error("no default model is configured for {0}")]
    MissingModel(&'static str),
    /// TLS could not be set up.
    #[error("the HTTP client of {0} cannot be set up")]
    Client(&'static str, #[source] reqwest::Error),
}

/// One endpoint of one vendor.
pub(super) struct Vendor {
    pub(super) name: &'static str,
    pub(super) config: VendorConfig,
    pub(super) url: Url,
    client: Client,
    headers: HeaderMap,
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vendor").field("name", &self.name).field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Vendor {
    /// `path` is what follows the base URL; `key_header` says how the key is presented.
    pub(super) fn new(
        name: &'static str,
        config: VendorConfig,
        path: &str,
        key_header: impl Fn(&str) -> (HeaderName, String),
    ) -> Result<Self, VendorConfigError> {
        if config.default_model.is_empty() {
            return Err(VendorConfigError::MissingModel(name));
        }
        let url = endpoint(&config.base_url, path).ok_or(VendorConfigError::BaseUrl(name))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &config.api_key {
            let (header, value) = key_header(key.expose_secret());
            let mut value = HeaderValue::try_from(value).map_err(|_| VendorConfigError::MalformedKey(name))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let client = client(&config, &url).map_err(|error| VendorConfigError::Client(name, error))?;
        Ok(Vendor { name, config, url, client, headers })
    }

    pub(super) fn insert_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// Posts the body when the stream is first polled, and reads the answer in the given dialect.
    pub(super) fn post(&self, body: &Value, dialect: impl Dialect) -> ModelStream {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body.to_string());
        Box::pin(Answer::new(self.name, &self.config, request, dialect))
    }
}

fn client(config: &VendorConfig, url: &Url) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("agent-hub/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(config.connect_timeout)
        // A redirect would carry key and prompt to wherever it points.
        .redirect(reqwest::redirect::Policy::none())
        // All calls of an HTTP/2 client share one connection, whose stream limit would silently queue the rest; and over HTTP/1 an
        // aborted call closes its connection, which no vendor can overlook.
        .http1_only()
        .tcp_nodelay(true);
    // A server on this machine is never behind the proxy of the environment.
    if url.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")) {
        builder = builder.no_proxy();
    }
    builder.build()
}

fn endpoint(base_url: &str, path: &str) -> Option<Url> {
    let mut base = Url::parse(base_url.trim()).ok()?;
    let plain = matches!(base.scheme(), "http" | "https")
        && base.has_host()
        && base.username().is_empty()
        && base.password().is_none()
        && base.query().is_none()
        && base.fragment().is_none();
    if !plain {
        return None;
    }
    // `join` replaces what follows the last slash, so the slash has to be there.
    let directory = match base.path().trim_end_matches('/') {
        "" => "/v1/".to_owned(),
        given => format!("{given}/"),
    };
    base.set_path(&directory);
    base.join(path).ok()
}

/// The options of a request that vendors have in common. What has the wrong type is ignored like what is unknown.
pub(super) struct CallOptions {
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) max_tokens: Option<u64>,
    pub(super) stop: Vec<String>,
    pub(super) seed: Option<i64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
}

/// Names of the options all vendors know.
const COMMON_OPTIONS: [&str; 9] = [
    "temperature",
    "topP",
    "top_p",
    "maxOutputTokens",
    "maxTokens",
    "stop",
    "stopSequences",
    // The vendor's own, by its names: for any vendor, or for the one named in it.
    "extraOptions",
    "providerOptions",
];

/// Whether an option is one of all vendors, or of these that only one has.
pub(super) fn knows(name: &str, own: &[&str]) -> bool {
    COMMON_OPTIONS.contains(&name) || own.contains(&name)
}

/// Adds the fields a request wants to be sent to this vendor as they are. What the hub itself says stays as it says it, and nothing is
/// asked for that its reading of the answer does not expect.
pub(super) fn insert_extra(vendor: &str, options: &Map<String, Value>, body: &mut Map<String, Value>) {
    const OURS: [&str; 8] = ["model", "messages", "system", "tools", "stream", "stream_options", "n", "response_format"];
    let of_vendor = options.get("providerOptions").and_then(|all| all.get(vendor));
    for extra in [options.get("extraOptions"), of_vendor].into_iter().flatten().filter_map(Value::as_object) {
        for (name, value) in extra.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
            body.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

impl CallOptions {
    pub(super) fn read(options: &Map<String, Value>) -> Self {
        let get = |names: [&str; 2]| names.into_iter().find_map(|name| options.get(name));
        let stop = match get(["stop", "stopSequences"]) {
            Some(Value::String(stop)) => vec![stop.clone()],
            Some(Value::Array(stops)) => stops.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        CallOptions {
            temperature: options.get("temperature").and_then(Value::as_f64),
            top_p: get(["topP", "top_p"]).and_then(Value::as_f64),
            max_tokens: get(["maxOutputTokens", "maxTokens"]).and_then(Value::as_u64),
            stop,
            seed: options.get("seed").and_then(Value::as_i64),
            frequency_penalty: options.get("frequencyPenalty").and_then(Value::as_f64),
            presence_penalty: options.get("presencePenalty").and_then(Value::as_f64),
        }
    }
}

/// Arguments as a vendor takes them back: an object. What the model wrote instead of one is kept inside it.
pub(super) fn arguments_object(arguments: &Value) -> Value {
    match arguments {
        Value::Object(_) => arguments.clone(),
        Value::Null => Value::Object(Map::new()),
        other => Value::Object(Map::from_iter([("invalidArguments".to_owned(), other.clone())])),
    }
}

/// Arguments as the model wrote them: JSON, or the text itself if it is none. No text at all means no arguments.
pub(super) fn parse_arguments(text: String) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Map::new());
    }
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// A schema for tools that have none.
pub(super) fn parameters_schema(parameters: &Value) -> Value {
    match parameters {
        Value::Object(_) => parameters.clone(),
        _ => serde_json::json!({ "type": "object", "properties": {} }),
    }
}

#[cfg(test)]
mod tests {
    // Failing loudly is what a test is for.
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn base_urls_may_be_written_in_several_ways() {
        let path = "chat/completions";
        for (given, expected) in [
            ("http://h:9/v1", "http://h:9/v1/chat/completions"),
            ("http://h:9/v1/", "http://h:9/v1/chat/completions"),
            ("http://h:9", "http://h:9/v1/chat/completions"),
            (" https://h/api/openai/v1// ", "https://h/api/openai/v1/chat/completions"),
        ] {
            assert_eq!(endpoint(given, path).unwrap().as_str(), expected);
        }
        for bad in ["", "h:9/v1", "ftp://h/v1", "http://user:secret@h/v1", "http://h/v1?key=secret", "/v1"] {
            assert!(endpoint(bad, path).is_none(), "{bad}");
        }
    }

    #[test]
    fn no_key_is_ever_printed() {
        let mut config = VendorConfig::openai(Some("sk-secret".into()), "m");
        config.base_url = "http://127.0.0.1:9/v1".into();
        let vendor = Vendor::new("openai", config, "x", |key| (reqwest::header::AUTHORIZATION, format!("Bearer {key}"))).unwrap();
        assert!(!format!("{vendor:?} {:?} {:?}", vendor.config, vendor.headers).contains("secret"));
        let error = Vendor::new("openai", VendorConfig::openai(Some("sk\nsecret".into()), "m"), "x", |key| {
            (reqwest::header::AUTHORIZATION, key.to_owned())
        })
        .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[test]
    fn arguments_come_whole_or_as_text() {
        assert_eq!(parse_arguments(String::new()), serde_json::json!({}));
        assert_eq!(parse_arguments(r#"{"a":1}"#.into()), serde_json::json!({"a": 1}));
        assert_eq!(parse_arguments(r#"{"a":"#.into()), serde_json::json!("{\"a\":"));
        assert_eq!(arguments_object(&serde_json::json!("{\"a\":")), serde_json::json!({"invalidArguments": "{\"a\":"}));
    }
}
