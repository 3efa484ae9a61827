//! The HTTP front and the native API, over real sockets.

mod access;
mod admin;
mod errors;
mod front;
mod guessing;
mod origins;
mod seed;
mod socket;
mod streams;
mod tasks;
