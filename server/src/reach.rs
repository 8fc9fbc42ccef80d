//! How this server reaches the others: as a node of its cluster, with what they know each other by.

use std::sync::Arc;
use std::time::Duration;

use mcomp_config::Config;
use mcomp_net::auth::Keyring;
use mcomp_net::tls::Tls;
use mcomp_net::{ConnectError, Connection, Endpoint, Timeouts, Trust};
use mcomp_wire::Role;
use mcomp_wire::control::Hello;
use mcomp_wire::meta::MembersReport;
use uuid::Uuid;

/// What connections to other servers begin with.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    hello: Hello,
    /// Servers of mcomp.cfg.
    listed: u32,
    keyring: Option<Arc<Keyring>>,
    tls: Option<Tls>,
}

impl Reach {
    pub(crate) fn new(config: &Config, listed: u32, keyring: Option<Arc<Keyring>>, tls: Option<Tls>) -> Reach {
        let hello = Hello {
            cluster: config.name().to_owned(),
            role: Role::Node,
            server: 0,
            k: config.k(),
            // While the cluster grows one may be ahead of the other.
            n: 0,
            session: Uuid::nil(),
            features: 0,
            auth: Vec::new(),
        };
        Reach { hello, listed, keyring, tls }
    }

    /// The name of the cluster.
    pub(crate) fn cluster(&self) -> &str {
        &self.hello.cluster
    }

    /// Where a server is that mcomp.cfg does not list, as the log has it.
    pub(crate) fn added<'m>(&self, server: u32, members: &'m MembersReport) -> Option<&'m String> {
        members.added.get(&server).filter(|_| server >= self.listed)
    }

    /// Connects to server `peer`. Neither that nor any request may take longer, and what is sent must be confirmed in as
    /// much time.
    pub(crate) fn open(&self, endpoint: &Endpoint, peer: u32, timeout: Duration) -> Result<Connection, ConnectError> {
        let hello = Hello { server: peer, ..self.hello.clone() };
        let timeouts = Timeouts { connect: timeout, request: timeout };
        let trust = Trust { keyring: self.keyring.as_deref(), tls: self.tls.as_ref() };
        let connection = Connection::open(endpoint, &hello, timeouts, trust)?;
        // A system that cannot do so serves all the same, and notices later that a network is well again.
        let _ = connection.stream().set_unconfirmed(timeout);
        Ok(connection)
    }
}
