//! Which protocol is spoken. A version names what changed; its wire text is pinned by the files in `golden/`.

/// A version of the WebSocket protocol, negotiated as its `Sec-WebSocket-Protocol` name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The first.
    V1,
}

impl Version {
    /// The version spoken to a client that offers none.
    pub const LATEST: Version = Version::V1;

    /// The WebSocket subprotocol that stands for this version.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Version::V1 => "agent-hub.v1",
        }
    }

    /// The version a subprotocol stands for; `None` for any other text.
    pub fn from_subprotocol(name: &str) -> Option<Version> {
        (name == Version::V1.subprotocol()).then_some(Version::V1)
    }
}
