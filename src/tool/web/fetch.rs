//! `http_fetch`.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    outbound::{Fetched, Outbound, OutboundError},
    provider::ToolSpec,
    tool::{Invocation, SharedTool, Tool, ToolError, ToolErrorCode},
};

/// Characters of a line of text made from a page.
const LINE_CHARS: usize = 120;
/// Of the text, in bytes; the rest of a result is left for what stands beside it.
const TEXT_BYTES: usize = 56 * 1024;

/// Reads a page of the web.
#[derive(Debug)]
pub struct FetchTool {
    spec: ToolSpec,
    outbound: Outbound,
}

impl FetchTool {
    /// One that goes out this way.
    pub fn shared(outbound: Outbound) -> SharedTool {
        let parameters = json!({
            "type": "object",
            "properties": {
                "url": { "type": "string", "description": "Of a page on the public internet" },
                "method": { "type": "string", "enum": ["GET", "HEAD"], "default": "GET" }
            },
            "required": ["url"],
            "additionalProperties": false
        });
        let description = "Read a web page: its text, its status and its type".to_owned();
        Arc::new(Self { spec: ToolSpec { name: "http_fetch".to_owned(), description, parameters }, outbound })
    }
}

impl Tool for FetchTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
        let outbound = self.outbound.clone();
        async move {
            let method = if call.arguments.get("method").is_some_and(|method| method == "HEAD") { Method::HEAD } else { Method::GET };
            let fetched = outbound.fetch(method, call.text("url")?).await.map_err(|error| {
                let code = match &error {
                    OutboundError::Refused(_) => ToolErrorCode::Refused,
                    OutboundError::TimedOut => ToolErrorCode::TimedOut,
                    OutboundError::Failed(_) => ToolErrorCode::Failed,
                };
                ToolError::new(code, format!("The page was not read: {error}"))
            })?;
            // Reading a large page takes a while; other work goes on meanwhile.
            let read = tokio::task::spawn_blocking(move || shown(&fetched)).await;
            read.map_err(|_| ToolError::new(ToolErrorCode::Failed, "The page cannot be read"))
        }
        .boxed()
    }
}

fn shown(fetched: &Fetched) -> Value {
    let kind = fetched.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let html = matches!(kind.as_str(), "text/html" | "application/xhtml+xml");
    let readable = html || kind.is_empty() || kind.starts_with("text/") || kind.ends_with("json") || kind.ends_with("xml");
    let mut shown = json!({ "status": fetched.status.as_u16(), "url": fetched.url.as_str(), "contentType": fetched.content_type });
    if !readable {
        shown["bytes"] = fetched.body.len().into();
        shown["note"] = "It is no text, and is not shown".into();
        return shown;
    }
    let text = if html {
        // What cannot be read as a page is shown as it is.
        html2text::from_read(fetched.body.as_slice(), LINE_CHARS).unwrap_or_else(|_| String::from_utf8_lossy(&fetched.body).into_owned())
    } else {
        String::from_utf8_lossy(&fetched.body).into_owned()
    };
    let end = (0..=TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    shown["truncated"] = (fetched.truncated || end < text.len()).into();
    shown["text"] = text[..end].into();
    shown
}
