//! Replicated blocks: this server's copies of them, and what it does with the other replicas of each.
//!
//! A block's home is the server in whose part of the address space it lies; the replicas are the home and the servers
//! that follow it. Each keeps the blocks of its own part, and behind them those of the servers before it. While a server is
//! added, some of them lie elsewhere ([`mcomp_wire::Placement`]). Any replica
//! does what a client asks, with a coordinator of crate `quorum`; all of a request's blocks go through the same rounds
//! together.
//!
//! Everything about a block, this server's vote as well as its coordinator, happens under the lock of the block's shard.
//! Nothing is sent under it: messages go into the queue of a link, whose thread sends them.
//!
//! | lock | guards | taken before |
//! |---|---|---|
//! | `Replicas::view` | which life of which server is a replica | all others |
//! | `Shard` | the blocks of a shard, and who waits for them | timer, link, call |
//! | `Timer::state`, `Link::queue`, `Call::state` | what is due, what is to be sent, what has come | nothing |

mod arrange;
mod batch;
mod call;
mod execute;
mod fill;
mod held;
mod hold;
mod links;
mod page;
mod peers;
mod timer;
mod work;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::auth::SEAL_LEN;
use mcomp_net::begin_frame;
use mcomp_quorum::{Coordinator, Fate, Incarnation, OpId, Refill, Register, Ticket};
use mcomp_shm::{Arrangement, Life, Segment};
use mcomp_wire::meta::MembersReport;
use mcomp_wire::replica::{Envelope, Item, PAGE};
use mcomp_wire::{BLOCK_SIZE, HEADER_LEN, Placement, Shape, limits};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::metadata::OpenLog;
use crate::moved::OnMoved;
use crate::reach::Reach;
use crate::server::Spawn;
use crate::start_error::StartError;

pub(crate) use execute::Asker;

use call::Ended;
use held::Held;
use links::Links;
use page::{Change, Page};
use timer::Timer;

/// How long an operation may take here. After that its asker may try another replica.
const PATIENCE: Duration = Duration::from_millis(1500);
/// When a question is asked again.
const SILENCE: Duration = Duration::from_millis(40);
/// After a lost round, at most so long.
const BACK_OFF_US: std::ops::Range<u64> = 300..4000;
/// Bytes of one frame: so few that who hears it begins while the next one is made.
const FRAME_BYTES: usize = 64 << 10;
const _: () = assert!(FRAME_BYTES <= limits::MAX_PAYLOAD);
/// What a frame has beside its items.
const FRAME_MORE: usize = HEADER_LEN + Envelope::LEN + SEAL_LEN;
/// Locks of blocks.
const SHARDS: u64 = 64;
/// Coordinators that a shard keeps when they have nothing to do: each holds a ballot, which saves a round.
const KEPT: usize = 1024;

/// The replicated blocks of a server.
#[derive(Debug)]
pub(crate) struct Replicas {
    id: u32,
    /// Where it is by its own mcomp.cfg.
    address: String,
    /// Which server keeps which copies.
    placement: Placement,
    /// Copies of each block.
    replicas: u32,
    /// Whether servers were added since the cluster began, so that clients may look for copies where they were.
    has_grown: bool,
    /// Blocks of each server's part of the address space.
    part: u64,
    segment: Arc<Segment>,
    /// Which life of which server is a replica.
    view: RwLock<View>,
    shards: Vec<Mutex<Shard>>,
    links: Links,
    timer: Timer,
    /// Names operations inside this process. Relaxed: it only has to be unique.
    tickets: AtomicU64,
    /// Where the questions of the next coordinator begin. Relaxed, as above.
    attempts: AtomicU64,
    /// Whose operations those are that come without a name, and the last number of one. Relaxed: it grows.
    session: u64,
    clock: AtomicU64,
    /// How many blocks were filled again, and which seat this server has; taken alone.
    fills: Mutex<Fills>,
    filled: Condvar,
    gate: hold::Gate,
    /// What to do when another server has taken the place of this one.
    on_moved: Option<OnMoved>,
    /// Relaxed: a flag that is looked at again soon.
    stopping: AtomicBool,
    /// What was refused or lost; relaxed counts.
    pub(crate) counts: Counts,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Counts of what the replicas of blocks did.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Messages of another epoch.
    pub(crate) stale: AtomicU64,
    /// Rounds that were lost to another coordinator.
    pub(crate) lost_rounds: AtomicU64,
    /// Questions that were asked again.
    pub(crate) asked_again: AtomicU64,
    /// Blocks that were filled again.
    pub(crate) filled: AtomicU64,
}

