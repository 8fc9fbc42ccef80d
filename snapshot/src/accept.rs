//! Who is let in to a snapshot process: few at a time, and of those no more than half from one address, so that
//! nobody alone keeps the master, or an operator, out.

use std::sync::Arc;
use std::time::Duration;

use mcomp_net::{Host, Origin, Phase, Stream, Unserved};

use crate::service::Peer;
use crate::snapshotter::{Shared, spawn};

/// Connections at a time. The master and a few operators are all that come.
pub const MOST_CONNECTIONS: usize = 64;

/// Of them, those of one address. A master makes at most two copies here at once, and at most nine operators
/// wait for a snapshot.
pub(crate) const MOST_OF_ONE: usize = MOST_CONNECTIONS / 2;

impl Host for Shared {
    fn serve(&self, stream: Stream, origin: Origin) -> Result<(), Unserved> {
        let place = self.places.take(origin)?;
        let watch = self.watchdog.watch(&stream, Phase::Handshake);
        // A stop shuts down every connection that is watched by then; this one may have come a moment later.
        if self.is_stopping() {
            return Ok(());
        }
        let service = Arc::clone(&self.service);
        let serve = move || {
            let _place = place;
            Peer::new(stream, watch, service).run();
        };
        spawn("peer", serve).map(drop).map_err(Unserved::Thread)
    }

    fn refused(&self, why: &Unserved) -> String {
        self.service.refusals.reject(why.cause());
        // As often as strangers like: nothing for the log of every day.
        tracing::debug!(%why, "connection refused");
        why.to_string()
    }

    fn is_stopping(&self) -> bool {
        Shared::is_stopping(self)
    }

    fn pause(&self, duration: Duration) {
        Shared::pause(self, duration);
    }
}
