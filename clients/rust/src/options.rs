//! Where to connect, as whom, and how.

use std::{fmt, str::FromStr, time::Duration};

use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;

use crate::{Backoff, InvalidUrl, SocketSizes, TokenSource};

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
    /// Whom to trust on `wss://`. The system's roots if `None`.
    #[cfg(feature = "tls")]
    pub tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl Options {
    /// A hub, and one token or a source of tokens.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn new(url: &str, token: impl Into<TokenSource>) -> Result<Self, InvalidUrl> {
        Ok(Self {
            target: url.parse()?,
            token: token.into(),
            sizes: SocketSizes::default(),
            backoff: Backoff::default(),
            connect_timeout: Duration::from_secs(10),
            silence: None,
            queue: 1024,
            #[cfg(feature = "tls")]
            tls: None,
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
    /// Over TLS.
    pub secure: bool,
}

impl Target {
    /// Connects to it, as far as TLS; whoever speaks over it shakes hands himself.
    ///
    /// # Errors
    /// Nobody answers, or TLS fails.
    pub async fn open(&self) -> std::io::Result<MaybeTlsStream<TcpStream>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        return crate::tls::wrap(stream, self, None).await;
        #[cfg(not(feature = "tls"))]
        Ok(MaybeTlsStream::Plain(stream))
    }

    /// The host alone, as certificates name it.
    pub fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host).trim_matches(['[', ']'])
    }
}

impl FromStr for Target {
    type Err = InvalidUrl;

    /// # Errors
    /// [`InvalidUrl`] unless it is `ws://host[:port]` or `http://host[:port]`; `wss` and `https` with the feature `tls`. A path is ignored.
    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidUrl::Form)?;
        let secure = match scheme {
            "ws" | "http" => false,
            "wss" | "https" if cfg!(feature = "tls") => true,
            "wss" | "https" => return Err(InvalidUrl::NoTls),
            _ => return Err(InvalidUrl::Form),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if authority.is_empty() || !authority.chars().all(plain) {
            return Err(InvalidUrl::Form);
        }
        // The last colon of an address in brackets may stand inside them.
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if secure { 443 } else { 80 };
        Ok(Self { authority: if has_port { authority.to_owned() } else { format!("{authority}:{port}") }, secure })
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
        for url in ["", "ws://", "ftp://a", "ws://user@a", "127.0.0.1:3000"] {
            assert_eq!(read(url), Err(InvalidUrl::Form), "{url}");
        }
    }

    #[test]
    fn tls_is_there_or_said_to_be_missing() {
        let read = |url: &str| url.parse::<Target>();
        if cfg!(feature = "tls") {
            let target = read("wss://hub.example").expect("known");
            assert_eq!((target.authority.as_str(), target.host(), target.secure), ("hub.example:443", "hub.example", true));
        } else {
            assert_eq!(read("wss://hub.example"), Err(InvalidUrl::NoTls));
        }
        assert_eq!(read("ws://[::1]:9").expect("known").host(), "::1");
    }
}
