//! Which web pages may talk to the hub: one exact list for CORS, WebSocket and everything else a browser sends an Origin with.

use std::collections::HashSet;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE, PATCH, OPTIONS");
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static("Content-Type, Authorization, Idempotency-Key, Last-Event-ID, X-Request-Id");
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, \
     RateLimit-Reset, Retry-After, X-Request-Id",
);
/// A day: how long a browser may remember a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// The listed origins.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    allowed: HashSet<String>,
    /// Only in development; the configuration refuses it otherwise.
    all: bool,
}

/// What a request says about the page it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOrigin {
    /// Nothing: not a browser, or a plain navigation.
    None,
    /// A page that may talk to the hub.
    Allowed(HeaderValue),
    /// Any other page.
    Foreign,
}

impl Origins {
    /// Exactly these, as a browser writes them: `https://app.example`, without a path or default port. `*`: all.
    pub fn new(allowed: impl IntoIterator<Item = String>) -> Self {
        // `null` is what every sandboxed page says of itself; listing it would allow them all.
        let allowed: HashSet<String> =
            allowed.into_iter().map(|origin| origin.trim().to_owned()).filter(|o| !o.is_empty() && o != "null").collect();
        Self { all: allowed.contains("*"), allowed }
    }

    /// Judges a request that reached the hub as `scheme://host`.
    pub fn judge(&self, headers: &HeaderMap, scheme: &str, host: Option<&str>) -> RequestOrigin {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let Some(value) = values.next() else { return RequestOrigin::None };
        let Ok(origin) = value.to_str() else { return RequestOrigin::Foreign };
        let own = host.is_some_and(|host| origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")) == Some(host));
        if values.next().is_none() && (own || self.all || self.allowed.contains(origin)) {
            RequestOrigin::Allowed(value.clone())
        } else {
            RequestOrigin::Foreign
        }
    }
}

impl RequestOrigin {
    /// Writes what lets the page read the answer; nothing for a foreign one.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let RequestOrigin::Allowed(origin) = self {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
    }
}

/// Whether the request is a browser's question whether it may ask.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a preflight is told, besides [`RequestOrigin::write`].
pub fn preflight_headers() -> [(HeaderName, HeaderValue); 3] {
    [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_str(origin).expect("a value"));
        }
        let list = Origins::new(["https://app.example".to_owned(), "null".to_owned()]);
        matches!(list.judge(&headers, "http", Some("localhost:3000")), RequestOrigin::Allowed(_))
    }

    #[test]
    fn exactly_the_listed_ones_and_our_own() {
        assert!(allowed(&["https://app.example"]));
        assert!(allowed(&["http://localhost:3000"]));
        let tricks = [
            "null",
            "",
            "*",
            "https://app.example/",
            "https://app.example.evil.example",
            "https://evilapp.example",
            "http://app.example",
            "https://app.example:443",
            "https://app.example:8443",
            "https://APP.example",
            "https://user@app.example",
            "https://app.example@evil.example",
            "https://sub.app.example",
            "https://app.example.",
            "https://xn--app-example",
            "file://",
            "file:///",
            "app.example",
            "//app.example",
            "https://localhost:3000",
            "http://localhost",
            "http://localhost:30000",
            "http://localhost:3000.evil.example",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "http://localhost:3000/",
            "http://localhost:3000#",
            "chrome-extension://app.example",
            "https://app.example ,https://evil.example",
            "https://app.example https://evil.example",
            "wss://app.example",
            "https:app.example",
            "https:///app.example",
            "https://app.example\\evil",
        ];
        for trick in tricks {
            assert!(!allowed(&[trick]), "{trick}");
        }
        assert!(!allowed(&["https://app.example", "https://app.example"]), "two of them");
    }
}
