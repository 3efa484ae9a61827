//! The command line: what was asked for, and what the exit status says about it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    auth::Authenticator,
    config::{Config, Inputs, Mistakes, parse_duration},
    runtime::Plan,
    server::{self, ServeError},
    store::{OpenError, StoreError},
    telemetry::{Telemetry, TelemetryError},
};

mod sessions;

const AFTER_HELP: &str = "\
Configuration: defaults < agent-hub.toml (or --config) < environment < flags. --print-config shows the result; \
agent-hub.example.toml lists every setting. With nothing configured the hub runs in development mode on 127.0.0.1.

Exit status:
  0  ended as asked
  1  something failed
  2  the command line or the configuration is wrong; all mistakes are listed
  3  the port is taken
  4  the store is in use by another process, cannot be opened or written, or is damaged";

/// A WebSocket-first realtime hub for AI agents.
#[derive(Debug, Parser)]
#[command(name = "agent-hub", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    settings: Settings,

    /// Print the effective configuration, secrets left out, and where each value came from
    #[arg(long)]
    print_config: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Settings {
    /// The configuration file [default: agent-hub.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<String>,
    /// The address to listen on
    #[arg(long, global = true, value_name = "ADDRESS")]
    host: Option<String>,
    /// The port to listen on
    #[arg(long, global = true, value_name = "PORT")]
    port: Option<String>,
    /// The store: memory, file, sqlite
    #[arg(long, global = true, value_name = "TYPE")]
    storage: Option<String>,
    /// The store's file or directory
    #[arg(long, global = true, value_name = "PATH")]
    storage_path: Option<String>,
    /// How logs look: text, json
    #[arg(long, global = true, value_name = "FORMAT")]
    log: Option<String>,
    /// Any setting, by its name in the configuration file; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default)
    Serve,
    /// Print a token signed with the configured or the development secret
    Token {
        /// The user it speaks for
        #[arg(long)]
        user: String,
        /// free, pro, enterprise
        #[arg(long, default_value = "free", value_parser = plan)]
        plan: Plan,
        /// A scope it carries; may be repeated
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// How long it is valid
        #[arg(long, default_value = "24h", value_parser = duration)]
        ttl: Duration,
    },
    /// Look into the store, also while a hub runs on it
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// Read the whole store, and say what in it is not as it was written; changes nothing
    ///
    /// Also while a hub runs on it. On a large store it takes a while and keeps the hub from tidying its write-ahead log meanwhile.
    Check,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] Mistakes),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    #[error("a store in memory cannot be read from outside. Ask the hub instead:\n  {0}")]
    InMemory(String),
    #[error("a store in memory keeps nothing to check")]
    NothingKept,
    #[error("{path} is damaged, {findings} findings: put a backup back, or go on without what cannot be read")]
    Damaged { path: String, findings: u64 },
    #[error("there is no store at {0}")]
    NoStore(String),
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    #[error("there is no session {0}")]
    NoSession(String),
    #[error("the token could not be made")]
    Mint(#[from] crate::auth::MintError),
    #[error(transparent)]
    Secret(#[from] crate::auth::SecretFileError),
    #[error("logging could not be started")]
    Telemetry(#[from] TelemetryError),
    #[error("the runtime could not be started")]
    Runtime(#[source] io::Error),
    #[error("the output could not be written")]
    Output(#[from] io::Error),
}

/// Runs the program.
pub fn run() -> ExitCode {
    #[cfg(feature = "js")]
    if let Some(arguments) = as_child() {
        return crate::tool::code::child::main(&arguments);
    }
    let cli = Cli::parse();
    // Before anything makes a client: two crates of the process could otherwise each choose their own cryptography.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Somebody closed the pipe, as `head` does.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "agent-hub: {}", chain(&failure));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What follows the word that makes this program the process of a script: no subcommand, because nobody is to call it, and because it has to
/// start before anything else is set up.
#[cfg(feature = "js")]
fn as_child() -> Option<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == crate::tool::code::CHILD_WORD).then(|| arguments.collect())
}

impl Failure {
    const fn exit_code(&self) -> u8 {
        match self {
            Failure::Config(_) | Failure::Mint(_) | Failure::Secret(_) => 2,
            Failure::Serve(failure) => match failure {
                ServeError::PortTaken(_) | ServeError::NoFreePort { .. } => 3,
                ServeError::Secret(_)
                | ServeError::Directory { .. }
                | ServeError::Provider { .. }
                | ServeError::Agent { .. }
                | ServeError::Tool { .. }
                | ServeError::Route(_)
                | ServeError::Workflows(_) => 2,
                ServeError::Store(_) | ServeError::Recover(_) => 4,
                ServeError::Listen { .. } | ServeError::Listener(_) => 1,
            },
            Failure::Open(_)
            | Failure::InMemory(_)
            | Failure::NothingKept
            | Failure::NoStore(_)
            | Failure::Store(_)
            | Failure::Damaged { .. } => 4,
            Failure::NoSession(_) | Failure::Telemetry(_) | Failure::Runtime(_) | Failure::Output(_) => 1,
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let config = Config::load(&cli.settings.inputs())?;
    if cli.print_config {
        return Ok(io::stdout().lock().write_all(config.report.effective().as_bytes())?);
    }
    match cli.command {
        None | Some(Command::Serve) => serve(config),
        Some(Command::Token { user, plan, scopes, ttl }) => {
            let token = Authenticator::open(&config.auth)?.mint(&user, plan, &scopes, ttl)?;
            Ok(writeln!(io::stdout(), "{token}")?)
        }
        Some(Command::Sessions(command)) => sessions::run(command, &config),
        Some(Command::Check) => sessions::check(&config),
    }
}

fn serve(config: Config) -> Result<(), Failure> {
    let telemetry = Telemetry::start(&config)?;
    let served = block_on(server::serve(config));
    telemetry.shutdown();
    Ok(served??)
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    Ok(runtime.block_on(work))
}

impl Settings {
    fn inputs(self) -> Inputs {
        let named = [
            ("--host", "server.host", self.host),
            ("--port", "server.port", self.port),
            ("--storage", "storage.type", self.storage),
            ("--storage-path", "storage.path", self.storage_path),
            ("--log", "log.format", self.log),
        ];
        let named = named.into_iter().filter_map(|(flag, key, value)| Some((flag.to_owned(), key.to_owned(), value?)));
        let set = self.set.into_iter().map(|(key, value)| ("--set".to_owned(), key, value));
        Inputs::of_process(self.config, named.chain(set).collect())
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as server.heartbeat=10s")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

fn plan(text: &str) -> Result<Plan, String> {
    match text {
        "free" => Ok(Plan::Free),
        "pro" => Ok(Plan::Pro),
        "enterprise" => Ok(Plan::Enterprise),
        _ => Err("expected free, pro or enterprise".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|time| *time >= Duration::from_secs(1))
        .ok_or_else(|| "expected a time of at least a second, such as 15min, 24h or 30d".to_owned())
}

/// An error and everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string().trim_end().to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
