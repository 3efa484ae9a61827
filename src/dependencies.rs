//! What the agents of this hub need besides the hub: a vector database, a tool server. Declared by the operator, and looked at when
//! somebody asks how things are.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::join_all;
use reqwest::{Client, Url, redirect::Policy};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout},
};

/// The longest one of them may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// What was found is true for so long: whoever asks often does not make the hub knock often.
const FRESH: Duration = Duration::from_secs(5);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Its name, for people.
    pub name: String,
    /// Where it answers.
    pub place: Place,
    /// Whether the hub is of no use without it.
    pub required: bool,
}

/// Where something answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A GET of this is answered with a status below 400.
    Http(Url),
    /// `host:port` takes connections.
    Tcp(String),
}

/// How one of them was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub name: String,
    /// Whether the hub is of no use without it.
    pub required: bool,
    /// What is wrong with it: no address, no text of its own. `None`: it answers.
    pub trouble: Option<&'static str>,
}

/// All of them. Cheap to clone.
#[derive(Clone)]
pub struct Dependencies(Arc<Inner>);

struct Inner {
    all: Vec<Dependency>,
    /// `None` where no TLS can be set up.
    client: Option<Client>,
    /// Held while looking, so that many who ask at once look once.
    seen: Mutex<Option<(Instant, Arc<[Found]>)>>,
}

impl Place {
    /// Reads `http://…`, `https://…` or `tcp://host:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        match (url.scheme(), url.host_str(), url.port()) {
            ("http" | "https", Some(_), _) => Some(Place::Http(url)),
            ("tcp", Some(host), Some(port)) => Some(Place::Tcp(format!("{host}:{port}"))),
            _ => None,
        }
    }
}

impl Dependencies {
    /// These.
    pub fn new(all: Vec<Dependency>) -> Self {
        // What the environment says about proxies is about the internet; these are neighbours.
        let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(PATIENCE).build();
        let client = client.inspect_err(|error| tracing::warn!(%error, "dependencies cannot be asked over HTTP")).ok();
        Self(Arc::new(Inner { all, client, seen: Mutex::new(None) }))
    }

    /// How they are, now or a moment ago, in the order they were declared.
    pub async fn look(&self) -> Arc<[Found]> {
        let mut seen = self.0.seen.lock().await;
        if let Some((at, found)) = &*seen
            && at.elapsed() < FRESH
        {
            return Arc::clone(found);
        }
        let found: Arc<[Found]> = join_all(self.0.all.iter().map(|one| self.knock(one))).await.into();
        *seen = Some((Instant::now(), Arc::clone(&found)));
        found
    }

    async fn knock(&self, one: &Dependency) -> Found {
        let trouble = match &one.place {
            Place::Http(url) => match &self.0.client {
                Some(client) => ask(client, url).await,
                None => Some("it cannot be asked"),
            },
            Place::Tcp(place) => match timeout(PATIENCE, TcpStream::connect(place)).await {
                Ok(Ok(_)) => None,
                Ok(Err(_)) => Some("it cannot be reached"),
                Err(_) => Some("it does not answer in time"),
            },
        };
        Found { name: one.name.clone(), required: one.required, trouble }
    }
}

impl fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0.all).finish()
    }
}

async fn ask(client: &Client, url: &Url) -> Option<&'static str> {
    match client.get(url.clone()).send().await {
        Ok(answer) if answer.status().as_u16() < 400 => None,
        Ok(_) => Some("it answers with an error"),
        Err(error) if error.is_timeout() => Some("it does not answer in time"),
        Err(_) => Some("it cannot be reached"),
    }
}
