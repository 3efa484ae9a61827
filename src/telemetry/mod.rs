//! What the hub tells its operator: logs, traces, measurements.

mod logs;
mod metrics;
#[cfg(feature = "otlp")]
mod traces;

pub use logs::{Telemetry, TelemetryError};
pub use metrics::MetricsHandle;
