//! `kill -9` at any moment of an execution.
