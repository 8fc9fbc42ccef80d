//! What all threads of a server share, and what each of them may ask of it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mcomp_config::Config;
use mcomp_net::auth::Keyring;
use mcomp_net::tls::Tls;
use mcomp_net::{Watchdog, WatchdogLimits};
use mcomp_shm::{Life, Segment};
use mcomp_wire::control::{Hello, ServerStatus};
use mcomp_wire::meta::Fence;
use mcomp_wire::{Header, Request, Role, Space, Status, flags};
use parking_lot::{Condvar, Mutex};

use crate::budget::Budget;
use crate::connection::Refused;
use crate::connections::Connections;
use crate::counters::Counters;
use crate::cut::Cuts;
use crate::handover::Handover;
use crate::memory::{Memory, Refusal};
use crate::metadata::{Ground, Metadata, OpenLog};
use crate::oplog::OpLog;
use crate::reach::Reach;
use crate::replica::Replicas;
use crate::restore::Restores;
use crate::server::{Options, Spawn};
use crate::session::Sessions;
use crate::start_error::StartError;

/// What a server says of itself that has all of its memory.
pub(crate) const SERVING: &str = "serving";

/// What the threads of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: u32,
    pub(crate) segment: Arc<Segment>,
    pub(crate) memory: Memory,
    pub(crate) cuts: Arc<Cuts>,
    pub(crate) restores: Restores,
    pub(crate) sessions: Sessions,
    pub(crate) connections: Arc<Connections>,
    pub(crate) metadata: Metadata,
    /// The blocks, if they are replicated.
    pub(crate) replicas: Option<Arc<Replicas>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) watchdog: Watchdog,
    pub(crate) handover: Handover,
    pub(crate) oplog: Option<OpLog>,
    /// The keys that peers have to prove, if there is a secret.
    pub(crate) keyring: Option<Arc<Keyring>>,
    /// How long a connection looks for its next request before its thread sleeps.
    pub(crate) spin: Duration,
    pub(crate) cluster: String,
    /// The address space. While a server is added its part is not in it yet.
    pub(crate) space: Space,
    /// How many servers others may believe that there are, by an older or newer mcomp.cfg.
    servers: RangeInclusive<u32>,
    pub(crate) started: Instant,
    /// Since 1970.
    pub(crate) started_unix: Duration,
    /// Relaxed: it is only a hint to leave a loop whose socket was closed.
    pub(crate) stopping: AtomicBool,
    /// Nothing but a place to wait. Taken alone.
    pub(crate) pause: Mutex<()>,
    pub(crate) resume: Condvar,
}

/// What a server has opened and read before it serves.
pub(crate) struct Own {
    pub(crate) oplog: Option<OpLog>,
    pub(crate) keyring: Option<Arc<Keyring>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) log: OpenLog,
    /// Servers of mcomp.cfg. Where the others are the log says.
    pub(crate) listed: u32,
}

/// What lets a request write to guarded memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pass {
    /// The fence that it shows, if any.
    Fence(Option<Fence>),
    /// It is a restore's, which ends every lease.
    Restorer,
}

