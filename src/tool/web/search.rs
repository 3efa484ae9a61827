//! `web_search`: three services behind one configuration.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{
    provider::ToolSpec,
    tool::{Invocation, SharedTool, Tool, ToolError, ToolErrorCode},
};

/// Of an answer, in bytes; what is longer is none of a search.
const ANSWER_BYTES: usize = 1024 * 1024;
/// What a model is shown of one result, in characters.
const TITLE_CHARS: usize = 200;
const URL_CHARS: usize = 500;
const SNIPPET_CHARS: usize = 500;
/// Results of one search at most.
const MOST_RESULTS: u64 = 20;

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchKind {
    /// SearXNG, one's own: needs a URL, and `json` among its formats.
    Searxng,
    /// Brave.
    Brave,
    /// Tavily.
    Tavily,
}

impl SearchKind {
    /// Where the service is, unless it is somewhere else.
    pub const fn usual_url(self) -> Option<&'static str> {
        match self {
            SearchKind::Searxng => None,
            SearchKind::Brave => Some("https://api.search.brave.com/res/v1/web/search"),
            SearchKind::Tavily => Some("https://api.tavily.com/search"),
        }
    }

    /// Whether it takes a key.
    pub const fn needs_key(self) -> bool {
        !matches!(self, SearchKind::Searxng)
    }
}

/// How to reach it.
#[derive(Clone, Debug)]
pub struct SearchConfig {
    /// Which service.
    pub kind: SearchKind,
    /// Where it answers; of SearXNG with or without `/search`.
    pub url: Url,
    /// Its key.
    pub api_key: Option<SecretString>,
    /// Results when a call does not say.
    pub results: u32,
}

/// Asks a search service.
#[derive(Debug)]
pub struct SearchTool {
    spec: ToolSpec,
    search: Arc<Search>,
}

#[derive(Debug)]
struct Search {
    config: SearchConfig,
    client: Client,
}

impl SearchTool {
    /// One that asks this service.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn shared(config: SearchConfig) -> Result<SharedTool, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("agent-hub/", env!("CARGO_PKG_VERSION")))
            // The key goes nowhere but there.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(15))
            .build()?;
        let parameters = json!({
            "type": "object",
            "properties": {
                "query": { "type": "string", "minLength": 1, "maxLength": 1000 },
                "maxResults": { "type": "integer", "minimum": 1, "maximum": MOST_RESULTS, "default": config.results }
            },
            "required": ["query"]
        });
        let description = "Search the web for current information".to_owned();
        let spec = ToolSpec { name: "web_search".to_owned(), description, parameters };
        Ok(Arc::new(Self { spec, search: Arc::new(Search { config, client }) }))
    }
}

impl Tool for SearchTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
        let search = Arc::clone(&self.search);
        async move {
            let most =
                call.arguments.get("maxResults").and_then(Value::as_u64).unwrap_or(search.config.results.into()).clamp(1, MOST_RESULTS);
            search.ask(call.text("query")?, most).await
        }
        .boxed()
    }
}

impl Search {
    async fn ask(&self, query: &str, most: u64) -> Result<Value, ToolError> {
        let failed = |text: &str| ToolError::new(ToolErrorCode::Failed, format!("The search service {text}"));
        let response = self.request(query, most).send().await.map_err(|error| {
            let timed_out = error.is_timeout();
            let code = if timed_out { ToolErrorCode::TimedOut } else { ToolErrorCode::Unavailable };
            ToolError::new(
                code,
                if timed_out { "The search service did not answer in time" } else { "The search service cannot be reached" },
            )
        })?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(ToolError::new(ToolErrorCode::Unavailable, "The search service refuses this hub's key"));
            }
            StatusCode::TOO_MANY_REQUESTS => return Err(failed("was asked too often; try again later")),
            status => return Err(failed(&format!("answered with {}", status.as_u16()))),
        }
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|_| failed("broke off"))?);
            if body.len() > ANSWER_BYTES {
                return Err(failed("answered with more than a search is"));
            }
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| failed("answered with something that is no JSON"))?;
        let (found, snippet) = match self.config.kind {
            SearchKind::Searxng | SearchKind::Tavily => (&answer["results"], "content"),
            SearchKind::Brave => (&answer["web"]["results"], "description"),
        };
        // Brave leaves out what it has found nothing of.
        let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let results: Vec<Value> = found
            .iter()
            .take(most)
            .map(|result| {
                let text =
                    |field: &str, most: usize| -> String { plain(result[field].as_str().unwrap_or_default()).chars().take(most).collect() };
                json!({ "title": text("title", TITLE_CHARS), "url": text("url", URL_CHARS), "snippet": text(snippet, SNIPPET_CHARS) })
            })
            .collect();
        Ok(json!({ "results": results }))
    }

    fn request(&self, query: &str, most: u64) -> RequestBuilder {
        let url = self.config.url.clone();
        let key = self.config.api_key.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
        match self.config.kind {
            SearchKind::Searxng => self.client.get(with(searxng(url), &[("q", query), ("format", "json")])),
            SearchKind::Brave => {
                let count = most.to_string();
                self.client
                    .get(with(url, &[("q", query), ("count", &count)]))
                    .header("x-subscription-token", key)
                    .header("accept", "application/json")
            }
            SearchKind::Tavily => self.client.post(url).bearer_auth(key).json(&json!({ "query": query, "max_results": most })),
        }
    }
}

fn searxng(mut url: Url) -> Url {
    if !url.path().ends_with("/search") {
        let path = format!("{}/search", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    url
}

fn with(mut url: Url, query: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(query);
    url
}

/// Without the marks some services put around the words that were searched for.
fn plain(text: &str) -> String {
    ["<strong>", "</strong>", "<b>", "</b>", "<em>", "</em>"].iter().fold(text.to_owned(), |text, mark| text.replace(mark, ""))
}
