//! What can go wrong.

use agent_hub_protocol::{CloseCode, server_message::ErrorMessage};

use crate::event::Ended;

/// The text does not say where a hub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It has another form.
    #[error("expected ws://host:port, wss://host:port, http://host:port or https://host:port")]
    Form,
    /// It asks for TLS.
    #[error("this program was built without TLS: switch on the feature `tls` of agent-hub-client, or use ws://")]
    NoTls,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The token cannot be sent in a header.
    #[error("the token holds characters that no token has")]
    Token,
    /// The source of tokens has none just now.
    #[error("there is no token")]
    NoToken(#[source] crate::TokenError),
    /// Nobody answers there.
    #[error("the hub cannot be reached")]
    Io(#[from] std::io::Error),
    /// The hub answered with an HTTP status instead of a WebSocket.
    #[error("the hub answered the handshake with status {0}")]
    Refused(u16),
    /// What answered speaks no WebSocket.
    #[error("the handshake failed")]
    Handshake(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The hub closed the socket before `welcome`.
    #[error("the hub closed the connection with code {0:?}")]
    Closed(Option<u16>),
    /// The first frame was not `welcome`.
    #[error("the first frame was not a welcome")]
    NoWelcome,
    /// Nothing came in time.
    #[error("the hub did not answer in time")]
    TimedOut,
}

impl ConnectError {
    /// Whether to try again with the same credentials.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Io(_) | Self::TimedOut | Self::Handshake(_) | Self::NoWelcome | Self::NoToken(_) => true,
            Self::Token => false,
            Self::Refused(status) => *status >= 500 || matches!(status, 408 | 429),
            Self::Closed(code) => resumes(*code),
        }
    }

    /// The code the hub closed with, if it did.
    pub(crate) fn close_code(&self) -> Option<u16> {
        match self {
            Self::Closed(code) => *code,
            _ => None,
        }
    }
}

/// Whether to come back after a socket was closed with this code. A code the protocol does not know is a network's, and so yes.
pub(crate) fn resumes(code: Option<u16>) -> bool {
    code.and_then(CloseCode::from_code).is_none_or(CloseCode::resume)
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The hub refused it; nothing was changed. A code that is newer than this program stands in the text, and `code` is `internal`:
    /// go by `retryable`.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(Box<ErrorMessage>),
    /// It is larger than the hub takes. It was not sent, or the hub closed a connection because of it; it is not sent again.
    #[error("the message has {bytes} bytes, which is more than the hub takes")]
    TooBig {
        /// Its size.
        bytes: usize,
        /// The largest the hub takes, where it said so.
        limit: Option<usize>,
    },
    /// The client has ended. Whether the hub carried the command out is not known.
    #[error("the client has ended ({0:?})")]
    Ended(Ended),
}

impl CommandError {
    /// The hub's refusal, if it is one.
    pub fn refusal(&self) -> Option<&ErrorMessage> {
        match self {
            Self::Refused(error) => Some(error),
            Self::TooBig { .. } | Self::Ended(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_codes_are_never_retried() {
        for code in CloseCode::ALL {
            assert_eq!(resumes(Some(code.code())), code.resume(), "{code:?}");
        }
        assert!(resumes(None) && resumes(Some(1006)) && resumes(Some(4999)));
        assert!(!ConnectError::Refused(403).retryable() && ConnectError::Refused(503).retryable());
    }
}
