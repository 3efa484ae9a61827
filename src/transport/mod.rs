//! stub while the front is being merged
pub mod connection;
