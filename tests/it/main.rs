//! Everything that needs more than one part of the hub.

// Failing loudly is what a test is for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod provider;
