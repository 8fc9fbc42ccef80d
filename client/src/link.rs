//! One connection to one server, with the session that outlives it.
//!
//! A link numbers its requests. Session and number name an operation for the server: after a broken
//! connection a link is opened again under the same session, and a request that is sent again under
//! its old number is done at most once. The link knows no retry policy; the lanes of `transfer` do.

use std::time::{Duration, Instant};

use mcomp_net::{CallError, Connection, Glance, Received, begin_frame};
use mcomp_wire::control::{self, Welcome};
use mcomp_wire::meta::Fence;
use mcomp_wire::replica::Name;
use mcomp_wire::{Header, Kind, Status, flags, limits};
use uuid::Uuid;

use crate::ask::Ask;
use crate::clock::now_ms;
use crate::sink::Sink;

/// Small frames are gathered up to this many bytes before they are sent.
const OUTBOX: usize = 64 << 10;

/// A connection that has stood idle for less is not asked whether its peer is still there: that
/// costs a system call.
const FRESH_MS: u64 = 100;

/// A connection, its session and its numbering.
///
/// - Request ids rise within the session, across connections.
/// - `unanswered` counts the frames sent on this connection whose answers have not been taken.
/// - `broken` says that it is of no more use; `parted`, that the server has said its last word on it.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    session: Uuid,
    /// What requests that modify show, as its bytes.
    fence: Option<[u8; Fence::LEN]>,
    /// The greatest clock that a replicated block has shown.
    shown_clock: u64,
    last_id: u64,
    outbox: Vec<u8>,
    unanswered: usize,
    broken: bool,
    parted: bool,
    socket_timeout: Duration,
    idle_since_ms: u64,
}

impl Link {
    /// A link over a connection that was opened under `session`.
    pub(crate) fn new(connection: Connection, session: Uuid, timeout: Duration) -> Link {
        Link {
            connection,
            session,
            fence: None,
            shown_clock: 0,
            // The handshake is number 1.
            last_id: 1,
            outbox: Vec::new(),
            unanswered: 0,
            broken: false,
            parted: false,
            socket_timeout: timeout,
            idle_since_ms: now_ms(),
        }
    }

    /// Goes on over a new connection, opened under the same session. Whether the server still knows
    /// the answers of the old one: only then may a request that modifies be sent again.
    pub(crate) fn resume(&mut self, connection: Connection, timeout: Duration) -> bool {
        let known = self.welcome().incarnation;
        let welcome = &connection.greeting().welcome;
        let resumed = welcome.resumed && welcome.incarnation == known;
        self.connection = connection;
        self.outbox.clear();
        (self.unanswered, self.broken, self.parted) = (0, false, false);
        self.socket_timeout = timeout;
        resumed
    }

    /// The session's id.
    pub(crate) fn session(&self) -> Uuid {
        self.session
    }

    /// What the server said in the handshake.
    pub(crate) fn welcome(&self) -> &Welcome {
        &self.connection.greeting().welcome
    }

    /// A number that no request of the session has had.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// From now on data requests show this fence, or none.
    #[inline]
    pub(crate) fn show(&mut self, fence: Option<Fence>) {
        self.fence = fence.map(Fence::emit);
    }

    /// The greatest clock that a replicated block has shown on it.
    pub(crate) fn shown_clock(&self) -> u64 {
        self.shown_clock
    }

    /// Sends a request, or puts it into the outbox when it is small; see [`Link::flush`].
    pub(crate) fn send(&mut self, id: u64, ask: &Ask<'_>) -> Result<(), CallError> {
        self.unanswered += 1;
        let mut header = self.connection.header(ask.kind, id);
        let fence = self.fence.filter(|_| ask.kind.is_data());
        if fence.is_some() {
            header.flags |= flags::FENCED;
        }
        let fence = fence.as_ref().map_or(&[][..], |fence| fence);
        let name = ask.name.filter(|_| ask.kind.is_data()).map(Name::emit);
        if name.is_some() {
            header.flags |= flags::NAMED;
        }
        let name = name.as_ref().map_or(&[][..], |name| name);
        let checksum = self.connection.greeting().checksum;
        if let Some((fields, bytes)) = ask.large() {
            self.flush()?;
            let parts = [fence, name, fields.bytes(), bytes];
            let sent = self.connection.send(sealed(header, &parts, checksum), &parts);
            return self.note(sent);
        }
        let at = begin_frame(&mut self.outbox);
        self.outbox.extend_from_slice(fence);
        self.outbox.extend_from_slice(name);
        ask.emit(&mut self.outbox);
        self.connection.finish_frame(&mut self.outbox, at, header);
        if self.outbox.len() >= OUTBOX { self.flush() } else { Ok(()) }
    }

