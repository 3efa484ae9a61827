//! Every way to write an address inside, names that change their minds, and answers that send elsewhere.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A name with its answers, one after another; the last one stays.
type Answers = (&'static str, Vec<Vec<IpAddr>>);

#[derive(Default)]
struct Flipping(Mutex<Vec<Answers>>);

impl Names for Flipping {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut all = self.0.lock().unwrap();
        let answers = all.iter_mut().find(|(known, _)| *known == name).map(|(_, answers)| answers);
        let answer = answers.map(|answers| if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() });
        std::future::ready(answer.ok_or_else(|| io::Error::other("no such name"))).boxed()
    }
}

fn names(all: &[(&'static str, &[&[&str]])]) -> Arc<dyn Names> {
    let parsed = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(Flipping(Mutex::new(all.iter().map(|(name, answers)| (*name, answers.iter().map(parsed).collect())).collect())))
}

/// A server that answers each connection with the next of these, and counts them.
async fn server(answers: Vec<String>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let at = counted.fetch_add(1, Ordering::SeqCst);
            let answer = answers.get(at).or(answers.last()).cloned().unwrap_or_default();
            tokio::spawn(async move {
                let mut request = [0_u8; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, count)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn sent_to(place: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {place}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn loopback() -> OutboundConfig {
    OutboundConfig { allow_http: true, allowed_private: vec!["127.0.0.1/32".parse().unwrap()], own_port: None }
}

fn text(error: &OutboundError) -> String {
    error.to_string()
}

#[tokio::test]
async fn no_way_to_write_an_address_inside_leads_there() {
    let (inside, connections) = server(vec![ok("secret")]).await;
    let port = inside.port();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.255.255.254",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "0x0",
        "127.0.0.1.",
        "１２７.0.0.1",
        "127。0。0。1",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[2001::7f00:1]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[febf::1]",
        "[fc00::1]",
        "[fd00::1]",
        "[fdff:ffff::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[ff0e::1]",
        "[2001:db8::1]",
        "[2001:20::1]",
        "[2001:10::1]",
        "[100::1]",
        "[3fff::1]",
        "[5f00::1]",
        "[4000::1]",
        "[::2]",
        "10.0.0.1",
        "10.255.255.255",
        "0xa.1",
        "012.0.0.1",
        "167772161",
        "172.16.0.1",
        "172.31.255.255",
        "172.16.1",
        "192.168.0.1",
        "192.168.1",
        "0xc0a80001",
        "3232235521",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "169.254.1",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "0xffffffff",
        "4294967295",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "inside.example",
        "both.example",
        "six.example",
        "mapped.example",
        "empty.example",
        "unknown.example",
    ];
    assert!(hosts.len() >= 80, "{}", hosts.len());
    let names = || {
        names(&[
            ("localhost", &[&["127.0.0.1"]]),
            ("localhost.", &[&["127.0.0.1"]]),
            ("inside.example", &[&["10.1.2.3"]]),
            ("both.example", &[&["93.184.216.34", "127.0.0.1"]]),
            ("six.example", &[&["fe80::1"]]),
            ("mapped.example", &[&["::ffff:127.0.0.1"]]),
            ("empty.example", &[&[]]),
        ])
    };
    let config = OutboundConfig { allow_http: true, ..OutboundConfig::default() };
    for host in hosts {
        let outbound = Outbound::with_names(config.clone(), names()).unwrap();
        for scheme in ["http", "https"] {
            let error = outbound.fetch(Method::GET, &format!("{scheme}://{host}:{port}/")).await.expect_err(host);
            let unknown = host == "unknown.example";
            assert!(unknown || matches!(error, OutboundError::Refused(_)), "{host}: {error}");
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0, "nobody was connected to");
}

#[tokio::test]
async fn only_plain_urls_of_the_web_are_followed() {
    let outbound = Outbound::with_names(OutboundConfig::default(), names(&[])).unwrap();
    let long = format!("https://example.com/{}", "x".repeat(URL_BYTES));
    for (url, why) in [
        ("http://93.184.216.34/", "only https is allowed"),
        ("ftp://93.184.216.34/", "only https and http"),
        ("file:///etc/passwd", "only https and http"),
        ("gopher://93.184.216.34/", "only https and http"),
        ("data:text/plain,x", "only https and http"),
        ("https://user@93.184.216.34/", "must not carry credentials"),
        ("https://user:pass@93.184.216.34/", "must not carry credentials"),
        ("https://", "it is no URL"),
        ("nonsense", "it is no URL"),
        ("//93.184.216.34/", "it is no URL"),
        ("https://[::1", "it is no URL"),
        (long.as_str(), "longer than"),
    ] {
        let error = outbound.fetch(Method::GET, url).await.expect_err(url);
        assert!(text(&error).contains(why), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_held_to_what_was_checked() {
    let (inside, connections) = server(vec![ok("secret")]).await;
    let config = OutboundConfig { allow_http: true, ..OutboundConfig::default() };
    // First outside, then inside: what was checked is what is connected to, and that is not there.
    for answers in [&[&["192.0.2.1"][..], &["127.0.0.1"]][..], &[&["127.0.0.1"], &["93.184.216.34"]], &[&["::1"], &["127.0.0.1"]]] {
        let outbound = Outbound::with_names(config.clone(), names(&[("flips.example", answers)])).unwrap();
        for _ in 0..3 {
            let error = outbound.fetch(Method::GET, &format!("http://flips.example:{}/", inside.port())).await;
            if answers[1] != ["93.184.216.34"] {
                assert!(error.is_err());
            } else {
                assert!(matches!(error, Err(OutboundError::Refused(_))));
                break;
            }
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_allowed_is_fetched_within_bounds() {
    let (address, connections) = server(vec![ok("hello"), ok(&"x".repeat(BODY_BYTES + 10))]).await;
    let outbound = Outbound::with_names(loopback(), names(&[("here.example", &[&["127.0.0.1"]])])).unwrap();
    let fetched = outbound.fetch(Method::GET, &format!("http://here.example:{}/a", address.port())).await.unwrap();
    assert_eq!((fetched.body.as_slice(), fetched.truncated, fetched.content_type.as_str()), (&b"hello"[..], false, "text/plain"));
    let fetched = outbound.fetch(Method::GET, &format!("http://{address}/b")).await.unwrap();
    assert_eq!((fetched.body.len(), fetched.truncated), (BODY_BYTES, true));
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    // Not what is beside it, and never the hub itself.
    let error = outbound.fetch(Method::GET, &format!("http://127.0.0.2:{}/", address.port())).await.unwrap_err();
    assert!(matches!(error, OutboundError::Refused(_)), "{error}");
    let config = OutboundConfig { own_port: Some(address.port()), ..loopback() };
    let outbound = Outbound::with_names(config, names(&[("here.example", &[&["127.0.0.1"]])])).unwrap();
    for host in ["127.0.0.1", "here.example"] {
        let error = outbound.fetch(Method::GET, &format!("http://{host}:{}/", address.port())).await.unwrap_err();
        assert_eq!(text(&error), "it is this hub itself");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn every_place_a_request_is_sent_on_to_is_checked() {
    let (inside, secrets) = server(vec![ok("secret")]).await;
    let names = || names(&[("one.example", &[&["127.0.0.1"]]), ("inside.example", &[&["10.0.0.1"]])]);
    for place in [
        format!("http://127.0.0.2:{}/", inside.port()),
        "http://inside.example/".into(),
        "http://169.254.169.254/latest".into(),
        "file:///etc/passwd".into(),
        "http://[::1]/".into(),
    ] {
        let (address, _) = server(vec![sent_to(&place)]).await;
        let outbound = Outbound::with_names(loopback(), names()).unwrap();
        let error = outbound.fetch(Method::GET, &format!("http://one.example:{}/", address.port())).await.expect_err(&place);
        assert!(matches!(error, OutboundError::Refused(_)), "{place}: {error}");
    }
    assert_eq!(secrets.load(Ordering::SeqCst), 0);
    // A relative one is followed, four are too many.
    let (address, _) = server(vec![sent_to("/next"), ok("there")]).await;
    let outbound = Outbound::with_names(loopback(), names()).unwrap();
    let fetched = outbound.fetch(Method::GET, &format!("http://{address}/")).await.unwrap();
    assert_eq!((fetched.body.as_slice(), fetched.url.path()), (&b"there"[..], "/next"));
    let (address, count) = server(vec![sent_to("/again")]).await;
    let error = outbound.fetch(Method::GET, &format!("http://{address}/")).await.unwrap_err();
    assert!(text(&error).contains("more than 3 times"), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn an_answer_that_is_none_says_little() {
    for answer in [
        "nonsense",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx",
    ] {
        let (address, _) = server(vec![answer.to_owned()]).await;
        let outbound = Outbound::with_names(loopback(), names(&[])).unwrap();
        let error = outbound.fetch(Method::GET, &format!("http://{address}/")).await.expect_err(answer);
        assert!(matches!(error, OutboundError::Failed(_)) && !text(&error).contains("127"), "{answer}: {error}");
    }
}
