//! Starting and stopping, and what all threads of a server share.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use mcomp_config::Config;
use mcomp_net::auth::{Keyring, SecretError};
use mcomp_net::tls::{Tls, TlsError};
use mcomp_net::{Endpoint, Listener, Watchdog, WatchdogLimits, is_open_to_others, unix_name};
use mcomp_shm::{Opened, Segment, ShmError, Spec};
use mcomp_wire::control::{Hello, ServerStatus};
use mcomp_wire::meta::Fence;
use mcomp_wire::{Header, Request, Space, Status, flags};
use parking_lot::{Condvar, Mutex};

use crate::accept;
use crate::budget::Budget;
use crate::connection::Refused;
use crate::connections::Connections;
use crate::counters::Counters;
use crate::cut::Cuts;
use crate::handover::{Handover, OnHandover};
use crate::http::Http;
use crate::memory::{Memory, Refusal};
use crate::metadata::{Metadata, MetadataError, PeerTrust};
use crate::moved::OnMoved;
use crate::oplog::OpLog;
use crate::preflight;
use crate::replica::Replicas;
use crate::restore::Restores;
use crate::session::Sessions;
use crate::successor::{self, Holder};

/// How long a stopping server leaves its peers to take the answers that they are owed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long it waits for its connection threads after that.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Stack of a connection's thread, and of the others. The deepest path copies one block through it.
pub const STACK_BYTES: usize = 256 << 10;

/// Which server to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Position in mcomp.cfg.
    pub id: u32,
    /// Where to log each operation; without it, where mcomp.cfg says, if it does.
    pub op_log: Option<PathBuf>,
    /// Whether a server that has the segment already is asked to hand it over.
    pub takes_over: bool,
    /// What to do when this server is asked the same.
    pub on_handover: Option<OnHandover>,
    /// What to do when this server was replaced by another one; without it, it goes on and serves nobody.
    pub on_moved: Option<OnMoved>,
}

/// Why a server does not start. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The id is not in mcomp.cfg.
    #[error("server {id} does not exist: mcomp.cfg has servers 0 to {last}")]
    NoSuchServer {
        /// As asked.
        id: u32,
        /// The highest there is.
        last: u32,
    },
    /// The segment cannot be had.
    #[error(transparent)]
    Segment(#[from] ShmError),
    /// Another process serves the segment, and keeps it.
    #[error("{path} is being served by process {pid}, which does not hand it over: {why}", path = path.display())]
    Held {
        /// The segment's file.
        path: PathBuf,
        /// The process.
        pid: u32,
        /// What it said, and the way out.
        why: String,
    },
    /// Another process serves the segment, and another user listens where it should.
    #[error("{path} is being served by process {pid}, and its Unix socket is held by user {theirs}, while this is user {ours}: stop process {pid} with `kill {pid}`, and find out what that user runs", path = path.display())]
    Impostor {
        /// The segment's file.
        path: PathBuf,
        /// The process that serves it.
        pid: u32,
        /// The user that holds the socket.
        theirs: u32,
        /// The user of this process.
        ours: u32,
    },
    /// The address cannot be listened on.
    #[error("server {id} cannot listen on {endpoint}: {source}")]
    Listen {
        /// Which server.
        id: u32,
        /// Where.
        endpoint: Endpoint,
        /// What the operating system said.
        source: io::Error,
    },
    /// The process may not make a file as large as the segment.
    #[error("{}", preflight::file_size_sentence(*needed_bytes, *limit_bytes))]
    FileSize {
        /// What the segment takes, its shadow area included.
        needed_bytes: u64,
        /// What the process may have.
        limit_bytes: u64,
    },
    /// The operation log cannot be opened.
    #[error("the operation log {path} cannot be opened: {source}", path = path.display())]
    OpLog {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log of the metadata cannot be had.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificates cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Others could reach it, and it has no secret to know its clients by.
    #[error(
        "server {id} listens on {address}, which is not a loopback address, and there is no secret: anybody who \
         reaches it could read and change the memory. Make one with `mcomp secret create`, and name it in mcomp.cfg \
         on every machine: [security] secret_file = \"mcomp.secret\""
    )]
    Exposed {
        /// Which server.
        id: u32,
        /// Where.
        address: String,
    },
    /// Others could read its metrics, and it has no secret that says that it is meant for others.
    #[error(
        "server {id} answers HTTP on {address}, which is not a loopback address, and there is no secret: anybody who \
         reaches it could read its metrics. Write http = \"127.0.0.1:PORT\", or make a secret with `mcomp secret create`"
    )]
    ExposedHttp {
        /// Which server.
        id: u32,
        /// Where.
        address: String,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
}

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
    space: Space,
    started: Instant,
    /// Since 1970.
    pub(crate) started_unix: Duration,
    /// Relaxed: it is only a hint to leave a loop whose socket was closed.
    stopping: AtomicBool,
    /// Nothing but a place to wait. Taken alone.
    pause: Mutex<()>,
    resume: Condvar,
}

