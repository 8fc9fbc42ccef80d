//! What other servers say: messages of the engine, and what is known of their logs.
//!
//! A server that has no log, because it is new or because its disk was lost, must not vote: it may have voted before,
//! and forgotten for what. It joins when all servers say that they have none either (a new cluster: most would not do, as
//! one of them may lag behind), or when a leader has given it everything that was committed.

use mcomp_meta::Corrupt;
use mcomp_meta::mutant::{self, Mutant};
use raft::StateRole;
use raft::eraftpb::{self, MessageType};

use super::{Node, engine};
use crate::message::PeerMessage;
use crate::voters::Peer;

impl Node {
    /// Takes a message of another server. An error says that what is here does not hold together.
    pub fn receive(&mut self, from: Peer, message: PeerMessage) -> Result<(), Corrupt> {
        match message {
            PeerMessage::Raft(message) => {
                match Peer::of_raft_id(message.to()) {
                    Some(to) if to.seat > self.seat && message.is_of_leader() => self.take_seat(to.seat)?,
                    Some(to) if to.seat == self.seat => {}
                    _ => return Ok(()),
                }
                self.step(from, message.into_raft());
            }
            PeerMessage::Forward(ask) => {
                if self.leads() {
                    self.propose(Some(ask));
                }
            }
            PeerMessage::HasLog(has_log) => self.heard_of_log(from, has_log),
        }
        Ok(())
    }

    /// Whoever leads speaks to this server by a seat that was agreed on later than its own: that is its seat now. What it
    /// had not made durable is lost, as if it had been killed; what it has promised under the old name stays promised.
    fn take_seat(&mut self, seat: u16) -> Result<(), Corrupt> {
        self.seat = seat;
        self.to_persist.seat = Some(seat);
        self.to_persist.must_sync = true;
        let log = self.raw.store().clone();
        self.raw = engine(self.peer(), log, self.state.index())?;
        self.reads.clear();
        self.clock.stop_to_lead();
        self.draw_election_timeout();
        Ok(())
    }

    fn step(&mut self, from: Peer, message: eraftpb::Message) {
        let last = self.raw.raft.raft_log.last_index();
        match message.msg_type {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote if !self.joined => return,
            MessageType::MsgHeartbeat if message.commit > last => {
                // The leader thinks that this server has what it has lost.
                self.joined = false;
                self.outbox.push((from, PeerMessage::HasLog(false)));
                return;
            }
            MessageType::MsgAppend if !self.joined && message.index == 0 && mutant::active() != Mutant::LongMemory => {
                // What the log begins with only those know who were there.
                self.outbox.push((from, PeerMessage::HasLog(false)));
                return;
            }
            MessageType::MsgAppend if !self.joined && message.commit > 0 => self.catch_up_to = Some(message.commit),
            _ => {}
        }
        // An error is a message that has no sense any more; the engine has ignored it.
        let _ = self.raw.step(message);
        self.draw_election_timeout();
    }

    fn heard_of_log(&mut self, from: Peer, has_log: bool) {
        self.logs.insert(from.server, has_log);
        if !has_log && self.raw.raft.state == StateRole::Leader {
            if mutant::active() != Mutant::LongMemory {
                self.forget_the_beginning();
            }
            if let Some(progress) = self.raw.raft.mut_prs().get_mut(from.raft_id()) {
                progress.become_probe();
                (progress.matched, progress.next_idx) = (0, 1);
            }
            return;
        }
        let heard_all = self.logs.len() + 1 == self.settings.space.n() as usize;
        let is_new_cluster = heard_all && self.logs.values().all(|has_log| !has_log);
        if !self.joined && !self.has_log() && is_new_cluster {
            self.join();
        }
    }

    pub(super) fn join(&mut self) {
        self.joined = true;
        self.catch_up_to = None;
        self.to_persist.joined = true;
        self.to_persist.must_sync = true;
    }

    pub(super) fn has_log(&self) -> bool {
        self.raw.raft.raft_log.last_index() > 0
    }
}
