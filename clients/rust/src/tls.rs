//! `wss://`, with the process's one TLS stack.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::MaybeTlsStream;

use crate::Target;

/// Speaks TLS over the stream if the target asks for it.
pub(crate) async fn wrap(stream: TcpStream, target: &Target, trust: Option<Arc<ClientConfig>>) -> io::Result<MaybeTlsStream<TcpStream>> {
    if !target.secure {
        return Ok(MaybeTlsStream::Plain(stream));
    }
    let config = match trust {
        Some(config) => config,
        None => system_roots()?,
    };
    let name = ServerName::try_from(target.host().to_owned()).map_err(io::Error::other)?;
    Ok(MaybeTlsStream::Rustls(TlsConnector::from(config).connect(name, stream).await?))
}

/// Reading the system's roots takes tens of milliseconds, so it is done once. A system without any is asked again next time.
fn system_roots() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no root certificates on this machine ({:?})", found.errors)));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    Ok(CONFIG.get_or_init(|| config).clone())
}
