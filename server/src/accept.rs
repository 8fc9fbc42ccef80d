//! Who is let in: connections up to the caps, each with a thread of its own. Whoever is refused is told why, and
//! counted; nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use mcomp_net::{Host, Listener, Origin, Phase, Stream, Unserved};

use crate::connection::Connection;
use crate::server::Spawn;
use crate::shared::Shared;

/// Accepts until the listener is closed.
pub(crate) fn run(listener: &Listener, shared: Arc<Shared>, spawn: Spawn) {
    mcomp_net::accept(listener, &Door { shared, spawn });
}

/// Counts a connection that is not served, and says why it is not.
pub(crate) fn refused(shared: &Shared, why: &Unserved) -> String {
    shared.counters.reject(why.cause());
    tracing::debug!(%why, "connection refused");
    match why {
        Unserved::Full { .. } => {
            let most = shared.connections.most();
            if most < shared.connections.configured() {
                format!("all {most} connections that this server's limit of open files allows are taken: try again")
            } else {
                format!("all {most} connections of this server are taken (limits.max_connections): try again")
            }
        }
        Unserved::FullForOne { origin, most } => {
            let limit = "limits.max_connections_per_address";
            format!("{origin} has all the {most} connections that {limit} allows: close some, or try again")
        }
        why => why.to_string(),
    }
}

struct Door {
    shared: Arc<Shared>,
    spawn: Spawn,
}

impl Host for Door {
    fn serve(&self, stream: Stream, origin: Origin) -> Result<(), Unserved> {
        let place = self.shared.connections.enter(origin)?;
        let watch = self.shared.watchdog.watch(&stream, Phase::Handshake);
        // A stop shuts down every connection that is watched by then; this one may have come a moment later.
        if self.shared.is_stopping() {
            return Ok(());
        }
        let name = format!("conn-{}", place.id);
        let shared = Arc::clone(&self.shared);
        // Put together on its own thread: a connection that is dropped without one ends its socket, and the peer
        // could not be told why.
        let serve = move || Connection::new(stream, place, watch, shared).run();
        (self.spawn)(&name, Box::new(serve)).map(drop).map_err(Unserved::Thread)
    }

    fn refused(&self, why: &Unserved) -> String {
        refused(&self.shared, why)
    }

    fn is_stopping(&self) -> bool {
        self.shared.is_stopping()
    }

    fn pause(&self, duration: Duration) {
        self.shared.pause(duration);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::net::UnixStream;

    use mcomp_net::ConnectError;
    use mcomp_wire::Status;
    use uuid::Uuid;

    use super::*;
    use crate::fixture::Running;

    #[test]
    fn a_connection_that_comes_during_a_stop_is_not_served() {
        let mut running = Running::start();
        assert!(running.server.stop());
        let shared = Arc::clone(&running.server.shared);
        let door = Door { shared, spawn: |_, _| panic!("no thread is started for it") };
        let (_peer, stream) = UnixStream::pair().unwrap();
        door.serve(stream.into(), Origin::User(0)).unwrap();
        assert_eq!(door.shared.connections.count(), 0);
    }

    /// The machine has no thread left for connections.
    #[test]
    fn a_connection_without_a_thread_is_refused_and_keeps_no_place() {
        let running = Running::start_by(&crate::Options::default(), |name, work| match name.starts_with("conn-") {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => crate::server::spawn(name, work),
        });
        for count in 1..=3 {
            let refused = running.connect(Uuid::nil()).unwrap_err();
            let ConnectError::Refused { status, message, .. } = refused else { panic!("no reason: {refused}") };
            assert_eq!(status, Status::Busy);
            assert!(message.contains("cannot start another thread"), "{message}");
            let status = running.server.status();
            assert_eq!((status.connections, status.counters.rejected["threads"]), (0, count));
        }
    }
}
