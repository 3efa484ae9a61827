//! The conformance kit of `agent-hub.v1`.
//!
//! Three parts: [`client`] plays scripts of a faulty server against a client, [`network`] lets a client work through a network that
//! breaks, [`server`] plays scripts of a client against a server. Clients are spoken to through a driver, `DRIVER.md`; scripts are data,
//! `SCRIPTS.md`. Read [`pattern`] first: it is how scripts say what they expect.

pub mod client;
pub mod driver;
pub mod network;
pub mod pattern;
pub mod rust_driver;
pub mod sabotage;
pub mod server;
pub mod suite;
pub mod verdict;
