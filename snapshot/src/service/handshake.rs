//! The first frames of a connection to a snapshot process. With a secret nothing of this process is told before the
//! proof, and no more is sent than was received.

use std::io;
use std::sync::Arc;

use mcomp_net::auth::{Challenged, Keyring};
use mcomp_net::{Cause, Received};
use mcomp_wire::control::{Hello, Prove, Welcome, encode};
use mcomp_wire::{HEADER_LEN, Header, Kind, Status, flags, limits};
use uuid::Uuid;

use super::{Failed, Peer, Refusal};

impl Peer {
    /// Begins TLS where there is TLS.
    pub(super) fn secure(&mut self) -> io::Result<()> {
        let Err(error) = self.stream.shake_hands() else { return Ok(()) };
        tracing::debug!(peer = self.stream.peer(), %error, "no TLS");
        Err(error)
    }

    /// Shakes hands. A refusal is told, and ends the connection.
    pub(super) fn shake_hands(&mut self) -> io::Result<()> {
        let hello = self.next_frame(false)?;
        let mut last = hello.header;
        match self.greet(&hello, &mut last) {
            Ok(()) => Ok(()),
            Err(Failed::Socket(error)) => Err(error),
            Err(Failed::Refused(refusal)) => {
                self.refuse(last, &refusal)?;
                self.stream.linger();
                Err(io::Error::other(refusal.message))
            }
        }
    }

    /// Lets the peer in. `last` becomes the frame that is answered in the end.
    fn greet(&mut self, frame: &Received, last: &mut Header) -> Result<(), Failed> {
        if frame.kind() != Some(Kind::Hello) {
            return Err(Refusal::new(Status::Malformed, "the first frame is not a handshake").into());
        }
        let hello: Hello = self.decode(frame)?;
        let service = Arc::clone(&self.service);
        match &service.keyring {
            Some(keyring) => self.ask_for_proof(keyring, frame, &hello, last)?,
            None if hello.auth.is_empty() => {}
            None => {
                let message = "this process has no secret, and the one who asks has: set security.secret_file here too";
                return Err(Refusal::new(Status::Denied, message).into());
            }
        }
        self.check(&hello)?;
        self.role = hello.role;
        let kind = Kind::from_wire(last.kind).unwrap_or(Kind::Hello);
        Ok(self.answer(*last, kind, 0, &welcome(service.id))?)
    }

    /// Lets the peer prove that it knows a key of its role. From then on all frames are sealed.
    fn ask_for_proof(
        &mut self,
        keyring: &Keyring,
        frame: &Received,
        hello: &Hello,
        last: &mut Header,
    ) -> Result<(), Failed> {
        let denied = |cause, message: &str| Failed::from(Refusal::because(cause, Status::Denied, message));
        let challenged = Challenged::new(keyring, &frame.header, self.inbox.body(frame), hello)?;
        let Some((mut challenged, challenge)) = challenged else {
            return Err(denied(Cause::NoProof, "this process wants a proof: set security.secret_file"));
        };
        let body = encode(&challenge);
        let (kind, request_id, flags) = (Kind::Challenge as u8, frame.header.request_id, flags::ANSWER);
        let header = Header { kind, request_id, flags, ..Header::default() }.for_body(&body, false);
        challenged.sent(&header, &body);
        // The deadline of the handshake is for all of it.
        self.write_in_phase(&[&header.emit(), &body[..]].concat())?;
        let frame = self.next_frame(false).inspect_err(|error| {
            // Whoever knows none of the keys that were named leaves. Who is cut off is counted for that.
            if error.kind() == io::ErrorKind::UnexpectedEof && self.watch.overdue().is_none() {
                self.service.refusals.reject(Cause::NoProof);
            }
        })?;
        *last = frame.header;
        if frame.kind() != Some(Kind::Prove) {
            return Err(Refusal::new(Status::Malformed, "a proof was due").into());
        }
        let prove: Prove = self.decode(&frame)?;
        let (opener, sealer) = challenged.check(&prove).ok_or_else(|| denied(Cause::BadProof, "the proof is wrong"))?;
        self.inbox.set_opener(opener);
        self.finish.sealer = Some(sealer);
        self.unproven_bytes = None;
        Ok(())
    }

    fn check(&self, hello: &Hello) -> Result<(), Refusal> {
        let (config, id) = (&self.service.config, self.service.id);
        let name = |id: u32, cluster: &str, n: u32, k: u64| {
            format!("snapshot process {id} of cluster {cluster:?} with {n} servers of {k} bytes")
        };
        let ours = name(id, config.name(), config.n(), config.k());
        let theirs = name(hello.server, &hello.cluster, hello.n, hello.k);
        if ours == theirs {
            return Ok(());
        }
        let message = format!("this is {ours}, and {theirs} is wanted: the mcomp.cfg files differ");
        Err(Refusal::new(Status::WrongCluster, message))
    }

    /// How much of a sentence the peer may be told: all of it, or, before the proof that is due, no more than what it
    /// has sent itself.
    pub(super) fn sentence_room(&self) -> usize {
        self.unproven_bytes.map_or(limits::MAX_MESSAGE, |bytes| bytes.saturating_sub(HEADER_LEN))
    }
}

fn welcome(id: u32) -> Welcome {
    Welcome {
        server: id,
        block_size: mcomp_wire::BLOCK_SIZE as u32,
        config_epoch: 0,
        incarnation: 0,
        segment: Uuid::nil(),
        features: 0,
        resumed: false,
        auth: Vec::new(),
    }
}
