//! What a [`Cluster`](crate::Cluster) needs to know, as typed by a program or taken from mcomp.cfg.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mcomp_config::Config;
pub use mcomp_config::{Checksum, TlsFiles};
use mcomp_wire::{BLOCK_SIZE, Role, Space, limits};

use crate::Error;

/// More than anybody waits: one day. What has no end is a mistake, and does not fit into a clock.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// Where the servers are and how to talk to them.
///
/// ```
/// use mcomp_client::{Options, Space};
/// let space = Space::new(64 << 20, 2).unwrap();
/// let mut options = Options::new("demo", space, ["127.0.0.1:7401", "127.0.0.1:7402"]);
/// options.max_connections = 4;
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's name: a server of another cluster refuses the handshake.
    pub cluster: String,
    /// Bytes per server and number of servers: they must equal the servers' own.
    pub space: Space,
    /// `host:port` of each server, in address order.
    pub servers: Vec<String>,
    /// How long one request may go without progress.
    pub timeout: Duration,
    /// How long one connection and its handshake may take; `timeout` caps it.
    pub connect_timeout: Duration,
    /// Connections to one server at a time. A call that finds all of them in use waits for one.
    pub max_connections: usize,
    /// Copies that the servers keep of each block: 1, 3 or 5, as they say.
    pub replicas: u32,
    /// Whether servers on this machine are reached through their Unix socket, when they have one.
    pub unix: bool,
    /// Whether the memory of servers on this machine is read straight from their segments.
    pub segment: bool,
    /// How long to look for an answer before the thread sleeps; zero: not at all. Saves the price of waking
    /// up, and keeps a core busy while it waits.
    pub spin: Duration,
    /// Whether bodies carry a CRC-32.
    pub checksum: Checksum,
    /// Who speaks.
    pub role: Role,
    /// The file with the keys of the cluster, if servers want a proof of one. With it, a server that has no secret is
    /// refused.
    pub secret_file: Option<PathBuf>,
    /// The certificates, if connections over TCP are to be secret. Needs the feature `tls`.
    pub tls: Option<TlsFiles>,
}

impl Options {
    /// Options with the defaults of mcomp.cfg.
    pub fn new<S: Into<String>>(
        cluster: impl Into<String>,
        space: Space,
        servers: impl IntoIterator<Item = S>,
    ) -> Options {
        Options {
            cluster: cluster.into(),
            space,
            servers: servers.into_iter().map(Into::into).collect(),
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            max_connections: 64,
            replicas: 1,
            unix: true,
            segment: true,
            spin: Duration::ZERO,
            checksum: Checksum::Auto,
            role: Role::Client,
            secret_file: None,
            tls: None,
        }
    }

    /// The options that mcomp.cfg states.
    pub fn from_config(config: &Config) -> Options {
        let space = Space::new(config.k(), config.n()).expect("a checked configuration has a space that fits");
        let client = config.client();
        Options {
            timeout: client.timeout,
            connect_timeout: client.connect_timeout,
            max_connections: client.max_connections as usize,
            replicas: config.replicas(),
            unix: client.unix,
            segment: client.segment,
            spin: config.spin().client,
            checksum: client.checksum,
            secret_file: config.secret_file().map(Path::to_path_buf),
            tls: config.tls().cloned(),
            ..Options::new(config.name(), space, config.servers().iter().map(|server| server.address.to_string()))
        }
    }

    /// Refuses what cannot work, before anything is connected.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (listed, n) = (self.servers.len(), self.space.n());
        let problem = if listed != n as usize {
            format!("{listed} server addresses are given for an address space of {n} servers: give one for each")
        } else if self.cluster.is_empty() || self.cluster.len() > limits::MAX_CLUSTER_NAME {
            let max = limits::MAX_CLUSTER_NAME;
            format!("the cluster name {:?} must have 1 to {max} bytes", self.cluster)
        } else if !self.space.k().is_multiple_of(BLOCK_SIZE) {
            format!("k is {} bytes: servers lend whole blocks of {BLOCK_SIZE} bytes", self.space.k())
        } else if !matches!(self.replicas, 1 | 3 | 5) || self.replicas > n {
            format!(
                "{} copies of each block on {n} servers: there are 1, 3 or 5, each on its own server",
                self.replicas
            )
        } else if self.max_connections == 0 {
            "max_connections is 0: at least one connection to each server is needed".to_owned()
        } else if [self.timeout, self.connect_timeout].iter().any(|time| time.is_zero() || *time > TIMEOUT_MAX) {
            let Options { timeout, connect_timeout, .. } = self;
            format!(
                "timeout is {timeout:?} and connect_timeout {connect_timeout:?}: both must be longer than zero and at \
                 most {TIMEOUT_MAX:?}"
            )
        } else {
            return Ok(());
        };
        Err(Error::Options(problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_with_their_values() {
        let space = Space::new(4096, 2).unwrap();
        let good = Options::new("demo", space, ["a:1", "b:2"]);
        assert!(good.check().is_ok());
        let text = |options: Options| options.check().unwrap_err().to_string();
        assert!(text(Options { servers: vec!["a:1".into()], ..good.clone() }).contains("1 server addresses"));
        assert!(text(Options { cluster: String::new(), ..good.clone() }).contains("\"\""));
        assert!(text(Options { max_connections: 0, ..good.clone() }).contains("max_connections"));
        assert!(text(Options { timeout: Duration::ZERO, ..good }).contains("timeout"));
    }
}
