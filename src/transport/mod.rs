//! The ways in: sockets, HTTP, SSE. Turns bytes and headers into calls of the runtime, and its answers back; decides nothing itself.
//!
//! A request passes, in this order: [`front`] (a place for its connection, deadlines), [`guard`] (Host, request id, credentials out of
//! the URI, Origin), the router, [`auth`] (who is it; everything not listed as public needs a token), the handler.

pub mod auth;
pub mod body;
pub mod client_address;
pub mod connection;
pub mod credentials;
pub mod edge;
pub mod failed_auth;
pub mod front;
pub mod guard;
pub mod hosts;
pub mod json;
pub mod origin;
pub mod problem;
pub mod rate_headers;
pub mod slots;
pub mod sse;
pub mod ws;

pub use edge::{Edge, EdgeParts, EdgeSettings};
pub use problem::Problem;
