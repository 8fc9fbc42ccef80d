//! The configuration, checked and ready to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::check;
use crate::endpoint::Endpoint;
use crate::error::ConfigError;
use crate::origin::Shown;
use crate::search::Overrides;
use crate::written::Written;

/// A whole configuration that passed every check.
///
/// - `k` is a positive multiple of 4 KiB, and `n * k` does not exceed 2^60.
/// - `n` is 1 to 256 and equals the number of servers; `snapshot.master` is below it.
/// - No two servers or snapshot processes share an endpoint, save a loopback one for HTTP on different machines; all
///   servers name a snapshot process
///   if snapshots are scheduled.
/// - Of the files of TLS all are named, or none.
/// - The name is 1 to 40 characters of `a-z`, `0-9`, `_` and `-`, fit for the name of a segment.
/// - All durations are positive and at most a year, so that adding one to the present is safe.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) path: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) k: u64,
    pub(crate) replicas: u32,
    pub(crate) servers: Vec<ServerEntry>,
    pub(crate) snapshot: Snapshot,
    pub(crate) metadata: Metadata,
    pub(crate) limits: Limits,
    pub(crate) client: Client,
    pub(crate) spin: Spin,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) op_log: Option<PathBuf>,
    pub(crate) shown: Vec<Shown>,
}

/// Where one server and the snapshot process of its machine are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEntry {
    /// The memory server.
    pub address: Endpoint,
    /// The snapshot process; optional while snapshots are not scheduled.
    pub snapshot: Option<Endpoint>,
    /// Where the server answers a monitor over HTTP, if it does.
    pub http: Option<Endpoint>,
}

/// How the memory is saved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The id whose snapshot process consolidates.
    pub master: u32,
    /// The time between scheduled snapshots; none for on demand only.
    pub every: Option<Duration>,
    /// The absolute folder of the snapshot files. It need not exist yet.
    pub dir: PathBuf,
    /// How many snapshots retention keeps, at least 1.
    pub keep: u32,
    /// Of the scheduled snapshots each `full_every`-th is full and the others are incremental; 1
    /// makes all of them full.
    pub full_every: u32,
    /// The zstd level; 0 stores chunks as they are.
    pub level: i32,
    /// The most that answers are held during the cut.
    pub hold_max: Duration,
    /// A snapshot that takes longer is aborted.
    pub time_limit: Duration,
}

/// What the servers agree on, and where each keeps its part of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metadata {
    /// The absolute folder of the log. It need not exist yet.
    pub dir: PathBuf,
    /// How long memory whose lease has run out stays unused.
    pub quarantine: Duration,
    /// Where allocations go.
    pub placement: Placement,
}

/// Where allocations go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To small gaps and low addresses first, so that large free runs stay whole.
    Pack,
    /// To the server with the most free memory.
    Spread,
}

/// What one memory server grants its peers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at a time; the next one is told BUSY.
    pub max_connections: u32,
    /// Of these, what one address may have, or one user of this machine through the Unix socket; none for
    /// as many as there are.
    pub max_connections_per_address: Option<u32>,
    /// From accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a frame to its last.
    pub frame_timeout: Duration,
    /// For an answer that the peer does not take.
    pub write_timeout: Duration,
    /// How long the results of a broken client session are kept for its retry.
    pub session_keep: Duration,
    /// The bytes of all large connection buffers together.
    pub buffer_budget_bytes: u64,
}

/// How clients talk to the servers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Client {
    /// The deadline of one request.
    pub timeout: Duration,
    /// The deadline of one connection attempt, handshake included.
    pub connect_timeout: Duration,
    /// Connections of one client to one server.
    pub max_connections: u32,
    /// Whether a server on this machine is reached through its Unix socket.
    pub unix: bool,
    /// Whether the memory of a server on this machine is read without asking it.
    pub segment: bool,
    /// Whether payloads carry a CRC.
    pub checksum: Checksum,
}

/// How long a thread looks for the next bytes of its socket before it sleeps. Zero: it sleeps at once.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Spin {
    /// A connection's thread in a server.
    pub server: Duration,
    /// A thread of a program that waits for an answer.
    pub client: Duration,
}

