//! The public keys of an identity provider: fetched, kept, and fetched again when a key is missing, but never more often than
//! bounded, however many tokens name keys that do not exist.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::config::JwksAlgorithm;

/// Keys are fetched anew this often: a key that was withdrawn is refused at most this much later.
const REFRESH_EVERY: Duration = Duration::from_secs(300);
/// A first fetch that failed is tried again sooner.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// However many unknown keys are named, the provider is asked at most this often.
const LEAST_PAUSE: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_SET_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 64;

type Keys = HashMap<String, Arc<DecodingKey>>;

pub(super) struct JwksKeys {
    url: String,
    algorithm: JwksAlgorithm,
    keys: ArcSwap<Keys>,
    /// When the last fetch began. Held while fetching, so that all who wait share one fetch.
    last_fetch: Mutex<Option<Instant>>,
    /// Somebody named a key that is not here.
    missed: Notify,
}

/// The keys, not yet read: one this library does not know must not spoil the others.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

pub(super) enum Lookup {
    Found(Arc<DecodingKey>),
    Unknown,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the key set could not be fetched")]
    Http(#[from] reqwest::Error),
    #[error("the key set is larger than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("the key set is not one")]
    Malformed(#[from] serde_json::Error),
    #[error("the key set has no key for the configured algorithm")]
    Empty,
}

impl JwksKeys {
    pub(super) fn new(url: String, algorithm: JwksAlgorithm) -> Self {
        Self { url, algorithm, keys: ArcSwap::default(), last_fetch: Mutex::new(None), missed: Notify::new() }
    }

    /// The key a token names. A token that names none can only mean the only one there is. Asks nobody, but a key that is missed
    /// makes [`JwksKeys::keep_fresh`] look for it soon.
    pub(super) fn find(&self, kid: Option<&str>) -> Lookup {
        let keys = self.keys.load();
        let found = match kid {
            Some(kid) => keys.get(kid),
            None if keys.len() == 1 => keys.values().next(),
            None => None,
        };
        match found {
            Some(key) => Lookup::Found(Arc::clone(key)),
            None => {
                self.missed.notify_one();
                Lookup::Unknown
            }
        }
    }

    /// Fetches the set unless that was done a moment ago. Returns whether it is worth looking again.
    pub(super) async fn refresh_if_allowed(&self) -> bool {
        let asked = Instant::now();
        let mut last = self.last_fetch.lock().await;
        match *last {
            // Somebody else fetched while we waited for the lock.
            Some(at) if at >= asked => return true,
            Some(at) if at.elapsed() < LEAST_PAUSE => return false,
            Some(_) | None => {}
        }
        *last = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                true
            }
            // The old keys stay good: an identity provider that is down must not lock everybody out.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "key set not refreshed");
                false
            }
        }
    }

    pub(super) async fn keep_fresh(&self, stop: CancellationToken) {
        loop {
            self.refresh_if_allowed().await;
            let pause = if self.keys.load().is_empty() { RETRY_EVERY } else { REFRESH_EVERY };
            let due = async {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.missed.notified() => self.least_pause().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = due => {}
            }
        }
    }

    /// Waits until the set may be fetched again.
    async fn least_pause(&self) {
        let last = *self.last_fetch.lock().await;
        sleep(last.map_or(Duration::ZERO, |last| LEAST_PAUSE.saturating_sub(last.elapsed()))).await;
    }

    async fn fetch(&self) -> Result<Keys, FetchError> {
        // The URL is the operator's own, so no guard against private addresses; but nobody else may point it elsewhere.
        let client = reqwest::Client::builder().timeout(FETCH_TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        let mut response = client.get(&self.url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_SET_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        self.read_set(&body)
    }

    /// One key that cannot be used does not spoil the others.
    fn read_set(&self, body: &[u8]) -> Result<Keys, FetchError> {
        let set: KeySet = serde_json::from_slice(body)?;
        let read = |key| serde_json::from_value::<Jwk>(key).ok();
        let keys: Keys = set.keys.into_iter().take(MAX_KEYS).filter_map(read).filter_map(|jwk| self.usable(&jwk)).collect();
        if keys.is_empty() { Err(FetchError::Empty) } else { Ok(keys) }
    }

    fn usable(&self, jwk: &Jwk) -> Option<(String, Arc<DecodingKey>)> {
        let fits = match (&jwk.algorithm, self.algorithm) {
            (AlgorithmParameters::RSA(_), JwksAlgorithm::Rs256) => true,
            (AlgorithmParameters::EllipticCurve(curve), JwksAlgorithm::Es256) => curve.curve == EllipticCurve::P256,
            (AlgorithmParameters::OctetKeyPair(curve), JwksAlgorithm::EdDsa) => curve.curve == EllipticCurve::Ed25519,
            _ => false,
        };
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
        if !fits || !signs {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some((jwk.common.key_id.clone().unwrap_or_default(), Arc::new(key)))
    }
}