/// What a server has opened and read before it serves.
struct Own {
    oplog: Option<OpLog>,
    keyring: Option<Arc<Keyring>>,
    tls: Option<Tls>,
}

/// What lets a request write to guarded memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pass {
    /// The fence that it shows, if any.
    Fence(Option<Fence>),
    /// It is a restore's, which ends every lease.
    Restorer,
}

/// How a thread of the server is started.
pub(crate) type Spawn = fn(&str, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    listeners: Vec<Arc<Listener>>,
    threads: Vec<JoinHandle<()>>,
    http: Option<Http>,
    opened: Opened,
}

impl Server {
    /// Opens the segment, listens, and serves from threads of its own.
    pub fn start(config: &Config, options: &Options) -> Result<Server, StartError> {
        Server::start_with(config, options, spawn)
    }

    pub(crate) fn start_with(config: &Config, options: &Options, spawn: Spawn) -> Result<Server, StartError> {
        let id = options.id;
        let last = config.n() - 1;
        let entry = config.servers().get(id as usize).ok_or(StartError::NoSuchServer { id, last })?;
        let keyring = config.secret_file().map(Keyring::load).transpose()?.map(Arc::new);
        let address = entry.address.to_string();
        let tls = config.tls().map(|files| Tls::load_for(&address, &files.ca, &files.cert, &files.key)).transpose()?;
        if keyring.is_none() && is_open_to_others(&address) {
            return Err(StartError::Exposed { id, address });
        }
        let http = entry.http.as_ref().map(ToString::to_string);
        if let Some(address) = http.as_ref().filter(|http| keyring.is_none() && is_open_to_others(http)) {
            return Err(StartError::ExposedHttp { id, address: address.clone() });
        }
        let spec = spec(config, id);
        preflight::check_file_size(&spec)?;
        let log_path = options.op_log.clone().or_else(|| config.op_log(id));
        let oplog = log_path.as_deref().map(open_log).transpose()?;
        let mut succeeds = false;
        let (segment, opened) = match Segment::open(&spec) {
            Err(ShmError::Busy { path, pid }) if options.takes_over => {
                succeeds = true;
                http.iter().try_for_each(|http| successor::check_address(id, http))?;
                successor::take_over(&spec, &address, Holder { path, pid }, keyring.as_deref())?
            }
            opened => opened?,
        };
        let (segment, opened) = proven(&spec, segment, opened)?;
        let segment = Arc::new(segment);
        let endpoints = [Endpoint::Unix(unix_name(config.name(), id, &address)), Endpoint::Tcp(address)];
        let is_new = matches!(opened, Opened::Created);
        let has_secret = keyring.is_some();
        let served = listen(id, &endpoints, tls.as_ref(), has_secret).and_then(|listeners| {
            let http = http.map_or(Ok(None), |address| listen_to_monitors(id, address, has_secret, succeeds))?;
            let own = Own { oplog, keyring, tls: tls.clone() };
            let shared = Arc::new(Shared::new(config, options, Arc::clone(&segment), own, spawn)?);
            let mut server = Server { shared, listeners, threads: Vec::new(), http: None, opened };
            // If it fails, the threads that have begun end with the server.
            server.spawn_threads(spawn, http).map_err(StartError::Thread)?;
            Ok(server)
        });
        if served.is_err() && is_new {
            // A segment that this start has made is not left behind; an older one keeps its data.
            let _ = Arc::into_inner(segment).map(Segment::retire_and_unlink);
        }
        served
    }

