//! The WebSocket as its users meet it.

mod admission;
mod ownership;
mod people;
mod revocation;
mod talk;
mod tasks;
