//! Connecting, over TCP and to a Unix socket, within a time.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

/// A host name with several addresses is tried address by address.
pub(crate) fn tcp(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
    for candidate in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match connect_one(&candidate, left) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_one(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(address, timeout)?;
    // On loopback a port from the ephemeral range can be connected to itself when nobody listens.
    if socket.local_addr()? == socket.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
    }
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// To a name in the abstract namespace.
pub(crate) fn unix(name: &str, timeout: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Connecting waits for a place in the listener's queue, which a frozen process never makes, and for as
    // long as a write may take; see unix(7) and SO_SNDTIMEO in socket(7).
    socket.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    socket.connect(&SockAddr::unix(format!("\0{name}"))?)?;
    socket.set_write_timeout(None)?;
    Ok(OwnedFd::from(socket).into())
}
