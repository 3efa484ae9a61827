//! What the load, soak and benchmark programs of agent-hub share.
//!
//! Read in this order: [`process`] (a hub as a child), [`wire`] (a socket that costs the client little), [`ledger`] (what was applied and
//! what the log says), [`scenario`] (load as data), [`run`] (scripted sockets), [`results`] (what came of it), [`bare`] (what is compared
//! with), [`bench`] (figures), [`peers`] (other servers), [`soak`] (promises), [`vendor`] (the fake model).

pub mod bare;
pub mod bench;
pub mod figure;
pub mod ledger;
pub mod peers;
pub mod process;
pub mod results;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod soak;
pub mod token;
pub mod vendor;
pub mod wire;
