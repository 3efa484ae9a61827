//! The directory of a user: different for every user, and a harmless name whatever the user is called.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Longer names of users are shown as their hash.
const READABLE_BYTES: usize = 64;

/// Names that are harmless everywhere stay readable: lower case only, because some file systems do not tell the cases apart. All others
/// become their SHA-256. The first letter tells which, so neither can be mistaken for the other.
pub(super) fn directory_of(user: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'@');
    if !user.is_empty() && user.len() <= READABLE_BYTES && user.bytes().all(plain) {
        return format!("u-{user}");
    }
    Sha256::digest(user.as_bytes()).iter().fold("h-".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}
