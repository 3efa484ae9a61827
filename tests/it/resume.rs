//! Coming back: cursors, snapshots, restarts.

mod cursors;
mod fold;
mod kills;
mod property;
mod restarts;
