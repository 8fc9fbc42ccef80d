//! Who votes: servers in their seats, and how an entry of the log changes that.
//!
//! A server that is moved gets another seat, which is another voter for Raft: what the machine that was left has voted
//! for does not count for the new one. The new one listens first; when it has the log it takes the vote of the old one,
//! by joint consensus: while that goes on, majorities of both the old and the new voters are needed.

use std::collections::BTreeSet;

use mcomp_meta::mutant::{self, Mutant};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};
use serde::{Deserialize, Serialize};

/// A server in one of its seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its id.
    pub server: u32,
    /// Counts the times that it was moved.
    pub seat: u16,
}

impl Peer {
    /// A server where it began.
    pub fn first(server: u32) -> Peer {
        Peer { server, seat: 0 }
    }

    /// The engine's name for it: the seat, then the server counted from 1.
    pub(crate) fn raft_id(self) -> u64 {
        let seat = if mutant::active() == Mutant::OneSeat { 0 } else { self.seat };
        u64::from(seat) << 32 | (u64::from(self.server) + 1)
    }

    /// Whose name the engine's is, if it is one.
    pub(crate) fn of_raft_id(id: u64) -> Option<Peer> {
        let server = (id as u32).checked_sub(1)?;
        u16::try_from(id >> 32).ok().map(|seat| Peer { server, seat })
    }
}

/// Who votes as of an entry, by the engine's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voters {
    /// A majority of these decides.
    pub voters: Vec<u64>,
    /// While it changes: a majority of these too.
    pub outgoing: Vec<u64>,
    /// They have the log, and do not vote.
    pub learners: Vec<u64>,
    /// They will be learners when the change is done.
    pub learners_next: Vec<u64>,
}

impl Voters {
    /// Those of a new cluster.
    pub(crate) fn first(n: u32) -> Voters {
        Voters { voters: (0..n).map(|server| Peer::first(server).raft_id()).collect(), ..Voters::default() }
    }

    /// Whether nobody but `peer` decides.
    pub(crate) fn are_only(&self, peer: Peer) -> bool {
        self.voters == [peer.raft_id()] && self.outgoing.is_empty()
    }

    /// Whether the engine can take them: the engine ends the process if it cannot.
    pub(crate) fn are_sound(&self) -> bool {
        let all = [&self.voters, &self.outgoing, &self.learners, &self.learners_next];
        let sets = all.map(|ids| ids.iter().copied().collect::<BTreeSet<u64>>());
        let [voters, outgoing, learners, next] = &sets;
        !voters.is_empty()
            && all.iter().zip(&sets).all(|(ids, set)| ids.len() == set.len())
            && sets.iter().flatten().all(|id| Peer::of_raft_id(*id).is_some())
            && learners.is_disjoint(voters)
            && learners.is_disjoint(outgoing)
            && next.is_disjoint(voters)
            && next.is_subset(outgoing)
    }

    pub(crate) fn of(conf: &ConfState) -> Voters {
        Voters {
            voters: conf.voters.clone(),
            outgoing: conf.voters_outgoing.clone(),
            learners: conf.learners.clone(),
            learners_next: conf.learners_next.clone(),
        }
    }

    pub(crate) fn into_conf(self) -> ConfState {
        ConfState {
            voters: self.voters,
            voters_outgoing: self.outgoing,
            learners: self.learners,
            learners_next: self.learners_next,
            ..ConfState::default()
        }
    }
}

/// What becomes of a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    /// It votes.
    Votes,
    /// It listens.
    Listens,
    /// It is none any more.
    Leaves,
}

/// An entry that changes who votes. Without turns it ends a change that has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterChange {
    /// What becomes of whom. More than one begin a change that has to be ended.
    pub turns: Vec<(u64, Turn)>,
}

impl VoterChange {
    /// As the engine knows it.
    pub(crate) fn to_raft(&self) -> ConfChangeV2 {
        let mut change = ConfChangeV2::default();
        for (id, turn) in &self.turns {
            let mut single = ConfChangeSingle { node_id: *id, ..ConfChangeSingle::default() };
            single.set_change_type(match turn {
                Turn::Votes => ConfChangeType::AddNode,
                Turn::Listens => ConfChangeType::AddLearnerNode,
                Turn::Leaves => ConfChangeType::RemoveNode,
            });
            change.mut_changes().push(single);
        }
        if self.turns.len() > 1 {
            change.set_transition(ConfChangeTransition::Explicit);
        }
        change
    }

    /// The bytes that the engine wants in its entry.
    pub(crate) fn to_raft_bytes(&self) -> Vec<u8> {
        self.to_raft().write_to_bytes().expect("it is written into memory")
    }

    /// What the engine's bytes say, which this process has made.
    pub(crate) fn of_raft_bytes(bytes: &[u8]) -> VoterChange {
        let change = ConfChangeV2::parse_from_bytes(bytes).expect("this process has written them");
        let turns = change.get_changes().iter().map(|single| {
            let turn = match single.get_change_type() {
                ConfChangeType::AddNode => Turn::Votes,
                ConfChangeType::AddLearnerNode => Turn::Listens,
                ConfChangeType::RemoveNode => Turn::Leaves,
            };
            (single.node_id, turn)
        });
        VoterChange { turns: turns.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_engine() {
        let peer = Peer { server: 2, seat: 7 };
        assert_eq!(peer.raft_id(), 7 << 32 | 3);
        assert_eq!(Peer::of_raft_id(peer.raft_id()), Some(peer));
        assert_eq!(Peer::of_raft_id(Peer::first(0).raft_id()), Some(Peer::first(0)));
        assert_eq!((Peer::of_raft_id(0), Peer::of_raft_id(1 << 48 | 1)), (None, None));
    }

    #[test]
    fn changes_pass_through_the_engine() {
        for turns in [vec![], vec![(3, Turn::Listens)], vec![(1 << 32 | 3, Turn::Votes), (3, Turn::Leaves)]] {
            let change = VoterChange { turns };
            assert_eq!(VoterChange::of_raft_bytes(&change.to_raft_bytes()), change);
        }
        assert_eq!(VoterChange::of_raft_bytes(&[]), VoterChange::default());
    }

    #[test]
    fn voters_that_the_engine_would_choke_on() {
        let sound = Voters { voters: vec![1, 2], outgoing: vec![1, 3], learners: vec![4], learners_next: vec![3] };
        assert!(sound.are_sound() && Voters::first(3).are_sound());
        for bad in [
            Voters { voters: vec![], ..sound.clone() },
            Voters { voters: vec![1, 1], ..sound.clone() },
            Voters { voters: vec![1, 0], ..sound.clone() },
            Voters { learners: vec![1], ..sound.clone() },
            Voters { learners: vec![3], ..sound.clone() },
            Voters { learners_next: vec![2], ..sound },
        ] {
            assert!(!bad.are_sound(), "{bad:?}");
        }
    }
}
