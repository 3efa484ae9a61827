//! Coming back: cursors, snapshots, restarts.

mod cursors;
mod fold;
mod property;
mod restarts;
