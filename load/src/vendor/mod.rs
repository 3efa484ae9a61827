//! Strict fakes of model vendors, over real HTTP, for tests and benchmarks.
//!
//! One server speaks OpenAI's `POST /v1/chat/completions` and Anthropic's `POST /v1/messages`, streaming only. It refuses what the real
//! vendors refuse, with their statuses and error bodies, and misbehaves on demand. What it does is a [`Script`]: the server's, changed by
//! directives in the last message of the person (see [`Script::directed_by`]). Every call is recorded, with the moment it was given up.

mod answer;
mod anthropic;
mod calls;
mod command;
mod openai;
mod script;
mod server;
mod thread;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::task::AbortOnDropHandle;

use self::{calls::Calls, server::serve};
pub use self::{
    calls::{Call, Counters, Outcome},
    command::{VendorArgs, config, run},
    script::{Fault, FaultChance, Script, ScriptedCall},
    thread::VendorThread,
};

/// What a fake expects and how much it remembers.
#[derive(Clone, Debug)]
pub struct FakeVendorConfig {
    /// Where to listen. A free port of loopback by default.
    pub bind: SocketAddr,
    /// The only key accepted. Without one any key will do, and OpenAI's side needs none, like a server at home.
    pub api_key: Option<String>,
    /// The only models known; any if empty.
    pub models: Vec<String>,
    /// What to do when no prompt says otherwise.
    pub script: Script,
    /// What goes wrong in some answers, by chance. Their shares come to 1 at most.
    pub faults: Vec<FaultChance>,
    /// Tokens written at once where there is no pace, as far as there is no fault between them. Each is an event of its own all the same.
    pub burst: usize,
    /// How many calls to remember. Older ones are forgotten first; counters forget nothing.
    pub remembered_calls: usize,
}

impl Default for FakeVendorConfig {
    fn default() -> Self {
        FakeVendorConfig {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            api_key: None,
            models: Vec::new(),
            script: Script::default(),
            faults: Vec::new(),
            burst: 1,
            remembered_calls: 10_000,
        }
    }
}

/// A running fake. Dropping it closes its port and all its connections.
#[derive(Debug)]
pub struct FakeVendor {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

/// What all connections of a fake share.
#[derive(Debug)]
struct Shared {
    config: FakeVendorConfig,
    scripts: Mutex<Scripts>,
    calls: Calls,
}

#[derive(Debug)]
struct Scripts {
    /// For the next calls, last one first.
    next: Vec<Script>,
    then: Script,
}

impl Shared {
    fn scripts(&self) -> MutexGuard<'_, Scripts> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections the kernel keeps while the vendor is busy answering: a thousand callers begin at once, and one that finds no place here
/// is heard a second later.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl FakeVendor {
    /// Starts a fake on the current runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn start(config: FakeVendorConfig) -> io::Result<Self> {
        let listener = listen(config.bind)?;
        let address = listener.local_addr()?;
        let scripts = Scripts { next: Vec::new(), then: config.script.clone() };
        let shared = Arc::new(Shared { scripts: Mutex::new(scripts), calls: Calls::new(config.remembered_calls), config });
        let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, shared.clone())));
        Ok(FakeVendor { address, shared, _server: server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to configure as the base URL of either vendor; without the last slash, as people write it.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The script of every call from now on.
    pub fn set_script(&self, script: Script) {
        *self.shared.scripts() = Scripts { next: Vec::new(), then: script };
    }

    /// The scripts of the next calls, one each; replaces what was planned before. Afterwards the usual one counts again.
    pub fn set_next_scripts(&self, scripts: impl IntoIterator<Item = Script, IntoIter: DoubleEndedIterator>) {
        self.shared.scripts().next = scripts.into_iter().rev().collect();
    }

    /// The remembered calls, oldest first, refused ones included.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.list()
    }

    /// Totals since the start.
    pub fn counters(&self) -> Counters {
        self.shared.calls.counters()
    }

    /// Waits until the calls are as wanted, and returns them. Waits for ever if they never are: put a timeout around it.
    pub async fn until(&self, wanted: impl Fn(&[Call]) -> bool) -> Vec<Call> {
        loop {
            let calls = self.calls();
            if wanted(&calls) {
                return calls;
            }
            // Token counts change without anybody being told, so there is nothing to wait for but time.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
