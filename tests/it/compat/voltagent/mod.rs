//! VoltAgent's API: every request and reply of its document, its readers and its client.

mod agents;
mod chat;
mod deviations;
mod workflows;
