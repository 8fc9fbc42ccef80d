//! The first frames of a connection: who is there, whether that is proved, and what both agree on.
//!
//! With a secret nothing of this server is told before the proof, and no more is sent than was received. Nothing
//! changes before it either: a session is taken only by who has proved to be a client.

use mcomp_net::auth::{Challenged, Keyring};
use mcomp_net::{Cause, Phase, Received};
use mcomp_wire::control::{Hello, Prove, Welcome, encode, features};
use mcomp_wire::{BLOCK_SIZE, HEADER_LEN, Kind, Role, Status, limits};
use uuid::Uuid;

use super::{Connection, End, control};
use crate::accept::refused;
use crate::memory::Refusal;

impl Connection {
    /// Begins TLS where there is TLS.
    pub(super) fn secure(&mut self) -> Result<(), End> {
        Ok(self.stream.shake_hands()?)
    }

    /// Shakes hands, or ends the connection.
    pub(super) fn shake_hands(&mut self) -> Result<(), End> {
        let frame = self.first_frame()?;
        if frame.kind() != Some(Kind::Hello) {
            return Err(self.refuse_and_end(frame.header, Status::Malformed, "the first frame is not a handshake"));
        }
        let hello: Result<Hello, Refusal> = control::decode(self.inbox.body(&frame));
        let hello = self.or_end(&frame, hello)?;
        let secret = self.shared.keyring.clone();
        let last = match &secret {
            Some(keyring) => self.ask_for_proof(keyring, &frame, &hello)?,
            None => frame,
        };
        self.take_seat(&last, &hello)?;
        let greeted = self.greet(&hello);
        let welcome = self.or_end(&last, greeted)?;
        self.inbox.set_max_body(limits::MAX_BODY);
        self.answer_control(last.header, &encode(&welcome));
        self.finish.checksum = welcome.features & features::CHECKSUM != 0;
        self.watch.enter(Phase::Idle);
        self.flush()
    }

    /// Other servers come in however many clients there are; those have only so many seats.
    fn take_seat(&mut self, frame: &Received, hello: &Hello) -> Result<(), End> {
        if hello.role == Role::Node {
            self.place.be_node();
            return Ok(());
        }
        self.place.sit().map_err(|none| {
            let message = refused(&self.shared, &none.into());
            self.tell(frame.header, Status::Busy, &message);
            End::Refused
        })
    }

    fn first_frame(&mut self) -> Result<Received, End> {
        loop {
            match self.next_frame()? {
                Some(frame) => return Ok(frame),
                None => self.receive()?,
            }
        }
    }

    fn or_end<T>(&mut self, frame: &Received, result: Result<T, Refusal>) -> Result<T, End> {
        result.map_err(|refusal| self.refuse_and_end(frame.header, refusal.status, &refusal.message))
    }

    /// Lets the peer prove that it knows a key of its role. From then on all frames are sealed. Returns the frame with
    /// the proof.
    fn ask_for_proof(&mut self, keyring: &Keyring, frame: &Received, hello: &Hello) -> Result<Received, End> {
        let challenged = Challenged::new(keyring, &frame.header, self.inbox.body(frame), hello);
        let (mut challenged, challenge) = match challenged {
            Ok(Some(asked)) => asked,
            Ok(None) => {
                return Err(self.deny(frame, Cause::NoProof, "this server wants a proof: set security.secret_file"));
            }
            Err(error) => return Err(self.refuse_and_end(frame.header, Status::Internal, &error.to_string())),
        };
        let body = encode(&challenge);
        let header = self.shared.answer_header(&frame.header, Status::Ok);
        let header = mcomp_wire::Header { kind: Kind::Challenge as u8, ..header }.for_body(&body, false);
        challenged.sent(&header, &body);
        self.out.make_room(body.len());
        self.out.bytes.extend_from_slice(&header.emit());
        self.out.bytes.extend_from_slice(&body);
        // Not as an answer, which would stop the clock: the deadline of the handshake is for all of it.
        self.send()?;

        let frame = self.first_frame().inspect_err(|end| {
            // Whoever knows none of the keys that were named leaves. Who is cut off is counted for that.
            if matches!(end, End::Peer) && self.watch.overdue().is_none() {
                self.shared.counters.reject(Cause::NoProof);
            }
        });
        let frame = frame?;
        let prove: Result<Prove, Refusal> = match frame.kind() {
            Some(Kind::Prove) => control::decode(self.inbox.body(&frame)),
            _ => Err(Refusal::new(Status::Malformed, "a proof was due")),
        };
        let prove = self.or_end(&frame, prove)?;
        let Some((opener, sealer)) = challenged.check(&prove) else {
            return Err(self.deny(&frame, Cause::BadProof, "the proof is wrong"));
        };
        self.inbox.set_opener(opener);
        self.finish.sealer = Some(sealer);
        self.unproven_bytes = None;
        Ok(frame)
    }

    fn deny(&mut self, frame: &Received, cause: Cause, message: &str) -> End {
        self.shared.counters.reject(cause);
        self.tell(frame.header, Status::Denied, message);
        End::Refused
    }

    fn greet(&mut self, hello: &Hello) -> Result<Welcome, Refusal> {
        self.shared.check_hello(hello)?;
        let mut resumed = false;
        if !hello.session.is_nil() {
            let taken = self.shared.sessions.take(hello.session, self.stream.handle());
            let busy = || Refusal::new(Status::Busy, "this session is still served on another connection");
            (self.session, resumed) = taken.ok_or_else(busy)?;
            self.session_id = Some(hello.session);
        }
        self.role = hello.role;
        self.listed = hello.n;
        let segment = &self.shared.segment;
        Ok(Welcome {
            server: self.shared.id,
            block_size: BLOCK_SIZE as u32,
            config_epoch: if self.shared.knows_config_epoch() { segment.config_epoch() } else { 0 },
            incarnation: segment.incarnation(),
            segment: Uuid::from_bytes(segment.segment_id()),
            features: hello.features & features::CHECKSUM,
            resumed,
            auth: Vec::new(),
        })
    }

    /// How much of a sentence the peer may be told: all of it, or, before the proof that is due, no more than what it
    /// has sent itself.
    pub(super) fn sentence_room(&self) -> usize {
        self.unproven_bytes.map_or(limits::MAX_MESSAGE, |bytes| bytes.saturating_sub(HEADER_LEN + self.out.bytes.len()))
    }
}
