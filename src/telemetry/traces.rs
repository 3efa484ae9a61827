//! Traces to an OpenTelemetry collector, over HTTP.

use std::{fmt, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The exporter and its queue.
pub(super) struct Traces(SdkTracerProvider);

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
#[error("the exporter of traces could not be made")]
pub struct TracesError(#[from] ExporterBuildError);

impl Traces {
    pub(super) fn to(endpoint: &str) -> Result<Self, TracesError> {
        let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/').trim_end_matches("/v1/traces"));
        let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build()?;
        let resource = Resource::builder().with_service_name("agent-hub").build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// Our own spans only: those of the HTTP client would be about sending the spans.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let own = filter_fn(|metadata| metadata.target().starts_with("agent_hub"));
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("agent-hub")).with_filter(own)
    }

    pub(super) fn shutdown(self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "not all traces were sent");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}
