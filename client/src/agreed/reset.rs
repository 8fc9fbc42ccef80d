//! The page table of a snapshot takes the place of the one that is there: what a restore needs.

use std::time::Duration;

use mcomp_wire::meta::{Command, Region};
use mcomp_wire::{control, limits};

use super::Session;
use crate::{Cluster, Error};

/// How long the servers wait for a sign of life of who restores; nothing is allocated until then.
const TTL: Duration = Duration::from_secs(20);
/// Bytes of allocations in one part: with what stands before them they fit into a control body.
const PART_BYTES: usize = limits::MAX_CONTROL - 1024;

/// A page table that the servers have, and that is not in force yet. Nothing is allocated while it lives; dropping it
/// takes it back.
#[derive(Debug)]
pub struct Reset {
    session: Session,
    /// Parts that were sent.
    parts: u32,
}

impl Cluster {
    /// Brings a page table to the servers, which check it: addresses, sizes, names and notes count, and nothing else of
    /// a region. When this returns, no server zeroes memory for a new owner any more until the [`Reset`] ends.
    ///
    /// Needs the role admin. The table of somebody else that was not in force yet is taken back.
    pub fn begin_reset(&self, regions: Vec<Region>) -> Result<Reset, Error> {
        let mut reset = Reset { session: self.session_of(TTL)?, parts: 0 };
        let mut index = reset.send(false, Vec::new())?;
        let (mut part, mut bytes) = (Vec::new(), 0);
        for region in regions {
            let region_bytes = control::encode(&region).len();
            if bytes + region_bytes > PART_BYTES {
                index = reset.send(false, std::mem::take(&mut part))?;
                bytes = 0;
            }
            bytes += region_bytes;
            part.push(region);
        }
        if !part.is_empty() {
            index = reset.send(false, part)?;
        }
        reset.await_all(index)?;
        Ok(reset)
    }
}

impl Reset {
    /// Puts the page table in force. Every session, lease and lock ends, and the memory is as it is: when this returns,
    /// every server obeys the new table.
    ///
    /// # Errors
    /// [`Error::Unknown`] says that there was no answer: it may be in force, or may be yet.
    pub fn commit(mut self) -> Result<(), Error> {
        let index = self.send(true, Vec::new())?;
        self.await_all(index)
    }

    /// Sends the next part, and says where it stands in the log.
    fn send(&mut self, last: bool, regions: Vec<Region>) -> Result<u64, Error> {
        let told = self.session.ask(Command::Reset { part: self.parts, last, regions })?;
        self.parts += 1;
        Ok(told.index)
    }

    fn await_all(&self, index: u64) -> Result<(), Error> {
        let cluster = self.session.cluster();
        (0..cluster.space().n()).try_for_each(|server| cluster.await_server(server, index, Duration::MAX))
    }
}
