//! A TCP connection under TLS, blocking like any other.
//!
//! Deadlines hold for the handshake and for each read as a whole, however a peer trickles its records; those of a
//! server are kept by the watchdog, which shuts the socket down. The end of the stream is the end, whether or not the
//! peer has said goodbye: frames have lengths, so what is cut short is seen above. After an error the connection is of no
//! more use.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcomp_wire::{Kind, MAGIC, Status, limits};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::{ClientConnection, Connection, ServerConnection};

use super::Tls;
use super::certificates::server_name;
use crate::frame::{Inbox, error_frame};
use crate::{CallError, Listener};

/// A connected socket with the session that stands over it.
#[derive(Debug)]
pub struct TlsStream {
    socket: Arc<TcpStream>,
    session: Connection,
    /// Decrypted bytes that wait in the session.
    waiting: usize,
    /// Bytes of the socket that the session has not taken yet.
    received: Received,
}

/// What the socket had, up to [`MOST_BYTES`] at a time: the session alone would ask it for 4 KiB, which is a quarter of
/// a record.
#[derive(Debug, Default)]
struct Received {
    buffer: Vec<u8>,
    unread: Range<usize>,
}

/// Enough for what one small request or answer takes.
const FIRST_BYTES: usize = 4 << 10;

/// Two records of the longest.
const MOST_BYTES: usize = 33 << 10;

impl Received {
    /// Receives once, if nothing is unread. Returns what is unread then; nothing at the end of the stream.
    fn fill(&mut self, mut socket: &TcpStream) -> io::Result<&[u8]> {
        while self.unread.is_empty() {
            // A buffer that was filled may have been too small.
            let is_small = self.unread.end == self.buffer.len();
            let len = if is_small && !self.buffer.is_empty() { MOST_BYTES } else { FIRST_BYTES };
            if self.buffer.len() < len {
                self.buffer.resize(len, 0);
            }
            match socket.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(received) => self.unread = 0..received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.unread.clone()])
    }
}

impl Tls {
    /// The client's side, within `timeout`. The certificate must be for the host of `address`.
    pub(crate) fn connect(
        &self,
        socket: Arc<TcpStream>,
        address: &str,
        timeout: Duration,
    ) -> Result<TlsStream, CallError> {
        let deadline = Instant::now() + timeout;
        let name = server_name(address).ok_or_else(|| {
            denied(format!("no certificate can be for the host of {address:?}: write a name of DNS or an IP address"))
        })?;
        let session = ClientConnection::new(self.client.clone(), name).map_err(broken)?;
        let mut stream = TlsStream { socket, session: session.into(), waiting: 0, received: Received::default() };
        stream.flush()?;
        stream.wait_at_most(deadline, timeout)?;
        let mut first = [0];
        if peek(&stream.socket, &mut first)? == 1 && first[0] == MAGIC[0] {
            return Err(stream.plain_answer(deadline, timeout));
        }
        while stream.session.is_handshaking() {
            stream.wait_at_most(deadline, timeout)?;
            if !stream.receive()? {
                return Err(closed().into());
            }
        }
        Ok(stream)
    }

    /// The same socket, whose connections will be under TLS.
    pub(crate) fn listen(&self, socket: TcpListener) -> Listener {
        Listener::Tls(socket, self.clone())
    }

    /// The server's side: says and waits for nothing yet.
    pub(crate) fn accept(&self, socket: Arc<TcpStream>) -> io::Result<TlsStream> {
        let session = ServerConnection::new(self.server.clone()).map_err(broken)?;
        Ok(TlsStream { socket, session: session.into(), waiting: 0, received: Received::default() })
    }
}

impl TlsStream {
    pub(crate) fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Whether a read gets bytes without waiting, although the socket may have none.
    pub(crate) fn has_bytes(&self) -> bool {
        self.waiting > 0 || !self.received.unread.is_empty()
    }

    /// Receives what nobody will look at, without waiting for the rest of a record. Nothing else is read after it.
    pub(crate) fn discard(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let thrown = std::mem::take(&mut self.waiting) + std::mem::take(&mut self.received.unread).len();
        if thrown > 0 { Ok(thrown) } else { (&*self.socket).read(buffer) }
    }

    /// The server's handshake. A peer that fails in it is told why, and nothing more: who does not speak TLS hears it in
    /// the open.
    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        let done = self.try_handshake();
        if done.is_err() {
            // It may be gone already.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        done
    }

