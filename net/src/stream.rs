//! One connected socket, TCP or Unix, and where it leads.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::{Origin, PeerProcess, dial};

/// Where a socket leads or listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `host:port`.
    Tcp(String),
    /// A name in the abstract namespace of Unix sockets: it needs no file, and goes with its process.
    Unix(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => f.write_str(address),
            Endpoint::Unix(name) => write!(f, "@{name}"),
        }
    }
}

/// How long a connection's last words may take to reach the peer.
const LINGER: Duration = Duration::from_millis(200);

/// A connected socket. A clone is another handle of the same one, to shut it down from another thread, and takes
/// no descriptor: the socket is closed when the last handle is dropped.
#[derive(Clone, Debug)]
pub enum Stream {
    /// Over TCP, with TCP_NODELAY.
    Tcp(Arc<TcpStream>),
    /// Over a Unix socket.
    Unix(Arc<UnixStream>),
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        Stream::Tcp(Arc::new(socket))
    }
}

impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Stream {
        Stream::Unix(Arc::new(socket))
    }
}

/// What a look at a socket found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// No bytes so far.
    Nothing,
    /// Bytes that can be read.
    Bytes,
    /// The connection has ended.
    End,
}

/// Runs one expression on whichever socket it is.
macro_rules! on {
    ($stream:expr, $socket:ident => $do:expr) => {
        match $stream {
            Stream::Tcp($socket) => $do,
            Stream::Unix($socket) => $do,
        }
    };
}

impl Stream {
    /// Connects within `timeout`. A host name with several addresses is tried address by address.
    pub fn connect(endpoint: &Endpoint, timeout: Duration) -> io::Result<Stream> {
        match endpoint {
            Endpoint::Tcp(address) => dial::tcp(address, timeout).map(Stream::from),
            Endpoint::Unix(name) => dial::unix(name, timeout).map(Stream::from),
        }
    }

    /// Ends both directions: a thread that is blocked in reading or writing wakes up.
    pub fn shutdown(&self) {
        // An error means that the peer was faster; then there is nothing left to end.
        let _ = on!(self, socket => socket.shutdown(Shutdown::Both));
    }

    /// Ends our direction only: the peer reads what was sent, then the end of the stream.
    pub fn finish_writing(&self) {
        let _ = on!(self, socket => socket.shutdown(Shutdown::Write));
    }

    /// Ends the other direction only: a thread that is blocked in reading wakes up, and what waits to be sent
    /// still goes.
    pub fn finish_reading(&self) {
        let _ = on!(self, socket => socket.shutdown(Shutdown::Read));
    }

    /// After the last words: ends our direction, and reads on for a moment, because a socket that is closed with
    /// unread bytes takes back what was sent.
    pub fn linger(&mut self) {
        self.finish_writing();
        if self.set_timeout(Some(LINGER)).is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER;
        let mut unread = [0; 4096];
        while Instant::now() < deadline && self.read(&mut unread).is_ok_and(|count| count > 0) {}
    }

    /// The longest that one read or write may block.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        on!(self, socket => {
            socket.set_read_timeout(timeout)?;
            socket.set_write_timeout(timeout)
        })
    }

    /// Looks, without waiting and without taking anything.
    pub fn glance(&self) -> Glance {
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match on!(self, socket => recv(socket, &mut byte, flags)) {
            Ok((_, 1..)) => Glance::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => Glance::Nothing,
            Ok(_) | Err(_) => Glance::End,
        }
    }

    /// Whether the far side sends nothing more, whatever of it may still be unread; without waiting.
    pub fn has_ended(&self) -> bool {
        let asked = PollFlags::RDHUP;
        let mut found = [on!(self, socket => PollFd::new(socket, asked))];
        // Not waiting, it is never interrupted; an error says nothing about the peer.
        poll(&mut found, Some(&Timespec::default())).is_ok()
            && found[0].revents().intersects(asked | PollFlags::HUP | PollFlags::ERR)
    }

    /// Whether no other machine can be on the far side.
    pub fn is_same_machine(&self) -> bool {
        match self {
            Stream::Unix(_) => true,
            Stream::Tcp(socket) => socket.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
        }
    }

    /// Whose connection this is. Fails when the peer is gone.
    pub fn origin(&self) -> io::Result<Origin> {
        match self {
            Stream::Tcp(socket) => Ok(Origin::address(socket.peer_addr()?.ip())),
            Stream::Unix(_) => Ok(Origin::User(PeerProcess::of(self)?.user)),
        }
    }

    /// The far side, for logs and messages.
    pub fn peer(&self) -> String {
        match self {
            Stream::Unix(_) => "unix".to_owned(),
            Stream::Tcp(socket) => socket.peer_addr().map_or_else(|_| "gone".to_owned(), |peer| peer.to_string()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        on!(self, socket => (&**socket).read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        on!(self, socket => (&**socket).read_vectored(buffers))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        on!(self, socket => (&**socket).write(bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        on!(self, socket => (&**socket).write_vectored(parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    #[test]
    fn an_end_is_seen_behind_unread_bytes() {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, mut far) = (Stream::from(near), Stream::from(far));
        assert!(!near.has_ended());
        far.write_all(b"last words").unwrap();
        assert!(!near.has_ended() && near.glance() == Glance::Bytes);
        far.finish_writing();
        assert!(near.has_ended() && near.glance() == Glance::Bytes);
    }

    #[test]
    fn who_reads_no_more_can_still_answer() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut near, mut far) = (Stream::from(near), Stream::from(far));
        near.finish_reading();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
        assert!(!far.has_ended());
        near.write_all(b"x").unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 1);
    }

    #[test]
    fn a_frozen_unix_listener_holds_nobody_for_ever() {
        let name = format!("mcomp-net-frozen.{}", std::process::id());
        let frozen = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let address = SockAddr::unix(format!("\0{name}")).unwrap();
        frozen.bind(&address).unwrap();
        frozen.listen(0).unwrap();
        let endpoint = Endpoint::Unix(name);
        let limit = Duration::from_millis(50);
        let connected: Vec<_> = (0..3).map(|_| Stream::connect(&endpoint, limit)).collect();
        assert!(connected[0].is_ok(), "the first one finds a place in the queue: {connected:?}");
        let last = connected[2].as_ref().unwrap_err();
        assert_eq!(last.kind(), io::ErrorKind::WouldBlock, "{last}");
    }
}
