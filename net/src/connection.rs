//! The client's end of a connection: handshake, deadline on every wait, one call after another or
//! many in flight.
//!
//! Used by the client library, the snapshot processes and the command line. It does not reconnect
//! and does not retry: whoever owns it knows whether that is safe.

use std::io::{self, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use mcomp_wire::control::{self, Challenge, Hello, Welcome, features};
use mcomp_wire::{FrameError, Header, Kind, Malformed, Status, flags, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{Keyring, Prover};
use crate::frame::{Around, Finish, Inbox, Received};
use crate::{Endpoint, Spinning, Stream, Trust, tls};

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection and its handshake.
    pub connect: Duration,
    /// For each answer.
    pub request: Duration,
}

/// What the handshake agreed on.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// The server's answer.
    pub welcome: Welcome,
    /// Whether bodies carry a checksum.
    pub checksum: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody answers there, or not in time.
    #[error("{endpoint} does not answer: {source}")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody answers, and says no.
    #[error("{endpoint} refused: {message}")]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// The reason as a code.
        status: Status,
        /// The reason as a sentence.
        message: String,
    },
    /// Whoever answers does not speak this protocol.
    #[error("{endpoint} is not an mcomp server of this version: {message}")]
    Protocol {
        /// Where.
        endpoint: Endpoint,
        /// What was wrong with its answer.
        message: String,
    },
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The deadline passed. The request may have been done.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection broke. The request may have been done.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// The answer is not a frame of this protocol. The request may have been done.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The answer has the wrong shape. The request may have been done.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// The server said no: the request had no effect.
    #[error("{message}")]
    Refused {
        /// The reason as a code.
        status: Status,
        /// The reason as a sentence.
        message: String,
    },
}

impl From<Malformed> for CallError {
    fn from(error: Malformed) -> CallError {
        CallError::Answer(error.to_string())
    }
}

/// A connection after its handshake. After any error but [`CallError::Refused`] it is of no more use.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    inbox: Inbox,
    out: Vec<u8>,
    finish: Finish,
    greeting: Greeting,
    timeouts: Timeouts,
    spin: Duration,
    next_id: u64,
}

impl Connection {
    /// Connects and shakes hands. `hello.features` are what this side would like. With a keyring both sides prove
    /// that they share a key of the role, and a server that has no secret is not trusted; with certificates nothing is
    /// said over TCP to who has none.
    pub fn open(
        endpoint: &Endpoint,
        hello: &Hello,
        timeouts: Timeouts,
        trust: Trust<'_>,
    ) -> Result<Connection, ConnectError> {
        let unreachable = |source| ConnectError::Unreachable { endpoint: endpoint.clone(), source };
        let began = Instant::now();
        let stream = Stream::connect(endpoint, timeouts.connect).map_err(unreachable)?;
        let stream = stream.secure(trust.tls, endpoint, timeouts.connect.saturating_sub(began.elapsed()));
        let stream = stream.map_err(|error| handshake_error(endpoint, error))?;
        stream.set_timeout(Some(timeouts.connect)).map_err(unreachable)?;
        let mut connection = Connection {
            stream,
            inbox: Inbox::new(limits::MAX_BODY),
            out: Vec::new(),
            finish: Finish::default(),
            greeting: Greeting {
                welcome: Welcome {
                    server: hello.server,
                    block_size: 0,
                    config_epoch: 0,
                    incarnation: 0,
                    segment: uuid::Uuid::nil(),
                    features: 0,
                    resumed: false,
                    auth: Vec::new(),
                },
                checksum: false,
            },
            timeouts: Timeouts { request: timeouts.connect, ..timeouts },
            spin: Duration::ZERO,
            next_id: 0,
        };
        let welcome = connection.shake_hands(hello, trust.keyring).map_err(|error| handshake_error(endpoint, error))?;
        connection.finish.checksum = welcome.features & features::CHECKSUM != 0;
        connection.greeting = Greeting { checksum: connection.finish.checksum, welcome };
        connection.set_request_timeout(timeouts.request).map_err(unreachable)?;
        Ok(connection)
    }

