//! Times as people write them in settings and definitions.

use std::time::Duration;

/// What is allowed, to follow "expected".
pub const ALLOWED: &str = "a time such as \"500 ms\", \"20 s\", \"5 min\", \"24 h\" or \"30 d\"";

/// `500 ms`, `20 s`, `5 min`, `24 h`, `30 d`; a number alone is seconds.
pub fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" | "sec" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// A whole number and what follows it.
pub(crate) fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let number = text[..digits].replace('_', "").parse().ok()?;
    Some((number, text[digits..].trim()))
}
