//! Scenarios are data: who connects, how fast, what each scripted socket does, and what must hold.
//!
//! A scenario is a TOML file; `load/README.md` describes every key. Reading one finds all its mistakes at once, each with its line, its
//! place and what is allowed there. Nothing is started before a scenario is whole.

mod fields;
mod read;
mod shipped;
mod steps;
mod thresholds;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

pub use self::{
    read::{Mistake, Mistakes, read},
    shipped::{SHIPPED, ScenariosArgs, Shipped, list},
    thresholds::{Bound, Stat, Threshold, Wanted},
};
use crate::vendor::Fault;

/// A scenario that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// For people and files.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// Of all random choices.
    pub seed: u64,
    /// What is loaded.
    pub target: Target,
    /// A model of its own for the hub.
    pub vendor: Option<VendorSetup>,
    /// Load processes.
    pub processes: usize,
    /// Source addresses: 127.0.0.2 and up; 0: the system chooses.
    pub sources: u8,
    /// The whole run is broken off after this.
    pub limit: Duration,
    /// Who connects.
    pub groups: Vec<Group>,
    /// What must hold.
    pub thresholds: Vec<Threshold>,
}

impl Scenario {
    /// All sockets of all groups.
    pub fn sockets(&self) -> usize {
        self.groups.iter().map(|group| group.sockets).sum()
    }

    /// Sessions that are made.
    pub fn sessions(&self) -> usize {
        self.groups.iter().map(|group| if group.creates() { group.sockets * group.sessions } else { 0 }).sum()
    }
}

/// What is loaded.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A hub that runs somewhere.
    Running {
        /// `http://host:port` or `ws://host:port`.
        url: String,
        /// How to get in.
        credentials: Credentials,
        /// Users the sockets are spread over. Needs a secret.
        users: usize,
    },
    /// A hub beside this program, started for the run and over empty data.
    Started(StartHub),
}

/// How to get in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The token of all sockets.
    Token(String),
    /// The secret tokens are made with.
    Secret(String),
    /// None: `/auth/token` of a hub in development mode gives one.
    Development,
}

// By hand: credentials are shown nowhere.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Token(_) => "Token",
            Credentials::Secret(_) => "Secret",
            Credentials::Development => "Development",
        })
    }
}

/// A hub to start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartHub {
    /// The program; the one beside this one otherwise.
    pub binary: Option<PathBuf>,
    /// Where it keeps its data.
    pub storage: Storage,
    /// Pinned to this core.
    pub core: Option<usize>,
    /// More environment.
    pub environment: BTreeMap<String, String>,
}

/// Stores of the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Durable, the default of the hub too.
    #[default]
    Sqlite,
    /// Nothing survives.
    Memory,
    /// Plain files.
    File,
}

impl Storage {
    /// As `STORAGE_TYPE` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Storage::Sqlite => "sqlite",
            Storage::Memory => "memory",
            Storage::File => "file",
        }
    }
}

/// The fake vendor, as a process of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct VendorSetup {
    /// Where it listens; 0: the system chooses.
    pub port: u16,
    /// Pinned to this core.
    pub core: Option<usize>,
    /// Time per token.
    pub pace: Duration,
    /// By how much of the pace a token may come late, at random: 0 to 1.
    pub jitter: f64,
    /// Tokens of an answer that says nothing else.
    pub tokens: usize,
    /// What goes wrong, how often.
    pub faults: Vec<ChanceOfFault>,
}

/// A fault that some answers have.
#[derive(Clone, Debug, PartialEq)]
pub struct ChanceOfFault {
    /// What goes wrong.
    pub fault: Fault,
    /// As it is called.
    pub name: String,
    /// After so many tokens.
    pub after: usize,
    /// In this share of the answers: 0 to 1.
    pub share: f64,
}

/// Sockets that do the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// For people and for `attach`.
    pub name: String,
    /// How many.
    pub sockets: usize,
    /// Sessions of each socket.
    pub sessions: usize,
    /// The first of them starts so long after the run.
    pub after: Duration,
    /// How they start.
    pub arrival: Arrival,
    /// How long a step may take unless it says otherwise.
    pub within: Duration,
    /// The receive buffer of the sockets; the system's own otherwise.
    pub receive_buffer: Option<u32>,
    /// Whether a socket comes back by itself when the hub or the network ends it.
    pub reconnect: bool,
    /// What each socket does.
    pub steps: Vec<Step>,
}

