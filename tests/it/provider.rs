//! The vendors' providers against strict fakes over real HTTP.

mod faults;
mod resilience;
mod wire;

use std::{sync::Arc, time::Duration};

use agent_hub::provider::{
    CallEnd, ModelEvent, ModelMessage, ModelRequest, ModelToolCall, ProviderError, SharedProvider, anthropic::Anthropic, openai::OpenAi,
    vendor::VendorConfig,
};
use agent_hub_load::vendor::{FakeVendor, FakeVendorConfig, Script};
use futures::StreamExt;

const KEY: &str = "sk-test-key";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OpenAi,
    Anthropic,
}

const KINDS: [Kind; 2] = [Kind::OpenAi, Kind::Anthropic];

impl Kind {
    fn config(self, base_url: String) -> VendorConfig {
        let config = match self {
            Kind::OpenAi => VendorConfig::openai(Some(KEY.into()), "default-model"),
            Kind::Anthropic => VendorConfig::anthropic(Some(KEY.into()), "default-model"),
        };
        VendorConfig { base_url, ..config }
    }

    fn provider(self, config: VendorConfig) -> SharedProvider {
        match self {
            Kind::OpenAi => Arc::new(OpenAi::new(config).unwrap()),
            Kind::Anthropic => Arc::new(Anthropic::new(config).unwrap()),
        }
    }

    fn at(self, fake: &FakeVendor) -> SharedProvider {
        self.provider(self.config(fake.base_url()))
    }
}

async fn fake(script: Script) -> FakeVendor {
    FakeVendor::start(FakeVendorConfig { api_key: Some(KEY.into()), script, ..FakeVendorConfig::default() }).await.unwrap()
}

fn user(text: &str) -> ModelMessage {
    ModelMessage::User(text.into())
}

fn ask(prompt: &str) -> ModelRequest {
    ModelRequest { messages: vec![user(prompt)], ..ModelRequest::default() }
}

/// What a call yielded, put together.
#[derive(Debug, Default)]
struct Heard {
    text: String,
    reasoning: String,
    calls: Vec<ModelToolCall>,
    end: Option<CallEnd>,
    error: Option<ProviderError>,
}

/// Listens to the end, and checks what every stream promises: nothing empty, exactly one end, nothing after it.
async fn hear(provider: &SharedProvider, request: ModelRequest) -> Heard {
    let mut heard = Heard::default();
    let mut stream = provider.call(request);
    while let Some(item) = within(stream.next()).await {
        assert!(heard.end.is_none() && heard.error.is_none(), "{item:?} after the end of {heard:?}");
        match item {
            Ok(ModelEvent::Text(text)) => {
                assert!(!text.is_empty());
                heard.text += &text;
            }
            Ok(ModelEvent::Reasoning(text)) => {
                assert!(!text.is_empty());
                heard.reasoning += &text;
            }
            Ok(ModelEvent::ToolCall(call)) => heard.calls.push(call),
            Ok(ModelEvent::End(end)) => heard.end = Some(end),
            Err(error) => heard.error = Some(error),
        }
    }
    assert!(heard.end.is_some() || heard.error.is_some(), "no end: {heard:?}");
    heard
}

/// Nothing here takes long; what does is stuck.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("stuck")
}
