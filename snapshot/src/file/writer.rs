//! Writing one snapshot file.
//!
//! Chunks come already encoded, in any order, and go straight to the disk; only their table entries
//! stay in memory. The table is sorted and checked for overlap at the end, when all are known. Any
//! error ends the writer and removes the file: a snapshot with a hole is none.

use std::path::PathBuf;

use zerocopy::IntoBytes;

use super::chunk::{chunk_bytes, digest};
use super::error::{Fault, Part, ensure};
use super::footer::{self, ChunkEntry, Table};
use super::header::encode_head;
use super::mac::Signer;
use super::out::Out;
use super::{Dir, EncodedChunk, FileError, FileKeys, Meta, Name, SavedRegion, pages};

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
    /// None when the file is not signed.
    signer: Option<Signer>,
    /// The hash of what stands before the chunks.
    hasher: blake3::Hasher,
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
    /// Begins a file without a MAC in `dir`.
    ///
    /// # Errors
    ///
    /// [`FileError::Refused`] when no snapshot can have these facts, [`FileError::Io`] when the
    /// folder cannot be written.
    pub fn create(dir: &Dir, meta: Meta) -> Result<Writer, FileError> {
        Writer::begin(dir, meta, None, None)
    }

    /// Begins a file in `dir` that is signed with the first of `keys`.
    ///
    /// # Errors
    ///
    /// As [`Writer::create`], and [`FileError::Refused`] when there is no key.
    pub fn create_signed(dir: &Dir, meta: Meta, keys: &FileKeys) -> Result<Writer, FileError> {
        Writer::begin(dir, meta, Some(keys), None)
    }

    /// Begins a file in `dir`, signed with the first of `keys` if there are any, with a page table if there is one: the
    /// allocations in address order.
    ///
    /// # Errors
    ///
    /// As [`Writer::create_signed`], and [`FileError::Refused`] when the page table cannot be one.
    pub fn begin(
        dir: &Dir,
        meta: Meta,
        keys: Option<&FileKeys>,
        regions: Option<&[SavedRegion]>,
    ) -> Result<Writer, FileError> {
        meta.check()?;
        let no_key = || Fault::new(Part::File, "it cannot be signed: the secret has no node key").given();
        let signer = keys.map(|keys| keys.signer(&meta).ok_or_else(no_key)).transpose()?;
        let pages_bytes = regions.map(|regions| pages::check(regions, meta.space_bytes()));
        let pages_bytes = pages_bytes.transpose().map_err(Fault::given)?;
        let (mut out, mut hasher) = (Out::create(dir)?, blake3::Hasher::new());
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            out.put(bytes)
        };
        put(&encode_head(&meta, signer.as_ref().map(Signer::id), pages_bytes))?;
        regions.map_or(Ok(()), |regions| pages::write(regions, put))?;
        Ok(Writer { meta, dir: dir.clone(), out: Some(out), signer, hasher, entries: Vec::new() })
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
        let (length, stored, codec, crc) = (chunk.length(), chunk.stored(), chunk.codec(), chunk.crc());
        let header = chunk_bytes(address, length, stored.len() as u32, codec, crc);
        let entry = ChunkEntry {
            address,
            length,
            stored: stored.len() as u32,
            offset: out.position(),
            codec,
            crc,
            digest: self.signer.as_ref().map(|_| digest(header.as_bytes(), stored)),
        };
        out.put(header.as_bytes())?;
        out.put(stored)?;
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
        put_footer(&mut out, &mut self.hasher, &table, self.signer.as_ref())?;
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

fn put_footer(
    out: &mut Out,
    hasher: &mut blake3::Hasher,
    table: &Table,
    signer: Option<&Signer>,
) -> Result<(), FileError> {
    let footer_offset = out.position();
    for entry in table.entries() {
        let bytes = entry.to_bytes();
        hasher.update(&bytes);
        out.put(&bytes)?;
    }
    let table_bytes = out.position() - footer_offset;
    let mut totals = table.totals().to_bytes();
    hasher.update(footer::hashed_totals(&totals));
    let hash = hasher.finalize();
    if let Some(signer) = signer {
        totals.mac = *signer.mac(&hash).as_bytes();
    }
    out.put(totals.as_bytes())?;
    out.put(footer::trailer(footer_offset, table_bytes, hash).as_bytes())
}
