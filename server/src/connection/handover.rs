//! The request of another process to take this server over.
//!
//! It comes over the Unix socket, from a process of the same user as an admin. The answer leaves first; then the
//! server stops, unless its successor has given up meanwhile: one that was frozen must not stop for nobody.

use mcomp_net::{PeerProcess, Received};
use mcomp_wire::{Role, Status};

use super::{Connection, End};
use crate::memory::Refusal;

impl Connection {
    /// Answers, and has the server stopped if the answer is yes.
    pub(super) fn hand_over(&mut self, frame: &Received) -> Result<(), End> {
        // The only check of the role. Whoever may ask is asked for here, and nowhere else.
        let allowed = self.read_control::<()>(frame, Role::Admin).and_then(|()| self.successor());
        let shared = std::sync::Arc::clone(&self.shared);
        let promised = allowed.and_then(|pid| shared.can_stop().and(Ok((pid, shared.handover.promise()?))));
        let (successor, promise) = match promised {
            Ok(promised) => promised,
            Err(refusal) => {
                self.refuse(frame.header, refusal.status, &refusal.message);
                return Ok(());
            }
        };
        self.answer_control(frame.header, &[]);
        self.flush()?;
        if !self.stream.has_ended() {
            promise.keep(successor);
        }
        Ok(())
    }

    /// The process id of the one who asks, if it is of this machine and user.
    fn successor(&self) -> Result<u32, Refusal> {
        let denied = |message: String| Refusal::new(Status::Denied, message);
        let peer = PeerProcess::of(&self.stream);
        let peer = peer.map_err(|_| denied("a hand-over is asked for over the Unix socket".to_owned()))?;
        match peer.is_own_user() {
            true => Ok(peer.pid),
            false => Err(denied(format!("this server belongs to another user than {}, who asks", peer.user))),
        }
    }
}
