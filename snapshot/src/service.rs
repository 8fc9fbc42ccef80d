//! One connection to a snapshot process: copy the segment for the master, make a snapshot for an
//! operator, or say what was done.
//!
//! Requests on a connection are answered one after the other; a long one streams its answer.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::auth::Keyring;
use mcomp_net::tls::is_tls;
use mcomp_net::{Cause, Finish, Inbox, Phase, Received, Refusals, Stream, Watch, begin_frame};
use mcomp_wire::control::{
    self, SnapshotCollect, SnapshotCollected, SnapshotCreate, SnapshotProgress, SnapshotterStatus,
};
use mcomp_wire::{Chunk, FrameError, Header, Kind, Role, Space, Status, flags, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::SnapshotError;
use crate::collect::{Collection, Next};
use crate::file::EncodedChunk;
use crate::master::{Master, Wanted};
use crate::tally::{Places, Tally};

/// Copies of the segment at a time, each with its threads and its chunks in memory: the master's, and one that it
/// has given up and that has not ended yet.
pub(crate) const MOST_COPIES: usize = 2;

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What the connections of a snapshot process share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: Config,
    pub(crate) id: u32,
    /// The keys that peers have to prove, if there is a secret.
    pub(crate) keyring: Option<Keyring>,
    pub(crate) tally: Tally,
    pub(crate) refusals: Refusals,
    /// For copies of the segment; see [`MOST_COPIES`].
    pub(crate) copies: Places,
    /// Present in the master's process only.
    pub(crate) master: Option<Master>,
}

/// A connection's state; it belongs to its thread.
pub(crate) struct Peer {
    stream: Stream,
    inbox: Inbox,
    watch: Watch,
    role: Role,
    /// Whether the handshake is done.
    is_greeted: bool,
    /// How answers are finished.
    finish: Finish,
    /// While a proof is due: how many bytes the peer has sent, less those that it was sent.
    unproven_bytes: Option<usize>,
    service: Arc<Service>,
}

/// A refusal that the peer is told.
struct Refusal {
    status: Status,
    message: String,
    /// What it is counted under, where the status says too little.
    cause: Option<Cause>,
}

impl Refusal {
    fn new(status: Status, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), cause: None }
    }

    fn because(cause: Cause, status: Status, message: impl Into<String>) -> Refusal {
        Refusal { cause: Some(cause), ..Refusal::new(status, message) }
    }
}

/// Why a request has no answer: it was refused, or there is nobody to answer to.
enum Failed {
    Refused(Refusal),
    Socket(io::Error),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Failed {
        Failed::Refused(refusal)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Socket(error)
    }
}

impl Peer {
    pub(crate) fn new(stream: Stream, watch: Watch, service: Arc<Service>) -> Peer {
        let unproven_bytes = service.keyring.is_some().then_some(0);
        let (inbox, finish) = (Inbox::new(limits::MAX_HELLO), Finish::default());
        Peer { stream, inbox, watch, role: Role::Client, is_greeted: false, finish, unproven_bytes, service }
    }

    /// Serves until the peer leaves, misbehaves or is too slow.
    pub(crate) fn run(mut self) {
        let Err(error) = self.serve();
        tracing::debug!(peer = self.stream.peer(), %error, "connection closed");
        let overdue = match self.watch.overdue() {
            // Once hands are shaken, what was waited for that long is the next request.
            Some(Phase::Handshake) if self.is_greeted => Some(Cause::RequestTimeout),
            phase => phase.and_then(Cause::of_overdue),
        };
        if let Some(cause) = overdue.or(is_tls(&error).then_some(Cause::BadTls)) {
            self.service.refusals.reject(cause);
        }
        self.stream.shutdown();
    }

    fn serve(&mut self) -> io::Result<Infallible> {
        self.secure()?;
        self.shake_hands()?;
        self.is_greeted = true;
        self.inbox.set_max_body(limits::MAX_CONTROL);
        loop {
            let frame = self.next_request()?;
            match self.handle(&frame) {
                Ok(()) => {}
                Err(Failed::Refused(refusal)) => self.refuse(frame.header, &refusal)?,
                Err(Failed::Socket(error)) => return Err(error),
            }
        }
    }