    fn try_handshake(&mut self) -> io::Result<()> {
        let mut first = [0];
        if peek(&self.socket, &mut first)? == 1 && first[0] == MAGIC[0] {
            let mut out = Vec::new();
            let message =
                "it speaks TLS only: name certificates in mcomp.cfg here too ([security] tls_ca, tls_cert, tls_key)";
            error_frame(&mut out, Kind::Hello as u8, 0, Status::Denied, message);
            (&*self.socket).write_all(&out)?;
            return Err(broken(rustls::Error::General("it speaks without TLS".into())));
        }
        while self.session.is_handshaking() {
            if !self.receive()? {
                return Err(closed());
            }
        }
        Ok(())
    }

    /// Says that nothing more comes, if there is anybody who would understand.
    pub(crate) fn say_goodbye(&mut self) {
        if !self.session.is_handshaking() {
            self.session.send_close_notify();
            // The goodbye is a courtesy.
            let _ = self.flush();
        }
    }

    // Cold, so that the paths without TLS stay as short as they are in a build without it. Next to a record's cipher the
    // call is nothing.

    #[cold]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buffer)])
    }

    #[cold]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    #[cold]
    pub(crate) fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.wait_for_bytes()?;
        let mut all = 0;
        for buffer in buffers {
            let mut at = 0;
            while at < buffer.len() && self.waiting > 0 {
                let count = self.session.reader().read(&mut buffer[at..])?;
                self.waiting = if count == 0 { 0 } else { self.waiting.saturating_sub(count) };
                (at, all) = (at + count, all + count);
            }
        }
        Ok(all)
    }

    #[cold]
    pub(crate) fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = self.session.writer().write_vectored(parts)?;
        self.flush()?;
        Ok(taken)
    }

    /// Returns when there are decrypted bytes, or at the end of the stream.
    fn wait_for_bytes(&mut self) -> io::Result<()> {
        let mut deadline = None;
        while self.waiting == 0 {
            if !self.receive()? || self.waiting > 0 {
                break;
            }
            if !self.received.unread.is_empty() {
                continue;
            }
            // A part of a record has come. Its rest has no more time than all of it.
            let Some(limit) = self.socket.read_timeout()? else { continue };
            if Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + limit) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Receives once and does what is to be done with it. False at the end of the stream.
    fn receive(&mut self) -> io::Result<bool> {
        let mut bytes = self.received.fill(&self.socket)?;
        let taken = self.session.read_tls(&mut bytes)?;
        self.received.unread.start += taken;
        let state = self.session.process_new_packets();
        // Also after an error: the peer is told which one.
        let sent = self.flush();
        let state = state.map_err(broken)?;
        sent?;
        self.waiting = state.plaintext_bytes_to_read();
        Ok(taken > 0 && !state.peer_has_closed())
    }

    /// Sends what the session has to say. What it took of a caller is sent whole or never.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut &*self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets the next read of the socket wait until `deadline`.
    fn wait_at_most(&self, deadline: Instant, timeout: Duration) -> Result<(), CallError> {
        match deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(self.socket.set_read_timeout(Some(left))?),
            _ => Err(CallError::TimedOut(timeout)),
        }
    }

    /// What a far side means that answers in the open. It may be believed to be busy, and nothing else.
    fn plain_answer(&mut self, deadline: Instant, timeout: Duration) -> CallError {
        let mut inbox = Inbox::new(limits::MAX_MESSAGE);
        let said = loop {
            match inbox.take() {
                Ok(Some(frame)) => break Some(frame),
                Err(_) => break None,
                Ok(None) => {}
            }
            if self.wait_at_most(deadline, timeout).is_err() || !matches!(inbox.fill(&mut &*self.socket), Ok(1..)) {
                break None;
            }
        };
        if let Some(frame) = said.filter(|frame| Status::from_wire(frame.header.status) == Status::Busy) {
            return CallError::Refused { status: Status::Busy, message: limits::sentence(inbox.body(&frame)) };
        }
        denied(
            "it speaks without TLS, and this side has certificates: name some in its mcomp.cfg too ([security] \
             tls_ca, tls_cert, tls_key), or none here"
                .into(),
        )
    }
}

/// Waits for the first bytes, and leaves them where they are.
fn peek(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(socket, &mut *into, RecvFlags::PEEK) {
            Ok((_, received)) => return Ok(received),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn denied(message: String) -> CallError {
    CallError::Refused { status: Status::Denied, message }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection")
}
