//! Which `Host` the hub answers to: the defence against DNS rebinding, and against requests whose target is in doubt.

use std::net::Ipv4Addr;

use axum::http::{HeaderMap, Uri, header, uri::Authority};

/// Names the hub answers to, besides those of the machine itself.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    allowed: Vec<String>,
}

/// Why a request's target was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// None, several, or something that is no host.
    Malformed,
    /// Not one of ours.
    Foreign,
}

impl Hosts {
    /// `allowed`: names without a port (any port will do) or with one (exactly that).
    pub fn new(allowed: impl IntoIterator<Item = String>) -> Self {
        Self { allowed: allowed.into_iter().map(|host| host.trim().to_ascii_lowercase()).filter(|h| !h.is_empty()).collect() }
    }

    /// The host the request is for, in lower case as `host[:port]`.
    ///
    /// # Errors
    /// [`HostError::Malformed`] unless there is exactly one Host, and [`HostError::Foreign`] unless it, and the authority of an
    /// absolute URI, are ours.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<String, HostError> {
        let host = only_host(headers)?.ok_or(HostError::Malformed)?;
        self.allow(&host)?;
        if let Some(authority) = uri.authority() {
            // The authority of an absolute URI is the true target; a Host that says something else leaves it in doubt.
            if !authority.as_str().eq_ignore_ascii_case(&host) {
                return Err(HostError::Malformed);
            }
        }
        Ok(host)
    }

    fn allow(&self, host: &str) -> Result<(), HostError> {
        let authority: Authority = host.parse().map_err(|_| HostError::Malformed)?;
        if host.contains('@') || authority.host().is_empty() {
            return Err(HostError::Malformed);
        }
        let name = authority.host();
        let port = host.get(name.len()..).unwrap_or_default();
        if !port.is_empty() && port.strip_prefix(':').is_none_or(|port| port.parse::<u16>().is_err()) {
            return Err(HostError::Malformed);
        }
        let ours = is_loopback_name(name) || self.allowed.iter().any(|allowed| allowed == host || allowed == name);
        if ours { Ok(()) } else { Err(HostError::Foreign) }
    }
}

/// The one Host header in lower case; `None` without any.
///
/// # Errors
/// [`HostError::Malformed`] for several, or one that is not plain text.
pub fn only_host(headers: &HeaderMap) -> Result<Option<String>, HostError> {
    let mut values = headers.get_all(header::HOST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(HostError::Malformed);
    }
    let host = value.to_str().map_err(|_| HostError::Malformed)?;
    if host.is_empty() { Err(HostError::Malformed) } else { Ok(Some(host.to_ascii_lowercase())) }
}

/// Addresses and names that mean this machine whoever resolves them. A rebound name is none of them.
fn is_loopback_name(name: &str) -> bool {
    name == "localhost" || name == "[::1]" || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(uri: &str, values: &[&str]) -> Result<String, HostError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::HOST, HeaderValue::from_str(value).expect("a value"));
        }
        Hosts::new(["hub.example".to_owned(), "other.example:8443".to_owned()]).check(&uri.parse().expect("a URI"), &headers)
    }

    #[test]
    fn one_host_and_ours() {
        for host in [
            "localhost",
            "localhost:3000",
            "127.0.0.1:3000",
            "127.9.9.9",
            "[::1]:3000",
            "HUB.example",
            "hub.example:99",
            "other.example:8443",
        ] {
            assert_eq!(check("/", &[host]), Ok(host.to_ascii_lowercase()));
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "hub.example.evil",
            "other.example",
            "0.0.0.0",
            "localhost.",
        ] {
            assert_eq!(check("/", &[host]), Err(HostError::Foreign), "{host}");
        }
        for hosts in [
            &[][..],
            &[""],
            &["localhost", "localhost"],
            &["localhost@evil.example"],
            &["local host"],
            &["http://localhost"],
            &["localhost:x"],
        ] {
            assert_eq!(check("/", hosts), Err(HostError::Malformed), "{hosts:?}");
        }
    }

    #[test]
    fn an_absolute_uri_must_agree() {
        assert_eq!(check("http://localhost:1/x", &["localhost:1"]), Ok("localhost:1".to_owned()));
        assert_eq!(check("http://evil.example/x", &["localhost:1"]), Err(HostError::Malformed));
        assert_eq!(check("http://localhost:1/x", &["evil.example"]), Err(HostError::Foreign));
    }
}
