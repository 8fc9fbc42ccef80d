//! How a server is reached: which socket leads there, and what is said first.

use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use mcomp_net::{ConnectError, Connection, Endpoint, Timeouts, Trust, is_local, is_loopback, unix_name};
use mcomp_wire::BLOCK_SIZE;
use mcomp_wire::control::{Hello, features};
use uuid::Uuid;

use super::{Place, Pool};
use crate::replicated::PATIENCE;
use crate::{Checksum, Error};

impl Pool {
    /// Connects and shakes hands: over the Unix socket when the server is on this machine and
    /// listens there, over TCP otherwise. It may take so long.
    pub(super) fn connect(&self, session: Uuid, most: Duration) -> Result<Connection, ConnectError> {
        let place = self.place.load_full();
        if self.options.unix && place.is_near() {
            let endpoint = Endpoint::Unix(unix_name(&self.options.cluster, self.peer.server, &place.address));
            match self.shake_hands(&endpoint, session, most) {
                Err(ConnectError::Unreachable { source, .. }) if is_nobody(&source) => {}
                done => return done,
            }
        }
        self.shake_hands(&Endpoint::Tcp(place.address.clone()), session, most)
    }

    fn shake_hands(&self, endpoint: &Endpoint, session: Uuid, most: Duration) -> Result<Connection, ConnectError> {
        let options = &*self.options;
        let hello = Hello {
            cluster: options.cluster.clone(),
            role: options.role,
            server: self.peer.server,
            k: options.space.k(),
            n: options.space.n(),
            session,
            features: if self.wants_checksum(endpoint) { features::CHECKSUM } else { 0 },
            auth: Vec::new(),
        };
        let timeouts = Timeouts { connect: most, request: options.timeout };
        let trust = Trust { keyring: self.keyring.as_deref(), tls: self.tls.as_ref() };
        let opened = Connection::open(endpoint, &hello, timeouts, trust);
        match &opened {
            Ok(_) => tracing::debug!(server = self.peer.server, %endpoint, "connected"),
            Err(error) => tracing::debug!(server = self.peer.server, %error, "not connected"),
        }
        let mut connection = opened?;
        connection.set_spin(options.spin);
        let welcome = &connection.greeting().welcome;
        if welcome.server != self.peer.server || u64::from(welcome.block_size) != BLOCK_SIZE {
            let message = format!("server {} with blocks of {} bytes answers", welcome.server, welcome.block_size);
            return Err(ConnectError::Protocol { endpoint: endpoint.clone(), message });
        }
        Ok(connection)
    }

    fn wants_checksum(&self, endpoint: &Endpoint) -> bool {
        match (self.options.checksum, endpoint) {
            (Checksum::On, _) => true,
            (Checksum::Off, _) | (Checksum::Auto, Endpoint::Unix(_)) => false,
            (Checksum::Auto, Endpoint::Tcp(address)) => !is_loopback(address),
        }
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        let most = self.options.connect_timeout.min(self.options.timeout);
        // There is another one to ask.
        if self.is_replicated() { most.min(PATIENCE) } else { most }
    }

    pub(super) fn unreached(&self, error: ConnectError) -> Error {
        self.peer.unreached(error, self.connect_timeout())
    }
}

impl Place {
    pub(super) fn is_near(&self) -> bool {
        *self
            .near
            .get_or_init(|| self.address.to_socket_addrs().is_ok_and(|mut found| found.any(|one| is_local(one.ip()))))
    }
}

/// Whether the operating system said that no process listens there.
pub(super) fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}
