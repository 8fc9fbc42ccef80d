//! Batches of the engine: what is to be kept and sent, what is agreed on by it, and images in place of a long log.

use mcomp_meta::mutant::{self, Mutant};
use mcomp_meta::{Corrupt, Effect, Entry, Refusal, State, Ticket};
use mcomp_wire::control;
use mcomp_wire::meta::Told;
use raft::StateRole;
use raft::eraftpb::{self, EntryType};

use super::{Compaction, Node};
use crate::message::{PeerMessage, RaftMessage, entry_of, image_of};
use crate::persist::{HardState, Image, Persist};
use crate::voters::{Peer, VoterChange, Voters};

/// What has to be done first: send `send`, and make `persist` durable. Then comes [`Node::advance`].
#[derive(Debug, Default)]
pub struct Ready {
    /// May leave before the disk is asked.
    pub send: Vec<(Peer, PeerMessage)>,
    /// Must be durable before [`Node::advance`].
    pub persist: Persist,
}

/// What has come of it.
#[derive(Debug, Default)]
pub struct Advanced {
    /// To be sent.
    pub send: Vec<(Peer, PeerMessage)>,
    /// Answers to commands.
    pub told: Vec<(Ticket, Result<Told, Refusal>)>,
    /// What the server has to do on its memory, in order, with the entry that says so.
    pub effects: Vec<(u64, Effect)>,
    /// Reads of [`Node::read`] that may be answered from [`Node::query`] now.
    pub readable: Vec<u64>,
    /// The state came as a whole: the server looks at all of it, see [`State::guards`] and [`State::zeroed_since`].
    pub is_new_state: bool,
}

