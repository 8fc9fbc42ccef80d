//! The node: the engine, the state, and the rules between them.
//!
//! A server that has no log, because it is new or because its disk was lost, must not vote: it may have voted before,
//! and forgotten for what. It joins when all servers say that they have none either (a new cluster: most would not do, as
//! one of them may lag behind), or when a leader has given it everything that was committed.

use std::collections::{BTreeMap, VecDeque};

use mcomp_meta::mutant::{self, Mutant};
use mcomp_meta::{Corrupt, Effect, Entry, Refusal, Stamp, State, Ticket};
use mcomp_wire::meta::{Ask, Command, ConsensusReport, Found, Query, Told};
use mcomp_wire::{Space, control};
use raft::eraftpb::{self, EntryType, MessageType};
use raft::{ProgressState, RawNode, StateRole};
use uuid::Uuid;

use crate::clock::Clock;
use crate::log::Log;
use crate::message::{PeerMessage, RaftMessage, entry_of, image_of};
use crate::persist::{HardState, Image, Persist, Recovered};
use crate::voters::{Peer, VoterChange, Voters};

/// How often [`Node::tick`] is to be called, in milliseconds.
pub const TICK_MS: u64 = 100;
/// A follower that hears nothing for 8 to 16 ticks asks for votes.
const ELECTION_TICKS: usize = 8;
/// A leader shows itself every 2 ticks.
const HEARTBEAT_TICKS: usize = 2;
/// After so many ticks the whole state is sent again.
const IMAGE_TICKS: u64 = 100;
/// How long an entry for something that is due may be under way before another one is proposed.
const DUE_PATIENCE_MS: u64 = 1000;

/// Where random numbers come from: 128 bits a time. Ids are made of them, so on a server they cannot be guessed.
pub type Random = Box<dyn FnMut() -> u128 + Send>;

/// What a node has to know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which server it is.
    pub id: u32,
    /// The address space; all of its servers vote, from the seats that the log says.
    pub space: Space,
    /// How long memory whose lease has run out stays unused, in milliseconds.
    pub quarantine_ms: u64,
    /// Whether allocations are spread over the servers, or packed.
    pub spread: bool,
    /// When the log becomes an image.
    pub compaction: Compaction,
}

/// When the log becomes an image: when it is longer than so many bytes, and than twice the last image.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    /// A log below this is not worth an image.
    pub log_bytes: usize,
    /// Entries that an image covers and that are kept for servers that lag a little behind.
    pub kept_entries: u64,
}

impl Default for Compaction {
    fn default() -> Compaction {
        Compaction { log_bytes: 4 << 20, kept_entries: 1024 }
    }
}

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

/// One server's part in the consensus.
pub struct Node {
    settings: Settings,
    /// Which of the server's seats it has.
    seat: u16,
    pub(crate) raw: RawNode<Log>,
    state: State,
    clock: Clock,
    random: Random,
    /// The engine's batch between [`Node::ready`] and [`Node::advance`].
    current: Option<raft::Ready>,
    outbox: Vec<(Peer, PeerMessage)>,
    /// Waits for the next batch: an image of our own, and that this server votes.
    to_persist: Persist,
    /// Whether this server may vote.
    joined: bool,
    /// When the log has come so far, it holds everything that was committed when the leader said so.
    catch_up_to: Option<u64>,
    /// What the others say of their logs.
    logs: BTreeMap<u32, bool>,
    /// Reads that wait for the state to come to an index.
    reads: VecDeque<(u64, u64)>,
    /// For how many ticks a server was sent the whole state, and has not said that it has it.
    image_ticks: BTreeMap<u64, u64>,
    /// The due that was proposed last, and when by the local clock.
    proposed_due: Option<(u64, u64)>,
    /// Bytes of the entries that were applied since the last image.
    applied_bytes: usize,
    /// Who votes has changed since the last image.
    is_image_due: bool,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.settings.id).field("report", &self.report()).finish_non_exhaustive()
    }
}

