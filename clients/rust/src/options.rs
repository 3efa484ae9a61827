//! Where to connect, as whom, and how.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use crate::{Backoff, InvalidUrl, SocketSizes};

/// Gives the token for each connection, so that an expired one can be replaced.
pub type TokenSource = Arc<dyn Fn() -> String + Send + Sync>;

/// What a client is made of. Everything but the first two has a default.
#[derive(Clone)]
pub struct Options {
    /// The hub.
    pub target: Target,
    /// Asked before every connect, and when the hub says that a token expires.
    pub token: TokenSource,
    /// Buffers of the socket.
    pub sizes: SocketSizes,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// How long an attempt may take, up to `welcome`.
    pub connect_timeout: Duration,
    /// A connection on which nothing came for this long is given up; a ping is sent at half of it. Two of the hub's heartbeats if `None`.
    pub silence: Option<Duration>,
    /// Events that wait to be read. Full: the socket is not read until there is room.
    pub queue: usize,
}

impl Options {
    /// A hub and one token.
    ///
    /// # Errors
    /// [`InvalidUrl`] unless it is `ws://host:port` or `http://host:port`.
    pub fn new(url: &str, token: &str) -> Result<Self, InvalidUrl> {
        let token = token.to_owned();
        Ok(Self {
            target: url.parse()?,
            token: Arc::new(move || token.clone()),
            sizes: SocketSizes::default(),
            backoff: Backoff::default(),
            connect_timeout: Duration::from_secs(10),
            silence: None,
            queue: 1024,
        })
    }
}

// By hand: a token is shown nowhere.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("target", &self.target).field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

/// Where a hub listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`
    pub authority: String,
}

impl FromStr for Target {
    type Err = InvalidUrl;

    /// # Errors
    /// [`InvalidUrl`] unless it is `ws://host[:port]` or `http://host[:port]`; a path is ignored.
    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("http://")).ok_or(InvalidUrl)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if authority.is_empty() || !authority.chars().all(plain) {
            return Err(InvalidUrl);
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Self { authority: if has_port { authority.to_owned() } else { format!("{authority}:80") } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_from_a_url() {
        let read = |url: &str| url.parse::<Target>().map(|target| target.authority);
        assert_eq!(read("ws://127.0.0.1:3000"), Ok("127.0.0.1:3000".into()));
        assert_eq!(read("http://hub.example/ws/agents?x"), Ok("hub.example:80".into()));
        assert_eq!(read("ws://[::1]:9"), Ok("[::1]:9".into()));
        for url in ["", "ws://", "wss://a", "ws://user@a", "127.0.0.1:3000"] {
            assert_eq!(read(url), Err(InvalidUrl), "{url}");
        }
    }
}