impl Shared {
    pub(crate) fn new(
        config: &Config,
        options: &Options,
        segment: Arc<Segment>,
        own: Own,
        spawn: Spawn,
    ) -> Result<Shared, StartError> {
        let Own { oplog, keyring, tls, log, listed } = own;
        let (id, limits) = (options.id, config.limits());
        let members = log.members().clone();
        if log.has_begun() {
            segment.set_servers(members.shape.servers());
        }
        let space = Space::new(config.k(), members.shape.n).expect("the log has a space");
        let connections =
            Connections::new(limits.max_connections, limits.max_connections_per_address, places_of_servers(config));
        let is_watched = config.servers()[id as usize].http.is_some();
        let counters = Arc::new(Counters::new(is_watched));
        let snapshot = config.snapshot();
        let watchdog_limits = WatchdogLimits {
            handshake: limits.handshake_timeout,
            frame: limits.frame_timeout,
            write: limits.write_timeout,
            // Between requests a client may be silent for as long as it likes.
            request: Duration::MAX,
        };
        let watchdog = Watchdog::start(watchdog_limits).map_err(StartError::Thread)?;
        let (agreed, peers) = (Arc::clone(&segment), Arc::clone(&connections));
        let reach = Reach::new(config, listed, keyring.clone(), tls);
        let replicas = match config.replicas() {
            1 => None,
            _ => {
                let (segment, on_moved) = (Arc::clone(&segment), options.on_moved.clone());
                Some(Replicas::start(config, id, segment, &log, &reach, on_moved, spawn)?)
            }
        };
        let ground = Ground {
            segment: agreed,
            connections: peers,
            replicas: replicas.clone(),
            on_grown: options.on_grown.clone(),
        };
        let metadata = Metadata::start(config, log, ground, reach, spawn);
        // Its threads would keep the segment.
        let metadata = metadata.inspect_err(|_| replicas.iter().for_each(|replicas| replicas.stop()))?;
        Ok(Shared {
            id,
            metadata,
            memory: Memory::new(Arc::clone(&segment), space, id),
            cuts: Cuts::new(
                Arc::clone(&segment),
                replicas.clone(),
                Arc::clone(&counters),
                snapshot.hold_max,
                snapshot.time_limit,
            ),
            replicas,
            restores: Restores::new(Arc::clone(&segment), Arc::clone(&connections)),
            sessions: Sessions::new(limits.session_keep),
            connections,
            counters,
            budget: Budget::new(usize::try_from(limits.buffer_budget_bytes).unwrap_or(usize::MAX)),
            watchdog,
            handover: Handover::new(options.on_handover.clone()),
            oplog,
            keyring,
            spin: config.spin().server,
            segment,
            cluster: config.name().to_owned(),
            space,
            servers: members.first_servers()..=members.shape.servers(),
            started: Instant::now(),
            started_unix: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            stopping: AtomicBool::new(false),
            pause: Mutex::default(),
            resume: Condvar::new(),
        })
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether the memory is served, or why it is not.
    pub(crate) fn readiness(&self) -> Result<(), &'static str> {
        match () {
            () if self.is_stopping() => Err("this server is stopping"),
            () if self.segment.is_restoring() => Err("a restore is under way: the memory is not whole"),
            () if self.replicas.as_ref().is_some_and(|replicas| !replicas.is_member()) => {
                Err("this server is not one of the replicas yet: most servers have to agree that it is")
            }
            () => Ok(()),
        }
    }

    /// Waits, unless the server stops.
    pub(crate) fn pause(&self, duration: Duration) {
        let mut guard = self.pause.lock();
        if !self.is_stopping() {
            self.resume.wait_for(&mut guard, duration);
        }
    }

    /// Refuses a peer that means another cluster, server or map.
    pub(crate) fn check_hello(&self, hello: &Hello) -> Result<(), Refusal> {
        let wrong = |what: &str, theirs: String, ours: String| {
            let message = format!("{what} is {ours} here and {theirs} in the mcomp.cfg of the one who asks");
            Err(Refusal::new(Status::WrongCluster, message))
        };
        if self.is_stopping() {
            return Err(Refusal::new(Status::Busy, "this server is stopping"));
        }
        if self.keyring.is_none() && !hello.auth.is_empty() {
            let message = "this server has no secret, and the one who asks has: set security.secret_file here too";
            return Err(Refusal::new(Status::Denied, message));
        }
        if hello.cluster != self.cluster {
            return wrong("the cluster's name", format!("{:?}", hello.cluster), format!("{:?}", self.cluster));
        }
        if hello.server != self.id {
            return wrong("the server's id", hello.server.to_string(), self.id.to_string());
        }
        // Who sees to the whole memory has to know of all servers.
        let is_right = match (hello.role, hello.n) {
            (_, 0) => true,
            (Role::Node, n) => n == *self.servers.end(),
            (_, n) => self.servers.contains(&n),
        };
        if hello.k != self.space.k() || !is_right {
            let pair = |k: u64, n: u32| format!("{n} servers of {k} bytes");
            let message = match self.servers.end() {
                servers if hello.n < *servers && self.servers.contains(&hello.n) => {
                    ": servers were added, put them into mcomp.cfg there"
                }
                servers if hello.k == self.space.k() && hello.n > *servers => {
                    ": is `mcomp member add` still to be done?"
                }
                _ => "",
            };
            let message = format!(
                "the address space is {} here and {} in the mcomp.cfg of the one who asks{message}",
                pair(self.space.k(), *self.servers.end()),
                pair(hello.k, hello.n)
            );
            return Err(Refusal::new(Status::WrongCluster, message));
        }
        Ok(())
    }

