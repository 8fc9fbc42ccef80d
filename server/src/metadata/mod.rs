//! This server's part in the metadata: one thread drives the node of crate `consensus`, another does what entries say
//! to the memory, and one for each other server sends it messages.
//!
//! A connection's thread hands a command or a question in and waits for the answer, for a while: whoever gets none asks
//! again, here or at another server, and is not done twice.

mod desk;
mod driver;
mod guards;
mod hands;
mod links;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mcomp_config::{Config, Placement as Wish};
use mcomp_consensus::{Compaction, Node, Peer, PeerMessage, Settings};
use mcomp_meta::{Corrupt, Refusal as Refused};
use mcomp_shm::Segment;
use mcomp_wire::meta::{Ask, Found, MembersReport, PeerPart, Query, Told};
use mcomp_wire::{Placement, Space, Status, limits};
use parking_lot::Mutex;

use crate::connections::Connections;
use crate::grown::OnGrown;
use crate::memory::Refusal;
use crate::reach::Reach;
use crate::replica::Replicas;
use crate::server::Spawn;
use crate::start_error::StartError;

pub(crate) use guards::Guards;
use hands::Hands;
use links::Links;
use store::Store;

/// How long a thread waits for an answer before it says that there is none yet.
const PATIENCE: Duration = Duration::from_secs(2);
/// Messages, commands and questions that may wait for the driver.
const INBOX: usize = 1024;

/// Why the metadata cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The file cannot be used.
    #[error("the metadata in {path} cannot be opened: {source}", path = path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// What the database said.
        source: redb::Error,
    },
    /// The folder cannot be used.
    #[error("the folder of the metadata {path} cannot be used: {source} ([metadata] dir)", path = path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What stands there cannot be believed.
    #[error("{path}: {source}", path = path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Corrupt,
    },
}

/// What reaches the driver.
pub(crate) enum Input {
    Command(Ask, SyncSender<Result<Told, Refused>>),
    Query(Query, SyncSender<Result<Found, Refused>>),
    Peer(Peer, PeerMessage),
    Connected(Peer),
    Unreachable(Peer),
    Stop,
}

/// The metadata of a running server.
#[derive(Debug)]
pub(crate) struct Metadata {
    inbox: SyncSender<Input>,
    pub(crate) guards: Arc<Guards>,
    id: u32,
    n: u32,
    /// The newest connection of each other server in each seat, by its place: what comes over an older one is too late.
    /// Of a server that moves there are two. Taken alone.
    current: Mutex<BTreeMap<Peer, u64>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    links: Links,
}

/// The log of a server, before anything is done with it.
pub(crate) struct OpenLog {
    id: u32,
    store: Store,
    node: Node,
    /// The entry up to which the memory has obeyed it.
    applied: u64,
}

/// What the metadata works on.
pub(crate) struct Ground {
    pub(crate) segment: Arc<Segment>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) replicas: Option<Arc<Replicas>>,
    pub(crate) on_grown: Option<OnGrown>,
}

impl OpenLog {
    /// Opens the log of server `id`.
    pub(crate) fn open(config: &Config, id: u32, segment: &Segment) -> Result<OpenLog, MetadataError> {
        let path = config.metadata_file(id);
        let (store, mut recovered) = Store::open(&path, config.n())?;
        let corrupt = |source| MetadataError::Corrupt { path: path.clone(), source };
        let began_with = recovered.servers.unwrap_or(config.n());
        let has_log = recovered.image.is_some() || !recovered.entries.is_empty();
        // Without its log it would begin one with those of mcomp.cfg alone.
        let began_with = if has_log { began_with } else { began_with.max(segment.servers()) };
        let space =
            |n| Space::new(config.k(), n).ok_or_else(|| corrupt(Corrupt::Contradiction(format!("{n} servers"))));
        let (space, listed) = (space(began_with)?, space(config.n())?);
        if listed.n() < space.n() {
            let (their_n, our_n, k) = (space.n(), listed.n(), config.k());
            return Err(corrupt(Corrupt::Space { their_n, their_k: k, our_n, our_k: k }));
        }
        let log_id = recovered.log_id(space).map_err(corrupt)?;
        let applied = if log_id == 0 { 0 } else { segment.agreed_index(log_id) };
        recovered.was_applied_up_to(applied);
        let settings = Settings {
            id,
            space,
            quarantine_ms: config.metadata().quarantine.as_millis() as u64,
            spread: config.metadata().placement == Wish::Spread,
            compaction: Compaction::default(),
        };
        let node = Node::new(settings, recovered, Box::new(random)).map_err(corrupt)?;
        Ok(OpenLog { id, store, node, applied })
    }

    /// Which servers there are, as far as the log has come.
    pub(crate) fn members(&self) -> &MembersReport {
        self.node.state().members()
    }

    /// Whether anything was agreed on: otherwise how many servers there are is only what mcomp.cfg says.
    pub(crate) fn has_begun(&self) -> bool {
        self.node.state().index() > 0
    }

    /// Which server keeps which of so many copies.
    pub(crate) fn placement(&self, replicas: u32) -> Result<Placement, MetadataError> {
        let shape = self.members().shape;
        let what = || Corrupt::Contradiction(format!("{replicas} copies of each block, and {shape:?}"));
        Placement::new(shape, replicas).ok_or_else(|| self.corrupt(what()))
    }

    /// What contradicts itself, said of this log.
    pub(crate) fn corrupt(&self, source: Corrupt) -> MetadataError {
        self.store.corrupt(source)
    }
}

/// What a connection has received of a message from another server.
#[derive(Debug, Default)]
pub(crate) struct PeerInbox {
    bytes: Vec<u8>,
}

