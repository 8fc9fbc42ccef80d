//! One blocking socket, TCP or Unix, for the raw server and for the peers that are spoken to by hand.
//!
//! It stands apart from mcomp's own sockets, so that a change there cannot move the limit that mcomp
//! is compared with. It leaves out TLS, host names and reconnection.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use socket2::SockRef;

use crate::peer::Transport;

/// A peer that says nothing for so long is broken, and the run ends instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A loopback address and a port.
    Tcp(SocketAddr),
    /// A name in the abstract namespace of Unix sockets.
    Abstract(String),
    /// A Unix socket in the scratch folder, for servers that know no abstract names.
    Path(PathBuf),
}

impl Address {
    /// What leads there.
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Address::Tcp(_) => Transport::Tcp,
            _ => Transport::Unix,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Abstract(name) => write!(f, "@{name}"),
            Address::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Over TCP, with TCP_NODELAY.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Connects. `buffer_bytes` replaces the kernel's own choice of both socket buffers.
    pub(crate) fn connect(address: &Address, buffer_bytes: Option<usize>) -> io::Result<Socket> {
        let socket = match address {
            Address::Tcp(address) => Socket::Tcp(TcpStream::connect(address)?),
            Address::Abstract(name) => Socket::Unix(UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?)?),
            Address::Path(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        socket.tune(buffer_bytes)?;
        let raw = socket.as_ref();
        raw.set_read_timeout(Some(PATIENCE))?;
        raw.set_write_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    fn tune(&self, buffer_bytes: Option<usize>) -> io::Result<()> {
        if let Socket::Tcp(socket) = self {
            socket.set_nodelay(true)?;
        }
        if let Some(bytes) = buffer_bytes {
            self.as_ref().set_send_buffer_size(bytes)?;
            self.as_ref().set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }

    fn as_ref(&self) -> SockRef<'_> {
        match self {
            Socket::Tcp(socket) => SockRef::from(socket),
            Socket::Unix(socket) => SockRef::from(socket),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listening {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

impl Listening {
    /// Starts to listen.
    pub(crate) fn bind(address: &Address) -> io::Result<Listening> {
        Ok(match address {
            Address::Tcp(address) => Listening::Tcp(TcpListener::bind(address)?),
            Address::Abstract(name) => Listening::Unix(UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?),
            Address::Path(path) => Listening::Unix(UnixListener::bind(path)?),
        })
    }

    /// Waits for the next connection.
    pub(crate) fn accept(&self, buffer_bytes: Option<usize>) -> io::Result<Socket> {
        let socket = match self {
            Listening::Tcp(socket) => Socket::Tcp(socket.accept()?.0),
            Listening::Unix(socket) => Socket::Unix(socket.accept()?.0),
        };
        socket.tune(buffer_bytes)?;
        Ok(socket)
    }
}