impl Node {
    /// A node with what was found on disk.
    pub fn new(settings: Settings, recovered: Recovered, random: Random) -> Result<Node, Corrupt> {
        let state = recovered_state(&recovered, settings.space)?;
        let joined = recovered.joined || settings.space.n() == 1 || mutant::active() == Mutant::AmnesiacVoter;
        let to_persist = Persist { joined: joined && !recovered.joined, ..Persist::default() };
        let voters = recovered.image.as_ref().map_or(Voters::first(settings.space.n()), |image| image.voters.clone());
        let seat = recovered.seat;
        let raw = engine(Peer { server: settings.id, seat }, Log::new(recovered, voters), state.index())?;
        let mut node = Node {
            settings,
            seat,
            raw,
            state,
            clock: Clock::default(),
            random,
            current: None,
            outbox: Vec::new(),
            to_persist,
            joined,
            catch_up_to: None,
            logs: BTreeMap::new(),
            reads: VecDeque::new(),
            image_ticks: BTreeMap::new(),
            proposed_due: None,
            applied_bytes: 0,
            is_image_due: false,
        };
        if settings.space.n() == 1 {
            // Nobody is waited for.
            let _ = node.raw.campaign();
        }
        node.draw_election_timeout();
        Ok(node)
    }

    /// This server, in its seat.
    pub fn peer(&self) -> Peer {
        Peer { server: self.settings.id, seat: self.seat }
    }

    /// Who votes, as far as this server has come.
    pub fn voters(&self) -> &Voters {
        self.raw.store().voters()
    }

    /// The agreed state, as far as this server has come.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether this server leads, and its clock counts.
    pub fn leads(&self) -> bool {
        self.clock.leader_ms().is_some()
    }

    /// Tells the time of this machine's clock, which counts also while the machine sleeps, in milliseconds. To be called
    /// before anything that happens at this time, [`Node::advance`] after a disk that took its time included.
    pub fn set_time(&mut self, local_ms: u64) {
        self.clock.set(local_ms);
    }

    /// [`TICK_MS`] have passed.
    pub fn tick(&mut self) {
        if self.joined {
            self.raw.tick();
            self.draw_election_timeout();
        }
        self.send_images_again();
        self.propose_due();
        self.seat_voters();
    }

    /// The engine waits for ever for a server that was sent the whole state. One that does not answer gets it again.
    fn send_images_again(&mut self) {
        let progress = self.raw.raft.prs().iter();
        let waits = progress.filter(|(_, progress)| progress.state == ProgressState::Snapshot).map(|(id, _)| *id);
        let waits: Vec<u64> = waits.collect();
        self.image_ticks.retain(|id, _| waits.contains(id));
        for id in waits {
            let ticks = self.image_ticks.entry(id).or_default();
            *ticks += 1;
            if *ticks >= IMAGE_TICKS {
                *ticks = 0;
                self.raw.report_snapshot(id, raft::SnapshotStatus::Failure);
            }
        }
    }

    /// When something ends that this server has to propose the end of, by the local clock; for who waits for events.
    pub fn next_due_local_ms(&self) -> Option<u64> {
        let now_ms = self.clock.leader_ms()?;
        let due_ms = self.state.next_due_ms()?;
        match self.proposed_due {
            Some((proposed_ms, at_ms)) if proposed_ms == due_ms => Some(at_ms + DUE_PATIENCE_MS),
            _ => Some(self.clock.local_ms() + due_ms.saturating_sub(now_ms)),
        }
    }

    /// If something is due, the log is to say so.
    pub fn propose_due(&mut self) {
        let local_ms = self.clock.local_ms();
        if let Some(due_ms) = self.state.next_due_ms()
            && self.clock.leader_ms().is_some_and(|now_ms| due_ms <= now_ms)
            && self.next_due_local_ms().is_some_and(|at_ms| at_ms <= local_ms)
        {
            self.proposed_due = Some((due_ms, local_ms));
            self.propose(None);
        }
    }

    /// Takes a command: proposes it, or hands it to who leads, or forgets it when nobody is known to. Who asks asks
    /// again until there is an answer; it is done once. A server joins in the seat that it has by now.
    pub fn submit(&mut self, mut ask: Ask) {
        if let Command::Join { seat, .. } = &mut ask.command {
            *seat = self.seat;
        }
        match self.leader() {
            Some(peer) if peer == self.peer() => self.propose(Some(ask)),
            Some(peer) => self.outbox.push((peer, PeerMessage::Forward(ask))),
            None => {}
        }
    }

    /// Asks whether the state is up to date; `read` comes back in [`Advanced::readable`] when it is. May be forgotten
    /// when nobody leads: who asks asks again.
    pub fn read(&mut self, read: u64) {
        if mutant::active() == Mutant::StaleRead {
            self.reads.push_back((0, read));
            return;
        }
        self.raw.read_index(read.to_le_bytes().to_vec());
    }

    /// Answers a question from the state as it is here.
    pub fn query(&self, query: &Query) -> Found {
        match self.state.query(query) {
            Found::Consensus(_) => Found::Consensus(self.report()),
            mut found => {
                let late_ms = self.clock.guess_ms(self.state.now_ms()).saturating_sub(self.state.now_ms());
                for lease in leases_of(&mut found) {
                    lease.remaining_ms = lease.remaining_ms.saturating_sub(late_ms);
                }
                found
            }
        }
    }

