//! How those who vote follow the seats that the log says: whoever leads changes one thing at a time.
//!
//! A server that is to have another seat listens from there. Once it has come to it, its vote passes from the old seat to
//! the new one, when the log has arrived there. Meanwhile it does not lead.

use std::collections::BTreeSet;

use mcomp_meta::mutant::{self, Mutant};
use raft::{ProgressState, StateRole};

use crate::node::Node;
use crate::voters::{Peer, Turn, VoterChange, Voters};

/// Entries by which a new voter may be behind when it takes its vote.
const BEHIND: u64 = 256;

impl Node {
    /// Proposes the next change of those who vote, if there is one to make and this server leads.
    pub(crate) fn seat_voters(&mut self) {
        if self.raw.raft.state != StateRole::Leader || !self.leads() || self.raw.raft.has_pending_conf() {
            return;
        }
        let (own, members) = (self.peer(), self.state().members());
        let is_to_move = members.next(own.server).is_some() || members.seat(own.server) != own.seat;
        if is_to_move && mutant::active() != Mutant::LeadsOn {
            // Whoever takes the place of the leader cannot speak to it: its mcomp.cfg says that it is there itself.
            if let Some(id) = self.heir() {
                self.raw.transfer_leader(id);
            }
            return;
        }
        let Some(change) = self.next_change() else { return };
        // Refused when the leader is about to change: the next one looks again.
        let _ = self.raw.propose_conf_change(Vec::new(), change.to_raft());
    }

    fn next_change(&self) -> Option<VoterChange> {
        let voters = Voters::of(&self.raw.raft.prs().conf().to_conf_state());
        if !voters.outgoing.is_empty() {
            return Some(VoterChange::default());
        }
        let members = self.state().members();
        let servers = || 0..members.shape.servers();
        let seated: BTreeSet<u64> =
            servers().map(|server| Peer { server, seat: members.seat(server) }.raft_id()).collect();
        let coming =
            servers().filter_map(|server| members.next(server).map(|(seat, _)| Peer { server, seat }.raft_id()));
        let coming: BTreeSet<u64> = coming.collect();
        let one = |id: u64, turn| Some(VoterChange { turns: vec![(id, turn)] });
        if let Some(id) = voters.learners.iter().find(|id| !seated.contains(id) && !coming.contains(id)) {
            return one(*id, Turn::Leaves);
        }
        let missing = seated.iter().find(|id| !voters.voters.contains(id)).copied();
        match missing {
            Some(id) if voters.learners.contains(&id) => {
                let server = |id| Peer::of_raft_id(id).map(|peer| peer.server);
                let old = voters.voters.iter().find(|old| server(**old) == server(id)).map(|old| (*old, Turn::Leaves));
                let turns = [(id, Turn::Votes)].into_iter().chain(old).collect();
                self.has_log_of_leader(id).then_some(VoterChange { turns })
            }
            Some(id) => one(id, Turn::Listens),
            None => coming.iter().find(|id| !voters.learners.contains(id)).and_then(|id| one(*id, Turn::Listens)),
        }
    }

    fn has_log_of_leader(&self, id: u64) -> bool {
        let last = self.raw.raft.raft_log.last_index();
        self.raw
            .raft
            .prs()
            .get(id)
            .is_some_and(|progress| progress.state == ProgressState::Replicate && progress.matched + BEHIND >= last)
    }

    /// A voter that could lead at once.
    fn heir(&self) -> Option<u64> {
        let own = self.peer().raft_id();
        let voters = Voters::of(&self.raw.raft.prs().conf().to_conf_state()).voters;
        let is_active = |id: u64| self.raw.raft.prs().get(id).is_some_and(|progress| progress.recent_active);
        voters.into_iter().find(|id| *id != own && is_active(*id) && self.has_log_of_leader(*id))
    }
}
