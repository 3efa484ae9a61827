//! Credentials as a request presents them. Taken out of the URI and the headers before anything else looks at the request, so that
//! no log line, span or error text can hold one.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, Uri, header, uri::PathAndQuery};
use secrecy::SecretString;

/// Query parameters that are credentials.
const SECRET_PARAMETERS: [&str; 2] = ["token", "ticket"];
/// What a subprotocol begins with that is a token in disguise.
const BEARER_SUBPROTOCOL: &str = "bearer.";

/// What a request carried. Its `Debug` shows nothing.
#[derive(Clone, Default)]
pub struct PresentedCredentials {
    /// The `Authorization` header.
    pub header: AuthorizationHeader,
    /// `?token=`
    pub query_token: Option<SecretString>,
    /// `?ticket=`
    pub ticket: Option<SecretString>,
    /// The token of an offered subprotocol `bearer.<token>`.
    pub subprotocol: Option<SecretString>,
}

/// The `Authorization` header.
#[derive(Clone, Default)]
pub enum AuthorizationHeader {
    /// There is none.
    #[default]
    Missing,
    /// There are several, or it is not `Bearer <token>`.
    Malformed,
    /// `Bearer <token>`
    Bearer(SecretString),
}

impl fmt::Debug for PresentedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedCredentials { .. }")
    }
}

impl fmt::Debug for AuthorizationHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizationHeader { .. }")
    }
}

impl PresentedCredentials {
    /// Takes every credential out of the request's head.
    pub fn take(uri: &mut Uri, headers: &mut HeaderMap) -> Self {
        let mut found = Self { header: take_authorization(headers), ..Self::default() };
        take_query(uri, &mut found);
        take_subprotocol(headers, &mut found);
        found
    }
}

fn take_authorization(headers: &mut HeaderMap) -> AuthorizationHeader {
    let values: Vec<HeaderValue> = match headers.entry(header::AUTHORIZATION) {
        header::Entry::Occupied(there) => there.remove_entry_mult().1.collect(),
        header::Entry::Vacant(_) => return AuthorizationHeader::Missing,
    };
    let [value] = values.as_slice() else { return AuthorizationHeader::Malformed };
    let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return AuthorizationHeader::Malformed;
    };
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        AuthorizationHeader::Bearer(token.into())
    } else {
        AuthorizationHeader::Malformed
    }
}

fn take_query(uri: &mut Uri, found: &mut PresentedCredentials) {
    let Some(query) = uri.query() else { return };
    let mut kept: Vec<&str> = Vec::new();
    let mut taken = false;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decoded(name);
        if !SECRET_PARAMETERS.contains(&name.as_str()) {
            kept.push(pair);
            continue;
        }
        taken = true;
        let value: SecretString = percent_decoded(value).into();
        // The first one counts; a second is dropped like it.
        if name == "token" {
            found.query_token.get_or_insert(value)
        } else {
            found.ticket.get_or_insert(value)
        };
    }
    if !taken {
        return;
    }
    let query = kept.join("&");
    let path = uri.path();
    let rest = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = uri.clone().into_parts();
    // A part of a valid path and query is one too. Should it ever not be, the request goes to `/` rather than on with its secret.
    parts.path_and_query = Some(rest.parse().unwrap_or_else(|_| PathAndQuery::from_static("/")));
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

fn take_subprotocol(headers: &mut HeaderMap, found: &mut PresentedCredentials) {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    let mut kept: Vec<String> = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        for offered in value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|p| !p.is_empty()) {
            match offered.strip_prefix(BEARER_SUBPROTOCOL) {
                Some(token) => drop(found.subprotocol.get_or_insert(token.into())),
                None => kept.push(offered.to_owned()),
            }
        }
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::try_from(kept.join(", "))
        && !kept.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// Percent-decoded, `+` as a space. What is no UTF-8 is replaced, which makes it no valid credential.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits fit a byte.
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn nothing_secret_stays_in_the_head() {
        let mut uri: Uri = "/ws/agents?a=1&token=canary1&%74icket=canary%32&b=2&token=canary3".parse().expect("a URI");
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer canary4"));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("agent-hub.v1, bearer.canary5"));
        let found = PresentedCredentials::take(&mut uri, &mut headers);
        assert_eq!(uri, "/ws/agents?a=1&b=2");
        let shown = format!("{uri:?} {headers:?} {found:?}");
        assert!(!shown.contains("canary"), "{shown}");
        let secret = |s: &Option<SecretString>| s.as_ref().map(|s| s.expose_secret().to_owned());
        assert_eq!(secret(&found.query_token).as_deref(), Some("canary1"));
        assert_eq!(secret(&found.ticket).as_deref(), Some("canary2"));
        assert_eq!(secret(&found.subprotocol).as_deref(), Some("canary5"));
        assert!(matches!(found.header, AuthorizationHeader::Bearer(token) if token.expose_secret() == "canary4"));
        assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "agent-hub.v1");
    }

    #[test]
    fn only_one_bearer_token_is_a_header() {
        for values in [&["Basic x"][..], &["Bearer"], &["Bearer "], &["Bearer a", "Bearer b"], &["Bearera"]] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert!(matches!(take_authorization(&mut headers), AuthorizationHeader::Malformed), "{values:?}");
            assert!(headers.is_empty());
        }
    }
}