    /// Sends what is in the outbox, in one system call if the kernel takes it.
    pub(crate) fn flush(&mut self) -> Result<(), CallError> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let sent = self.connection.send_frames(&self.outbox);
        self.outbox.clear();
        self.note(sent)
    }

    /// Waits until `deadline` for the answer to request `id`, the oldest unanswered one.
    pub(crate) fn receive(&mut self, id: u64, kind: Kind, deadline: Instant) -> Result<Received, CallError> {
        self.wait_at_most(deadline.saturating_duration_since(Instant::now()))?;
        let received = self.connection.receive_any(deadline);
        let received = self.note(received)?;
        self.judge(received, id, kind)
    }

    /// As [`Link::receive`]. A body for which the sink has room goes there, and there is nothing to return.
    pub(crate) fn receive_for(
        &mut self,
        id: u64,
        ask: &Ask<'_>,
        deadline: Instant,
        sink: &mut impl Sink,
    ) -> Result<Option<Received>, CallError> {
        let Some(target) = sink.room(ask.tag, ask.answer_len()) else {
            return self.receive(id, ask.kind, deadline).map(Some);
        };
        self.wait_at_most(deadline.saturating_duration_since(Instant::now()))?;
        let received = self.connection.receive_into(deadline, id, ask.kind, target);
        match self.note(received)? {
            Some(received) => self.judge(received, id, ask.kind).map(Some),
            None => {
                self.unanswered -= 1;
                Ok(None)
            }
        }
    }

    /// Whether a frame is the good answer to request `id`.
    fn judge(&mut self, received: Received, id: u64, kind: Kind) -> Result<Received, CallError> {
        let header = received.header;
        // An error frame closes the connection behind it, whatever it was about.
        let is_error = header.kind == Kind::Error as u8;
        if !is_error && (header.request_id != id || header.kind != kind as u8 || header.has_more()) {
            self.broken = true;
            return Err(CallError::Answer(format!("expected {kind} {id}, got {header}")));
        }
        self.broken |= is_error;
        self.parted |= is_error;
        self.unanswered -= 1;
        match Status::from_wire(header.status) {
            Status::Ok if !is_error => Ok(received),
            status => {
                let mut body = self.connection.body(&received);
                if let (Status::Forgotten, Some((clock, rest))) = (status, body.split_first_chunk()) {
                    self.shown_clock = self.shown_clock.max(u64::from_le_bytes(*clock));
                    body = rest;
                }
                Err(CallError::Refused { status, message: limits::sentence(body) })
            }
        }
    }

    /// The body of the answer received last.
    pub(crate) fn body(&self, received: &Received) -> &[u8] {
        self.connection.body(received)
    }

    /// One request whose answer's body does not matter.
    pub(crate) fn call(&mut self, ask: &Ask<'_>, deadline: Instant) -> Result<(), CallError> {
        let id = self.next_id();
        self.send(id, ask)?;
        self.flush()?;
        self.receive(id, ask.kind, deadline).map(drop)
    }

    /// One control request and its answer.
    pub(crate) fn control<A: serde::de::DeserializeOwned>(
        &mut self,
        kind: Kind,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<A, CallError> {
        let id = self.next_id();
        self.send(id, &Ask::of_bytes(0, kind, body, 0, true))?;
        self.flush()?;
        let received = self.receive(id, kind, deadline)?;
        Ok(control::decode(self.body(&received))?)
    }

    /// Whether the next request can be sent on it: nothing is left over from the last one.
    pub(crate) fn is_clean(&self) -> bool {
        !self.broken && self.unanswered == 0
    }

    /// Whether the connection is of no more use.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the server has said its last word, about no request in particular.
    pub(crate) fn has_parted(&self) -> bool {
        self.parted
    }

    /// Makes sure that it is not used again.
    pub(crate) fn break_off(&mut self) {
        self.broken = true;
    }

    /// Notes that it goes back into the pool.
    pub(crate) fn rest(&mut self) {
        self.idle_since_ms = now_ms();
    }

    /// Whether the peer has left while the link stood idle.
    pub(crate) fn is_stale(&self) -> bool {
        if now_ms().saturating_sub(self.idle_since_ms) < FRESH_MS {
            return false;
        }
        // Bytes that nobody asked for are a parting word of the server.
        self.connection.stream().glance() != Glance::Nothing
    }

    /// Says goodbye, so that the server need not keep the session.
    pub(crate) fn close(self) {
        if self.is_clean() {
            self.connection.close();
        }
    }

    /// Sets the socket's own timeout, when it is far from what is wanted: that costs system calls.
    fn wait_at_most(&mut self, left: Duration) -> Result<(), CallError> {
        // A wait that is a little long is no harm; one that is too short would end a call before its time.
        let slack = self.socket_timeout / 4;
        if left + slack < self.socket_timeout || left > self.socket_timeout {
            let set = self.connection.set_request_timeout(left).map_err(CallError::Lost);
            self.note(set)?;
            // A zero would make every wait differ from it by more than its quarter.
            self.socket_timeout = left.max(Duration::from_millis(1));
        }
        Ok(())
    }

    fn note<T>(&mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        self.broken |= result.is_err();
        result
    }
}

/// The header for a body in parts.
fn sealed(mut header: Header, parts: &[&[u8]], checksum: bool) -> Header {
    header.length = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    if checksum {
        let mut hasher = crc32fast::Hasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        header.flags |= flags::CHECKSUM;
        header.body_crc = hasher.finalize();
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_for_parts_is_the_header_for_the_whole() {
        for checksum in [false, true] {
            let whole = Header::default().for_body(b"abcdef", checksum);
            assert_eq!(sealed(Header::default(), &[b"abc", b"", b"def"], checksum), whole);
        }
    }
}
