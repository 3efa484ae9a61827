//! Logs on standard error, and where the spans go.

use std::io::{self, IsTerminal as _};

use tracing::{
    Level, Metadata, Subscriber,
    subscriber::{SetGlobalDefaultError, set_global_default},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt as _, Targets, filter_fn},
    layer::SubscriberExt as _,
    registry::LookupSpan,
};

use crate::config::{Config, LogConfig, LogFormat};

/// Keeps what has to be flushed at the end.
#[derive(Debug)]
#[must_use = "traces are flushed by `shutdown`"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    traces: Option<super::traces::Traces>,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none. The configuration has checked it.
    #[error("the log filter cannot be read")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process logs already.
    #[error("the process has a logger already")]
    Twice(#[from] SetGlobalDefaultError),
    /// The exporter could not be made.
    #[cfg(feature = "otlp")]
    #[error("traces cannot be exported")]
    Traces(#[from] super::traces::TracesError),
}

impl Telemetry {
    /// Starts logging. Called once, before the runtime: the exporter of traces makes a client that must not be made inside one.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub fn start(config: &Config) -> Result<Self, TelemetryError> {
        // Not `init`: that would also take what libraries write through `log`, and every frame of every socket pays for asking.
        let registry = tracing_subscriber::registry().with(lines(&config.log)?);
        log_panics();
        #[cfg(feature = "otlp")]
        {
            let traces = config.otlp_endpoint.as_deref().map(super::traces::Traces::to).transpose()?;
            set_global_default(registry.with(traces.as_ref().map(super::traces::Traces::layer)))?;
            Ok(Self { traces })
        }
        #[cfg(not(feature = "otlp"))]
        {
            set_global_default(registry)?;
            Ok(Self {})
        }
    }

    /// Sends what is left. Blocks for a few seconds at most; not for use inside the runtime.
    pub fn shutdown(self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = self.traces {
            traces.shutdown();
        }
    }
}

/// Whether a line may be written at all. Below `info` libraries print what they carry: frames with prompts in them, requests with
/// tokens in them. Whatever the filter says, they may not; our own modules may, because they never put such a thing into a line.
pub(super) fn is_harmless(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || metadata.target().starts_with("agent_hub")
}

fn lines(config: &LogConfig) -> Result<Box<dyn Layer<Registry> + Send + Sync>, TelemetryError> {
    let filter = config.filter.parse::<Targets>()?.and(filter_fn(is_harmless));
    Ok(formatted(config.format).with_filter(filter).boxed())
}

fn formatted<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // Colours in a file are noise.
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// A panic becomes a log line that says where. Not what: its message may quote the text it stumbled over.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%at, %backtrace, "a part of the hub panicked");
    }));
}
