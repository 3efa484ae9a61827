//! Other servers' APIs, as their clients use them.

mod jobs;
mod threads;
mod voltagent;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::harness::{Hub, PATIENCE};

/// Whoever comes without a token is somebody, as with the real one.
const ANONYMOUS: (&str, &str) = ("AGENT_HUB_AUTH__ANONYMOUS", "guest");

/// A client without a token.
struct Caller {
    base: String,
    http: Client,
}

impl Caller {
    fn of(hub: &Hub) -> Self {
        Self { base: format!("http://{}", hub.address), http: Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client") }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        read(self.http.get(self.url(path))).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        read(self.request(path, &body)).await
    }

    /// What was asked for, of an answer that says that all is well.
    async fn ok(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.post(path, body).await;
        assert_eq!((status, &body["success"]), (200, &json!(true)), "{path}: {body}");
        body["data"].clone()
    }

    /// The answer is a refusal in the API's form.
    async fn refused(&self, path: &str, body: Value, status: u16) -> String {
        let (got, answer) = self.post(path, body).await;
        assert_eq!((got, &answer["success"]), (status, &json!(false)), "{path}: {answer}");
        answer["error"].as_str().unwrap_or_else(|| panic!("the error is a text: {answer}")).to_owned()
    }

    fn request(&self, path: &str, body: &Value) -> RequestBuilder {
        self.http.post(self.url(path)).json(body)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The blocks of a stream as the document's own reader finds them: split at blank lines, each beginning with `data: `.
    async fn blocks(&self, path: &str, body: Value) -> Vec<Value> {
        let response = self.request(path, &body).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        blocks(&response.text().await.expect("the whole stream"))
    }
}

async fn read(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")))
}

/// As `buffer.split("\n\n")` and `line.startsWith("data: ")` do it.
fn blocks(text: &str) -> Vec<Value> {
    let data = text.split("\n\n").filter_map(|block| block.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {data}"))).collect()
}

/// As the workflow reader does it: line by line.
fn lines(text: &str) -> Vec<Value> {
    let data = text.split('\n').filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {data}"))).collect()
}

fn types(blocks: &[Value]) -> Vec<&str> {
    blocks.iter().map(|block| block["type"].as_str().expect("a type")).collect()
}

/// Reads until the text has come.
async fn until(response: &mut Response, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let chunk = response.chunk().await.expect("readable").unwrap_or_else(|| panic!("it ended before {text:?}: {read}"));
        read.push_str(&String::from_utf8_lossy(&chunk));
    }
    read
}
