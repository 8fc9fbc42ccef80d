//! A listening socket that another thread can close.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use crate::tls::Tls;
use crate::{Endpoint, Stream};

/// Connections that wait for `accept`. More are retried by their kernel for a while.
const BACKLOG: i32 = 1024;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a name in the abstract namespace.
    Unix(UnixListener),
    /// On a TCP port, for peers with a certificate.
    Tls(TcpListener, Tls),
}

impl Listener {
    /// Starts to listen. A TCP port whose former owner died a moment ago can be taken at once.
    pub fn bind(endpoint: &Endpoint) -> io::Result<Listener> {
        match endpoint {
            Endpoint::Tcp(address) => bind_tcp(address).map(Listener::Tcp),
            Endpoint::Unix(name) => UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?).map(Listener::Unix),
        }
    }

    /// Whether other machines can reach it. One whose address cannot be told is taken for open.
    pub fn is_open_to_others(&self) -> bool {
        match self {
            Listener::Tcp(socket) | Listener::Tls(socket, _) => {
                !socket.local_addr().is_ok_and(|address| address.ip().is_loopback())
            }
            Listener::Unix(_) => false,
        }
    }

    /// As [`Listener::bind`]; with certificates connections over TCP are under TLS.
    pub fn bind_with(endpoint: &Endpoint, tls: Option<&Tls>) -> io::Result<Listener> {
        Ok(match (Listener::bind(endpoint)?, tls) {
            (Listener::Tcp(socket), Some(tls)) => tls.listen(socket),
            (listener, _) => listener,
        })
    }

    /// Waits for the next connection. Its first words are [`Stream::shake_hands`].
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(socket) => accept_tcp(socket).map(Stream::from),
            Listener::Tls(socket, tls) => tls.accept(Arc::new(accept_tcp(socket)?)).map(Box::new).map(Stream::Tls),
            Listener::Unix(socket) => socket.accept().map(|(stream, _)| stream.into()),
        }
    }

    /// Makes every present and later [`Listener::accept`] fail, also one that is blocked.
    pub fn close(&self) {
        let socket = match self {
            Listener::Tcp(socket) | Listener::Tls(socket, _) => SockRef::from(socket),
            Listener::Unix(socket) => SockRef::from(socket),
        };
        // It fails only when the socket does not listen any more, which is what is wanted.
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
}

fn accept_tcp(socket: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = socket.accept()?;
    // What fails here is about this connection alone, as if the peer had left.
    set_options(&stream).map_err(|_| Errno::CONNABORTED)?;
    Ok(stream)
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A peer whose machine is gone says nothing for ever; it must not keep its place.
    SockRef::from(stream).set_tcp_keepalive(&keepalive())
}

/// A silent peer is asked after a minute, and given up after three unanswered questions.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3)
}

fn bind_tcp(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
    for candidate in address.to_socket_addrs()? {
        match bind_one(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_unix_sockets_are_closed_to_others() {
        let is_open = |endpoint: Endpoint| Listener::bind(&endpoint).unwrap().is_open_to_others();
        assert!(is_open(Endpoint::Tcp("0.0.0.0:0".into())));
        assert!(!is_open(Endpoint::Tcp("127.0.0.1:0".into())));
        assert!(!is_open(Endpoint::Unix(format!("mcomp-net-open.{}", std::process::id()))));
    }
}