/// What the thread that joins and fills waits for.
#[derive(Debug, Default)]
struct Fills {
    blocks: u64,
    seat: u16,
}

/// What is known of the replicas.
#[derive(Debug, Default)]
struct View {
    epoch: u64,
    /// Under which this server proposes; none before it has joined.
    own: Option<Incarnation>,
    /// The epoch of the cut that holds this server up.
    held: Option<u64>,
    members: MembersReport,
}

/// Some blocks.
#[derive(Debug, Default)]
struct Shard {
    coordinators: HashMap<u64, Coordinator<Page>>,
    waiting: HashMap<Ticket, call::Place>,
    /// Questions in the order in which they are asked again if no answer has come: when, of which block, and which.
    unanswered: VecDeque<(Instant, u64, u64)>,
    /// Blocks whose contents are asked for, after this server's memory was lost.
    refills: HashMap<u64, Refill<Register<Page>>>,
}

/// What is wanted of one block.
#[derive(Debug)]
enum Want {
    Read,
    Write(OpId, Change),
}

/// Messages that gather while blocks are worked on.
struct Outgoing<'a> {
    replicas: &'a Replicas,
    began: Instant,
    envelope: Envelope,
    bodies: Vec<Vec<u8>>,
}

impl Replicas {
    /// The replicated blocks of server `id`, which takes no part yet.
    pub(crate) fn start(
        config: &Config,
        id: u32,
        segment: Arc<Segment>,
        log: &OpenLog,
        reach: &Reach,
        on_moved: Option<OnMoved>,
        spawn: Spawn,
    ) -> Result<Arc<Replicas>, StartError> {
        let (replicas, part) = (config.replicas(), config.k() / BLOCK_SIZE);
        let (members, placement) = (log.members(), log.placement(replicas)?);
        // Before anything is agreed on, the number of servers is only what mcomp.cfg says.
        if members.epoch > 0 {
            arrange::arrange(&segment, id, part, placement, members.epoch);
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the operating system has random numbers");
        let replicas = Arc::new(Replicas {
            id,
            address: config.servers()[id as usize].address.to_string(),
            placement,
            replicas,
            has_grown: !members.added.is_empty(),
            part,
            segment,
            view: RwLock::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            links: Links::new(config, id, reach),
            timer: Timer::default(),
            tickets: AtomicU64::new(0),
            attempts: AtomicU64::new(u64::from_le_bytes(random)),
            session: u64::from_le_bytes(random),
            clock: AtomicU64::new(0),
            fills: Mutex::default(),
            filled: Condvar::new(),
            gate: hold::Gate::default(),
            on_moved,
            stopping: AtomicBool::new(false),
            counts: Counts::default(),
            threads: Mutex::default(),
        });
        let signs = Arc::downgrade(&replicas);
        let sign = move || signs.upgrade().map(|replicas| replicas.sign()).unwrap_or_default();
        let mut threads = Vec::new();
        for (name, work) in replicas.links.work(sign) {
            threads.push(spawn(&name, work).map_err(StartError::Thread)?);
        }
        let timed = Arc::clone(&replicas);
        let timer = spawn("block-timer", Box::new(move || timed.run_timer())).map_err(StartError::Thread)?;
        threads.push(timer);
        *replicas.threads.lock() = threads;
        Ok(replicas)
    }

    /// Ends the threads; whoever waits is told what is known.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.links.stop();
        self.timer.stop();
        {
            let _fills = self.fills.lock();
            self.filled.notify_all();
        }
        for shard in &self.shards {
            let mut shard = shard.lock();
            let Shard { coordinators, waiting, .. } = &mut *shard;
            for (ticket, place) in waiting.drain() {
                let mut fates = coordinators.values_mut().map(|coordinator| coordinator.abandon(ticket));
                let is_unknown = fates.any(|fate| fate == Fate::Unknown);
                place.end(if is_unknown { Ended::Unknown } else { Ended::NotDone });
            }
        }
        for thread in self.threads.lock().drain(..) {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The servers that keep blocks are these from now on, and this one has that seat. What was said before counts no
    /// more.
    pub(crate) fn note(&self, members: &MembersReport, seat: u16) {
        self.take_seat(seat);
        if self.view.read().members == *members {
            return;
        }
        self.make_room(members, seat);
        self.links.follow(members);
        let mut view = self.view.write();
        let own = members.members.get(&self.id);
        let is_own = |memory: uuid::Uuid| memory.as_bytes() == &self.segment.segment_id();
        view.own = own.filter(|member| is_own(member.memory)).map(|member| Incarnation(member.incarnation));
        // What a log says that is told again is older than what this memory has seen.
        let Shape { n, step } = self.placement.shape();
        let wanted = Arrangement { n, step };
        if view.own.is_some() && self.segment.arrangement().is_none() {
            // It was started before anything was agreed on.
            self.segment.set_arrangement(wanted);
        }
        let is_arranged = self.segment.arrangement().is_none_or(|known| known == wanted);
        if members.epoch < self.segment.replica_epoch() || !is_arranged {
            view.own = None;
        } else if view.own.is_some() {
            self.segment.set_replica_epoch(members.epoch);
        }
        view.epoch = members.epoch;
        view.members = members.clone();
        let mut out = self.outgoing(&view);
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.refills.clear();
            let blocks: Vec<u64> = shard.coordinators.keys().copied().collect();
            for block in blocks {
                self.with(&view, &mut shard, block, &mut out, |coordinator, _| coordinator.start_over());
            }
        }
    }

    /// Whether this server takes part, and knows whether its memory is what was there before.
    pub(crate) fn is_member(&self) -> bool {
        self.segment.life() != Life::Unknown && self.view.read().own.is_some()
    }

    /// The server that keeps copy `replica` of the blocks of `home`.
    fn server(&self, home: u32, replica: u8) -> u32 {
        self.placement.server(home, replica.into())
    }

    /// Copies of each block.
    pub(crate) fn copies(&self) -> u32 {
        self.replicas
    }

    /// How many servers there are.
    fn servers(&self) -> u32 {
        self.placement.shape().servers()
    }

    /// Whether a server is being added.
    pub(crate) fn is_growing(&self) -> bool {
        self.placement.receiver().is_some()
    }

    /// Which replica of `block` a server is, if any.
    fn replica_of(&self, server: u32, block: u64) -> Option<u8> {
        self.placement.replica_of(server, self.home(block)?).map(|replica| replica as u8)
    }

    fn home(&self, block: u64) -> Option<u32> {
        u32::try_from(block / self.part).ok().filter(|home| *home < self.placement.shape().n)
    }

    /// This server's copy of a block that it keeps.
    fn held(&self, view: &View, replica: u8, block: u64) -> Held<'_> {
        let block = u64::from(replica) * self.part + block % self.part;
        Held { segment: &self.segment, block, is_member: view.own.is_some() }
    }