impl Metadata {
    /// Starts the threads.
    pub(crate) fn start(
        config: &Config,
        log: OpenLog,
        ground: Ground,
        reach: Reach,
        spawn: Spawn,
    ) -> Result<Metadata, StartError> {
        let OpenLog { id, store, node, applied } = log;
        let Ground { segment, connections, replicas, on_grown } = ground;
        let space = node.state().space();
        let (inbox, inputs) = sync_channel(INBOX);
        let guards = Arc::<Guards>::default();
        let (hands, orders) = Hands::new(id, space, segment, connections, replicas.clone(), Arc::clone(&guards));
        let links = Links::new(config, id, inbox.clone(), reach, spawn);
        let mut driver = driver::Driver::new(node, store, orders, links.clone(), replicas, on_grown);
        let metadata =
            Metadata { inbox, guards, id, n: config.n(), current: Mutex::default(), threads: Mutex::default(), links };
        let hands = spawn("meta-memory", Box::new(move || hands.run())).map_err(StartError::Thread)?;
        metadata.threads.lock().push(hands);
        if let Err(error) = driver.begin() {
            // The thread of the memory ends with the last who may give it orders.
            drop(driver);
            return Err(error.into());
        }
        metadata.guards.wait_for_index(applied, PATIENCE);
        let log = spawn("meta-log", Box::new(move || driver.run(&inputs))).map_err(StartError::Thread)?;
        metadata.threads.lock().push(log);
        Ok(metadata)
    }

    /// Has a command done, or says that there is no answer yet.
    pub(crate) fn command(&self, ask: Ask) -> Result<Told, Refusal> {
        let (answer, answers) = sync_channel(1);
        self.wait(Input::Command(ask, answer), &answers)
    }

    /// Has a question answered from a state that is up to date.
    pub(crate) fn query(&self, query: Query) -> Result<Found, Refusal> {
        let (answer, answers) = sync_channel(1);
        self.wait(Input::Query(query, answer), &answers)
    }

    fn wait<T>(&self, input: Input, answers: &Receiver<Result<T, Refused>>) -> Result<T, Refusal> {
        match self.inbox.try_send(input) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(Refusal::new(Status::Busy, "too much is asked of the metadata at once: try again"));
            }
            Err(TrySendError::Disconnected(_)) => return Err(gone()),
        }
        match answers.recv_timeout(PATIENCE) {
            Ok(answer) => answer.map_err(|refusal| Refusal::new(refusal.status, refusal.message)),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                let message = "there is no answer yet: most servers have to agree, and may not be there";
                Err(Refusal::new(Status::Unavailable, message))
            }
        }
    }

    /// Whether this server knows who leads.
    pub(crate) fn knows_leader(&self) -> bool {
        matches!(self.query(Query::Consensus), Ok(Found::Consensus(report)) if report.leader.is_some())
    }

    /// Waits until this server's memory is what the metadata said at `index`.
    pub(crate) fn await_index(&self, index: u64) -> Result<(), Refusal> {
        match self.guards.wait_for_index(index, PATIENCE) {
            true => Ok(()),
            false => Err(Refusal::new(Status::Unavailable, "this server's memory is not that far yet: try again")),
        }
    }

    /// Takes a part of a message of another server, that came over the connection at `place`.
    pub(crate) fn take_part(&self, inbox: &mut PeerInbox, part: &PeerPart<'_>, place: u64) -> Result<(), Refusal> {
        let malformed = |message: String| Refusal::new(Status::Malformed, message);
        if part.from >= self.n {
            let message = format!("there is no server {} yet: `mcomp member add` adds one", part.from);
            return Err(Refusal::new(Status::Unavailable, message));
        }
        if part.from == self.id {
            return Err(malformed(format!("server {} does not speak to server {}", part.from, self.id)));
        }
        if inbox.bytes.len() + part.bytes.len() > limits::MAX_PEER_MESSAGE {
            return Err(Refusal::new(Status::TooLarge, "a message about the metadata is too long"));
        }
        inbox.bytes.extend_from_slice(part.bytes);
        if part.more {
            return Ok(());
        }
        let bytes = std::mem::take(&mut inbox.bytes);
        let from = Peer { server: part.from, seat: part.seat };
        let message = PeerMessage::decode(&bytes, from, self.id).map_err(|error| malformed(error.to_string()))?;
        self.check_newest(from, place).map_err(malformed)?;
        self.inbox.send(Input::Peer(from, message)).map_err(|_| gone())
    }

    fn check_newest(&self, from: Peer, place: u64) -> Result<(), String> {
        let mut current = self.current.lock();
        let seats = Peer { server: from.server, seat: 0 }..=Peer { server: from.server, seat: u16::MAX };
        let others: Vec<Peer> = current.range(seats).map(|(peer, _)| *peer).filter(|peer| *peer != from).collect();
        // Of the two seats of a server that moves, the earlier one is not needed when it moves again.
        if let [earlier, _] = others.as_slice() {
            if from < *earlier {
                return Err(format!("server {} was moved since", from.server));
            }
            current.remove(earlier);
        }
        let newest = current.entry(from).or_default();
        if place < *newest {
            return Err("a newer connection of the same server has come".to_owned());
        }
        *newest = place;
        Ok(())
    }

    /// Ends the threads and closes the log.
    pub(crate) fn stop(&self) {
        self.links.stop();
        // If the driver has ended by itself nobody is there to be told.
        let _ = self.inbox.send(Input::Stop);
        for thread in self.threads.lock().drain(..) {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.stop();
    }
}

fn gone() -> Refusal {
    Refusal::new(Status::Unavailable, "this server takes no part in the metadata any more: see its log")
}

/// 128 bits that nobody can guess.
fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    u128::from_le_bytes(bytes)
}
