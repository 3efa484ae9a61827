//! What the load, soak and benchmark programs of agent-hub share.
//!
//! Read in this order: [`process`] (a hub as a child), [`wire`] (a socket that costs the client little), [`bare`] (what is compared
//! with), [`bench`] (figures), [`soak`] (promises), [`vendor`] (the fake model).

pub mod bare;
pub mod bench;
pub mod process;
pub mod rng;
pub mod soak;
pub mod token;
pub mod vendor;
pub mod wire;