    fn spawn_threads(&mut self, spawn: Spawn, http: Option<Listener>) -> io::Result<()> {
        let cuts = Arc::clone(&self.shared.cuts);
        self.threads.push(spawn("cut-timer", Box::new(move || cuts.run_timer()))?);
        for (name, listener) in ["accept-unix", "accept-tcp"].into_iter().zip(&self.listeners) {
            let (listener, shared) = (Arc::clone(listener), Arc::clone(&self.shared));
            self.threads.push(spawn(name, Box::new(move || accept::run(&listener, shared, spawn)))?);
        }
        self.http = http.map(|listener| Http::start(listener, &self.shared, spawn)).transpose()?;
        if self.shared.replicas.is_some() {
            let shared = Arc::clone(&self.shared);
            let live = move || shared.replicas.iter().for_each(|replicas| replicas.live(&shared.metadata));
            self.threads.push(spawn("block-join", Box::new(live))?);
        }
        Ok(())
    }

    /// Whether the segment was made new or taken over.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What `status` shows.
    pub fn status(&self) -> ServerStatus {
        self.shared.status()
    }

    /// Stops: no new connections, requests that were received are done and answered, and every client is told
    /// that nothing else was. The segment stays, marked clean. False when a connection thread did not end in
    /// time.
    pub fn stop(&mut self) -> bool {
        if self.shared.stopping.swap(true, Ordering::Relaxed) {
            return true;
        }
        self.listeners.iter().for_each(|listener| listener.close());
        self.shared.resume.notify_all();
        self.shared.cuts.stop();
        self.shared.replicas.iter().for_each(|replicas| replicas.stop());
        // Whoever waits for the metadata is told that there will be no answer.
        self.shared.metadata.stop();
        self.shared.watchdog.finish_reading_all();
        let drained = self.shared.connections.wait_until_none(LAST_ANSWERS) || {
            self.shared.watchdog.shutdown_all();
            self.shared.connections.wait_until_none(STOP_PATIENCE)
        };
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
        // A successor that waits for the segment wants the addresses as soon as it has that.
        self.listeners.clear();
        // Until here it has said that the server stops.
        self.http = None;
        if drained {
            self.shared.segment.mark_clean();
        }
        drained
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn new(
        config: &Config,
        options: &Options,
        segment: Arc<Segment>,
        own: Own,
        spawn: Spawn,
    ) -> Result<Shared, StartError> {
        let Own { oplog, keyring, tls } = own;
        let (id, limits) = (options.id, config.limits());
        let space = Space::new(config.k(), config.n()).expect("a checked config has a space");
        let connections = Connections::new(
            limits.max_connections,
            limits.max_connections_per_address,
            (config.n() - 1) * if config.replicas() == 1 { 1 } else { 2 },
        );
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
        let trust = PeerTrust { keyring: keyring.clone(), tls };
        let replicas = match config.replicas() {
            1 => None,
            _ => Some(Replicas::start(config, id, Arc::clone(&segment), &trust, options.on_moved.clone(), spawn)?),
        };
        let metadata = Metadata::start(config, id, agreed, peers, replicas.clone(), trust, spawn);
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
        if (hello.k, hello.n) != (self.space.k(), self.space.n()) {
            let pair = |k: u64, n: u32| format!("{n} servers of {k} bytes");
            return wrong("the address space", pair(hello.k, hello.n), pair(self.space.k(), self.space.n()));
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

    /// What the server does, in a word.
    fn state(&self) -> String {
        let filling = self.replicas.as_ref().and_then(|replicas| match replicas.is_member() {
            true => replicas.filling_percent().map(|percent| format!("filling {percent}%")),
            false => Some("joining".to_owned()),
        });
        match self.segment.is_restoring() {
            true => "restoring".to_owned(),
            false => filling.unwrap_or_else(|| "serving".to_owned()),
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

/// The segment of a server: with the copies of all blocks that it keeps.
fn spec(config: &Config, id: u32) -> Spec {
    let replicas = config.replicas();
    let k_bytes = config.k() * u64::from(replicas);
    Spec { cluster: config.name().to_owned(), id, n: config.n(), k_bytes, registers: replicas > 1 }
}

/// A replica whose memory is not proven whole does not vote with any of it: it begins anew, and is filled by the others.
fn proven(spec: &Spec, segment: Segment, opened: Opened) -> Result<(Segment, Opened), ShmError> {
    if !spec.registers || segment.torn_blocks() == 0 {
        return Ok((segment, opened));
    }
    tracing::warn!(
        blocks = segment.torn_blocks(),
        "the memory has torn blocks: it is given up, and filled by other replicas"
    );
    segment.retire_and_unlink()?;
    Segment::open(spec)
}

fn open_log(path: &std::path::Path) -> Result<OpLog, StartError> {
    OpLog::open(path).map_err(|source| StartError::OpLog { path: path.to_owned(), source })
}

fn listen(
    id: u32,
    endpoints: &[Endpoint],
    tls: Option<&Tls>,
    has_secret: bool,
) -> Result<Vec<Arc<Listener>>, StartError> {
    endpoints.iter().map(|endpoint| listen_one(id, endpoint, tls, has_secret).map(Arc::new)).collect()
}

/// Where the server before has ended already, memory without metrics is better than none.
fn listen_to_monitors(
    id: u32,
    address: String,
    has_secret: bool,
    succeeds: bool,
) -> Result<Option<Listener>, StartError> {
    match listen_one(id, &Endpoint::Tcp(address), None, has_secret) {
        Err(error) if succeeds => {
            tracing::error!(%error, "nobody answers monitors");
            Ok(None)
        }
        listener => listener.map(Some),
    }
}

/// Listens. Without a secret that is for loopback addresses, also if a name stands for another one by now than a moment
/// ago.
fn listen_one(id: u32, endpoint: &Endpoint, tls: Option<&Tls>, has_secret: bool) -> Result<Listener, StartError> {
    let listener = Listener::bind_with(endpoint, tls);
    let listener = listener.map_err(|source| StartError::Listen { id, endpoint: endpoint.clone(), source })?;
    match has_secret || !listener.is_open_to_others() {
        true => Ok(listener),
        false => Err(StartError::Exposed { id, address: endpoint.to_string() }),
    }
}

pub(crate) fn spawn(name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{config, remove_folder};

    /// The name of the address stood for nothing when it was looked at, and for an open address when it was bound.
    #[test]
    fn an_open_socket_is_refused_whatever_its_name_has_said() {
        let open = [Endpoint::Tcp("0.0.0.0:0".into())];
        assert!(matches!(listen(0, &open, None, false), Err(StartError::Exposed { .. })));
        listen(0, &open, None, true).expect("there is a secret");
    }

    /// The segment goes when the server does, which is later: whoever has that must find the addresses free.
    #[test]
    fn a_stopped_server_has_let_go_of_its_addresses() {
        let mut running = crate::fixture::Running::start();
        let address = running.config.servers()[0].address.to_string();
        let unix = mcomp_net::unix_name(running.config.name(), 0, &address);
        let endpoints = [Endpoint::Unix(unix), Endpoint::Tcp(address)];
        assert!(matches!(listen(0, &endpoints, None, false), Err(StartError::Listen { .. })));
        assert!(running.server.stop());
        listen(0, &endpoints, None, false).expect("nobody listens there");
    }

    /// The machine has no thread left when the last one is started.
    #[test]
    fn a_server_that_cannot_start_leaves_nothing_behind() {
        let config = config();
        let no_tcp: Spawn =
            |name, work| if name == "accept-tcp" { Err(io::Error::other(name)) } else { spawn(name, work) };
        let failed = Server::start_with(&config, &Options::default(), no_tcp).unwrap_err();
        assert!(matches!(failed, StartError::Thread(_)), "{failed}");
        // A thread that is left would keep a listening socket, and a segment that is left would be taken over.
        let server = Server::start(&config, &Options::default()).expect("nothing is in its way");
        assert!(matches!(server.opened(), Opened::Created), "{:?}", server.opened());
        let path = server.shared.segment.path().to_owned();
        drop(server);
        let failed = Server::start_with(&config, &Options::default(), no_tcp).unwrap_err();
        assert!(matches!(failed, StartError::Thread(_)), "{failed}");
        std::fs::remove_file(path).expect("an older segment keeps its data");
        remove_folder(&config);
    }
}
