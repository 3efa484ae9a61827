//! `code_execution`: JavaScript in a process of its own that is killed when its time is over.
//!
//! The engine's own bounds are the polite first layer; loops inside the engine's native functions do not ask them. So each call has a process
//! (this program, started as `js-child`), which locks itself up before it looks at the script, and which the hub kills on the wall clock.

pub mod child;
mod jail;
mod protocol;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use self::protocol::{End, Line, Request};
use super::{Invocation, Tool, ToolError, ToolErrorCode};
use crate::provider::ToolSpec;

/// The word that makes this program the child.
pub const CHILD_WORD: &str = "js-child";
/// One line of the child, in bytes: what it says is bounded there, and again here, because a script that has broken out writes what it likes.
const LINE_BYTES: u64 = 256 * 1024;

/// How scripts are run.
#[derive(Clone, Debug)]
pub struct CodeConfig {
    /// This program, which is also the child.
    pub program: PathBuf,
    /// The longest a script may take, and what it may take when the call does not say.
    pub wall: Duration,
    /// Of the processor, whole seconds.
    pub cpu: Duration,
    /// Of the engine, in bytes.
    pub memory: usize,
    /// What a script may print, in bytes, and again what its result may have.
    pub output: usize,
    /// Scripts of one user at the same time; the others wait.
    pub per_user: usize,
}

impl CodeConfig {
    /// The usual bounds.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            wall: Duration::from_secs(30),
            cpu: Duration::from_secs(2),
            memory: 64 * 1024 * 1024,
            output: 64 * 1024,
            per_user: 2,
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct CodeTool {
    spec: ToolSpec,
    config: CodeConfig,
    /// Scripts at work, by user. Whoever has none is not in it for long.
    users: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Why there is no such tool.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// The program cannot be started.
    #[error("the process for scripts cannot be started")]
    Start(#[source] io::Error),
    /// This kernel does not offer what a script has to be locked up with.
    #[error("scripts cannot be locked up here: {0}")]
    Open(String),
}

impl CodeTool {
    /// A tool that works here: a child is started once and tries to get out.
    ///
    /// # Errors
    /// [`JailError`]: a jail that is open is no jail, so there is no tool then.
    pub async fn locked(config: CodeConfig) -> Result<Self, JailError> {
        let mut command = Command::new(&config.program);
        command.arg(CHILD_WORD).arg(child::PROBE).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let tried = command.kill_on_drop(true).output();
        let tried = tokio::time::timeout(config.wall, tried).await.map_err(|_| JailError::Open("it does not answer".to_owned()))?;
        let said = String::from_utf8_lossy(&tried.map_err(JailError::Start)?.stdout).trim().to_owned();
        if said != child::LOCKED {
            return Err(JailError::Open(if said.is_empty() { "the child says nothing".to_owned() } else { said }));
        }
        let most = u64::try_from(config.wall.as_millis()).unwrap_or(u64::MAX);
        let parameters = json!({ "type": "object", "properties": {
            "code": { "type": "string", "description": "A script; the value of its last expression is the result. console.log shows, await works, there are no modules, files or network" },
            "timeout": { "type": "integer", "minimum": 1, "default": most, "description": "Milliseconds" }
        }, "required": ["code"] });
        let description = "Execute JavaScript code in a sandboxed environment".to_owned();
        let spec = ToolSpec { name: "code_execution".to_owned(), description, parameters };
        Ok(Self { spec, config, users: Mutex::default() })
    }

    fn room_of(&self, user: &str) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, room| Arc::strong_count(room) > 1);
        Arc::clone(users.entry(user.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.config.per_user))))
    }
}