    /// A connection to another server has begun: it hears how things are here.
    pub fn connected(&mut self, peer: Peer) {
        self.outbox.push((peer, PeerMessage::HasLog(self.has_log())));
        self.unreachable(peer);
    }

    /// What was sent to another server may have got lost, the whole state among it.
    pub fn unreachable(&mut self, peer: Peer) {
        self.raw.report_unreachable(peer.raft_id());
        self.raw.report_snapshot(peer.raft_id(), raft::SnapshotStatus::Failure);
    }

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

    fn join(&mut self) {
        self.joined = true;
        self.catch_up_to = None;
        self.to_persist.joined = true;
        self.to_persist.must_sync = true;
    }

    fn has_log(&self) -> bool {
        self.raw.raft.raft_log.last_index() > 0
    }

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
                let outcome = self.state.apply(index, entry);
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
        self.is_image_due = self.raw.store().has_forgotten();
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
        if is_short && !std::mem::take(&mut self.is_image_due) {
            return;
        }
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

    fn propose(&mut self, ask: Option<Ask>) {
        let Some(now_ms) = self.clock.leader_ms() else { return };
        let Settings { quarantine_ms, spread, .. } = self.settings;
        let random = Uuid::from_u128((self.random)());
        let stamp = Stamp { now_ms, random, quarantine_ms, spread };
        // Refused when the leader is about to change, or too much is under way: who asks asks again.
        let _ = self.raw.propose(Vec::new(), control::encode(&Entry { stamp, ask }));
    }

    /// Who leads, as far as this server knows.
    fn leader(&self) -> Option<Peer> {
        Peer::of_raft_id(self.raw.raft.leader_id)
    }

    fn report(&self) -> ConsensusReport {
        ConsensusReport {
            leader: self.leader().map(|peer| peer.server),
            term: self.raw.raft.term,
            committed: self.raw.raft.raft_log.committed,
            applied: self.state.index(),
            now_ms: self.clock.guess_ms(self.state.now_ms()),
            voters: self
                .raw
                .store()
                .voters()
                .voters
                .iter()
                .filter_map(|id| Peer::of_raft_id(*id)?.server.into())
                .collect(),
        }
    }

    /// The engine draws its timeout from the system's randomness when it begins to count; the same history is to take the
    /// same course. Whether it has drawn cannot be told from what it drew, which may be the same again.
    fn draw_election_timeout(&mut self) {
        if self.raw.raft.election_elapsed == 0 {
            let drawn = ELECTION_TICKS + ((self.random)() % ELECTION_TICKS as u128) as usize;
            self.raw.raft.set_randomized_election_timeout(drawn);
        }
    }
}

/// Raft for one server, with what is in its log.
fn engine(own: Peer, log: Log, applied: u64) -> Result<RawNode<Log>, Corrupt> {
    let config = raft::Config {
        id: own.raft_id(),
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied,
        max_size_per_msg: 512 << 10,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        max_uncommitted_size: 64 << 20,
        max_committed_size_per_ready: 8 << 20,
        ..raft::Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, log, &logger).map_err(|error| Corrupt::Contradiction(error.to_string()))
}

/// The state that the image on disk says, if what was found there holds together.
fn recovered_state(recovered: &Recovered, space: Space) -> Result<State, Corrupt> {
    let contradiction = |what: String| Err(Corrupt::Contradiction(what));
    let (state, first) = match &recovered.image {
        None => (State::new(space), 1),
        Some(image) => {
            let state = State::from_image(&image.data, space)?;
            if state.index() != image.index || !image.voters.are_sound() {
                return contradiction(format!("an image of entry {} says {}", image.index, state.index()));
            }
            (state, image.index + 1)
        }
    };
    let entries = || recovered.entries.iter().filter(|entry| entry.index >= first);
    let gap = entries().zip(first..).find(|(entry, index)| entry.index != *index);
    match gap {
        Some((entry, index)) => contradiction(format!("entry {} stands where {index} belongs", entry.index)),
        None => Ok(state),
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

fn leases_of(found: &mut Found) -> Vec<&mut mcomp_wire::meta::Lease> {
    match found {
        Found::Regions { regions, .. } => regions.iter_mut().filter_map(|region| region.lease.as_mut()).collect(),
        Found::Region(Some(region)) => region.lease.as_mut().into_iter().collect(),
        _ => Vec::new(),
    }
}