    /// Waits for the next request, as long as its sender has reason to say nothing: the master, until the cut is
    /// made; all others ask when they come. Silent connections would take the place of those who want something.
    fn next_request(&mut self) -> io::Result<Received> {
        self.watch.enter(if self.role == Role::Node { Phase::Request } else { Phase::Handshake });
        self.next_frame(true)
    }

    /// Waits for a frame, in the phase that has been entered. `times_rest` gives the rest of it the time of a frame,
    /// from its first byte, and then stops the clock; without, that phase goes on.
    fn next_frame(&mut self, times_rest: bool) -> io::Result<Received> {
        let mut timed = !times_rest;
        loop {
            match self.inbox.take() {
                Ok(Some(frame)) if frame.header.check_request(false).is_ok() => {
                    if times_rest {
                        self.watch.enter(Phase::Idle);
                    }
                    return Ok(frame);
                }
                Ok(None) => {}
                bad => {
                    let error = bad.err().unwrap_or(FrameError::NotARequest);
                    self.refuse(Header::default(), &bad_frame(&error))?;
                    self.stream.linger();
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
            if self.inbox.is_mid_frame() && !std::mem::replace(&mut timed, true) {
                self.watch.enter(Phase::Frame);
            }
            match self.inbox.fill(&mut self.stream)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                received => self.unproven_bytes = self.unproven_bytes.map(|bytes| bytes.saturating_add(received)),
            }
        }
    }

    fn handle(&mut self, frame: &Received) -> Result<(), Failed> {
        match frame.kind() {
            Some(Kind::SnapshotStatus) => {
                let status = self.service.status();
                Ok(self.answer(frame.header, Kind::SnapshotStatus, 0, &status)?)
            }
            Some(Kind::SnapshotCollect) => {
                let request = self.decode_for(frame, Role::Node)?;
                self.collect(frame.header, request)
            }
            Some(Kind::SnapshotCreate) => {
                let request = self.decode_for(frame, Role::Admin)?;
                self.create(frame.header, &request)
            }
            Some(Kind::Bye) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            known => {
                let message = format!("a snapshot process does not answer kind {:#04x}", frame.header.kind);
                let refusal = Refusal::new(Status::UnknownKind, message);
                if known.is_some() {
                    return Err(refusal.into());
                }
                self.refuse(frame.header, &refusal)?;
                self.stream.linger();
                Err(io::Error::new(io::ErrorKind::InvalidData, refusal.message).into())
            }
        }
    }

    fn collect(&mut self, header: Header, request: SnapshotCollect) -> Result<(), Failed> {
        let service = Arc::clone(&self.service);
        let busy =
            || Refusal::new(Status::Busy, format!("{MOST_COPIES} copies of this segment are being made already"));
        let _place = service.copies.take().ok_or_else(busy)?;
        let cut_lost = |error: crate::collect::CollectError| Refusal::new(Status::CutLost, error.to_string());
        let space = Space::new(service.config.k(), service.config.n()).expect("a checked config has a space");
        let collection = Collection::start(service.config.name(), service.id, space, request).map_err(cut_lost)?;
        let mut chunks = 0;
        let mut reported = Instant::now();
        loop {
            match collection.next(REPORT_EVERY) {
                Next::Chunk(chunk) => {
                    chunks += 1;
                    self.send_chunk(header, &chunk)?;
                }
                Next::Nothing => {}
                Next::Failed(error) => return Err(cut_lost(error).into()),
                Next::Done => {
                    self.send_progress(header, collection.progress())?;
                    let done = SnapshotCollected { chunks };
                    return Ok(self.answer(header, Kind::SnapshotCollect, 0, &done)?);
                }
            }
            if reported.elapsed() >= REPORT_EVERY {
                self.send_progress(header, collection.progress())?;
                reported = Instant::now();
            }
        }
    }

    fn create(&mut self, header: Header, request: &SnapshotCreate) -> Result<(), Failed> {
        let service = Arc::clone(&self.service);
        let Some(master) = &service.master else {
            let master = service.config.snapshot().master;
            let message = format!("snapshots are made by snapshot process {master}, and this is {}", service.id);
            return Err(Refusal::new(Status::UnknownKind, message).into());
        };
        let wanted = if request.incremental { Wanted::Incremental } else { Wanted::Full };
        let mut reported = None::<Instant>;
        let created = master.create(wanted, &service.tally, &mut |progress| {
            if reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
                // A peer that has left does not stop the snapshot.
                let _ = self.send_progress(header, (progress.done, progress.total));
                reported = Some(Instant::now());
            }
        });
        match created {
            Ok(created) => Ok(self.answer(header, Kind::SnapshotCreate, 0, &created)?),
            Err(error) => Err(told(&error).into()),
        }
    }

