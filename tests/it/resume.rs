//! Coming back: cursors, snapshots, restarts.

mod cursors;
mod fold;
mod kills;
mod pages;
mod property;
mod restarts;
