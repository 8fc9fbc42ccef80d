//! Many ranges in one call: one frame per server when they fit, as few as possible otherwise.

use std::collections::BTreeMap;

use mcomp_wire::{Kind, Piece, Range, Ranges, limits};

use crate::ask::Ask;
use crate::cluster::PIECE;
use crate::{Cluster, Error};

impl Cluster {
    /// Fills each buffer with the bytes from its address on. The ranges are read independently: it is
    /// no snapshot of all of them.
    ///
    /// ```no_run
    /// # fn f(cluster: &mcomp_client::Cluster) -> Result<(), mcomp_client::Error> {
    /// let (mut head, mut tail) = ([0; 16], [0; 16]);
    /// cluster.read_vectored(&mut [(0, &mut head), (4096, &mut tail)])?;
    /// # Ok(()) }
    /// ```
    pub fn read_vectored(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), Error> {
        let era = self.era()?;
        let checked = self.check(ranges.iter().map(|(addr, buffer)| (*addr, buffer.len() as u64)))?;
        let missing = checked
            .into_iter()
            .enumerate()
            .filter(|(item, range)| !self.read_here(*range, &mut *ranges[*item].1).is_empty());
        let frames = plan(missing.collect());
        let shares = frames.iter().map(|(server, frames)| {
            let asks = frames
                .iter()
                .zip(0..)
                .map(|(frame, tag)| Ask::of_bytes(tag, Kind::ReadV, frame.list(), frame.total as usize, false));
            (*server, asks)
        });
        self.run(shares, &mut |lane: usize, tag: u64, mut body: &[u8]| {
            for part in &frames[lane].1[tag as usize].parts {
                let (bytes, rest) = body.split_at(part.len as usize);
                ranges[part.item].1[part.bytes()].copy_from_slice(bytes);
                body = rest;
            }
            Ok(())
        })?;
        self.check_era(era)
    }

    /// Puts each slice at its address. Slices for the same server are written in the order given.
    pub fn write_vectored(&self, ranges: &[(u64, &[u8])]) -> Result<(), Error> {
        let checked = self.check(ranges.iter().map(|(addr, data)| (*addr, data.len() as u64)))?;
        let frames = plan(checked.into_iter().enumerate().collect());
        let shares = frames.iter().map(|(server, frames)| {
            // A frame's bytes are gathered when its turn comes, so that only a window of them exists.
            let asks = frames.iter().zip(0..).map(|(frame, tag)| {
                let mut body = frame.list();
                frame.parts.iter().for_each(|part| body.extend_from_slice(&ranges[part.item].1[part.bytes()]));
                Ask::of_bytes(tag, Kind::WriteV, body, 0, true)
            });
            (*server, asks)
        });
        self.run(shares, &mut |_, _, _: &[u8]| Ok(()))
    }

    /// Turns all claims into ranges, or none.
    fn check(&self, claims: impl Iterator<Item = (u64, u64)>) -> Result<Vec<Range>, Error> {
        claims.map(|(addr, len)| self.range_of(addr, len)).collect()
    }
}

/// Sorts numbered ranges into frames by server, in rising order of server and in their own order within.
fn plan(ranges: Vec<(usize, Range)>) -> Vec<(u32, Vec<Frame>)> {
    let mut servers: BTreeMap<u32, Vec<Frame>> = BTreeMap::new();
    for (item, range) in ranges {
        for Piece { server, addr, len } in range.pieces(PIECE) {
            let frames = servers.entry(server).or_default();
            if !frames.last().is_some_and(|frame| frame.has_room(len)) {
                frames.push(Frame::default());
            }
            let frame = frames.last_mut().expect("pushed when there was none");
            frame.parts.push(Part { item, offset: addr - range.addr(), addr, len });
            frame.total += len;
        }
    }
    servers.into_iter().collect()
}

/// The ranges of one frame.
///
/// Invariants: at most [`limits::MAX_RANGES`] parts, of `total <= limits::MAX_PAYLOAD` bytes.
#[derive(Debug, Default)]
struct Frame {
    parts: Vec<Part>,
    total: u64,
}

/// The part of one of the caller's ranges that lies in one frame.
#[derive(Clone, Copy, Debug)]
struct Part {
    item: usize,
    offset: u64,
    addr: u64,
    len: u64,
}

impl Frame {
    fn has_room(&self, len: u64) -> bool {
        self.parts.len() < limits::MAX_RANGES && self.total + len <= limits::MAX_PAYLOAD as u64
    }

    fn list(&self) -> Vec<u8> {
        let list: Vec<(u64, u64)> = self.parts.iter().map(|part| (part.addr, part.len)).collect();
        let mut body = Vec::new();
        Ranges::emit(&list, &mut body);
        body
    }
}

impl Part {
    /// Where it lies in the caller's buffer.
    fn bytes(&self) -> std::ops::Range<usize> {
        self.offset as usize..(self.offset + self.len) as usize
    }
}
