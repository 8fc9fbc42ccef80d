//! A range of the address space as a file: `std::io::{Read, Write, Seek}`.

use std::io::{self, Read, Seek, SeekFrom, Write};

use mcomp_wire::Range;

use crate::{Cluster, Error};

/// A cursor over a range; made by [`Cluster::range`].
///
/// It does not buffer: each call is a request. Wrap it in a [`std::io::BufReader`] or
/// [`std::io::BufWriter`] for many small ones. At the end of the range a read returns 0 bytes and a
/// write takes 0 bytes. Errors carry an [`Error`] as their source.
#[derive(Clone, Debug)]
pub struct RangeIo {
    cluster: Cluster,
    range: Range,
    /// Relative to the range's start; it may lie behind its end, as in a file.
    position: u64,
}

impl Cluster {
    /// `addr..addr + len` as a file that begins at position 0.
    pub fn range(&self, addr: u64, len: u64) -> Result<RangeIo, Error> {
        Ok(RangeIo { cluster: self.clone(), range: self.range_of(addr, len)?, position: 0 })
    }
}

impl RangeIo {
    /// The next address, and how many of `wanted` bytes are left there.
    fn ahead(&self, wanted: usize) -> (u64, usize) {
        let left = self.range.len().saturating_sub(self.position);
        (self.range.addr() + self.position.min(self.range.len()), left.min(wanted as u64) as usize)
    }
}

impl Read for RangeIo {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (addr, len) = self.ahead(buffer.len());
        self.cluster.read_at(addr, &mut buffer[..len])?;
        self.position += len as u64;
        Ok(len)
    }
}

impl Write for RangeIo {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (addr, len) = self.ahead(bytes.len());
        self.cluster.write_at(addr, &bytes[..len])?;
        self.position += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for RangeIo {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
            SeekFrom::End(delta) => self.range.len().checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| {
            let message = format!("{to:?} lies before the start of the range or past 2^64");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        Ok(self.position)
    }
}
