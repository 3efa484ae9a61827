//! The listening socket.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::ServeError;
use crate::config::ServerConfig;

/// Connections the kernel keeps while the hub is busy accepting: a whole office that reconnects at once.
const BACKLOG: i32 = 4096;
/// Where the search for a free port begins when none was given, and how far it goes.
const FIRST_PORT: u16 = 3000;
const LAST_PORT: u16 = 3099;

/// A socket that listens already: who connects from now on waits until the front accepts.
#[derive(Debug)]
pub struct Listener {
    /// Non-blocking; `tokio::net::TcpListener::from_std` takes it.
    pub socket: std::net::TcpListener,
    /// The address it has, with the real port.
    pub address: SocketAddr,
}

pub(super) fn bind(config: &ServerConfig) -> Result<Listener, ServeError> {
    if let Some(port) = config.port {
        let address = SocketAddr::new(config.host, port);
        return listen(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::PortTaken(address),
            _ => ServeError::Listen { address, source },
        });
    }
    for port in FIRST_PORT..=LAST_PORT {
        let address = SocketAddr::new(config.host, port);
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(ServeError::Listen { address, source }),
        }
    }
    Err(ServeError::NoFreePort { first: FIRST_PORT, last: LAST_PORT })
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok(Listener { socket, address })
}
