//! Client of agent-hub: sessions that survive a dropped connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use agent_hub_client::{Hub, Options, Outcome};
//!
//! let hub = Hub::connect(Options::new("ws://127.0.0.1:3000", "<token>")?).await?;
//! let session = hub.new_session(Default::default()).await?;
//! let task = session.submit("Name three sea birds.").await?;
//! match task.finished().await {
//!     Ok(Outcome::Completed { .. }) => println!("{}", task.text()),
//!     other => println!("it came otherwise: {other:?}"),
//! }
//! # Ok(()) }
//! ```
//!
//! [`Hub`], [`Session`] and [`Task`] are for programs that talk; [`Client`] and [`Events`] lie below, for programs that want every event
//! of every session in one stream:
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
//! # What holds
//!
//! - Every event of an attached session is given exactly once and in order, however often the connection breaks in between
//!   ([`Position`]). Where the hub cannot go on from the cursor, it says so ([`Attached::kept`]) and the snapshot replaces what was.
//! - A command is sent again, in its order, until it is answered; the ids chosen here let the hub recognise the repetition.
//! - After the close codes 4000, 4001, 4003 and 4006 the client ends ([`Ended`]); after all others it comes back, after a random pause below a
//!   bound that doubles ([`Backoff`]), or after the time the hub asked for.
//! - A hub that says nothing for two heartbeats is asked, and left if it stays silent.
//! - Tokens come from a [`TokenSource`], for each connection and when the hub says that one expires.
//! - [`Client::state`] says how it stands: connecting, replaying, live, stale, closed.
//!
//! # Queues
//!
//! | queue | bound | full |
//! |---|---|---|
//! | events of a client | [`Options::queue`] (1024) | the socket is not read until there is room. Read the events while commands wait: both come over one socket |
//! | commands without an answer | 256, and 64 that wait to be taken | [`Client::send`] waits |
//! | events of a [`Task`] | 1024 | its stream ends with [`Missed`]; text and outcome stay right |
//!
//! # Features
//!
//! `tls`: `wss://` and `https://`, with rustls and the system's root certificates.

mod backoff;
mod client;
mod driver;
mod error;
mod event;
mod options;
mod position;
mod raw;
mod state;
mod story;
mod talk;
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
    story::{Outcome, Receipt},
    talk::{Hub, Missed, Session, Task, TaskEvent},
    token::{TokenError, TokenSource},
};

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
