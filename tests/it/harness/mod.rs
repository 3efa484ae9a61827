//! The real program as a child process with its own data, and clients that hold it to its promises.

mod client;
mod random;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agent_hub_load::vendor::{FakeVendor, FakeVendorConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

pub(crate) use client::{Client, Opening, texts};
pub(crate) use random::Random;

/// Signs the tokens of every test.
pub(crate) const SECRET: &str = "a-secret-that-only-tests-know-0123456789";
/// A guard against waiting for ever, never an assertion: far above what anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A hub that runs, or is between two runs on the same data. Its process ends with it.
pub(crate) struct Hub {
    directory: TempDir,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
    child: Option<Child>,
    /// `127.0.0.1:<port>` of the present run.
    pub(crate) address: String,
}

impl Hub {
    /// SQLite, the `demo` provider, no limits; and what is given.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let mut hub = Self::prepared(settings);
        hub.run().await;
        hub
    }

    /// The same with limits.
    pub(crate) async fn with_limits(settings: &[(&str, &str)]) -> Self {
        let mut all = vec![("AGENT_HUB_LIMITS", "on")];
        all.extend(settings);
        Self::start(&all).await
    }

    /// The same with a fake vendor behind it.
    pub(crate) async fn with_vendor(settings: &[(&str, &str)]) -> (Self, FakeVendor) {
        let vendor = FakeVendor::start(FakeVendorConfig::default()).await.expect("a fake vendor");
        let url = vendor.base_url();
        let mut all = vec![("MODEL_PROVIDER", "openai"), ("OPENAI_BASE_URL", url.as_str()), ("OPENAI_API_KEY", "k")];
        all.extend(settings);
        (Self::start(&all).await, vendor)
    }

    /// Not running yet.
    pub(crate) fn prepared(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let usual = [("PORT", "0"), ("JWT_SECRET", SECRET), ("AGENT_HUB_LIMITS", "off"), ("AGENT_HUB_PROVIDER__DEMO_PACE", "1 ms")];
        let environment = usual.iter().chain(settings).map(own).collect();
        Self { directory, environment, prefix: Vec::new(), child: None, address: String::new() }
    }

    /// Runs the program through this command.
    pub(crate) fn through(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("hub.log")
    }

    /// The program with its settings in its directory.
    fn program(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_agent-hub").to_owned();
        let words: Vec<String> = self.prefix.iter().cloned().chain([program]).collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.environment.clone())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// What another call of the program with the same settings says, `agent-hub <arguments>`.
    pub(crate) async fn tool(&self, arguments: &[&str]) -> Output {
        timeout(PATIENCE, self.program().args(arguments).output()).await.expect("it ends in time").expect("the program starts")
    }

    /// Starts it on its data, and waits until it serves.
    pub(crate) async fn run(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut child = self.program().stdout(Stdio::piped()).stderr(log).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        self.child = Some(child);
        let found = timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.expect("readable") {
                if let Some((_, address)) = line.split_once("ws://") {
                    return address.trim_end_matches("/ws/agents").to_owned();
                }
            }
            panic!("it ended before it served: {}", self.log())
        });
        self.address = found.await.expect("it serves in time");
    }

    /// As a crash does: at once, without a word.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("killed");
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        timeout(PATIENCE, child.wait()).await.expect("it ends in time").expect("waited")
    }

    /// `kill -9`, then the next start on the same data.
    pub(crate) async fn crash(&mut self) {
        self.kill().await;
        self.run().await;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("it runs")
    }

    /// A socket of the user.
    pub(crate) async fn connect(&self, user: &str) -> Client {
        let mut client = self.open(&Opening::new().query(&format!("token={}", token(user)))).await;
        assert_eq!(client.until("welcome").await["user"], user);
        client
    }

    /// A socket of the user in a new session. Returns its id.
    pub(crate) async fn session(&self, user: &str) -> (Client, String) {
        let mut client = self.connect(user).await;
        let session = client.create(json!({})).await;
        (client, session)
    }

    /// A socket, however it is opened.
    pub(crate) async fn open(&self, opening: &Opening) -> Client {
        Client::open(&self.address, opening).await
    }

    /// A request of the user, as JSON. The status and the body.
    pub(crate) async fn http(&self, method: &str, path: &str, user: &str) -> (u16, Value) {
        self.send(method, path, user, &Value::Null).await
    }

    /// The same with a body, unless it is `null`.
    pub(crate) async fn send(&self, method: &str, path: &str, user: &str, body: &Value) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let request = reqwest::Client::new().request(method, format!("http://{}{path}", self.address)).bearer_auth(token(user));
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().await.expect("answered");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// A figure without labels from `/metrics`; 0 if nothing was counted yet.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await.expect("answered").text().await.expect("a text");
        let figure = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        figure.map_or(0.0, |figure| figure.parse().expect("a number"))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the hub's log ---\n{}", self.log());
        }
    }
}

/// A good token of the user, with a plan that allows much.
pub(crate) fn token(user: &str) -> String {
    sign(&json!({"sub": user, "plan": "enterprise", "exp": now() + 3600}), SECRET)
}

pub(crate) fn sign(claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("signed")
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
