//! Verifies and mints JSON Web Tokens.

use std::{fmt, time::Duration};

use agent_hub_protocol::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    dev_secret::{self, SecretFileError},
    jwks::{JwksKeys, Lookup},
};
use crate::{
    config::{AuthConfig, AuthMode},
    runtime::identity::{Plan, Principal},
};

/// Longer tokens are refused before anything looks into them.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Clocks differ.
const LEEWAY_SECONDS: u64 = 5;
/// A user's name: long enough for any identity provider, short enough for keys and logs.
const MAX_USER_CHARS: usize = 200;
/// The end of the year 9999: later is not a time anybody means.
const LATEST_EXPIRY: u64 = 253_402_300_799;

/// Checks tokens, and mints them where the hub has the secret.
pub struct Authenticator {
    keys: Keys,
    validation: Validation,
    issuer: Option<String>,
    audience: Option<String>,
    development: bool,
}

enum Keys {
    Shared { sign: EncodingKey, verify: Vec<DecodingKey> },
    Jwks(Box<JwksKeys>),
}

/// The one answer to every token that will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid or expired token")]
pub struct InvalidToken;

/// Why no token was minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The hub only has an identity provider's public keys.
    #[error("tokens of this hub come from its identity provider (auth.jwks_url); the hub has no key to sign with")]
    NoSecret,
    /// The name would be refused when the token is used.
    #[error("a user's name has 1 to {MAX_USER_CHARS} characters and no control characters")]
    User,
    /// The signature could not be made.
    #[error("the token could not be signed")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// What a token says. A claim given twice, or of the wrong type, is an error of the whole token.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    id: Option<String>,
    exp: u64,
    plan: Option<String>,
    /// Any JSON: what is no text names no token, and is no reason to refuse it.
    jti: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "scopes")]
    scope: Vec<String>,
}

#[derive(Serialize)]
struct Minted<'a> {
    sub: &'a str,
    plan: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    /// So that it can be revoked.
    jti: String,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

impl Authenticator {
    /// For a checked configuration. In development mode the secret is read, or made and kept.
    ///
    /// # Errors
    /// When the development secret can neither be read nor made, or others could read it.
    pub fn open(config: &AuthConfig) -> Result<Self, SecretFileError> {
        let (keys, algorithm) = match &config.mode {
            AuthMode::Development { secret_file } => (Keys::shared(&dev_secret::read_or_make(secret_file)?, None), Algorithm::HS256),
            AuthMode::Secret { current, previous } => (Keys::shared(current, previous.as_ref()), Algorithm::HS256),
            AuthMode::Jwks { url, algorithm } => (Keys::Jwks(Box::new(JwksKeys::new(url.clone(), *algorithm))), jwks_algorithm(*algorithm)),
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        // Without a configured audience any is as good as none.
        validation.validate_aud = config.audience.is_some();
        let mut required = vec!["exp"];
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        let development = matches!(config.mode, AuthMode::Development { .. });
        Ok(Self { keys, validation, issuer: config.issuer.clone(), audience: config.audience.clone(), development })
    }

    /// Whether `/auth/token` may exist.
    pub fn is_development(&self) -> bool {
        self.development
    }

    /// Who the token speaks for. Looks at known keys only; see [`Authenticator::authenticate`].
    ///
    /// # Errors
    /// The same for every reason.
    pub fn verify(&self, token: &str) -> Result<Principal, InvalidToken> {
        self.check(token).map_err(|_| InvalidToken)
    }

    /// Like [`Authenticator::verify`], but where the key set may be out of date it is fetched once more, within its bounds.
    ///
    /// # Errors
    /// The same for every reason.
    ///
    /// # Cancel safety
    /// Safe: a fetch that was begun may be lost.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, InvalidToken> {
        match (self.check(token), &self.keys) {
            (Ok(principal), _) => Ok(principal),
            (Err(Refused::UnknownKey), Keys::Jwks(jwks)) if jwks.refresh_if_allowed().await => self.verify(token),
            (Err(_), _) => Err(InvalidToken),
        }
    }

    /// Keeps a key set fresh until `stop`. Returns at once where there is none.
    pub async fn keep_fresh(&self, stop: CancellationToken) {
        if let Keys::Jwks(jwks) = &self.keys {
            jwks.keep_fresh(stop).await;
        }
    }