    /// Whether a data request may be tried now.
    #[inline]
    pub(crate) fn admit(
        &self,
        connection: u64,
        header: &Header,
        request: &Request<'_>,
        pass: Pass,
    ) -> Result<(), Refused> {
        if self.segment.is_restoring() {
            self.restores.admits(connection, request.modifies()).map_err(Refused::Before)?;
        }
        if !self.knows_config_epoch() {
            let message = "this server is not one of the replicas yet: its memory is new";
            return Err(Refused::Before(Refusal::new(Status::Unavailable, message)));
        }
        self.restores.check_epoch(header.config_epoch).map_err(Refused::Before)?;
        match pass {
            Pass::Restorer => Ok(()),
            Pass::Fence(fence) => self.metadata.guards.check(request, fence).map_err(Refused::Before),
        }
    }

    /// Refuses to stop for a successor in the middle of what would be lost by it, or would keep it waiting for too long.
    pub(crate) fn can_stop(&self) -> Result<(), Refusal> {
        let busy = |message: &str| Err(Refusal::new(Status::Busy, message));
        if self.restores.is_under_way() {
            return busy("a restore is under way, which would be cut off");
        }
        if self.cuts.is_allocating() {
            return busy("memory for a snapshot is being allocated or given back, which has to end first");
        }
        Ok(())
    }

    /// The header of the answer to `request`.
    pub(crate) fn answer_header(&self, request: &Header, status: Status) -> Header {
        Header {
            kind: request.kind,
            flags: flags::ANSWER,
            request_id: request.request_id,
            config_epoch: self.segment.config_epoch(),
            cut_epoch: self.segment.epoch(),
            status: status as u16,
            ..Header::default()
        }
    }

    /// Whether this server knows the epoch that data requests must carry. A replica whose memory is new has yet to hear of
    /// it.
    #[inline]
    pub(crate) fn knows_config_epoch(&self) -> bool {
        self.replicas.is_none() || self.segment.life() != Life::Unknown
    }

    /// Copies of each block.
    pub(crate) fn copies(&self) -> u32 {
        self.replicas.as_ref().map_or(1, |replicas| replicas.copies())
    }

    /// How many servers there are.
    pub(crate) fn servers(&self) -> u32 {
        *self.servers.end()
    }

    /// What the server does, in a word.
    fn state(&self) -> String {
        let filling = self.replicas.as_ref().and_then(|replicas| match replicas.is_member() {
            true => replicas.filling_percent().map(|percent| format!("filling {percent}%")),
            false => Some("joining".to_owned()),
        });
        match self.segment.is_restoring() {
            true => "restoring".to_owned(),
            false => filling.unwrap_or_else(|| SERVING.to_owned()),
        }
    }

    pub(crate) fn status(&self) -> ServerStatus {
        let mut counters = self.counters.report();
        counters.torn_blocks = self.segment.torn_blocks();
        counters.repaired_blocks = self.segment.repaired_blocks();
        ServerStatus {
            id: self.id,
            state: self.state(),
            pid: std::process::id(),
            incarnation: self.segment.incarnation(),
            config_epoch: self.segment.config_epoch(),
            cut_epoch: self.segment.epoch(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            k: self.space.k(),
            bytes_used: self.segment.bytes_used(),
            connections: self.connections.count() as u64,
            max_connections: self.connections.most() as u64,
            counters,
        }
    }
}

/// Connections of other servers: one for the metadata, one for replicated blocks, and one to ask where it was moved to;
/// and as many of a server that is being replaced.
fn places_of_servers(config: &Config) -> u32 {
    match config.replicas() {
        1 => config.n() - 1,
        _ => config.n() * 3,
    }
}
