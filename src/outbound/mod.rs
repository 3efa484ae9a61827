//! Requests to wherever a user or a model points: the only way out for addresses that nobody of this hub has chosen.
//!
//! A name is resolved once, every answer is checked, and the connection goes to an address that was checked: so a name that means one
//! thing when it is looked at and another when it is used gets nowhere. Redirects are followed here, one by one, each checked like the
//! first. Nothing of the environment (proxies, credentials) goes along. What operators configure themselves does not pass through here.

mod address;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use ipnet::IpNet;
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION},
};
use url::Host;

pub use address::is_public;

/// All of a request: names, connections, redirects, the body.
const TOTAL: Duration = Duration::from_secs(10);
/// Of a body, in bytes; what is longer is cut.
pub const BODY_BYTES: usize = 1024 * 1024;
/// How often a request may be sent elsewhere.
const REDIRECTS: usize = 3;
/// Of a URL, in bytes.
const URL_BYTES: usize = 4096;

/// What names mean.
pub trait Names: Send + Sync + 'static {
    /// The addresses of a name.
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// What the operator lets pass besides the public internet over TLS.
#[derive(Clone, Debug, Default)]
pub struct OutboundConfig {
    /// Whether `http:` is allowed too.
    pub allow_http: bool,
    /// Addresses that are not public and allowed all the same.
    pub allowed_private: Vec<IpNet>,
    /// Where this hub listens: never allowed, so that nobody talks to it in its own name.
    pub own_port: Option<u16>,
}

/// The way out. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    client: Client,
    guard: Arc<Guard>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The status.
    pub status: StatusCode,
    /// Where it came from in the end.
    pub url: Url,
    /// Its `content-type`; empty if there is none.
    pub content_type: String,
    /// The body, cut at [`BODY_BYTES`].
    pub body: Vec<u8>,
    /// Whether it was cut.
    pub truncated: bool,
}

/// Why nothing came back. Names no address that a name means: what lies inside is nobody's business.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// It is no URL this hub follows.
    #[error("{0}")]
    Refused(String),
    /// All of it took too long.
    #[error("there was no answer within {} seconds", TOTAL.as_secs())]
    TimedOut,
    /// It was tried and went wrong.
    #[error("{0}")]
    Failed(String),
}

struct Guard {
    config: OutboundConfig,
    names: Arc<dyn Names>,
}

/// Said of every address inside, however it was written.
const INSIDE: &str = "the address is not on the public internet";

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("config", &self.guard.config).finish_non_exhaustive()
    }
}

impl Outbound {
    /// A way out for these rules, with the names of the system.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: OutboundConfig) -> Result<Self, reqwest::Error> {
        Self::with_names(config, Arc::new(SystemNames))
    }

    /// The same with other names.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_names(config: OutboundConfig, names: Arc<dyn Names>) -> Result<Self, reqwest::Error> {
        let guard = Arc::new(Guard { config, names });
        let client = Client::builder()
            .user_agent(concat!("agent-hub/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Checked(Arc::clone(&guard)))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(TOTAL)
            // A connection that stays is one to an address that was checked for another request.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client, guard })
    }

    /// Fetches what is there. Sends no credentials, wherever it is sent on to.
    ///
    /// Cancel safety: dropping it closes the connection.
    ///
    /// # Errors
    /// [`OutboundError`]. A status that says no is an answer.
    pub async fn fetch(&self, method: Method, url: &str) -> Result<Fetched, OutboundError> {
        tokio::time::timeout(TOTAL, self.follow(method, url)).await.unwrap_or(Err(OutboundError::TimedOut))
    }

    async fn follow(&self, method: Method, url: &str) -> Result<Fetched, OutboundError> {
        if url.len() > URL_BYTES {
            return Err(OutboundError::Refused(format!("the URL is longer than {URL_BYTES} bytes")));
        }
        let mut url = Url::parse(url).map_err(|error| OutboundError::Refused(format!("it is no URL: {error}")))?;
        for _ in 0..=REDIRECTS {
            self.guard.check(&url).await?;
            let response = self.client.request(method.clone(), url.clone()).send().await.map_err(|error| failed(&error))?;
            match redirect(&url, &response)? {
                None => return whole(url, response).await,
                Some(next) => url = next,
            }
        }
        Err(OutboundError::Failed(format!("it was sent elsewhere more than {REDIRECTS} times")))
    }
}

impl Guard {
    /// Whether a URL may be asked for, as far as that can be seen before its name is resolved.
    async fn check(&self, url: &Url) -> Result<(), OutboundError> {
        let refused = |text: &str| Err(OutboundError::Refused(text.to_owned()));
        match url.scheme() {
            "https" => {}
            "http" if self.config.allow_http => {}
            "http" => return refused("only https is allowed"),
            _ => return refused("only https and http are URLs of the web"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("a URL must not carry credentials");
        }
        // The resolver is not asked about addresses, in whatever notation they were written.
        let literal = match url.host() {
            None => return refused("the URL names no host"),
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
        };
        if literal.is_some_and(|address| !self.allows(address)) {
            return refused(INSIDE);
        }
        if url.port_or_known_default() == self.config.own_port && self.config.own_port.is_some() {
            let addresses = match (literal, url.host_str()) {
                (Some(address), _) => vec![address],
                (None, host) => self.names.resolve(host.unwrap_or_default().to_owned()).await.unwrap_or_default(),
            };
            // Allowed only because somebody has allowed what is inside, where this hub is too.
            if addresses.iter().any(|address| !is_public(*address)) {
                return refused("it is this hub itself");
            }
        }
        Ok(())
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.config.allowed_private.iter().any(|network| network.contains(&address))
    }
}

/// The resolver of the client: gives out addresses that were checked, or none.
struct Checked(Arc<Guard>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        async move {
            let found = guard.names.resolve(name.as_str().to_owned()).await?;
            // One that is inside spoils them all: whoever answers so is up to something.
            if found.is_empty() || found.iter().any(|address| !guard.allows(*address)) {
                return Err(Inside.into());
            }
            let addresses: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        }
        .boxed()
    }
}

/// A name means an address that is not allowed.
#[derive(Debug, thiserror::Error)]
#[error("{INSIDE}")]
struct Inside;

struct SystemNames;

impl Names for SystemNames {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) }.boxed()
    }
}

/// Where an answer sends the request on to.
fn redirect(from: &Url, response: &Response) -> Result<Option<Url>, OutboundError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(place) = response.headers().get(LOCATION) else { return Ok(None) };
    let place = place.to_str().ok().and_then(|place| from.join(place).ok());
    place.map(Some).ok_or_else(|| OutboundError::Failed("it was sent elsewhere, to no URL".to_owned()))
}

async fn whole(url: Url, response: Response) -> Result<Fetched, OutboundError> {
    let status = response.status();
    // Nothing was asked for compressed, and what is cannot be bounded by its length.
    if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(OutboundError::Failed("the answer is compressed, which was not asked for".to_owned()));
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| failed(&error))?;
        let room = BODY_BYTES - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok(Fetched { status, url, content_type, body, truncated: true });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched { status, url, content_type, body, truncated: false })
}

fn failed(error: &reqwest::Error) -> OutboundError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<Inside>() {
            return OutboundError::Refused(INSIDE.to_owned());
        }
        cause = inner.source();
    }
    // The error's own text has the URL in it, and what the network inside looks like.
    let text = if error.is_connect() { "no connection" } else { "the answer broke off or is no HTTP" };
    OutboundError::Failed(text.to_owned())
}
