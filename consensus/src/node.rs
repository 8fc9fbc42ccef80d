//! The node: the engine, the state, and the rules between them.

mod batch;
mod hearing;

use std::collections::{BTreeMap, VecDeque};

use mcomp_meta::mutant::{self, Mutant};
use mcomp_meta::{Corrupt, Entry, Stamp, State};
use mcomp_wire::meta::{Ask, Command, ConsensusReport, Found, Query};
use mcomp_wire::{Space, control};
use raft::{ProgressState, RawNode};
use uuid::Uuid;

use crate::clock::Clock;
use crate::log::Log;
use crate::message::PeerMessage;
use crate::persist::{Persist, Recovered};
use crate::voters::{Peer, Voters};

pub use batch::{Advanced, Ready};

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
    /// The address space when the log began; all of its servers voted then.
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
    /// Who votes has changed since the last image, or how many servers there are: a start looks into the image for that.
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
        if node.voters().are_only(node.peer()) {
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

fn leases_of(found: &mut Found) -> Vec<&mut mcomp_wire::meta::Lease> {
    match found {
        Found::Regions { regions, .. } => regions.iter_mut().filter_map(|region| region.lease.as_mut()).collect(),
        Found::Region(Some(region)) => region.lease.as_mut().into_iter().collect(),
        _ => Vec::new(),
    }
}
