//! How a client stands.

/// How a client stands, for people to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There was no connection yet.
    #[default]
    Connecting,
    /// Connected; events that were missed are on their way.
    Replaying,
    /// Connected, and every session is up to date.
    Live,
    /// The connection is lost: what was seen may be old. The client is on its way back.
    Stale,
    /// Ended, for good.
    Closed,
}

impl State {
    /// As programs and people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Replaying => "replaying",
            State::Live => "live",
            State::Stale => "stale",
            State::Closed => "closed",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
