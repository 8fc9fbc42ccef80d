//! Writing one snapshot file.
//!
//! Chunks come already encoded, in any order, and go straight to the disk; only their table entries
//! stay in memory. The table is sorted and checked for overlap at the end, when all are known. Any
//! error ends the writer and removes the file: a snapshot with a hole is none.

use std::path::PathBuf;

use zerocopy::IntoBytes;

use super::chunk::chunk_bytes;
use super::error::{Fault, Part, ensure};
use super::footer::{self, ChunkEntry, Table};
use super::header::encode_head;
use super::out::Out;
use super::{Dir, EncodedChunk, FileError, Meta, Name};

/// A snapshot file in the making.
///
/// - Nothing has the final name before [`Writer::finish`] returns `Ok`.
/// - After an error, and when dropped, the temporary file is gone.
#[derive(Debug)]
pub struct Writer {
    meta: Meta,
    dir: Dir,
    /// None once an error has ended this writer.
    out: Option<Out>,
    head: Vec<u8>,
    entries: Vec<ChunkEntry>,
}

/// A finished snapshot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its name in the folder.
    pub name: Name,
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// Bytes of memory that its chunks record.
    pub memory_bytes: u64,
    /// Bytes stored for them.
    pub stored_bytes: u64,
    /// How many chunks it has.
    pub chunks: u64,
}

impl Writer {
    /// Begins a file in `dir`.
    ///
    /// # Errors
    ///
    /// [`FileError::Refused`] when no snapshot can have these facts, [`FileError::Io`] when the
    /// folder cannot be written.
    pub fn create(dir: &Dir, meta: Meta) -> Result<Writer, FileError> {
        meta.check()?;
        let head = encode_head(&meta);
        let mut out = Out::create(dir)?;
        out.put(&head)?;
        Ok(Writer { meta, dir: dir.clone(), out: Some(out), head, entries: Vec::new() })
    }

    /// The facts of the snapshot that is being written.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Adds a chunk. Chunks may come in any order; whether they overlap is checked at the end.
    ///
    /// # Errors
    ///
    /// [`FileError::Refused`] when the chunk is of another cut, damaged, or outside the memory;
    /// [`FileError::Io`] when it cannot be written. Either way the snapshot is given up.
    pub fn append(&mut self, chunk: &EncodedChunk) -> Result<(), FileError> {
        let mut out = self.take_out()?;
        let address = chunk.address();
        footer::check_space(address, chunk.length(), self.meta.space_bytes()).map_err(Fault::given)?;
        ensure(chunk.belongs_to(self.meta.cut), Part::Chunk(address), || {
            format!("its CRC {:#010x} is not that of a chunk of cut {}", chunk.crc(), self.meta.cut)
        })
        .map_err(Fault::given)?;
        let entry = ChunkEntry {
            address,
            length: chunk.length(),
            stored: chunk.stored().len() as u32,
            offset: out.position(),
            codec: chunk.codec(),
            crc: chunk.crc(),
        };
        out.put(chunk_bytes(address, entry.length, entry.stored, entry.codec, entry.crc).as_bytes())?;
        out.put(chunk.stored())?;
        self.entries.push(entry);
        self.out = Some(out);
        Ok(())
    }

    /// Writes the footer, syncs the file, gives it its name and syncs the folder.
    ///
    /// # Errors
    ///
    /// [`FileError::Refused`] when chunks overlap; [`FileError::Io`] when the file cannot be made
    /// durable or its name is taken. There is no file then.
    pub fn finish(mut self) -> Result<Finished, FileError> {
        let mut out = self.take_out()?;
        let entries = std::mem::take(&mut self.entries);
        let table = Table::from_unsorted(entries, self.meta.space_bytes()).map_err(Fault::given)?;
        put_footer(&mut out, &self.head, &table)?;
        let file_bytes = out.position();
        let name = self.meta.name();
        out.publish(name.as_str())?;
        let totals = table.totals();
        Ok(Finished {
            path: self.dir.path_of(name.as_str()),
            name,
            file_bytes,
            memory_bytes: totals.memory_bytes,
            stored_bytes: totals.stored_bytes,
            chunks: totals.count,
        })
    }

    /// Takes the output; whoever succeeds puts it back, so an error on the way drops it and the file.
    fn take_out(&mut self) -> Result<Out, FileError> {
        let ended = || Fault::new(Part::File, "an earlier error ended its writer; begin a new snapshot").given();
        self.out.take().ok_or_else(ended)
    }
}

fn put_footer(out: &mut Out, head: &[u8], table: &Table) -> Result<(), FileError> {
    let footer_offset = out.position();
    let mut hasher = blake3::Hasher::new();
    hasher.update(head);
    for entry in table.entries() {
        let bytes = entry.to_bytes();
        hasher.update(bytes.as_bytes());
        out.put(bytes.as_bytes())?;
    }
    let totals = table.totals().to_bytes();
    hasher.update(footer::hashed_totals(&totals));
    out.put(totals.as_bytes())?;
    out.put(footer::trailer(footer_offset, table.totals().count, hasher.finalize()).as_bytes())
}
