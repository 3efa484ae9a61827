//! The WebSocket as its users meet it.

mod admission;
mod ownership;
mod people;
mod talk;
mod tasks;
