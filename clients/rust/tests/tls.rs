//! `wss://`: a hub whose certificate is vouched for is spoken to, another one is not.
#![cfg(feature = "tls")]
#![allow(clippy::result_large_err, reason = "the type of the callback is not ours")]

use std::{sync::Arc, time::Duration};

use agent_hub_client::{Backoff, Client, ClientEvent, ConnectError, Options, State};
use futures::{SinkExt, StreamExt};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

const WELCOME: &str = r#"{"type":"welcome","connectionId":"1","protocol":"agent-hub.v1","user":"u","heartbeatMs":20000,"limits":{"messageBytes":4096,"promptChars":100,"attachedSessions":8}}"#;

/// An authority that exists in this folder only. Its key was thrown away; that of the server it vouches for is worth nothing.
const AUTHORITY: &[u8] = include_bytes!("tls/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("tls/server.pem");
const KEY: &[u8] = include_bytes!("tls/server.key");

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Welcomes everybody. Returns its port.
async fn hub() -> u16 {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("versions");
    let config = versions.with_no_client_auth().with_single_cert(vec![certificate], key).expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever does not trust us leaves here.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let check = |_: &_, mut response: tokio_tungstenite::tungstenite::handshake::server::Response| {
                response.headers_mut().insert("sec-websocket-protocol", "agent-hub.v1".parse().expect("a header"));
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, check).await.expect("a handshake");
            socket.send(Message::text(WELCOME)).await.expect("sent");
            tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
        }
    });
    port
}

fn options(port: u16, trusted: bool) -> Options {
    let mut options = Options::new(&format!("wss://localhost:{port}"), "secret").expect("a URL");
    options.backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(20));
    if trusted {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(AUTHORITY).expect("a certificate")).expect("an authority");
        let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("versions");
        options.tls = Some(Arc::new(versions.with_root_certificates(roots).with_no_client_auth()));
    }
    options
}

#[tokio::test]
async fn a_hub_that_is_vouched_for_is_spoken_to() {
    let port = hub().await;
    let (client, mut events) = Client::connect(options(port, true)).await.expect("connected");
    assert!(matches!(events.next().await, Some(ClientEvent::Connected(_))));
    assert_eq!((client.state(), events.state()), (State::Live, State::Live));
    client.cut().await;
    assert!(matches!(events.next().await, Some(ClientEvent::Disconnected { .. })));
    assert!(matches!(events.next().await, Some(ClientEvent::Connected(_))));
}

#[tokio::test]
async fn a_hub_that_is_not_is_left() {
    let port = hub().await;
    let error = Client::connect(options(port, false)).await.expect_err("refused");
    assert!(matches!(error, ConnectError::Io(_)) && error.retryable(), "{error:?}");
}
