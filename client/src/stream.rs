//! Big ranges, a bounded part at a time: iterated over, or copied from a reader and to a writer.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mcomp_wire::Range;

use crate::cluster::zeros;
use crate::{Cluster, Error, Outcome};

/// Bytes that an iterator reads ahead, if its chunks are smaller.
const AHEAD: u64 = 4 << 20;

/// Bytes that a copy moves at a time.
const PART: u64 = 4 << 20;

/// Buffers of a copy: one is filled while the other is emptied.
const BUFFERS: usize = 2;

/// The chunks of a range in address order; made by [`Cluster::chunks`].
///
/// Items are `(address, bytes)`. After an error it ends.
#[derive(Debug)]
pub struct Chunks {
    cluster: Cluster,
    rest: Range,
    chunk_len: u64,
    /// What was read ahead, from `ahead_at` on.
    ahead: Vec<u8>,
    ahead_at: usize,
}

impl Cluster {
    /// Iterates over `addr..addr + len` in chunks of `chunk_len` bytes, the last one shorter. Small
    /// chunks are read ahead by the megabyte: at most the larger of 4 MiB and one chunk is held.
    ///
    /// # Panics
    /// When `chunk_len` is zero.
    pub fn chunks(&self, addr: u64, len: u64, chunk_len: u64) -> Result<Chunks, Error> {
        assert!(chunk_len > 0, "a chunk holds at least one byte");
        let cluster = self.bound()?;
        let rest = cluster.range_of(addr, len)?;
        Ok(Chunks { cluster, rest, chunk_len, ahead: Vec::new(), ahead_at: 0 })
    }

    /// Puts what `reader` gives, at most `len` bytes, at `addr`, and returns how many bytes it gave.
    /// `progress` hears how many are written so far. Reading and writing overlap; two parts of 4 MiB
    /// are held.
    ///
    /// When the reader or the cluster fails after a part was written, memory holds the parts before the
    /// failure, and the outcome is unknown.
    pub fn copy_from(
        &self,
        mut reader: impl Read,
        addr: u64,
        len: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, Error> {
        let bound = self.bound()?;
        bound.range_of(addr, len)?;
        let what = "reading the bytes to write";
        std::thread::scope(|scope| {
            let (to_write, full) = sync_channel::<(u64, Vec<u8>)>(BUFFERS);
            let (give_back, empty) = sync_channel::<Vec<u8>>(BUFFERS);
            let lend = prime(&give_back, len);
            let bound = &bound;
            let writer = scope.spawn(move || bound.write_parts(&full, &give_back));
            lend?;
            let (mut read, mut written) = (0, 0);
            let mut failed = Ok(());
            // The channel ends when the writer has failed; its error is taken below.
            while let Ok(mut part) = empty.recv() {
                written += part.len() as u64;
                progress(written);
                part.resize(part.capacity().min((len - read) as usize), 0);
                match read_full(&mut reader, &mut part) {
                    Ok(0) => break,
                    Ok(count) => part.truncate(count),
                    Err(source) => {
                        failed = Err(Error::Io { what, source: Arc::new(source) });
                        break;
                    }
                }
                let at = addr + read;
                read += part.len() as u64;
                if to_write.send((at, part)).is_err() {
                    break;
                }
            }
            drop(to_write);
            empty.iter().for_each(|part| {
                written += part.len() as u64;
                progress(written);
            });
            writer.join().expect("writing parts does not panic")?;
            failed.map(|()| read).map_err(|error| if written > 0 { self.in_part_at(addr, error) } else { error })
        })
    }

    /// Gives `addr..addr + len` to `writer`, and returns `len`. `progress` hears how many bytes it
    /// has taken so far. Reading and writing overlap; two parts of 4 MiB are held.
    pub fn copy_to(
        &self,
        addr: u64,
        len: u64,
        mut writer: impl Write,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, Error> {
        let chunks = self.chunks(addr, len, PART)?;
        let what = "writing the bytes read";
        std::thread::scope(|scope| {
            let (hand_on, parts) = sync_channel(BUFFERS - 1);
            scope.spawn(move || read_parts(chunks, &hand_on));
            let mut written = 0;
            for part in parts {
                let part: Vec<u8> = part?;
                writer.write_all(&part).map_err(|source| Error::Io { what, source: Arc::new(source) })?;
                written += part.len() as u64;
                progress(written);
            }
            writer.flush().map_err(|source| Error::Io { what, source: Arc::new(source) })?;
            Ok(written)
        })
    }

    /// Writes parts until there are no more, and gives their buffers back.
    fn write_parts(&self, parts: &Receiver<(u64, Vec<u8>)>, give_back: &SyncSender<Vec<u8>>) -> Result<(), Error> {
        let mut done = false;
        for (addr, part) in parts {
            self.write_at(addr, &part).map_err(|error| {
                if done && error.outcome() == Outcome::Fail { self.in_part_at(addr, error) } else { error }
            })?;
            done = true;
            // Nobody may want it any more.
            let _ = give_back.send(part);
        }
        Ok(())
    }

    fn in_part_at(&self, addr: u64, error: Error) -> Error {
        self.pool((addr / self.space().k()) as u32).peer().in_part(error)
    }
}

/// Reads parts until the range ends or nobody wants them any more.
fn read_parts(chunks: Chunks, hand_on: &SyncSender<Result<Vec<u8>, Error>>) {
    for chunk in chunks {
        if hand_on.send(chunk.map(|(_, bytes)| bytes)).is_err() {
            return;
        }
    }
}

/// Puts empty buffers into circulation, no larger than needed.
fn prime(give_back: &SyncSender<Vec<u8>>, len: u64) -> Result<(), Error> {
    for _ in 0..BUFFERS {
        let mut part = zeros(len.min(PART))?;
        part.clear();
        give_back.send(part).expect("the receiver is alive");
    }
    Ok(())
}

/// Reads until the buffer is full or the reader ends.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Chunks {
    /// Reads the next window.
    fn read_ahead(&mut self) -> Result<(), Error> {
        let whole_chunks = (AHEAD / self.chunk_len).max(1) * self.chunk_len;
        let len = self.rest.len().min(whole_chunks);
        self.ahead = zeros(len)?;
        self.ahead_at = 0;
        self.cluster.read_at(self.rest.addr(), &mut self.ahead)
    }

    /// Moves the start of what is still to be given out.
    fn advance(&mut self, len: u64) -> Result<(), Error> {
        self.rest = self.cluster.range_of(self.rest.addr() + len, self.rest.len() - len)?;
        Ok(())
    }

    fn take_chunk(&mut self) -> Result<(u64, Vec<u8>), Error> {
        if self.ahead_at == self.ahead.len() {
            self.read_ahead()?;
        }
        let addr = self.rest.addr();
        let end = self.ahead.len().min(self.ahead_at.saturating_add(self.chunk_len as usize));
        // A window of one chunk is given away as it is.
        let chunk = match (self.ahead_at, end == self.ahead.len()) {
            (0, true) => std::mem::take(&mut self.ahead),
            (at, _) => self.ahead[at..end].to_vec(),
        };
        self.ahead_at = if self.ahead.is_empty() { 0 } else { end };
        self.advance(chunk.len() as u64)?;
        Ok((addr, chunk))
    }
}

impl Iterator for Chunks {
    type Item = Result<(u64, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let chunk = self.take_chunk();
        if chunk.is_err() {
            let end = self.cluster.space().check(self.rest.end(), 0);
            self.rest = end.expect("the end of a range is a place");
        }
        Some(chunk)
    }
}
