//! What is loaded: a hub somewhere, or one that is started for the run, with a fake vendor if the scenario has one.

use std::{
    net::ToSocketAddrs,
    path::{Path, PathBuf},
};

use agent_hub_client::Target as Url;
use anyhow::{Context, bail};

use super::RunArgs;
use crate::{
    process::{Hub, HubOptions, Process, VendorProcess, open_files_limit},
    scenario::{Credentials, Scenario, StartHub, Target, VendorSetup},
    token,
};

/// The target of a run. Dropping it ends what was started.
pub struct Loaded {
    /// `host:port`
    pub authority: String,
    /// One per user.
    pub tokens: Vec<String>,
    /// The process, if it was started here.
    pub process: Option<Process>,
    /// In a word or two, for people.
    pub what: String,
    _hub: Option<Box<Hub>>,
    _vendor: Option<VendorProcess>,
}

impl Loaded {
    /// Starts or finds it.
    ///
    /// # Errors
    /// It does not start, cannot be reached, or lets nobody in.
    pub async fn open(scenario: &Scenario, args: &RunArgs) -> anyhow::Result<Self> {
        let vendor = match &scenario.vendor {
            Some(setup) => Some(VendorProcess::start(&vendor_arguments(setup), setup.core).await?),
            None => None,
        };
        let given = args.url.as_ref().map(|url| Target::Running { url: url.clone(), credentials: args.credentials(), users: 1 });
        match given.as_ref().unwrap_or(&scenario.target) {
            Target::Running { url, credentials, users } => Self::running(url, credentials, *users, vendor).await,
            Target::Started(start) => Self::started(start, scenario, args, vendor).await,
        }
    }

    async fn running(url: &str, credentials: &Credentials, users: usize, vendor: Option<VendorProcess>) -> anyhow::Result<Self> {
        let Url { authority, secure } = url.parse::<Url>().with_context(|| format!("{url:?}"))?;
        anyhow::ensure!(!secure, "{url}: TLS is not spoken here; go to the hub past its proxy");
        let mut addresses = authority.to_socket_addrs().with_context(|| format!("looking up {authority}"))?;
        anyhow::ensure!(addresses.next().is_some(), "{authority} has no address");
        let tokens = match credentials {
            Credentials::Token(token) => vec![token.clone()],
            Credentials::Secret(secret) => (0..users).map(|user| token::mint_with(secret, &user_name(user))).collect::<Result<_, _>>()?,
            Credentials::Development => {
                let mut tokens = Vec::new();
                for user in 0..users {
                    tokens.push(development_token(&authority, &user_name(user)).await?);
                }
                tokens
            }
        };
        Ok(Self { what: format!("the hub at {authority}"), authority, tokens, process: None, _hub: None, _vendor: vendor })
    }

    async fn started(start: &StartHub, scenario: &Scenario, args: &RunArgs, vendor: Option<VendorProcess>) -> anyhow::Result<Self> {
        let binary = args.hub_binary(start.binary.as_deref())?;
        let mut options = HubOptions::new(&binary);
        options.core = start.core;
        options.storage = start.storage.name();
        options.openai = vendor.as_ref().map(|vendor| vendor.url.clone());
        let sockets = scenario.sockets() + 200;
        let most = open_files_limit() * 4 / 5;
        if sockets > most {
            bail!(
                "{sockets} sockets are more than a hub started here may have ({most}: four fifths of its {} open files); \
                 put more sessions on each socket (`sessions`), or fewer sockets",
                open_files_limit()
            );
        }
        let per_socket = scenario.groups.iter().map(|group| group.sessions).max().unwrap_or(1);
        // Room for what the scenario asks for; what is set there wins, because it comes later.
        options = options
            .with("AGENT_HUB_SERVER__MAX_CONNECTIONS", sockets.max(1000))
            .with("AGENT_HUB_SERVER__ATTACHED_SESSIONS", per_socket.max(10))
            .with("AGENT_HUB_RUNTIME__TASKS_PER_NODE", 100_000);
        for (name, value) in &start.environment {
            options = options.with(name, value);
        }
        let hub = Hub::start(options).await?;
        Ok(Self {
            authority: hub.address().to_string(),
            tokens: vec![token::mint("load")?],
            process: Some(hub.process()?),
            what: format!("a hub with {}", start.storage.name()),
            _hub: Some(Box::new(hub)),
            _vendor: vendor,
        })
    }
}

impl RunArgs {
    fn credentials(&self) -> Credentials {
        match (&self.token, &self.secret) {
            (Some(token), _) => Credentials::Token(token.clone()),
            (None, Some(secret)) => Credentials::Secret(secret.clone()),
            (None, None) => Credentials::Development,
        }
    }

    fn hub_binary(&self, written: Option<&Path>) -> anyhow::Result<PathBuf> {
        let beside = std::env::current_exe()?.with_file_name("agent-hub");
        let binary = std::path::absolute(self.hub.as_deref().or(written).unwrap_or(&beside))?;
        anyhow::ensure!(binary.exists(), "{} does not exist; build it, or give --hub", binary.display());
        Ok(binary)
    }
}

fn user_name(user: usize) -> String {
    format!("load-{user}")
}

fn vendor_arguments(setup: &VendorSetup) -> Vec<String> {
    let mut arguments = vec![
        format!("--port={}", setup.port),
        format!("--pace={}", setup.pace.as_secs_f64() * 1000.0),
        format!("--jitter={}", setup.jitter),
        format!("--tokens={}", setup.tokens),
    ];
    arguments.extend(setup.faults.iter().map(|chance| format!("--fault={}:{}:{}", chance.name, chance.after, chance.share)));
    arguments
}

/// A hub in development mode gives tokens to whoever asks.
async fn development_token(authority: &str, user: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::new();
    let body = serde_json::json!({ "userId": user });
    let answer = client.post(format!("http://{authority}/auth/token")).json(&body).send().await.context("asking for a token")?;
    let status = answer.status();
    let text = answer.text().await?;
    let token = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|answer| Some(answer["token"].as_str()?.to_owned()));
    token
        .with_context(|| format!("{authority} gives no token ({status}): a hub in production needs `token`, or `secret` to make them with"))
}
