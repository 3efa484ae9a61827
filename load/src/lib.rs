//! What the load, soak and benchmark programs of agent-hub share.

pub mod vendor;