    fn shake_hands(&mut self, hello: &Hello, keyring: Option<&Keyring>) -> Result<Welcome, CallError> {
        match keyring {
            // A server that wants a proof may say no more about it than it was told itself.
            None => self.call(Kind::Hello, hello).map_err(|error| match error {
                CallError::Refused { status: Status::Denied, ref message } if !message.contains("TLS") => denied(
                    "it wants a proof of a key, and this side has no secret: set security.secret_file to the cluster's",
                ),
                error => error,
            }),
            Some(keyring) => self.prove(hello.clone(), keyring),
        }
    }

    /// The handshake with a key.
    fn prove(&mut self, mut hello: Hello, keyring: &Keyring) -> Result<Welcome, CallError> {
        let mut prover = Prover::new(keyring, &mut hello)?;
        let body = control::encode(&hello);
        let id = self.start(Kind::Hello, &body)?;
        prover.sent(&self.header(Kind::Hello, id).for_body(&body, false), &body);
        let (header, answer) = self.next_answer()?;
        if header.kind != Kind::Challenge as u8 {
            return Err(denied("it asks for no secret, and this side has one: it may be another server"));
        }
        let challenge: Challenge = control::decode(answer)?;
        let Some((prove, sealer, opener)) = prover.prove(&header, answer, &challenge) else {
            let role = hello.role;
            return Err(denied(format!("it knows none of the keys that this side has for the role {role}")));
        };
        let id = self.start(Kind::Prove, &control::encode(&prove))?;
        self.finish.sealer = Some(sealer);
        self.await_sealed()?;
        self.inbox.set_opener(opener);
        let (header, welcome) = self.next_answer()?;
        match (header.kind, header.request_id) == (Kind::Prove as u8, id) {
            true => Ok(control::decode(welcome)?),
            false => Err(CallError::Answer(format!("expected a welcome, got {header}"))),
        }
    }

    /// Waits until the answer to the proof begins to come. Before the proof is accepted a refusal has no seal, and is
    /// one from whoever is there; what says yes has one.
    fn await_sealed(&mut self) -> Result<(), CallError> {
        let deadline = Instant::now() + self.timeouts.request;
        loop {
            match self.inbox.peek()? {
                Some(header) if header.flags & flags::SEALED != 0 => return Ok(()),
                Some(header) if Status::from_wire(header.status) == Status::Ok => {
                    return Err(FrameError::Seal("is missing").into());
                }
                Some(_) => return self.receive(deadline).map(drop),
                None => self.fill(deadline)?,
            }
        }
    }

