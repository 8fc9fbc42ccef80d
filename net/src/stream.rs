//! One connected socket, TCP or Unix, in the open or under TLS, and where it leads.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;

use crate::tls::{Tls, TlsStream};
use crate::{CallError, Origin, PeerProcess, dial};

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

/// A connected socket. It is closed when the last of its handles is dropped; see [`Stream::handle`].
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, with TCP_NODELAY.
    Tcp(Arc<TcpStream>),
    /// Over a Unix socket.
    Unix(Arc<UnixStream>),
    /// Over TCP, in secret.
    Tls(Box<TlsStream>),
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

/// Runs one expression on whichever socket it is, below TLS if there is some.
macro_rules! on {
    ($stream:expr, $socket:ident => $do:expr) => {
        match $stream {
            Stream::Tcp($socket) => $do,
            Stream::Unix($socket) => $do,
            Stream::Tls(tls) => {
                let $socket = tls.socket();
                $do
            }
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

    /// The same connection under TLS, if there are certificates and it is one over TCP; within `timeout`.
    pub(crate) fn secure(self, tls: Option<&Tls>, endpoint: &Endpoint, timeout: Duration) -> Result<Stream, CallError> {
        match (self, tls, endpoint) {
            (Stream::Tcp(socket), Some(tls), Endpoint::Tcp(address)) => {
                tls.connect(socket, address, timeout).map(Box::new).map(Stream::Tls)
            }
            (stream, ..) => Ok(stream),
        }
    }

    /// What comes before the first frame of an accepted connection: the handshake of TLS, where there is TLS. A peer
    /// that fails in it has been told why.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        let Stream::Tls(tls) = self else { return Ok(()) };
        let done = tls.shake_hands();
        if done.is_err() {
            self.drain();
        }
        done
    }

    /// Another handle of the same socket, to shut it down or look at it from another thread. It takes no descriptor.
    /// Of TLS it is the socket below, and nothing that makes sense is read from it or written to it.
    pub fn handle(&self) -> Stream {
        match self {
            Stream::Tcp(socket) => Stream::Tcp(Arc::clone(socket)),
            Stream::Tls(tls) => Stream::Tcp(Arc::clone(tls.socket())),
            Stream::Unix(socket) => Stream::Unix(Arc::clone(socket)),
        }
    }

    /// Ends both directions: a thread that is blocked in reading or writing wakes up.
    pub fn shutdown(&self) {
        // An error means that the peer was faster; then there is nothing left to end.
        let _ = on!(self, socket => socket.shutdown(Shutdown::Both));
    }

    /// Ends our direction only: the peer reads what was sent, then the end of the stream.
    pub fn finish_writing(&mut self) {
        if let Stream::Tls(tls) = self {
            tls.say_goodbye();
        }
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
        self.drain();
    }

    /// Reads for a moment what nobody will look at.
    fn drain(&mut self) {
        if self.set_timeout(Some(LINGER)).is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER;
        let mut unread = [0; 4096];
        while Instant::now() < deadline && self.discard(&mut unread).is_ok_and(|count| count > 0) {}
    }

    /// Receives bytes that nobody will look at. Nothing that makes sense is read after them.
    pub fn discard(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => (&**socket).read(buffer),
            Stream::Unix(socket) => (&**socket).read(buffer),
            Stream::Tls(tls) => tls.discard(buffer),
        }
    }

    /// The longest that one read or write may block.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        on!(self, socket => {
            socket.set_read_timeout(timeout)?;
            socket.set_write_timeout(timeout)
        })
    }

    /// How long what was written may stay unconfirmed by the peer's machine before the connection is given up. Without
    /// this the kernel sends it again and again, more and more seldom: a network that is well again after a minute
    /// would not be noticed for another one. Nothing of the kind happens to a Unix socket.
    pub fn set_unconfirmed(&self, most: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => SockRef::from(&**socket).set_tcp_user_timeout(Some(most)),
            Stream::Tls(tls) => SockRef::from(&**tls.socket()).set_tcp_user_timeout(Some(most)),
            Stream::Unix(_) => Ok(()),
        }
    }

    /// Looks, without waiting and without taking anything.
    pub fn glance(&self) -> Glance {
        if let Stream::Tls(tls) = self
            && tls.has_bytes()
        {
            return Glance::Bytes;
        }
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
            Stream::Tcp(_) | Stream::Tls(_) => self.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
        }
    }

    /// Whose connection this is. Fails when the peer is gone.
    pub fn origin(&self) -> io::Result<Origin> {
        match self {
            Stream::Unix(_) => Ok(Origin::User(PeerProcess::of(self)?.user)),
            Stream::Tcp(_) | Stream::Tls(_) => Ok(Origin::address(self.peer_addr()?.ip())),
        }
    }

    /// The far side, for logs and messages.
    pub fn peer(&self) -> String {
        match self {
            Stream::Unix(_) => "unix".to_owned(),
            Stream::Tcp(_) | Stream::Tls(_) => {
                self.peer_addr().map_or_else(|_| "gone".to_owned(), |peer| peer.to_string())
            }
        }
    }

    /// Writes what the socket takes at once; how much that is. Nothing of what is said in secret, which is written whole.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match self {
            Stream::Tcp(socket) => send(socket, bytes, flags),
            Stream::Unix(socket) => send(socket, bytes, flags),
            Stream::Tls(_) => return Ok(0),
        };
        match sent {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            sent => Ok(sent?),
        }
    }

    /// The address of the far side of a connection over TCP.
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Stream::Tcp(socket) => socket.peer_addr(),
            Stream::Tls(tls) => tls.socket().peer_addr(),
        }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => (&**socket).read(buffer),
            Stream::Unix(socket) => (&**socket).read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }

    #[inline]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => (&**socket).read_vectored(buffers),
            Stream::Unix(socket) => (&**socket).read_vectored(buffers),
            Stream::Tls(tls) => tls.read_vectored(buffers),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => (&**socket).write(bytes),
            Stream::Unix(socket) => (&**socket).write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    #[inline]
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => (&**socket).write_vectored(parts),
            Stream::Unix(socket) => (&**socket).write_vectored(parts),
            Stream::Tls(tls) => tls.write_vectored(parts),
        }
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
    fn what_a_socket_does_not_take_at_once_is_not_waited_for() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let near = Stream::from(near);
        let bytes = vec![7; 64 << 20];
        let taken = near.write_now(&bytes).unwrap();
        assert!((1..bytes.len()).contains(&taken));
        assert_eq!(near.write_now(&bytes).unwrap(), 0);
        far.read_exact(&mut vec![0; taken]).unwrap();
        assert!(near.write_now(b"more").unwrap() > 0);
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
    fn a_tcp_connection_is_told_how_long_it_may_stay_unconfirmed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let seen = socket.try_clone().unwrap();
        Stream::from(socket).set_unconfirmed(Duration::from_secs(2)).unwrap();
        assert_eq!(SockRef::from(&seen).tcp_user_timeout().unwrap(), Some(Duration::from_secs(2)));
        Stream::from(UnixStream::pair().unwrap().0).set_unconfirmed(Duration::from_secs(2)).unwrap();
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
