//! What is measured, on a core of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde::Serialize;
use tokio::{net::TcpStream, process::Child, time::sleep};

use crate::process::{Hub, HubOptions, Process, VendorProcess, free_port, pinned};

/// The core of the server; the client and the fake vendor have [`CLIENT_CORE`].
pub(super) const SERVER_CORE: usize = 0;
/// See [`SERVER_CORE`].
pub(super) const CLIENT_CORE: usize = 1;

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The bare server, one flush per frame.
    Bare,
    /// A hub with the memory store.
    Memory,
    /// A hub with SQLite, `synchronous=normal`.
    Sqlite,
    /// A hub with SQLite whose tokens come from the fake vendor, a process of its own.
    Vendor,
}

impl Kind {
    /// For tables.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::Memory => "hub, memory",
            Kind::Sqlite => "hub, sqlite",
            Kind::Vendor => "hub, sqlite, fake vendor",
        }
    }
}

/// The programs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// The hub.
    pub(super) hub: PathBuf,
    /// This one.
    pub(super) load: PathBuf,
}

impl Programs {
    /// The hub given, or the one beside this program.
    ///
    /// # Errors
    /// This program does not know where it is.
    pub(super) fn new(hub: Option<PathBuf>) -> anyhow::Result<Self> {
        let load = std::env::current_exe()?;
        let hub = hub.unwrap_or_else(|| load.with_file_name("agent-hub"));
        let hub = std::path::absolute(hub)?;
        anyhow::ensure!(hub.exists(), "{} does not exist; build it, or give --hub", hub.display());
        Ok(Self { hub, load })
    }
}

/// A running server. Dropping it kills it.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its process.
    pub(super) process: Process,
    running: Running,
}

#[allow(dead_code, reason = "some is held only to be dropped")]
enum Running {
    Bare(Child),
    Hub(Box<Hub>, Option<VendorProcess>),
}

impl Server {
    /// Starts one, with more environment for hubs.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn start(programs: &Programs, kind: Kind, environment: &[(&str, String)]) -> anyhow::Result<Self> {
        let mut options = HubOptions::new(&programs.hub);
        options.core = Some(SERVER_CORE);
        options.storage = if kind == Kind::Memory { "memory" } else { "sqlite" };
        // A thousand sessions are to stream at once; the bound of the process is not lifted with the others.
        let room = ("AGENT_HUB_RUNTIME__TASKS_PER_NODE".to_owned(), "100000".to_owned());
        options.environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain([room]).collect();
        let vendor = match kind {
            Kind::Bare => return Self::bare(&programs.load).await,
            Kind::Vendor => {
                let vendor = VendorProcess::start(&[], Some(CLIENT_CORE)).await?;
                options.openai = Some(vendor.url.clone());
                Some(vendor)
            }
            Kind::Memory | Kind::Sqlite => None,
        };
        Self::hub(options, vendor).await
    }

    /// A hub with options of one's own, pinned like the others.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn hub(options: HubOptions, vendor: Option<VendorProcess>) -> anyhow::Result<Self> {
        // `AGENT_HUB_LIMITS=off` lifts bounds per user, never this one of the process.
        let mut options = options.with("AGENT_HUB_RUNTIME__TASKS_PER_NODE", 100_000);
        options.core = Some(SERVER_CORE);
        let hub = Hub::start(options).await?;
        Ok(Self { address: hub.address(), process: hub.process()?, running: Running::Hub(Box::new(hub), vendor) })
    }

    /// Where its fake vendor listens, if it has one.
    pub(super) fn vendor_address(&self) -> Option<String> {
        let Running::Hub(_, Some(vendor)) = &self.running else { return None };
        Some(vendor.url.strip_prefix("http://")?.split('/').next()?.to_owned())
    }

    async fn bare(load: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = pinned(load, SERVER_CORE);
        let child =
            command.arg("bare").arg("--port").arg(port.to_string()).kill_on_drop(true).spawn().context("starting the bare server")?;
        let address = (Ipv4Addr::LOCALHOST, port).into();
        for _ in 0..1000 {
            if TcpStream::connect(address).await.is_ok() {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { address, process: Process(child.id().context("the bare server ended")?), running: Running::Bare(child) })
    }
}