    /// What the handshake agreed on.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Changes how long later calls wait for an answer.
    pub fn set_request_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.timeouts.request = timeout;
        self.stream.set_timeout(Some(timeout.max(Duration::from_millis(1))))
    }

    /// How long to look for an answer before the thread sleeps; zero at first.
    pub fn set_spin(&mut self, spin: Duration) {
        self.spin = spin;
    }

    /// One control request and its answer.
    pub fn call<Q: Serialize, A: DeserializeOwned>(&mut self, kind: Kind, request: &Q) -> Result<A, CallError> {
        let (_, answer) = self.call_raw(kind, &control::encode(request))?;
        Ok(control::decode(answer)?)
    }

    /// One request and its answer, as bytes.
    pub fn call_raw(&mut self, kind: Kind, body: &[u8]) -> Result<(Header, &[u8]), CallError> {
        let id = self.start(kind, body)?;
        let deadline = Instant::now() + self.timeouts.request;
        let received = self.receive(deadline)?;
        if received.header.request_id != id || received.header.kind != kind as u8 {
            return Err(CallError::Answer(format!("expected {kind} {id}, got {}", received.header)));
        }
        Ok((received.header, self.inbox.body(&received)))
    }

    /// Sends a request whose answers are taken with [`Connection::next_answer`].
    pub fn start(&mut self, kind: Kind, body: &[u8]) -> Result<u64, CallError> {
        self.next_id += 1;
        let header = self.header(kind, self.next_id).for_body(body, self.finish.checksum);
        self.send(header, &[body])?;
        Ok(self.next_id)
    }

    /// Waits for the next frame of an answer; `Header::has_more` tells whether it is the last.
    pub fn next_answer(&mut self) -> Result<(Header, &[u8]), CallError> {
        let received = self.receive(Instant::now() + self.timeouts.request)?;
        Ok((received.header, self.inbox.body(&received)))
    }

    /// A request header that lives in the epoch of the handshake.
    pub fn header(&self, kind: Kind, request_id: u64) -> Header {
        let config_epoch = self.greeting.welcome.config_epoch;
        Header { kind: kind as u8, request_id, config_epoch, ..Header::default() }
    }

    /// Finishes the frame that begins at `at` of `out`, to be sent with [`Connection::send_frames`].
    pub fn finish_frame(&mut self, out: &mut Vec<u8>, at: usize, header: Header) {
        self.finish.frame(out, at, header);
    }

    /// Sends a finished header and its body, in parts, with as few system calls as the kernel takes.
    pub fn send(&mut self, mut header: Header, parts: &[&[u8]]) -> Result<(), CallError> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert_eq!(size, header.length as usize);
        let seal = self.finish.seal(&mut header, parts);
        let seal: &[u8] = seal.as_ref().map_or(&[], |seal| seal);
        // Below this, gathering costs less than a vectored write.
        const COPIED: usize = 4096 + 64;
        self.out.clear();
        self.out.extend_from_slice(&header.emit());
        if size <= COPIED {
            for part in parts {
                self.out.extend_from_slice(part);
            }
            self.out.extend_from_slice(seal);
            write_all(&mut self.stream, &mut [IoSlice::new(&self.out)])
        } else {
            let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(parts.len() + 2);
            slices.push(IoSlice::new(&self.out));
            slices.extend(parts.iter().map(|part| IoSlice::new(part)));
            slices.push(IoSlice::new(seal));
            write_all(&mut self.stream, &mut slices)
        }
        .map_err(|error| self.explain(error))
    }

    /// Sends bytes that are already frames.
    pub fn send_frames(&mut self, frames: &[u8]) -> Result<(), CallError> {
        write_all(&mut self.stream, &mut [IoSlice::new(frames)]).map_err(|error| self.explain(error))
    }

    /// Sends of bytes that are already frames what the socket takes at once; how much that is. The rest has to follow.
    pub fn send_now(&mut self, frames: &[u8]) -> Result<usize, CallError> {
        self.stream.write_now(frames).map_err(|error| self.explain(error))
    }

    /// Waits until `deadline` for the next frame, and refuses it if it says no.
    pub fn receive(&mut self, deadline: Instant) -> Result<Received, CallError> {
        let received = self.receive_any(deadline)?;
        match Status::from_wire(received.header.status) {
            Status::Ok => Ok(received),
            status => {
                let message = limits::sentence(self.inbox.body(&received));
                Err(CallError::Refused { status, message })
            }
        }
    }

    /// Waits until `deadline` for the next frame, whatever its status.
    pub fn receive_any(&mut self, deadline: Instant) -> Result<Received, CallError> {
        loop {
            if let Some(received) = self.take()? {
                return Ok(received);
            }
            self.fill(deadline)?;
        }
    }

    /// As [`Connection::receive_any`]. If the frame is the good answer to request `id` of `kind`, as long as `target`,
    /// and nothing of it was received before, its body goes there without another copy, and there is nothing to
    /// return. Whatever comes, `target` may have changed.
    pub fn receive_into(
        &mut self,
        deadline: Instant,
        id: u64,
        kind: Kind,
        target: &mut [u8],
    ) -> Result<Option<Received>, CallError> {
        let is_it = |header: &Header| {
            let status = Status::from_wire(header.status);
            (header.request_id, header.kind, status) == (id, kind as u8, Status::Ok)
                && header.flags & flags::ANSWER != 0
                && !header.has_more()
        };
        loop {
            if let Some(received) = self.take()? {
                return Ok(Some(received));
            }
            // A seal follows the body, so the whole frame is received first.
            if self.inbox.is_mid_frame() || self.inbox.is_sealed() {
                self.fill(deadline)?;
                continue;
            }
            let stream = &mut Spinning::new(&mut self.stream, self.spin);
            match self.inbox.fill_around(stream, target, is_it) {
                Ok(Around::Inbox) => {}
                Ok(Around::Body { header, received }) => {
                    self.receive_rest(deadline, &mut target[received..])?;
                    header.check_body(target)?;
                    return Ok(None);
                }
                Ok(Around::End) => return Err(closed()),
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    /// The next frame of what was received, if it is complete and an answer.
    fn take(&mut self) -> Result<Option<Received>, CallError> {
        let received = self.inbox.take()?;
        match &received {
            Some(Received { header, .. }) if header.flags & flags::ANSWER == 0 => {
                Err(CallError::Answer(format!("a request where an answer was due: {header}")))
            }
            _ => Ok(received),
        }
    }

    /// Receives once into the inbox.
    fn fill(&mut self, deadline: Instant) -> Result<(), CallError> {
        if self.inbox.is_mid_frame() && Instant::now() >= deadline {
            return Err(CallError::TimedOut(self.timeouts.request));
        }
        match self.inbox.fill(&mut Spinning::new(&mut self.stream, self.spin)) {
            Ok(0) => Err(closed()),
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Receives the rest of a body.
    fn receive_rest(&mut self, deadline: Instant, target: &mut [u8]) -> Result<(), CallError> {
        let mut at = 0;
        while at < target.len() {
            if Instant::now() >= deadline {
                return Err(CallError::TimedOut(self.timeouts.request));
            }
            match self.stream.read(&mut target[at..]) {
                Ok(0) => return Err(closed()),
                Ok(count) => at += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
        Ok(())
    }

    /// The body of the frame received last.
    pub fn body(&self, received: &Received) -> &[u8] {
        self.inbox.body(received)
    }

    /// The socket, to look at it or to take a handle of it.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Says goodbye: the server may forget the session.
    pub fn close(mut self) {
        let header = self.header(Kind::Bye, 0).for_body(&[], self.finish.checksum);
        // The goodbye is a courtesy: a server that misses it forgets the session a little later.
        let _ = self.stream.set_timeout(Some(Duration::from_millis(10)));
        let _ = self.send(header, &[]);
    }

    fn explain(&self, error: io::Error) -> CallError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CallError::TimedOut(self.timeouts.request),
            _ => CallError::Lost(error),
        }
    }
}

impl Drop for Connection {
    /// Also for those who hold a second handle of the socket: the peer need not wait for them.
    fn drop(&mut self) {
        self.stream.shutdown();
    }
}

fn write_all(stream: &mut Stream, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match stream.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut parts, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn denied(message: impl Into<String>) -> CallError {
    CallError::Refused { status: Status::Denied, message: message.into() }
}

fn closed() -> CallError {
    CallError::Lost(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection"))
}

fn handshake_error(endpoint: &Endpoint, error: CallError) -> ConnectError {
    let endpoint = endpoint.clone();
    // A server that does not accept a certificate says so when the handshake of TLS is over for the client.
    if let CallError::Lost(source) = &error
        && let Some((status, message)) = tls::objection(source)
    {
        return ConnectError::Refused { endpoint, status, message };
    }
    match error {
        CallError::Refused { status, message } => ConnectError::Refused { endpoint, status, message },
        CallError::Lost(source) => ConnectError::Unreachable { endpoint, source },
        CallError::TimedOut(after) => {
            let source = io::Error::new(io::ErrorKind::TimedOut, format!("no handshake within {after:?}"));
            ConnectError::Unreachable { endpoint, source }
        }
        CallError::Frame(_) | CallError::Answer(_) => ConnectError::Protocol { endpoint, message: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
