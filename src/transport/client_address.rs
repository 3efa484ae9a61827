//! Which address a request counts for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client of a request: the peer, or whom a trusted proxy speaks for. An IPv4 address in an IPv6 coat is an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress {
    ip: IpAddr,
    /// Whether the peer itself is this machine and no proxy spoke for anybody.
    direct_loopback: bool,
    /// Whether a trusted proxy says that the client spoke TLS to it.
    https: bool,
}

impl ClientAddress {
    /// `X-Forwarded-For` counts only from trusted proxies: from the right, the first address that is not one of them.
    pub fn of(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.ip().to_canonical();
        let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
        let forwarded = headers.contains_key(FORWARDED_FOR);
        if !is_trusted(&peer) {
            return Self { ip: peer, direct_loopback: peer.is_loopback() && !forwarded, https: false };
        }
        let values: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut ip = peer;
        for hop in values.iter().flat_map(|value| value.split(',')).rev() {
            // An unreadable hop ends the chain: what stands left of it is anybody's claim.
            let Some(hop) = address(hop.trim()) else { break };
            ip = hop;
            if !is_trusted(&ip) {
                break;
            }
        }
        let https = headers.get(FORWARDED_PROTO).and_then(|v| v.to_str().ok()).is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
        Self { ip, direct_loopback: peer.is_loopback() && !forwarded, https }
    }

    /// Whether the peer is this machine, speaking for itself.
    pub fn is_direct_loopback(&self) -> bool {
        self.direct_loopback
    }

    /// The scheme the client used, as far as the hub can know.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// What a limit per address counts by: an IPv4 address, or the /64 of an IPv6 one, which is what one subscriber has.
    pub fn network(&self) -> IpAddr {
        match self.ip {
            IpAddr::V4(_) => self.ip,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        }
    }

    /// The same as text.
    pub fn limit_key(&self) -> String {
        match self.network() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("{v6}/64"),
        }
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip())).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn key(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).expect("a value"));
        }
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        ClientAddress::of(peer.parse().expect("an address"), &headers, &trusted).limit_key()
    }

    #[test]
    fn an_address_has_one_key() {
        assert_eq!(key("192.0.2.7:1", &[]), "192.0.2.7");
        assert_eq!(key("[::ffff:192.0.2.7]:1", &[]), "192.0.2.7");
        assert_eq!(key("[2001:db8:1:2:3:4:5:6]:1", &[]), key("[2001:db8:1:2::9]:1", &[]));
        assert_ne!(key("[2001:db8:1:2::9]:1", &[]), key("[2001:db8:1:3::9]:1", &[]));
    }

    #[test]
    fn only_a_trusted_proxy_speaks_for_others() {
        assert_eq!(key("192.0.2.7:1", &["198.51.100.1"]), "192.0.2.7");
        assert_eq!(key("10.0.0.1:1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(key("10.0.0.1:1", &["198.51.100.1, 203.0.113.5, 10.9.9.9"]), "203.0.113.5");
        assert_eq!(key("10.0.0.1:1", &["198.51.100.1", "203.0.113.5:4711"]), "203.0.113.5");
        assert_eq!(key("10.0.0.1:1", &["198.51.100.1, nonsense, 10.9.9.9"]), "10.9.9.9");
        assert_eq!(key("10.0.0.1:1", &[]), "10.0.0.1");
    }

    #[test]
    fn loopback_behind_a_proxy_is_not_the_machine_itself() {
        let mut headers = HeaderMap::new();
        let peer = "127.0.0.1:1".parse().expect("an address");
        assert!(ClientAddress::of(peer, &headers, &[]).is_direct_loopback());
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("203.0.113.5"));
        assert!(!ClientAddress::of(peer, &headers, &[]).is_direct_loopback());
    }
}
