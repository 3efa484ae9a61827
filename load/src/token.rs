//! Tokens for the hubs that are started here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// The secret of every hub started here. They listen on loopback only and live for minutes.
pub const SECRET: &str = "load-and-soak-only-not-a-secret-0123456789abcdef";

/// A token for a user, good for a day.
///
/// # Errors
/// It cannot be signed.
pub fn mint(user: &str) -> anyhow::Result<String> {
    mint_with(SECRET, user)
}

/// The same with a secret of one's own.
///
/// # Errors
/// As [`mint`].
pub fn mint_with(secret: &str, user: &str) -> anyhow::Result<String> {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(86_000);
    let claims = json!({ "sub": user, "plan": "enterprise", "exp": expires.as_secs() });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).context("signing a token")
}
