//! The servers under comparison, each on a core of its own and fed by the same fake vendor on another.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Child,
    time::timeout,
};

use super::dialect::Peer;
use crate::{
    process::{Hub, HubOptions, Process, VendorProcess, free_port, pinned},
    token::SECRET,
};

/// The core of the server.
const SERVER_CORE: usize = 0;
/// The core of the load and of the vendor.
pub(super) const CLIENT_CORE: usize = 1;
/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Where programs are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The hub.
    pub hub: PathBuf,
    /// `load/peers`.
    pub peers: PathBuf,
    /// Whether server and load have cores of their own.
    pub pin: bool,
}

impl Places {
    /// Those given, or beside this program and in or above the present directory.
    ///
    /// # Errors
    /// There is no hub, or no directory with the peers.
    pub fn find(hub: Option<&Path>, peers: Option<&Path>, pin: bool) -> anyhow::Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("agent-hub");
        let hub = std::path::absolute(hub.unwrap_or(&beside))?;
        anyhow::ensure!(hub.exists(), "{} does not exist; build it, or give --hub", hub.display());
        let here = std::env::current_dir()?;
        let above = || here.ancestors().map(|dir| dir.join("load/peers")).find(|dir| dir.join("install.sh").exists());
        let peers = peers.map(Path::to_owned).or_else(above).context("load/peers is not found from here; give --peers")?;
        Ok(Self { hub, peers: std::path::absolute(peers)?, pin })
    }

    /// Whether a server can be started; otherwise what to do.
    pub(super) fn missing(&self, peer: Peer) -> Option<String> {
        let dir = self.peers.join(peer.name());
        let installed = peer == Peer::Hub || ["node_modules", ".venv"].iter().any(|sign| dir.join(sign).exists());
        (!installed).then(|| format!("{} is not installed: {}/install.sh {}", peer.name(), self.peers.display(), peer.name()))
    }
}

/// A running server and its vendor. Dropping it ends both.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its process.
    pub(super) process: Process,
    _running: Running,
    _vendor: VendorProcess,
}

#[allow(dead_code, reason = "held to be dropped")]
enum Running {
    Hub(Box<Hub>),
    Peer(Child),
}

impl Server {
    /// Starts it, and a vendor for it.
    pub(super) async fn start(peer: Peer, places: &Places) -> anyhow::Result<Self> {
        let vendor = VendorProcess::start(&[], places.pin.then_some(CLIENT_CORE)).await?;
        if peer == Peer::Hub {
            let mut options = HubOptions::new(&places.hub).with("AGENT_HUB_RUNTIME__TASKS_PER_NODE", 100_000);
            options = options.with("AGENT_HUB_RUNTIME__ANSWER_BYTES", "64 MiB");
            options.core = places.pin.then_some(SERVER_CORE);
            options.openai = Some(vendor.url.clone());
            let hub = Hub::start(options).await?;
            return Ok(Self { address: hub.address(), process: hub.process()?, _running: Running::Hub(Box::new(hub)), _vendor: vendor });
        }
        let port = free_port()?;
        let script = places.peers.join(peer.name()).join("start.sh");
        let mut command = if places.pin { pinned(&script, SERVER_CORE) } else { tokio::process::Command::new(&script) };
        command.env("PORT", port.to_string()).env("OPENAI_BASE_URL", &vendor.url).env("JWT_SECRET", SECRET);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("starting {}", script.display()))?;
        let said = said_first(&mut child).await?;
        if !said.starts_with("listening") {
            bail!("{} does not start: {said}", peer.name());
        }
        // The script becomes the server, so this is the server.
        let process = Process(child.id().context("it has ended")?);
        Ok(Self { address: (Ipv4Addr::LOCALHOST, port).into(), process, _running: Running::Peer(child), _vendor: vendor })
    }
}

/// Its first line, or its complaint. What it says later is read and thrown away, so that it does not wait.
async fn said_first(child: &mut Child) -> anyhow::Result<String> {
    let (out, mut err) = (child.stdout.take().context("no output")?, child.stderr.take().context("no output")?);
    let mut out = BufReader::new(out);
    let mut line = String::new();
    timeout(START_WITHIN, out.read_line(&mut line)).await.context("it says nothing")??;
    if line.is_empty() {
        let mut complaint = String::new();
        let _ = timeout(Duration::from_secs(5), err.read_to_string(&mut complaint)).await;
        return Ok(complaint);
    }
    drop(tokio::spawn(async move { tokio::io::copy(&mut out, &mut tokio::io::sink()).await }));
    drop(tokio::spawn(async move { tokio::io::copy(&mut err, &mut tokio::io::sink()).await }));
    Ok(line)
}