impl Tool for CodeTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
        let (config, room) = (self.config.clone(), self.room_of(&call.user));
        async move {
            let asked = call.arguments.get("timeout").and_then(Value::as_u64).map_or(config.wall, Duration::from_millis);
            let code = call.text("code")?.to_owned();
            // It is never closed.
            let _place = room.acquire_owned().await.map_err(|_| broken("the hub stops"))?;
            run(&config, &code, asked.min(config.wall), &call).await
        }
        .boxed()
    }

    fn time_limit(&self) -> Duration {
        // The wait for a place, and the script; the script's own end is kept below.
        self.config.wall * 2 + Duration::from_secs(5)
    }
}

/// A child at work. Dropping it kills it and what it may have started; the runtime reaps it.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Running {
    fn start(config: &CodeConfig) -> io::Result<Self> {
        let mut command = Command::new(&config.program);
        command.arg(CHILD_WORD).env_clear().current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }
}

async fn run(config: &CodeConfig, code: &str, wall: Duration, call: &Invocation) -> Result<Value, ToolError> {
    let until = Instant::now() + wall;
    let too_long = || ToolError::new(ToolErrorCode::TimedOut, format!("The script was stopped after {wall:?}"));
    let mut running = Running::start(config).map_err(|error| {
        tracing::warn!(%error, "the process for scripts cannot be started");
        broken("it cannot be started")
    })?;
    let (Some(mut input), Some(output)) = (running.child.stdin.take(), running.child.stdout.take()) else {
        return Err(broken("it cannot be talked to"));
    };
    let request = Request { code: code.to_owned(), memory: config.memory, cpu: config.cpu, output: config.output };
    let request = serde_json::to_vec(&request).unwrap_or_default();
    let mut console = String::new();
    let talk = async {
        // Whoever does not read its request has ended; how, is seen below.
        let _ = input.write_all(&request).await;
        drop(input);
        let mut lines = BufReader::new(output);
        loop {
            match next_line(&mut lines).await? {
                Some(Line::Say(text)) => {
                    // The child counts too; this holds if it does not.
                    if console.len() + text.len() <= config.output * 2 {
                        console.push_str(&text);
                        call.output.write(text).await;
                    }
                }
                Some(Line::End(end)) => return Ok(end),
                None => return Ok(End::Killed),
            }
        }
    };
    let end: Result<End, ToolError> = timeout_at(until, talk).await.map_err(|_| too_long())?;
    let end = end?;
    // What has ended is not killed: its number may be another's by now.
    if timeout_at(until + Duration::from_millis(250), running.child.wait()).await.is_ok() {
        running.group = None;
    }
    match end {
        End::Value { json, cut } => {
            let result = serde_json::from_str(&json).unwrap_or(Value::String(json));
            let mut answer = json!({ "result": result, "console": console });
            if cut {
                answer["truncated"] = true.into();
            }
            Ok(answer)
        }
        End::Thrown { text } => Err(ToolError::new(ToolErrorCode::Failed, text)),
        End::OutOfMemory => Err(ToolError::new(ToolErrorCode::TooLarge, format!("The script used more than {} bytes", config.memory))),
        End::OutOfTime => {
            Err(ToolError::new(ToolErrorCode::TimedOut, format!("The script used more than {:?} of the processor", config.cpu)))
        }
        End::Killed => Err(ToolError::new(ToolErrorCode::Failed, "The script ended its process: it used too much, or did what it may not")),
    }
}

/// The next thing the child says; `None` at its end.
async fn next_line(lines: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Option<Line>, ToolError> {
    let mut line = Vec::new();
    let read = lines.take(LINE_BYTES).read_until(b'\n', &mut line).await.map_err(|_| broken("it cannot be heard"))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => serde_json::from_slice(&line).map(Some).map_err(|_| broken("it says what it cannot say")),
        // Killed in the middle of a word.
        Some(_) if (read as u64) < LINE_BYTES => Ok(None),
        Some(_) => Err(broken("it says too much")),
    }
}

fn broken(why: &str) -> ToolError {
    ToolError::new(ToolErrorCode::Unavailable, format!("The process for scripts failed: {why}"))
}
