//! What the tests of this crate share: a segment, and a server, that leave nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcomp_config::{Config, Overrides};
use mcomp_net::{ConnectError, Connection, Endpoint, Timeouts, Trust, unix_name};
use mcomp_shm::{Segment, Spec};
use mcomp_wire::Role;
use mcomp_wire::control::Hello;
use uuid::Uuid;

use crate::server::{Spawn, spawn};
use crate::{Options, Server};

/// Bytes of the memory of every test.
pub(crate) const K_BYTES: u64 = 64 << 10;

/// Long enough for any machine; a test that waits for so long has found a deadlock.
pub(crate) const DEADLOCK: Duration = Duration::from_secs(60);

/// A number that no other test of this process has.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A segment whose file goes with it.
pub(crate) struct Scratch {
    pub(crate) segment: Arc<Segment>,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let cluster = format!("unit-{}-{}", std::process::id(), number());
        let (segment, _) =
            Segment::open(&Spec { cluster, id: 0, n: 1, k_bytes: K_BYTES, registers: false }).expect("a segment");
        Scratch { segment: Arc::new(segment) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.segment.path());
    }
}

/// A cluster of one server, with a name and an address of its own.
pub(crate) fn config() -> Config {
    let (pid, number) = (std::process::id(), number());
    let ip = format!("127.{}.{}.{number}", 1 + (pid >> 8) % 254, pid % 256);
    let text = format!(
        "[cluster]\nname = \"unit-{pid}-{number}\"\nk = {K_BYTES}\nn = 1\n[[server]]\naddress = \"{ip}:7601\"\n"
    );
    let folder = std::env::temp_dir().join(format!("mcomp-unit-{pid}-{number}"));
    Config::parse(&text, &folder.join("mcomp.cfg"), &Overrides::default()).expect("a config")
}

/// Removes what a server of [`config`] has left on disk.
pub(crate) fn remove_folder(config: &Config) {
    // It may never have been made.
    let _ = std::fs::remove_dir_all(config.folder());
}

/// A server of a cluster of its own, whose segment goes with it.
pub(crate) struct Running {
    pub(crate) config: Config,
    pub(crate) server: Server,
}

impl Running {
    pub(crate) fn start() -> Running {
        Running::start_with(&Options::default())
    }

    /// With options for its one server.
    pub(crate) fn start_with(options: &Options) -> Running {
        Running::start_by(options, spawn)
    }

    /// A server whose threads are started by `spawn`.
    pub(crate) fn start_by(options: &Options, spawn: Spawn) -> Running {
        let config = config();
        let server = Server::start_with(&config, options, spawn).expect("a server");
        Running { config, server }
    }

    /// A client of session `session`.
    pub(crate) fn connect(&self, session: Uuid) -> Result<Connection, ConnectError> {
        self.connect_as(Role::Client, session)
    }

    /// A peer of role `role`.
    pub(crate) fn connect_as(&self, role: Role, session: Uuid) -> Result<Connection, ConnectError> {
        self.connect_over(&Endpoint::Tcp(self.address()), role, session)
    }

    fn address(&self) -> String {
        self.config.servers()[0].address.to_string()
    }

    /// A peer of this machine, over the Unix socket.
    pub(crate) fn connect_here(&self, role: Role) -> Connection {
        let endpoint = Endpoint::Unix(unix_name(self.config.name(), 0, &self.address()));
        self.connect_over(&endpoint, role, Uuid::nil()).expect("a connection")
    }

    fn connect_over(&self, endpoint: &Endpoint, role: Role, session: Uuid) -> Result<Connection, ConnectError> {
        let hello = Hello {
            cluster: self.config.name().to_owned(),
            role,
            server: 0,
            k: self.config.k(),
            n: self.config.n(),
            session,
            features: 0,
            auth: Vec::new(),
        };
        Connection::open(endpoint, &hello, Timeouts { connect: DEADLOCK, request: DEADLOCK }, Trust::default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.stop();
        let _ = std::fs::remove_file(self.server.shared.segment.path());
        remove_folder(&self.config);
    }
}
