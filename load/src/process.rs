//! Programs under test as child processes: a hub, or the bare server. What they need of the machine, and how they are stopped.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    rng::Rng,
    token::SECRET,
    vendor::{self, VendorArgs, VendorThread},
    wire::now_nanos,
};

/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(30);

/// What a hub is started with.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The program.
    pub binary: PathBuf,
    /// Pinned to this core.
    pub core: Option<usize>,
    /// `sqlite`, `memory` or `file`.
    pub storage: &'static str,
    /// The base URL of a fake OpenAI; otherwise the hub's own `demo` provider answers.
    pub openai: Option<String>,
    /// More environment, after the rest.
    pub environment: Vec<(String, String)>,
}

impl HubOptions {
    /// SQLite, the demo provider, no pinning, no limits.
    pub fn new(binary: &Path) -> Self {
        Self { binary: binary.to_owned(), core: None, storage: "sqlite", openai: None, environment: Vec::new() }
    }

    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A running hub and its data. Dropping it kills the one and removes the other.
#[derive(Debug)]
pub struct Hub {
    options: HubOptions,
    child: Option<Child>,
    port: u16,
    /// Where it keeps its data and its log.
    pub dir: TempDir,
}

impl Hub {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// It does not start, with the end of its log.
    pub async fn start(options: HubOptions) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("agent-hub-load-")?;
        let mut hub = Self { options, child: None, port: free_port()?, dir };
        hub.launch().await?;
        Ok(hub)
    }

    /// Starts the program again over the same data and port. Returns how long it took until it answered.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub async fn launch(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = match self.options.core {
            Some(core) => pinned(&self.options.binary, core),
            None => Command::new(&self.options.binary),
        };
        command.current_dir(self.dir.path()).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOST", "127.0.0.1").env("PORT", self.port.to_string()).env("JWT_SECRET", SECRET);
        command.env("STORAGE_TYPE", self.options.storage).env("AGENT_HUB_LIMITS", "off");
        if self.options.storage != "memory" {
            command.env("STORAGE_PATH", self.dir.path().join("hub.db"));
        }
        match &self.options.openai {
            Some(url) => command.env("MODEL_PROVIDER", "openai").env("OPENAI_BASE_URL", url).env("OPENAI_API_KEY", "none"),
            None => command.env("MODEL_PROVIDER", "demo"),
        };
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {}", self.options.binary.display()))?;
        self.child = Some(child);
        self.wait_until_up(started).await?;
        Ok(started.elapsed())
    }

    async fn wait_until_up(&mut self, started: Instant) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("the hub ended with {status}:\n{}", self.log_tail());
            }
            if healthy(self.address(), Duration::from_secs(1)).await.is_ok() {
                return Ok(());
            }
            if started.elapsed() > START_WITHIN {
                bail!("the hub does not answer:\n{}", self.log_tail());
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It was not running.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the hub is not running")?;
        child.kill().await.context("killing the hub")
    }

    /// Its process.
    ///
    /// # Errors
    /// It is not running.
    pub fn process(&self) -> anyhow::Result<Process> {
        self.child.as_ref().and_then(Child::id).map(Process).context("the hub is not running")
    }

    /// The end of what it said.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Everything it said.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("hub.log")
    }
}

/// A fake vendor beside what it feeds. Dropping it ends it.
#[derive(Debug)]
pub struct VendorProcess {
    /// Its base URL.
    pub url: String,
    _running: VendorRuns,
}

#[derive(Debug)]
#[allow(dead_code, reason = "held to be dropped")]
enum VendorRuns {
    Apart(Child),
    Here(VendorThread),
}

impl VendorProcess {
    /// Starts this program once more as `vendor`, with these arguments. Within another program, a test, it is a thread.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(arguments: &[String], core: Option<usize>) -> anyhow::Result<Self> {
        let here = std::env::current_exe()?;
        if here.file_name().is_none_or(|name| name != "agent-hub-load") {
            let config = VendorArgs::parsed(arguments).and_then(vendor::config)?;
            let running = VendorThread::start(config).await?;
            return Ok(Self { url: running.vendor.base_url(), _running: VendorRuns::Here(running) });
        }
        let mut command = match core {
            Some(core) => pinned(&here, core),
            None => Command::new(&here),
        };
        command.arg("vendor").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().context("starting the fake vendor")?;
        let stdout = child.stdout.take().context("the fake vendor says nothing")?;
        let mut line = String::new();
        // The first thing it says is where it listens.
        BufReader::new(stdout).read_line(&mut line).await?;
        anyhow::ensure!(line.starts_with("http"), "the fake vendor did not start: is its port taken?");
        Ok(Self { url: line.trim().to_owned(), _running: VendorRuns::Apart(child) })
    }
}

/// A program that takes `--port` and runs on one core.
pub fn pinned(binary: &Path, core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(binary);
    command
}

/// Pins this process to a core; threads made later inherit it.
///
/// # Errors
/// `taskset` is not there or refuses.
pub fn pin_self(core: usize) -> anyhow::Result<()> {
    let status = std::process::Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("starting taskset")?;
    if !status.success() {
        bail!("taskset: {status}");
    }
    Ok(())
}

/// A port nobody listens on at this moment. Not one of those the system gives to clients: while a server is down, a client that keeps
/// connecting could get its port as its own, and be connected to itself.
///
/// # Errors
/// There is none.
pub fn free_port() -> io::Result<u16> {
    let mut rng = Rng::new(now_nanos() ^ u64::from(std::process::id()));
    let mut tries = (0..100).map(|_| 20_000 + (rng.between(0, 10_000) as u16));
    let free = tries.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port found"))
}

/// Asks `/health` over a connection of its own; returns how long the answer took.
///
/// # Errors
/// No connection, no answer within the time, or not a good one.
pub async fn healthy(address: SocketAddr, within: Duration) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = timeout(within, ask).await.context("no answer in time")??;
    if &answer != b"HTTP/1.1 200" {
        bail!("/health answered {:?}", String::from_utf8_lossy(&answer));
    }
    Ok(started.elapsed())
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// CPU time so far, user and system. The kernel counts in hundredths of a second.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The name, in brackets, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ").context("an odd stat file")?.1.split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).context("an odd stat file");
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// It is gone.
    pub fn rss_kib(self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.split_whitespace().next().and_then(|number| number.parse().ok()).context("an odd VmRSS")
    }

    /// Open files.
    ///
    /// # Errors
    /// It is gone.
    pub fn open_files(self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.0))?.count())
    }
}

/// CPU time of a process over a stretch of time.
#[derive(Debug)]
pub struct Stopwatch {
    process: Process,
    started: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts.
    ///
    /// # Errors
    /// The process is gone.
    pub fn start(process: Process) -> anyhow::Result<Self> {
        Ok(Self { process, started: Instant::now(), cpu: process.cpu()? })
    }

    /// Time passed, and CPU used meanwhile.
    ///
    /// # Errors
    /// The process is gone.
    pub fn stop(&self) -> anyhow::Result<(Duration, Duration)> {
        Ok((self.started.elapsed(), self.process.cpu()?.saturating_sub(self.cpu)))
    }
}

/// The soft limit of open files of this process.
pub fn open_files_limit() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or(1024)
}
