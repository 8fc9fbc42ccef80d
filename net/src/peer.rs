//! Who is on the far side of a Unix socket.
//!
//! Anybody on a machine can listen and connect in the abstract namespace of Unix sockets, so what is meant for one
//! user asks the kernel who the other one is. The answer cannot be forged, and says who it was when the
//! connection was made.

use std::io;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::process::geteuid;

use crate::Stream;

/// A process as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    /// Its process id; 0 when it has none here, because it runs in another namespace of processes, as containers that
    /// share a network do.
    pub pid: u32,
    /// Its effective user.
    pub user: u32,
}

impl PeerProcess {
    /// The process that connected, or that began to listen. TCP does not know it.
    pub fn of(stream: &Stream) -> io::Result<PeerProcess> {
        let Stream::Unix(socket) = stream else { return Err(io::ErrorKind::Unsupported.into()) };
        let found = getsockopt(socket, PeerCredentials)?;
        Ok(PeerProcess { pid: found.pid().cast_unsigned(), user: found.uid() })
    }

    /// Whether it runs as the user of this process.
    pub fn is_own_user(&self) -> bool {
        self.user == own_user()
    }
}

/// The effective user of this process.
pub fn own_user() -> u32 {
    geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn both_ends_of_a_pair_are_ours() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = PeerProcess::of(&Stream::Unix(near.into())).unwrap();
        assert_eq!(peer, PeerProcess { pid: std::process::id(), user: own_user() });
        assert!(peer.is_own_user());
        assert!(!PeerProcess { user: own_user() + 1, ..peer }.is_own_user());
    }

    #[test]
    fn tcp_knows_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(PeerProcess::of(&Stream::Tcp(stream.into())).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
