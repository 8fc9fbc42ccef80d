//! The memory of a chain: its files laid over each other, the newest on top.
//!
//! `Plan` decides, from the tables alone, which file speaks for which byte. [`Runs`] follows the plan
//! and decodes: each chunk once, in ascending order of addresses, so it holds one decoded chunk (at
//! most 1 MiB) for each file of the chain. What no file records is zero and not mentioned.

use super::chunk::Codec;
use super::{ChunkEntry, FileError, Snapshot};

/// A stretch of memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// Its first byte.
    pub address: u64,
    /// What stands there.
    pub contents: Contents<'a>,
}

/// What stands in a stretch of memory.
#[derive(Debug, PartialEq, Eq)]
pub enum Contents<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// So many zero bytes.
    Zero(u64),
}

impl Run<'_> {
    /// The byte of memory after its last one.
    pub fn end(&self) -> u64 {
        match self.contents {
            Contents::Data(bytes) => self.address + bytes.len() as u64,
            Contents::Zero(bytes) => self.address + bytes,
        }
    }
}

/// The recorded memory of a chain, in ascending order of addresses, without overlap.
#[derive(Debug)]
pub struct Runs<'a> {
    files: &'a [Snapshot],
    plan: Plan<'a>,
    /// For each file the chunk that was decoded last, and its memory.
    decoded: Vec<Option<(usize, Vec<u8>)>>,
}

impl<'a> Runs<'a> {
    /// The memory of `files`, the newest first.
    pub(super) fn of(files: &'a [Snapshot]) -> Runs<'a> {
        Runs { files, plan: Plan::of(files), decoded: files.iter().map(|_| None).collect() }
    }

    /// The next stretch, or none at the end. It is lent until the next call, which is why this is not
    /// an `Iterator`.
    ///
    /// # Errors
    ///
    /// [`FileError::Bad`] when a chunk is damaged, [`FileError::Io`] when it cannot be read.
    pub fn next_run(&mut self) -> Result<Option<Run<'_>>, FileError> {
        let Some(piece) = self.plan.next() else { return Ok(None) };
        let entry = &self.files[piece.file].chunks()[piece.chunk];
        if entry.codec == Codec::Zero {
            let contents = Contents::Zero(piece.end - piece.address);
            return Ok(Some(Run { address: piece.address, contents }));
        }
        let decoded = &mut self.decoded[piece.file];
        if decoded.as_ref().is_none_or(|(chunk, _)| *chunk != piece.chunk) {
            let mut memory = decoded.take().map(|(_, memory)| memory).unwrap_or_default();
            self.files[piece.file].read_chunk(piece.chunk, &mut memory)?;
            *decoded = Some((piece.chunk, memory));
        }
        let (_, memory) = decoded.as_ref().expect("it was decoded just now");
        Ok(Some(Run { address: piece.address, contents: Contents::Data(piece.of(entry, memory)) }))
    }
}

/// The address just past the last byte that is not zero; 0 when all are. Decodes from the end of the
/// memory, and only as far as it must.
pub(super) fn non_zero_end(files: &[Snapshot]) -> Result<u64, FileError> {
    let data: Vec<Piece> = Plan::of(files).filter(|p| files[p.file].chunks()[p.chunk].codec != Codec::Zero).collect();
    let mut decoded = None;
    let mut memory = Vec::new();
    for piece in data.iter().rev() {
        let source = (piece.file, piece.chunk);
        if decoded != Some(source) {
            files[piece.file].read_chunk(piece.chunk, &mut memory)?;
            decoded = Some(source);
        }
        let bytes = piece.of(&files[piece.file].chunks()[piece.chunk], &memory);
        if let Some(last) = bytes.iter().rposition(|b| *b != 0) {
            return Ok(piece.address + last as u64 + 1);
        }
    }
    Ok(0)
}

/// A stretch of memory for which one chunk of one file speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    address: u64,
    end: u64,
    file: usize,
    chunk: usize,
}

impl Piece {
    /// Its bytes, out of the memory of its chunk.
    fn of<'m>(&self, entry: &ChunkEntry, memory: &'m [u8]) -> &'m [u8] {
        &memory[(self.address - entry.address) as usize..(self.end - entry.address) as usize]
    }
}

/// Merges the chunk tables of a chain.
///
/// - `at` is the end of the last piece; every chunk before a file's cursor ends at or before it.
#[derive(Debug)]
struct Plan<'a> {
    /// The newest first.
    tables: Vec<&'a [ChunkEntry]>,
    cursors: Vec<usize>,
    at: u64,
}

impl<'a> Plan<'a> {
    fn of(files: &'a [Snapshot]) -> Plan<'a> {
        Plan { tables: files.iter().map(Snapshot::chunks).collect(), cursors: vec![0; files.len()], at: 0 }
    }

    /// The chunk at a file's cursor, moved past the chunks that are done.
    fn current(&mut self, file: usize) -> Option<&'a ChunkEntry> {
        let rest = &self.tables[file][self.cursors[file]..];
        self.cursors[file] += rest.iter().take_while(|entry| entry.end() <= self.at).count();
        self.tables[file].get(self.cursors[file])
    }
}

impl Iterator for Plan<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let heads: Vec<_> = (0..self.tables.len()).map(|file| self.current(file)).collect();
        let address = heads.iter().flatten().map(|entry| entry.address.max(self.at)).min()?;
        let file = heads.iter().position(|head| head.is_some_and(|entry| entry.address <= address))?;
        let own_end = heads[file]?.end();
        // A newer file takes over where its next chunk begins.
        let newer = heads[..file].iter().flatten().map(|entry| entry.address).min();
        let end = newer.map_or(own_end, |newer| newer.min(own_end));
        self.at = end;
        Some(Piece { address, end, file, chunk: self.cursors[file] })
    }
}