    fn shard(&self, block: u64) -> &Mutex<Shard> {
        &self.shards[(block % SHARDS) as usize]
    }

    fn envelope(&self, view: &View) -> Envelope {
        Envelope {
            from: self.id,
            epoch: view.epoch,
            config_epoch: self.segment.config_epoch(),
            cut_epoch: view.held.unwrap_or_else(|| self.segment.epoch()),
            is_held: view.held.is_some(),
        }
    }

    fn outgoing(&self, view: &View) -> Outgoing<'_> {
        Outgoing { replicas: self, began: Instant::now(), envelope: self.envelope(view), bodies: Vec::new() }
    }

    /// A sign of life.
    fn sign(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(FRAME_MORE);
        begin_frame(&mut body);
        self.envelope(&self.view.read()).emit(&mut body);
        body
    }
}

impl Outgoing<'_> {
    fn push(&mut self, to: u32, item: &Item<'_>) {
        if self.bodies.is_empty() {
            self.bodies.resize_with(self.replicas.servers() as usize, Vec::new);
        }
        let body = &mut self.bodies[to as usize];
        if body.len() + Item::MOST > FRAME_BYTES {
            self.replicas.links.send(to, std::mem::take(body));
        }
        let len = item.size();
        if body.is_empty() {
            body.reserve_exact(FRAME_MORE + len);
            begin_frame(body);
            self.envelope.emit(body);
        } else if len >= PAGE && body.capacity() < FRAME_BYTES {
            // Where two pages go together, more will.
            body.reserve_exact(FRAME_BYTES + FRAME_MORE - body.len());
        }
        item.emit(body);
    }
}

impl Drop for Outgoing<'_> {
    /// What has gathered goes on its way.
    fn drop(&mut self) {
        for (to, body) in self.bodies.iter_mut().enumerate().filter(|(_, body)| !body.is_empty()) {
            self.replicas.links.send(to as u32, std::mem::take(body));
        }
    }
}
