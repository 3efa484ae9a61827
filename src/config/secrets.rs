//! Which secrets are no secrets.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

/// The shortest secret for HS256: as long as its hash, or guessing the secret is easier than forging the signature.
const LEAST_BYTES: usize = 32;

/// Beginnings of secrets that stand in examples.
const SAMPLES: [&str; 9] =
    ["dev-secret", "secret", "changeme", "change-me", "change_me", "your-secret", "your_secret", "your-jwt-secret", "your-256-bit-secret"];

/// Why this will not do as a signing secret; `None` if it will. Never says the secret.
pub(crate) fn weakness(secret: &str) -> Option<String> {
    if secret.trim().is_empty() {
        return Some("is empty; make one with: openssl rand -base64 48".to_owned());
    }
    let lower = secret.to_ascii_lowercase();
    if SAMPLES.iter().any(|sample| lower.starts_with(sample)) {
        return Some("is a value from an example that everybody knows; make one with: openssl rand -base64 48".to_owned());
    }
    if secret.len() < LEAST_BYTES {
        return Some(format!("has {} bytes; at least {LEAST_BYTES} are needed: openssl rand -base64 48", secret.len()));
    }
    if secret.chars().collect::<BTreeSet<_>>().len() <= 2 {
        return Some("repeats the same characters; make one with: openssl rand -base64 48".to_owned());
    }
    None
}

/// Why a file that holds a secret will not do.
pub(crate) fn exposure(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let shown = path.display();
    (mode & 0o007 != 0).then(|| format!("{shown} holds a secret and everybody on this machine can open it: chmod o= {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets_are_found_and_never_repeated() {
        let long_sample = "dev-secret-change-me-dev-secret-change-me";
        for weak in
            ["", "   ", "secret", "short", "dev-secret-change-me", "changeme-changeme-changeme-changeme", long_sample, &"a".repeat(64)]
        {
            let said = weakness(weak).expect("weak");
            assert!(weak.trim().is_empty() || weak.len() < 8 || !said.contains(weak), "{said}");
        }
        assert_eq!(weakness("0123456789abcdef0123456789abcdef"), None);
    }
}