/// The absolute paths of the certificates of connections over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that the certificates of all others must be of.
    pub ca: PathBuf,
    /// The certificate of this machine.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Whether payloads carry a CRC-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Where bytes cross a wire: everywhere but on loopback and Unix sockets.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Config {
    /// Checks `text`, the contents of the file at `path`, with `overrides` laid over it.
    ///
    /// Reads no file. `path` is for messages, and its folder is where relative folders of the file
    /// begin; the working folder is asked for only if it is relative.
    pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let folder = folder(path, overrides.data.as_deref())?;
        let written = Written::new(text, path, overrides).map_err(|problem| ConfigError::Invalid(vec![problem]))?;
        check(written, folder).map_err(|mut problems| {
            problems.sort_by(|a, b| a.place.cmp(&b.place));
            ConfigError::Invalid(problems)
        })
    }

    /// The file, as it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The absolute folder where relative folders of the file begin: its own, or that of `--data`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The cluster's name, part of segment names and of the handshake.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes that each server lends.
    pub fn k(&self) -> u64 {
        self.k
    }

    /// The number of servers. Ids are 0 to n - 1.
    pub fn n(&self) -> u32 {
        u32::try_from(self.servers.len()).expect("n is at most 256")
    }

    /// The bytes of the whole address space, n * k.
    pub fn space(&self) -> u64 {
        u64::from(self.n()) * self.k
    }

    /// Copies of each block.
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    /// The map of the network, by id.
    pub fn servers(&self) -> &[ServerEntry] {
        &self.servers
    }

    /// The server with this id, which may come from outside.
    pub fn server(&self, id: u32) -> Result<&ServerEntry, ConfigError> {
        self.servers.get(id as usize).ok_or_else(|| ConfigError::NoSuchServer {
            path: self.path.clone(),
            id,
            n: self.n(),
        })
    }

    /// The same with `n` servers: a mcomp.cfg may be older than the cluster, or list a server that is not added yet. Those
    /// that it does not list are at `addresses`, by their ids.
    ///
    /// # Panics
    /// When `n` is 0, or a server that it does not list has no address there.
    #[must_use]
    pub fn with_servers(&self, n: u32, addresses: &BTreeMap<u32, Endpoint>) -> Config {
        assert!(n > 0, "a cluster has servers");
        let entry = |id: u32| match self.servers.get(id as usize) {
            Some(entry) => entry.clone(),
            None => {
                let address = addresses.get(&id).unwrap_or_else(|| panic!("server {id} has no address"));
                ServerEntry { address: address.clone(), snapshot: None, http: None }
            }
        };
        Config { servers: (0..n).map(entry).collect(), ..self.clone() }
    }

    /// How the memory is saved.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the servers agree on.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The absolute path of the metadata's log of server `id`.
    pub fn metadata_file(&self, id: u32) -> PathBuf {
        self.metadata.dir.join(format!("{}.{id}.redb", self.name))
    }

    /// What one memory server grants its peers.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How clients talk to the servers.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How long threads look for bytes before they sleep.
    pub fn spin(&self) -> Spin {
        self.spin
    }

    /// The absolute path of the file with the keys, if peers have to prove who they are.
    pub fn secret_file(&self) -> Option<&Path> {
        self.secret_file.as_deref()
    }

    /// The certificates, if connections over TCP are to be secret.
    pub fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    /// The absolute path of the operation log of server `id`, if one is wanted. The id is appended
    /// to what the file says, because the file is the same for all servers.
    pub fn op_log(&self, id: u32) -> Option<PathBuf> {
        let mut path = self.op_log.clone()?.into_os_string();
        path.push(format!(".{id}"));
        Some(path.into())
    }

    /// Every value in force, with its origin, in the order of the file.
    pub fn shown(&self) -> &[Shown] {
        &self.shown
    }
}

fn folder(path: &Path, data: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
    if let Some(data) = data {
        return std::path::absolute(data).map_err(unreadable);
    }
    let file = std::path::absolute(path).map_err(unreadable)?;
    Ok(file.parent().unwrap_or(&file).to_path_buf())
}
