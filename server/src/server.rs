//! Starting and stopping a server.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use mcomp_config::Config;
use mcomp_net::auth::Keyring;
use mcomp_net::tls::Tls;
use mcomp_net::{Endpoint, Listener, is_open_to_others, unix_name};
use mcomp_shm::{Opened, Segment, ShmError, Spec};
use mcomp_wire::control::ServerStatus;

use crate::accept;
use crate::grown::{OnGrown, as_agreed};
use crate::handover::OnHandover;
use crate::http::Http;
use crate::metadata::OpenLog;
use crate::moved::OnMoved;
use crate::oplog::OpLog;
use crate::preflight;
use crate::shared::{Own, Shared};
use crate::start_error::StartError;
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
    /// Whether this process has served it before: then it does so again, if need be without an answer to monitors.
    pub serves_again: bool,
    /// What to do when this server is asked the same.
    pub on_handover: Option<OnHandover>,
    /// What to do when this server was replaced by another one; without it, it goes on and serves nobody.
    pub on_moved: Option<OnMoved>,
    /// What to do when a server was added, and this one has to be stopped and started again; without it, it takes no part.
    pub on_grown: Option<OnGrown>,
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
        let mut succeeds = options.serves_again;
        let (segment, opened) = match Segment::open(&spec) {
            Err(ShmError::Busy { path, pid }) if options.takes_over => {
                succeeds = true;
                http.iter().try_for_each(|http| successor::check_address(id, http))?;
                successor::take_over(&spec, config.k(), &address, Holder { path, pid }, keyring.as_deref())?
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
            let log = OpenLog::open(config, id, &segment)?;
            let listed = config.n();
            let config = as_agreed(config, log.members()).map_err(|source| log.corrupt(source))?;
            let own = Own { oplog, keyring, tls: tls.clone(), log, listed };
            let shared = Arc::new(Shared::new(&config, options, Arc::clone(&segment), own, spawn)?);
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

impl Server {
    /// After a stop that was not done in time: waits for requests that take long. False if they have not ended yet.
    pub fn wait_for_requests(&self, patience: Duration) -> bool {
        self.shared.connections.wait_until_none(patience)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
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
