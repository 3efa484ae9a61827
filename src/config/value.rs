//! The kinds of values a setting may have: how each is read, written, and explained to whoever got it wrong.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::duration;

/// A value as it was given, before anyone knows what it should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    One(String),
    Many(Vec<String>),
}

/// Something a setting can be.
pub(crate) trait Setting: Sized {
    /// What is allowed, to follow "expected".
    fn allowed() -> String;

    fn parse(text: &str) -> Option<Self>;

    /// As TOML.
    fn show(&self) -> String;

    /// Only lists take several values.
    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::One(text) => Self::parse(text.trim()),
            Raw::Many(_) => None,
        }
    }
}

/// A size in bytes: `65536` or `"64 KiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) usize);

/// An absolute `http` or `https` URL without user and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl(pub(crate) String);

/// An exact origin in the form browsers send it, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) String);

impl Setting for String {
    fn allowed() -> String {
        "text".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Setting for PathBuf {
    fn allowed() -> String {
        "a path".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
    }

    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Setting for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Some(true),
            "false" | "off" | "no" | "0" => Some(false),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn allowed() -> String {
                "a whole number".to_owned()
            }

            fn parse(text: &str) -> Option<Self> {
                text.replace('_', "").parse().ok()
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_number!(u32, usize);

impl Setting for u16 {
    fn allowed() -> String {
        "a whole number from 0 to 65535".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Bytes {
    fn allowed() -> String {
        "a size such as 65536, \"64 KiB\" or \"1 MiB\"".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = duration::split_unit(text)?;
        let factor: usize = match unit {
            "" | "B" => 1,
            "KiB" | "K" => 1024,
            "MiB" | "M" => 1024 * 1024,
            "GiB" | "G" => 1024 * 1024 * 1024,
            _ => return None,
        };
        usize::try_from(number).ok()?.checked_mul(factor).map(Bytes)
    }

    fn show(&self) -> String {
        let units = [(1024 * 1024 * 1024, "GiB"), (1024 * 1024, "MiB"), (1024, "KiB")];
        let whole = units.into_iter().find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size));
        whole.map_or_else(|| self.0.to_string(), |(size, unit)| quoted(&format!("{} {unit}", self.0 / size)))
    }
}

impl Setting for Duration {
    fn allowed() -> String {
        duration::ALLOWED.to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        duration::parse(text)
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
        // Whole units, but a day stays "24 h": that is how people say it.
        let whole =
            units.into_iter().find(|(size, unit)| millis > 0 && millis.is_multiple_of(*size) && (*unit != "d" || millis > 86_400_000));
        quoted(&whole.map_or_else(|| format!("{millis} ms"), |(size, unit)| format!("{} {unit}", millis / size)))
    }
}

impl Setting for IpAddr {
    fn allowed() -> String {
        "an IP address or \"localhost\"".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("localhost") {
            return Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        }
        text.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for IpNet {
    fn allowed() -> String {
        "an address or network such as \"10.0.0.0/8\"".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for HttpUrl {
    fn allowed() -> String {
        "an http:// or https:// URL without user and password".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        let url = reqwest::Url::parse(text).ok()?;
        let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        (plain && url.has_host() && url.fragment().is_none()).then(|| HttpUrl(text.to_owned()))
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for Origin {
    fn allowed() -> String {
        "an origin such as \"https://app.example.com\" (scheme, host, port; no path)".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Origin("*".to_owned()));
        }
        let url = reqwest::Url::parse(text).ok()?;
        let bare = matches!(url.scheme(), "http" | "https") && matches!(url.path(), "" | "/") && url.query().is_none();
        (bare && url.username().is_empty() && url.password().is_none() && url.fragment().is_none())
            .then(|| Origin(url.origin().ascii_serialization()))
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

impl<T: Setting> Setting for Option<T> {
    fn allowed() -> String {
        format!("{}, or \"off\"", T::allowed())
    }

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "off" | "none" | "never" => Some(None),
            _ => T::parse(text).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| quoted("off"), T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn allowed() -> String {
        format!("a list, each entry {}", T::allowed())
    }

    /// In the environment a list is written with commas.
    fn parse(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(T::parse).collect()
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::One(text) => Self::parse(text),
            Raw::Many(texts) => texts.iter().map(|text| T::parse(text.trim())).collect(),
        }
    }
}

/// An enum whose variants are words in the configuration.
macro_rules! choice {
    ($type:ty { $($word:literal => $variant:path),+ $(,)? }) => {
        impl crate::config::value::Setting for $type {
            fn allowed() -> String {
                [$(concat!("\"", $word, "\"")),+].join(", ")
            }

            fn parse(text: &str) -> Option<Self> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Some($variant),)+
                    _ => None,
                }
            }

            fn show(&self) -> String {
                match self {
                    $($variant => concat!("\"", $word, "\"").to_owned(),)+
                }
            }
        }
    };
}
pub(crate) use choice;

/// A TOML basic string. JSON's escapes are a subset of TOML's.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_what_they_write() {
        for millis in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 86_400_000, 172_800_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(Duration::parse(time.show().trim_matches('"')), Some(time), "{millis}");
        }
        for size in [0, 1, 1000, 1024, 65536, 1 << 20, (1 << 20) + 1] {
            assert_eq!(Bytes::parse(Bytes(size).show().trim_matches('"')), Some(Bytes(size)), "{size}");
        }
        assert_eq!(Duration::parse("24h"), Some(Duration::from_secs(86_400)));
        for wrong in ["", "s", "-1 s", "1.5 s", "1 fortnight", "99999999999999999999 s", "9999999999999999999 d"] {
            assert_eq!(Duration::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn origins_are_exact_and_in_the_form_browsers_send() {
        assert_eq!(Origin::parse("HTTPS://App.Example.com:443/"), Some(Origin("https://app.example.com".to_owned())));
        assert_eq!(Origin::parse("http://localhost:5173"), Some(Origin("http://localhost:5173".to_owned())));
        for wrong in ["app.example.com", "https://a.example/path", "https://u@a.example", "file:///x", "null", "ws://a.example"] {
            assert_eq!(Origin::parse(wrong), None, "{wrong}");
        }
    }
}