    /// A token for a user.
    ///
    /// # Errors
    /// When the hub has no secret to sign with, or the user's name is none.
    pub fn mint(&self, user: &str, plan: Plan, scopes: &[String], lifetime: Duration) -> Result<String, MintError> {
        let Keys::Shared { sign, .. } = &self.keys else { return Err(MintError::NoSecret) };
        if !is_user(user) {
            return Err(MintError::User);
        }
        let now = jsonwebtoken::get_current_timestamp();
        let exp = now.saturating_add(lifetime.as_secs()).min(LATEST_EXPIRY);
        let (iss, aud) = (self.issuer.as_deref(), self.audience.as_deref());
        let claims = Minted {
            sub: user,
            plan: plan.as_str(),
            scope: scopes.join(" "),
            jti: uuid::Uuid::new_v4().to_string(),
            iat: now,
            exp,
            iss,
            aud,
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, sign)?)
    }

    fn check(&self, token: &str) -> Result<Principal, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Invalid);
        }
        let header = jsonwebtoken::decode_header(token)?;
        // Only an access token may open the hub, and a header that demands understanding (`crit`) is not understood.
        let typ = header.typ.as_deref().map(str::to_ascii_lowercase);
        if !matches!(typ.as_deref(), None | Some("jwt" | "at+jwt" | "application/at+jwt")) || header.crit.is_some() {
            return Err(Refused::Invalid);
        }
        match &self.keys {
            Keys::Shared { verify, .. } => {
                // Every key is tried, whichever fits: the time says nothing about which one it was.
                let tried = verify.iter().map(|key| self.decode(token, key)).collect::<Vec<_>>();
                tried.into_iter().find(Result::is_ok).unwrap_or(Err(Refused::Invalid))
            }
            Keys::Jwks(jwks) => match jwks.find(header.kid.as_deref()) {
                Lookup::Found(key) => self.decode(token, &key),
                Lookup::Unknown => Err(Refused::UnknownKey),
            },
        }
    }

    fn decode(&self, token: &str, key: &DecodingKey) -> Result<Principal, Refused> {
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation)?.claims;
        let user = claims.sub.or(claims.id).filter(|user| is_user(user)).ok_or(Refused::Invalid)?;
        if claims.exp > LATEST_EXPIRY {
            return Err(Refused::Invalid);
        }
        let expires_at = i64::try_from(claims.exp).map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)));
        let plan = claims.plan.as_deref().map_or(Plan::Free, Plan::from_claim);
        let jti = claims.jti.as_ref().and_then(serde_json::Value::as_str).filter(|jti| !jti.is_empty());
        Ok(Principal::of_token(user, plan, claims.scope, expires_at.ok(), jti))
    }
}

impl Keys {
    fn shared(current: &SecretString, previous: Option<&SecretString>) -> Self {
        let bytes = |secret: &SecretString| DecodingKey::from_secret(secret.expose_secret().as_bytes());
        let verify = std::iter::once(current).chain(previous).map(bytes).collect();
        Self::Shared { sign: EncodingKey::from_secret(current.expose_secret().as_bytes()), verify }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("algorithms", &self.validation.algorithms).finish_non_exhaustive()
    }
}

/// Why, for the hub's own eyes.
enum Refused {
    Invalid,
    UnknownKey,
}

impl From<jsonwebtoken::errors::Error> for Refused {
    fn from(_: jsonwebtoken::errors::Error) -> Self {
        Refused::Invalid
    }
}

fn jwks_algorithm(algorithm: crate::config::JwksAlgorithm) -> Algorithm {
    use crate::config::JwksAlgorithm as Configured;
    match algorithm {
        Configured::Rs256 => Algorithm::RS256,
        Configured::Es256 => Algorithm::ES256,
        Configured::EdDsa => Algorithm::EdDSA,
    }
}

fn is_user(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= MAX_USER_CHARS && !name.chars().any(char::is_control)
}

/// `"a b"` (RFC 8693) or `["a", "b"]`.
fn scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scope {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Option::<Scope>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Scope::Text(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Scope::List(list)) => list,
    })
}

#[cfg(test)]
mod tests;
