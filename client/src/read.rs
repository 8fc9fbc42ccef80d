//! Reads: from a segment of this machine where that is possible, from the servers otherwise.

use mcomp_wire::{Piece, Range, Request};

use crate::ask::Ask;
use crate::cluster::{PIECE, zeros};
use crate::sink::Into;
use crate::{Cluster, Error};

impl Cluster {
    /// Fills `buffer` with the bytes from `addr` on.
    pub fn read_at(&self, addr: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let range = self.range_of(addr, buffer.len() as u64)?;
        let mut pieces = range.pieces(PIECE);
        let Some(first) = pieces.next() else { return Ok(()) };
        if pieces.next().is_none() {
            return self.read_one(first, buffer);
        }
        let era = self.era()?;
        let left = self.read_here(range, buffer);
        let shares = left.chunk_by(|a, b| a.server == b.server).map(|share| {
            let asks = share.iter().map(|piece| Ask::new(piece.addr - addr, read_of(*piece)));
            (share[0].server, asks)
        });
        self.run(shares, &mut Into(buffer))?;
        self.check_era(era)
    }

    /// The `len` bytes from `addr` on. For ranges that should not be held at once, see
    /// [`Cluster::chunks`].
    pub fn read_vec(&self, addr: u64, len: u64) -> Result<Vec<u8>, Error> {
        self.range_of(addr, len)?;
        let mut bytes = zeros(len)?;
        self.read_at(addr, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether reads from `server` need not ask it at the moment: it runs on this machine, as this
    /// user, and has been talked to before.
    pub fn is_local(&self, server: u32) -> Result<bool, Error> {
        Ok(self.pool_of(server)?.is_local())
    }

    /// Reads what is to be had on this machine, and returns the pieces for which servers have to be
    /// asked, in rising order.
    pub(crate) fn read_here(&self, range: Range, buffer: &mut [u8]) -> Vec<Piece> {
        if self.shows_fence() {
            return range.pieces(PIECE).collect();
        }
        let start = range.addr();
        let is_missing = |piece: &Piece| {
            let at = (piece.addr - start) as usize;
            !self.pool(piece.server).read_here(piece.addr, &mut buffer[at..at + piece.len as usize])
        };
        range.pieces(PIECE).filter(is_missing).collect()
    }

    fn read_one(&self, piece: Piece, buffer: &mut [u8]) -> Result<(), Error> {
        let era = self.era()?;
        if !self.shows_fence() && self.pool(piece.server).read_here(piece.addr, buffer) {
            return self.check_era(era);
        }
        self.ask_for(piece.server, Ask::new(0, read_of(piece)), &mut Into(buffer))
    }
}

fn read_of(piece: Piece) -> Request<'static> {
    Request::Read { addr: piece.addr, len: piece.len }
}