    fn send_progress(&mut self, header: Header, (done, total): (u64, u64)) -> io::Result<()> {
        self.answer(header, Kind::SnapshotProgress, flags::MORE, &SnapshotProgress { done, total })
    }

    fn send_chunk(&mut self, request: Header, chunk: &EncodedChunk) -> io::Result<()> {
        let chunk = Chunk {
            addr: chunk.address(),
            length: chunk.length(),
            crc: chunk.crc(),
            codec: chunk.codec() as u8,
            stored: chunk.stored(),
        };
        self.send(request, Kind::SnapshotChunk, flags::MORE, |out| {
            out.extend_from_slice(&chunk.emit_head());
            out.extend_from_slice(chunk.stored);
        })
    }

    fn answer<T: Serialize>(&mut self, request: Header, kind: Kind, more: u16, message: &T) -> io::Result<()> {
        self.send(request, kind, more, |out| out.extend_from_slice(&control::encode(message)))
    }

    fn send(&mut self, request: Header, kind: Kind, more: u16, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut out = Vec::new();
        let at = begin_frame(&mut out);
        body(&mut out);
        let header = Header {
            kind: kind as u8,
            flags: flags::ANSWER | more,
            request_id: request.request_id,
            ..Header::default()
        };
        self.finish.checksum = true;
        self.finish.frame(&mut out, at, header);
        self.write(&out)
    }

    fn refuse(&mut self, request: Header, refusal: &Refusal) -> io::Result<()> {
        match refusal.cause {
            Some(cause) => self.service.refusals.reject(cause),
            None => self.service.refusals.refuse(refusal.status),
        }
        let mut out = Vec::new();
        let most = self.sentence_room();
        self.finish.refusal(&mut out, &request, refusal.status, &refusal.message, most);
        self.write(&out)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.watch.enter(Phase::Write);
        let written = self.write_in_phase(bytes);
        self.watch.enter(Phase::Idle);
        written
    }

    /// Writes in the time of the phase that has been entered.
    fn write_in_phase(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unproven_bytes = self.unproven_bytes.map(|received| received.saturating_sub(bytes.len()));
        self.stream.write_all(bytes)
    }

    fn decode_for<T: DeserializeOwned>(&self, frame: &Received, role: Role) -> Result<T, Refusal> {
        if self.role != role {
            let message = format!("this request is for the role {role}, and this is a {}", self.role);
            return Err(Refusal::new(Status::Denied, message));
        }
        self.decode(frame)
    }

    fn decode<T: DeserializeOwned>(&self, frame: &Received) -> Result<T, Refusal> {
        let decoded = control::decode(self.inbox.body(frame));
        decoded.map_err(|error| Refusal::new(Status::Malformed, error.to_string()))
    }
}

impl Service {
    fn status(&self) -> SnapshotterStatus {
        let counts = self.tally.counts();
        SnapshotterStatus {
            id: self.id,
            master: self.master.is_some(),
            pid: std::process::id(),
            ok: counts.ok,
            aborted: counts.aborted,
            last_error: counts.last_error,
            last: counts.last,
            rejected: self.refusals.report(),
        }
    }
}

/// A frame that makes no sense.
fn bad_frame(error: &FrameError) -> Refusal {
    let (status, message) = (error.status(), error.to_string());
    match error {
        FrameError::Seal(_) => Refusal::because(Cause::BadSeal, status, message),
        _ if status == Status::Malformed => Refusal::because(Cause::BadFrame, status, message),
        _ => Refusal::new(status, message),
    }
}

/// A failure as the one who asked for the snapshot is told.
fn told(error: &SnapshotError) -> Refusal {
    match error {
        SnapshotError::Refused { who, status, message } => Refusal::new(*status, format!("{who} refused: {message}")),
        error => Refusal::new(error.status(), error.to_string()),
    }
}

mod handshake;

#[cfg(test)]
mod tests;