impl Group {
    /// Whether it makes sessions of its own.
    pub fn creates(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Create { .. }))
    }

    /// When the `index`-th socket is to start, from the start of the run.
    pub fn start_of(&self, index: usize) -> Duration {
        let share = match self.arrival {
            Arrival::Ramp(ramp) => ramp.mul_f64(index as f64 / self.sockets.max(1) as f64),
            Arrival::Rate(per_second) => Duration::from_secs_f64(index as f64 / per_second),
        };
        self.after + share
    }
}

/// How the sockets of a group start. Open loop: a socket's start does not wait for those before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    /// Evenly within this time.
    Ramp(Duration),
    /// So many a second.
    Rate(f64),
}

/// What a scripted socket does. Steps about sessions are done for all sessions of the socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Makes the sessions and waits until they are there.
    Create {
        /// The agent; the hub's default otherwise.
        agent: Option<String>,
    },
    /// Follows sessions.
    Attach {
        /// Sessions of another group, one for each of this socket's; its own otherwise.
        of: Option<String>,
        /// From where on.
        from: StartAt,
    },
    /// Follows them no more.
    Detach,
    /// Submits one task in each session.
    Submit {
        /// `{socket}` and `{session}` in it are replaced by their numbers.
        prompt: String,
        /// What to do while another task runs.
        on_busy: Option<OnBusy>,
        /// Spread over this time instead of at once, each session in a phase of its own.
        spread: Duration,
    },
    /// Waits.
    Expect {
        /// For what.
        what: Expected,
        /// How long at most; the group's `within` otherwise.
        within: Option<Duration>,
    },
    /// Cancels the task of each session and waits for the acknowledgement and the end.
    Cancel {
        /// Once so many tokens have come.
        after_tokens: u64,
    },
    /// Steers the task of each session and waits for the acknowledgement.
    Steer {
        /// What is said.
        input: String,
        /// Breaks off the model call.
        now: bool,
    },
    /// Ends the connection.
    Drop(How),
    /// Falls silent without ending the connection: it stays open, unread and unanswered, for a time; the script goes on without it.
    HalfOpen {
        /// How long.
        keep: Duration,
    },
    /// Reads so many bytes a second for a time.
    ReadSlowly {
        /// Bytes a second.
        rate: u64,
        /// How long.
        time: Duration,
    },
    /// Connects again and attaches the sessions it followed.
    ComeBack {
        /// After a pause of up to this long, at random.
        jitter: Duration,
        /// From where on.
        from: StartAt,
    },
    /// Does nothing but read.
    Wait {
        /// How long.
        time: Duration,
        /// Up to this much longer, at random.
        jitter: Duration,
    },
    /// Waits until all sockets of the group are here.
    Meet {
        /// Which of the group's meetings.
        name: String,
    },
    /// Does steps again and again.
    Repeat {
        /// How often at most.
        times: Option<u64>,
        /// How long at most; a round that has begun is finished.
        time: Option<Duration>,
        /// From the start of one round to the start of the next. A late round is timed from when it was due.
        every: Option<Duration>,
        /// Which.
        steps: Vec<Step>,
    },
    /// Reads the logs of all sessions and compares them with what was applied.
    Verify {
        /// How they are read.
        via: Via,
    },
}

/// From where on a session is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// Behind the last event that was applied.
    #[default]
    Cursor,
    /// From a snapshot.
    Snapshot,
    /// From the first event.
    Start,
}

/// What a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// So many tokens in each session since its last submit or attach.
    Tokens(u64),
    /// The end of each session's last task.
    End(Option<EndKind>),
    /// Everything that stood in the log at the last attach.
    CaughtUp,
}

/// How tasks end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the terminal events")]
pub enum EndKind {
    Completed,
    Failed,
    Cancelled,
    Timeout,
}

/// `onBusy` of `submit_task`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the protocol's own words")]
pub enum OnBusy {
    Queue,
    Reject,
    Interrupt,
    Rollback,
    Steer,
}

impl OnBusy {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            OnBusy::Queue => "queue",
            OnBusy::Reject => "reject",
            OnBusy::Interrupt => "interrupt",
            OnBusy::Rollback => "rollback",
            OnBusy::Steer => "steer",
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With a close frame.
    Clean,
    /// With a TCP reset.
    Reset,
    /// With a reset in the middle of a frame that is being sent, and of one that is being read.
    MidFrame,
}

/// How a log is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// Page by page over HTTP.
    #[default]
    Rest,
    /// Over a fresh socket, attached from the first event.
    Attach,
}
