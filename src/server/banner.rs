//! What the hub says when it begins to serve.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
};

use crate::config::{AuthMode, Config, LogFormat, StorageKind};

/// For people on standard output, for programs as one log line; what is dangerous as a warning in both.
pub(super) fn say(config: &Config, address: SocketAddr, routes: &[String]) {
    let url = url(address);
    let (mode, store, provider) = (mode(config), store(config), config.provider.kind.as_str());
    tracing::info!(%url, mode, store, provider, version = env!("CARGO_PKG_VERSION"), "listening");
    if config.limits_off {
        tracing::warn!("LIMITS ARE OFF: no rate limits, no quotas, no bounds per user or address; for load tests only");
    }
    if config.server.allowed_origins.iter().any(|origin| origin == "*") {
        tracing::warn!("every web origin is allowed; a page that gets hold of a token can use it");
    }
    if config.log.format == LogFormat::Text {
        // Nobody reads it if the pipe is closed; the hub serves all the same.
        let _ = io::stdout().lock().write_all(text(config, &url, routes).as_bytes());
    }
}

fn text(config: &Config, url: &str, routes: &[String]) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    line(format_args!("agent-hub {}, {} mode", env!("CARGO_PKG_VERSION"), mode(config)));
    line(format_args!("  console    {url}/"));
    line(format_args!("  socket     {}/ws/agents", url.replacen("http", "ws", 1)));
    line(format_args!("  API        {url}/docs"));
    if config.is_development() {
        line(format_args!("  Swagger UI {url}/ui"));
    }
    for route in routes {
        line(format_args!("  route      {route}"));
    }
    line(format_args!("  store      {}", store(config)));
    line(format_args!("  provider   {}", config.provider.kind.as_str()));
    if config.is_development() {
        line(format_args!("  a token    agent-hub token --user you --plan pro"));
    }
    if config.limits_off {
        line(format_args!("  LIMITS ARE OFF: no rate limits, no quotas, no bounds per user or address"));
    }
    out
}

fn mode(config: &Config) -> &'static str {
    match config.auth.mode {
        AuthMode::Development { .. } => "development",
        AuthMode::Secret { .. } | AuthMode::Jwks { .. } => "production",
    }
}

fn store(config: &Config) -> String {
    match config.storage.kind {
        StorageKind::Memory => "memory (nothing survives a restart)".to_owned(),
        kind => format!("{} in {}", kind.as_str(), config.storage.path.display()),
    }
}

/// An address somebody can click: "every address" is not one.
fn url(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => format!("http://localhost:{}", address.port()),
        IpAddr::V4(ip) => format!("http://{ip}:{}", address.port()),
        IpAddr::V6(ip) => format!("http://[{ip}]:{}", address.port()),
    }
}