impl Node {
    /// What has to be done before anything else, if anything.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.raw.has_ready() && self.outbox.is_empty() && self.to_persist.is_empty() {
            return None;
        }
        let mut raft = self.raw.ready();
        let mut persist = std::mem::take(&mut self.to_persist);
        persist.must_sync |= raft.must_sync();
        if !raft.snapshot().is_empty() {
            persist.image = Some(image_of(raft.snapshot().clone()));
            persist.forget_up_to = None;
        }
        persist.entries = raft.entries().iter().cloned().map(entry_of).collect();
        persist.hard_state = raft.hs().map(hard_state_of);
        let mut send = std::mem::take(&mut self.outbox);
        send.extend(sendable(raft.take_messages()));
        self.current = Some(raft);
        Some(Ready { send, persist })
    }

    /// What [`Node::ready`] asked for is durable: goes on from there.
    pub fn advance(&mut self) -> Result<Advanced, Corrupt> {
        let mut raft = self.current.take().expect("a batch is ready");
        let mut advanced = Advanced::default();
        if !raft.snapshot().is_empty() {
            let image = image_of(raft.snapshot().clone());
            self.state = State::from_image(&image.data, self.settings.space)?;
            self.raw.mut_store().take_image(image);
            self.applied_bytes = 0;
            advanced.is_new_state = true;
        }
        self.raw.mut_store().append(raft.take_entries());
        if let Some(hard_state) = raft.hs().map(hard_state_of) {
            self.raw.mut_store().set_hard_state(hard_state);
        }
        advanced.send.extend(sendable(raft.take_persisted_messages()));
        let reads = raft
            .take_read_states()
            .into_iter()
            .filter_map(|read| Some((read.index, u64::from_le_bytes(read.request_ctx.try_into().ok()?))));
        self.reads.extend(reads);
        self.apply(raft.take_committed_entries(), &mut advanced)?;
        let mut light = self.raw.advance(raft);
        advanced.send.extend(sendable(light.take_messages()));
        self.apply(light.take_committed_entries(), &mut advanced)?;
        self.raw.advance_apply();
        self.after_batch(&mut advanced);
        Ok(advanced)
    }

    fn apply(&mut self, entries: Vec<eraftpb::Entry>, advanced: &mut Advanced) -> Result<(), Corrupt> {
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            self.applied_bytes += entry.data.len();
            if entry.entry_type != EntryType::EntryNormal {
                self.state.skip(index);
                self.change_voters(&entry_of(entry).change.unwrap_or_default());
            } else if entry.data.is_empty() {
                self.state.skip(index);
            } else {
                let entry: Entry = control::decode(&entry.data)?;
                let before = self.state.members().shape;
                let outcome = self.state.apply(index, entry);
                self.is_image_due |= self.state.members().shape != before;
                advanced.told.extend(outcome.told);
                advanced.effects.extend(outcome.effects.into_iter().map(|effect| (index, effect)));
            }
            self.clock.heard();
            // With an entry of its own term, a leader knows all earlier ones, and with them the time.
            let is_own_term = self.raw.raft.state == StateRole::Leader && term == self.raw.raft.term;
            if is_own_term && !self.leads() {
                self.clock.begin_to_lead(self.state.now_ms());
            }
        }
        Ok(())
    }

    fn change_voters(&mut self, change: &VoterChange) {
        // Refused when it makes no sense after those before it: then it is none.
        let Ok(conf) = self.raw.apply_conf_change(&change.to_raft()) else { return };
        let voters = Voters::of(&conf);
        let is_voter = [&voters.voters, &voters.outgoing].iter().any(|ids| ids.contains(&self.peer().raft_id()));
        if !is_voter && self.raw.raft.state == StateRole::Leader {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
        // Whoever has no log is sent an image that knows of it.
        self.is_image_due |= self.raw.store().has_forgotten();
        self.raw.mut_store().set_voters(voters);
    }

    fn after_batch(&mut self, advanced: &mut Advanced) {
        if self.raw.raft.state != StateRole::Leader && mutant::active() != Mutant::EndlessClock {
            self.clock.stop_to_lead();
            self.proposed_due = None;
        }
        let applied = self.state.index();
        self.reads.retain(|(index, read)| {
            let waits = *index > applied;
            if !waits {
                advanced.readable.push(*read);
            }
            waits
        });
        if self.catch_up_to.is_some_and(|index| index <= self.raw.raft.raft_log.last_index()) {
            self.join();
        }
        self.compact();
        self.propose_due();
        self.seat_voters();
        self.draw_election_timeout();
    }

    /// When the log is long, an image takes the place of its beginning. What is kept behind the image, or is not
    /// committed yet, does not count: another image would not make it shorter.
    fn compact(&mut self) {
        let Compaction { log_bytes, kept_entries } = self.settings.compaction;
        let is_short = self.applied_bytes < log_bytes.max(2 * self.raw.store().image_bytes());
        if !is_short || std::mem::take(&mut self.is_image_due) {
            self.make_image(kept_entries);
        }
    }

    /// Somebody has no log. He could not know with how many servers that began, so he is sent an image and not the
    /// entries from the first one on.
    pub(super) fn forget_the_beginning(&mut self) {
        if !self.raw.store().has_forgotten() && self.state.index() > 0 {
            self.make_image(0);
        }
    }

    fn make_image(&mut self, kept_entries: u64) {
        let index = self.state.index();
        let Some(term) = self.raw.store().term_of(index) else { return };
        let voters = self.raw.store().voters().clone();
        let image = Image { index, term, voters, data: self.state.image() };
        let up_to = self.raw.mut_store().compact(image.clone(), kept_entries);
        self.applied_bytes = 0;
        self.to_persist.image = Some(image);
        self.to_persist.forget_up_to = Some(up_to);
        self.to_persist.must_sync = true;
    }
}

fn hard_state_of(raft: &eraftpb::HardState) -> HardState {
    HardState { term: raft.term, vote: raft.vote, commit: raft.commit }
}

fn sendable(messages: Vec<eraftpb::Message>) -> impl Iterator<Item = (Peer, PeerMessage)> {
    messages.into_iter().filter_map(|message| {
        let message = RaftMessage::of(message)?;
        Some((Peer::of_raft_id(message.to())?, PeerMessage::Raft(Box::new(message))))
    })
}
