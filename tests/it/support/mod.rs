//! A hub on a free port, and ways to talk to it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_hub::{
    api::{self, Surface},
    app::App,
    auth::{Authenticator, Tickets},
    config::{Config, Inputs},
    provider::demo::DemoProvider,
    runtime::{
        Hub, Plan,
        agent::{Agent, Agents},
        hub::HubParts,
        metrics::Metrics,
    },
    server,
    store::memory::MemoryStore,
    telemetry::MetricsHandle,
    tool::Toolbox,
    transport::{
        Edge, EdgeParts,
        front::{self, FrontSettings},
    },
};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A hub that is served in this process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) app: Arc<App>,
    #[allow(dead_code, reason = "for tests that look behind the wire")]
    pub(crate) edge: Arc<Edge>,
    pub(crate) stop: CancellationToken,
    pub(crate) front: JoinHandle<std::io::Result<()>>,
    client: reqwest::Client,
    _data: tempfile::TempDir,
}

/// How a [`Server`] differs from an unconfigured hub.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    pub(crate) environment: &'a [(&'a str, &'a str)],
    pub(crate) front: Option<fn(&mut FrontSettings)>,
    pub(crate) edge: Option<fn(&mut EdgeParts)>,
    pub(crate) others: Vec<Surface>,
}

impl Server {
    /// In development mode, with these settings in its environment.
    pub(crate) async fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_with(Setup { environment, ..Setup::default() }).await
    }

    pub(crate) async fn start_with(setup: Setup<'_>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let app = app(setup.environment, data.path().to_str().unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut settings = server::front_settings(&app);
        if let Some(change) = setup.front {
            change(&mut settings);
        }
        let mut parts = server::edge_parts(&app, stop.clone());
        if let Some(change) = setup.edge {
            change(&mut parts);
        }
        let edge = Edge::new(parts);
        let guard = api::service(&edge, agent_hub::compat::surfaces(&edge).into_iter().chain(setup.others));
        let front = tokio::spawn(front::serve(listener, guard, settings, stop.clone()));
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { address, app, edge, stop, front, client, _data: data }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A token of `user`, who may do as much as anybody.
    pub(crate) fn token(&self, user: &str) -> String {
        self.token_of(user, Plan::Enterprise, &[])
    }

    pub(crate) fn token_of(&self, user: &str, plan: Plan, scopes: &[&str]) -> String {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self.app.auth.mint(user, plan, &scopes, Duration::from_secs(3600)).unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub(crate) fn as_user(&self, user: &str, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(self.token(user))
    }

    /// Asks as `user`, with a body unless it is `null`, and reads the answer.
    pub(crate) async fn ask(&self, user: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.as_user(user, method, path);
        let request = if body.is_null() { request } else { request.json(&body) };
        read(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, user: &str, path: &str) -> (u16, Value) {
        self.ask(user, Method::GET, path, Value::Null).await
    }

    pub(crate) async fn post(&self, user: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask(user, Method::POST, path, body).await
    }

    /// A session of `user`.
    pub(crate) async fn session(&self, user: &str) -> String {
        let (status, body) = self.post(user, "/api/v1/agents/sessions", serde_json::json!({})).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    /// A task of `user` in that session.
    pub(crate) async fn task(&self, user: &str, session: &str, prompt: &str) -> String {
        let path = format!("/api/v1/agents/sessions/{session}/tasks");
        let (status, body) = self.post(user, &path, serde_json::json!({ "prompt": prompt })).await;
        assert_eq!(status, 202, "{body}");
        body["taskId"].as_str().unwrap().to_owned()
    }

    /// Polls until the task has ended.
    pub(crate) async fn ended(&self, user: &str, task: &str) -> Value {
        let path = format!("/api/v1/agents/tasks/{task}?wait=5");
        for _ in 0..100 {
            let (status, body) = self.get(user, &path).await;
            assert_eq!(status, 200, "{body}");
            if !body["completedAt"].is_null() {
                return body;
            }
        }
        panic!("{task} does not end");
    }

    /// Sends these bytes, and reads until the hub closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        // The hub may close before everything is written; what it said counts.
        let _ = socket.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(SOON, socket.read_to_end(&mut answer)).await.expect("the hub closes");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.front.abort();
    }
}

/// Status and JSON of an answer; `null` for an empty one.
pub(crate) async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")) };
    (status, body)
}

fn app(environment: &[(&str, &str)], data: &str) -> Arc<App> {
    let mut all: Vec<(String, String)> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    all.push(("AGENT_HUB_DATA_DIR".to_owned(), data.to_owned()));
    all.push(("STORAGE_TYPE".to_owned(), "memory".to_owned()));
    let config = Config::load(&Inputs { environment: all, ..Inputs::default() }).unwrap();
    let provider = Arc::new(DemoProvider::new(Duration::from_millis(1)));
    let agent = Agent::new("default", "Answers", provider);
    let hub = Hub::start(HubParts {
        settings: config.runtime.clone(),
        store: Arc::new(MemoryStore::new()),
        agents: Agents::new(agent, [], Toolbox::default()),
        workflows: config.workflows.clone(),
        metrics: Metrics::register(),
    });
    let auth = Arc::new(Authenticator::open(&config.auth).unwrap());
    Arc::new(App { hub, auth, tickets: Tickets::default(), config, metrics: MetricsHandle::detached(), started_at: Instant::now() })
}

/// One frame of an event stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) event: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

/// An event stream as it arrives.
pub(crate) struct Frames {
    response: Response,
    buffer: String,
    pub(crate) comments: usize,
}

impl Frames {
    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new(), comments: 0 }
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                if let Some(frame) = parse(&block) {
                    return Some(frame);
                }
                self.comments += 1;
                continue;
            }
            let chunk = timeout(SOON, self.response.chunk()).await.expect("something arrives").unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// All that are left.
    pub(crate) async fn rest(mut self) -> Vec<Frame> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            all.push(frame);
        }
        all
    }
}

fn parse(block: &str) -> Option<Frame> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    let data = field("data: ")?;
    Some(Frame { event: field("event: ")?, id: field("id: "), data: serde_json::from_str(&data).unwrap() })
}
