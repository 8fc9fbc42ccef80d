//! The memory of a server of this machine, read straight from its segment, without asking the server.
//!
//! Chosen by itself after a handshake, when the segment that the server names can be opened: same
//! machine, same user. Only reads go this way. What the segment cannot answer (a block that keeps
//! changing, a cut being held, a restore) is asked of the server; a segment that was purged, replaced
//! or restored is left until the next handshake.
//!
//! The bytes of a dead server would still be there. A client that went on reading them would see
//! memory that no other machine sees, so the segment is left soon after the server has ended: a second
//! handle of a connection to it, the anchor, is looked at now and then.

use std::sync::atomic::{AtomicU64, Ordering};

use mcomp_net::Stream;
use mcomp_shm::{ReadError, Reader};
use mcomp_wire::Space;
use uuid::Uuid;

use crate::clock::now_ms;

/// How often the anchor is looked at while there are reads, in milliseconds.
const LOOK_EVERY_MS: u64 = 10;

/// What a handshake says about a segment of this machine.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The segment's random id.
    pub(crate) segment: Uuid,
    /// The epoch of the generation of connections.
    pub(crate) config_epoch: u64,
    /// A second handle of the connection.
    pub(crate) anchor: Stream,
}

/// A mapped segment of this machine.
#[derive(Debug)]
pub(crate) struct Local {
    reader: Reader,
    /// The first address of the server's memory.
    base: u64,
    config_epoch: u64,
    anchor: Stream,
    /// When the anchor was looked at last. Relaxed: it orders nothing, and a look too many is no harm.
    looked_at_ms: AtomicU64,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The bytes are there.
    Bytes,
    /// This time the server has to be asked.
    AskServer,
    /// The segment is of no more use.
    Leave,
}

impl Local {
    /// Maps the segment of the offer, if this process may and it is the one that the server serves.
    pub(crate) fn attach(offer: Offer, cluster: &str, server: u32, space: Space) -> Option<Local> {
        let reader = Reader::open(cluster, server).ok()?;
        let is_served = Uuid::from_bytes(reader.segment_id()) == offer.segment;
        // Servers may have been added since mcomp.cfg was written.
        if !is_served || reader.k_bytes() != space.k() || reader.n() < space.n() {
            return None;
        }
        let Offer { config_epoch, anchor, .. } = offer;
        let base = u64::from(server) * space.k();
        Some(Local { reader, base, config_epoch, anchor, looked_at_ms: AtomicU64::new(now_ms()) })
    }

    /// Fills `buffer` with the bytes from `addr` on. Unless it finds them, `buffer` may have changed.
    #[inline]
    pub(crate) fn read(&self, addr: u64, buffer: &mut [u8]) -> Found {
        if self.has_ended() {
            return Found::Leave;
        }
        let span = addr.checked_sub(self.base).and_then(|offset| self.reader.span(offset, buffer.len() as u64));
        let Some(span) = span else { return Found::AskServer };
        match self.reader.read_as_client(span, buffer, self.config_epoch) {
            Ok(()) => Found::Bytes,
            Err(ReadError::Retired | ReadError::Restored) => Found::Leave,
            Err(_) => Found::AskServer,
        }
    }

    /// Whether the server is known to have ended.
    #[inline]
    fn has_ended(&self) -> bool {
        let now = now_ms();
        if now < self.looked_at_ms.load(Ordering::Relaxed) + LOOK_EVERY_MS {
            return false;
        }
        self.looked_at_ms.store(now, Ordering::Relaxed);
        self.anchor.has_ended()
    }
}
