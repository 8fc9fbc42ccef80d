//! One connection: a thread that receives a burst of requests, does them, and sends the answers in
//! one write.
//!
//! The handshake is in `connection/handshake.rs`. Data requests go straight to the memory
//! (`connection/data.rs`); control requests go to the cut, the restore or the counters
//! (`connection/control.rs`). Answers leave in the order of the requests. After a frame that makes no sense
//! the connection is closed, with a frame that says why.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use mcomp_net::auth::SEAL_LEN;
use mcomp_net::tls::is_tls;
use mcomp_net::{Cause, Finish, Glance, Inbox, Phase, Received, Spinning, Stream, Watch};
use mcomp_wire::{FrameError, Header, Kind, Role, Status, flags, limits};
use uuid::Uuid;

use crate::budget::Share;
use crate::connections::Place;
use crate::counters::Tally;
use crate::metadata::PeerInbox;
use crate::outbox::{FLUSH_BYTES, Outbox};
use crate::session::Session;
use crate::shared::Shared;

pub(crate) use data::Refused;

mod control;
mod data;
mod handover;
mod handshake;

/// How often a stopping server reads what a peer goes on sending.
const PARTING_READS: usize = 64;

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The peer closed, or said goodbye.
    Peer,
    /// The socket failed, or the watchdog closed it.
    Socket(io::Error),
    /// The peer was told why; nothing more is read from it.
    Refused,
    /// The server stops. Everything that was received is answered.
    Stopping,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Socket(error)
    }
}

/// A connection's whole state; it belongs to its thread.
pub(crate) struct Connection {
    stream: Stream,
    inbox: Inbox,
    out: Outbox,
    watch: Watch,
    tally: Tally,
    /// What the inbox takes of the budget; the outbox has a share of its own.
    share: Share,
    session_id: Option<Uuid>,
    session: Session,
    said_goodbye: bool,
    /// What has come of a message of another server.
    peer_inbox: PeerInbox,
    /// Whether `out` holds an answer to a data request, which a cut may hold back.
    answers_data: bool,
    /// When bytes came last, if durations are counted.
    received: Option<Instant>,
    role: Role,
    /// How many servers there are by the peer's mcomp.cfg, if it says so.
    listed: u32,
    /// How answers are finished.
    finish: Finish,
    /// While a proof is due: how many bytes the peer has sent, less those that it was sent.
    unproven_bytes: Option<usize>,
    // Dropped in this order: when the last place is free, a stopped server can let go of its segment.
    shared: Arc<Shared>,
    place: Place,
}

impl Connection {
    pub(crate) fn new(stream: Stream, place: Place, watch: Watch, shared: Arc<Shared>) -> Connection {
        Connection {
            stream,
            inbox: Inbox::new(limits::MAX_HELLO),
            out: Outbox::new(shared.budget.share()),
            watch,
            tally: Tally::default(),
            share: shared.budget.share(),
            session_id: None,
            session: Session::default(),
            said_goodbye: false,
            peer_inbox: PeerInbox::default(),
            answers_data: false,
            received: None,
            role: Role::Client,
            listed: 0,
            finish: Finish::default(),
            unproven_bytes: shared.keyring.is_some().then_some(0),
            place,
            shared,
        }
    }

    /// Serves until the peer leaves, misbehaves or is too slow.
    pub(crate) fn run(mut self) {
        let Err(end) = self.secure().and_then(|()| self.shake_hands()).and_then(|()| self.serve());
        self.shared.counters.add(&mut self.tally);
        match end {
            End::Peer => self.report(&io::ErrorKind::UnexpectedEof.into()),
            End::Refused => self.linger(),
            End::Stopping => self.part(),
            End::Socket(error) => self.report(&error),
        }
    }

    fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        // Whether the watchdog times an incomplete frame: from its first byte, however it trickles.
        let mut timed = false;
        loop {
            while let Some(frame) = self.next_frame()? {
                if timed {
                    self.watch.enter(Phase::Idle);
                    timed = false;
                }
                self.dispatch(&frame)?;
                if self.out.bytes.len() >= FLUSH_BYTES {
                    self.flush()?;
                }
            }
            self.flush()?;
            if self.inbox.is_mid_frame() && !timed {
                self.watch.enter(Phase::Frame);
                timed = true;
            }
            self.receive()?;
        }
    }

    /// Takes a frame out of the inbox. A frame that makes no sense ends the connection.
    fn next_frame(&mut self) -> Result<Option<Received>, End> {
        let taken = self.inbox.take().and_then(|frame| {
            frame.as_ref().map_or(Ok(()), |frame| frame.header.check_request(self.finish.checksum))?;
            Ok(frame)
        });
        taken.map_err(|error| {
            match error {
                FrameError::Seal(_) => self.shared.counters.reject(Cause::BadSeal),
                _ if error.status() == Status::Malformed => self.shared.counters.reject(Cause::BadFrame),
                _ => self.shared.counters.refuse(error.status()),
            }
            self.tell(Header::default(), error.status(), &error.to_string());
            End::Refused
        })
    }

    /// Receives once, after making sure that the buffer may be as large as the frame needs. A server that stops
    /// receives nothing more.
    fn receive(&mut self) -> Result<(), End> {
        if self.shared.is_stopping() {
            return Err(End::Stopping);
        }
        let growth = self.inbox.growth();
        if growth > 0 && !self.share.grow_to(self.inbox.grown() + growth) {
            self.refuse_buffers(Header::default());
            return Err(End::Refused);
        }
        match self.inbox.fill(&mut Spinning::new(&mut self.stream, self.shared.spin))? {
            0 if self.shared.is_stopping() => Err(End::Stopping),
            0 => Err(End::Peer),
            received => {
                self.received = self.shared.counters.wants_durations().then(Instant::now);
                self.unproven_bytes = self.unproven_bytes.map(|bytes| bytes.saturating_add(received));
                Ok(())
            }
        }
    }

    /// Sends what has gathered. Answers to data requests wait first until no cut is held.
    fn flush(&mut self) -> Result<(), End> {
        if self.out.bytes.is_empty() {
            return Ok(());
        }
        let timed = self.received.map(|received| (received, self.tally.burst()));
        self.shared.counters.add(&mut self.tally);
        if std::mem::take(&mut self.answers_data) {
            self.shared.cuts.pass();
        }
        self.watch.enter(Phase::Write);
        self.send()?;
        self.watch.enter(Phase::Idle);
        if let Some((received, burst)) = timed {
            self.shared.counters.took(&burst, received.elapsed());
        }
        if self.share.budget().is_pressed() {
            self.slim();
        }
        Ok(())
    }

    /// Sends what has gathered, in the time of the phase that has been entered.
    fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out.bytes)?;
        self.unproven_bytes = self.unproven_bytes.map(|bytes| bytes.saturating_sub(self.out.bytes.len()));
        self.out.bytes.clear();
        Ok(())
    }

    /// Gives large buffers back.
    fn slim(&mut self) {
        self.inbox.shrink();
        self.out.shrink();
        self.share.shrink_to(self.inbox.grown());
    }

    fn dispatch(&mut self, frame: &Received) -> Result<(), End> {
        let Some(kind) = frame.kind() else {
            let message = format!("there is no request of kind {:#04x}", frame.header.kind);
            return Err(self.refuse_and_end(frame.header, Status::UnknownKind, &message));
        };
        if frame.header.flags & (flags::FENCED | flags::NAMED) != 0 && !kind.is_data() {
            self.refuse(frame.header, Status::Malformed, "only a data request shows a fence or has a name");
            return Ok(());
        }
        match kind {
            Kind::Bye => {
                self.said_goodbye = true;
                self.flush()?;
                return Err(End::Peer);
            }
            Kind::Handover => self.hand_over(frame)?,
            Kind::Peer | Kind::Replicas if self.role != Role::Node => {
                let message = format!("{kind} is for the role node, and this is a {}", self.role);
                self.refuse(frame.header, Status::Denied, &message);
            }
            Kind::Peer => {
                if let Err(refusal) = self.peer(frame) {
                    return Err(self.refuse_and_end(frame.header, refusal.status, &refusal.message));
                }
            }
            Kind::Replicas => {
                if let Err(refusal) = self.replicas(frame) {
                    return Err(self.refuse_and_end(frame.header, refusal.status, &refusal.message));
                }
            }
            _ if kind.is_data() => self.data(frame)?,
            _ => {
                if let Err(refusal) = self.control(kind, frame) {
                    self.refuse(frame.header, refusal.status, &refusal.message);
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, request: Header, status: Status, message: &str) {
        self.shared.counters.refuse(status);
        self.tell(request, status, message);
    }

    /// Refuses a request whose buffers cannot be had.
    fn refuse_buffers(&mut self, request: Header) {
        self.shared.counters.reject(Cause::BufferBudget);
        let message = "the buffers of this server are used up (limits.buffer_budget): try again";
        self.tell(request, Status::Busy, message);
    }

    /// Appends an answer that says why there is none. Whoever calls it counts the refusal.
    fn tell(&mut self, request: Header, status: Status, message: &str) {
        self.out.make_room(limits::MAX_MESSAGE + SEAL_LEN);
        let most = self.sentence_room();
        self.finish.refusal(&mut self.out.bytes, &request, status, message, most);
    }

    /// Says why, and ends the connection.
    fn refuse_and_end(&mut self, request: Header, status: Status, message: &str) -> End {
        self.refuse(request, status, message);
        End::Refused
    }

    /// Sends the last words.
    fn linger(&mut self) {
        if self.flush().is_ok() {
            self.watch.enter(Phase::Write);
            self.stream.linger();
        }
    }

    /// Says that the server stops, behind the last answer: the client knows then that nothing else was done. Who still
    /// owes a proof has asked for nothing, and may have said less than the word is long.
    fn part(&mut self) {
        if self.unproven_bytes.is_some() {
            return;
        }
        self.out.make_room(limits::MAX_MESSAGE + SEAL_LEN);
        let last_word = "this server is stopping: no request without an answer was done";
        let (most, nobody) = (self.sentence_room(), Header { kind: Kind::Error as u8, ..Header::default() });
        self.finish.refusal(&mut self.out.bytes, &nobody, Status::Stopping, last_word, most);
        if self.flush().is_err() {
            return;
        }
        self.stream.finish_writing();
        // A socket closed with unread bytes may take the last word back. Its peer is not waited for: a restart
        // would take as long.
        let mut unread = [0; 4096];
        for _ in 0..PARTING_READS {
            if self.stream.glance() != Glance::Bytes || self.stream.discard(&mut unread).is_err() {
                return;
            }
        }
    }

    fn report(&self, error: &io::Error) {
        let overdue = self.watch.overdue().and_then(Cause::of_overdue);
        match overdue.or(is_tls(error).then_some(Cause::BadTls)) {
            Some(cause) => self.shared.counters.reject(cause),
            None => tracing::debug!(peer = self.stream.peer(), %error, "connection lost"),
        }
    }
}

impl Drop for Connection {
    /// What others wait for is given back, also after a panic. The cut comes last, and only from who may have
    /// begun one: its lock is held while a shadow area is allocated, and no client that comes back waits for that.
    fn drop(&mut self) {
        self.shared.restores.connection_closed(self.place.id);
        if let Some(id) = self.session_id {
            self.shared.sessions.give_back(id, std::mem::take(&mut self.session), self.said_goodbye);
        }
        self.stream.shutdown();
        if self.role == Role::Node {
            self.shared.cuts.connection_closed(self.place.id);
        }
    }
}

#[cfg(test)]
mod tests;
