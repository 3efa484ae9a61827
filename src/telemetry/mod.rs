//! What the hub tells its operator: logs, traces, measurements.

pub mod metrics;

pub use metrics::MetricsHandle;
