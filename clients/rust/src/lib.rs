//! Client of agent-hub: sessions that survive a dropped connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use agent_hub_client::{Client, ClientEvent, Options};
//!
//! let (client, mut events) = Client::connect(Options::new("ws://127.0.0.1:3000", "<token>")?).await?;
//! let session = client.create(Default::default()).await?;
//! client.submit(session, "Name three sea birds.").await?;
//! while let Some(event) = events.next().await {
//!     if let ClientEvent::Event(event) = event {
//!         println!("{}", event.text());
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Every event of an attached session is given exactly once and in order, however often the connection breaks in between
//! ([`Position`]). A command is sent again until it is answered; the ids chosen here let the hub recognise the repetition.
//! Read the events while commands wait: both come over one socket, and an unread queue stops it.
//!
//! Plain `ws://` only; put a proxy that speaks TLS in front, or use [`RawConnection`]'s parts on a stream of your own.

mod backoff;
mod client;
mod driver;
mod error;
mod event;
mod options;
mod position;
mod raw;
mod state;
#[cfg(feature = "tls")]
mod tls;
mod token;
mod unanswered;

pub use agent_hub_protocol as protocol;

pub use self::{
    backoff::Backoff,
    client::{Client, PendingAnswer},
    error::{CommandError, ConnectError, InvalidUrl},
    event::{AppliedEvent, Attached, ClientEvent, Ended, Events},
    options::{Options, Target},
    position::{Position, Verdict},
    raw::{RawConnection, Received, SocketSizes},
    state::State,
    token::{TokenError, TokenSource},
};
