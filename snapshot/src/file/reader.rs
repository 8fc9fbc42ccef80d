//! Reading one snapshot file.
//!
//! Opening reads the head, the table and the trailer and proves that they belong together; it costs
//! 1/1000 of the memory at most, and no chunk is read. [`Snapshot::verify`] then reads every chunk.
//! All reads are positioned, so many threads may read one snapshot at a time.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::bytes::{CHUNK_HEADER_BYTES, ChunkBytes, HEADER_BYTES, entry_bytes};
use super::chunk::{checksum, chunk_bytes, decode, digest};
use super::dir::{NO_FILE, not_a_file};
use super::error::{Fault, Part, ensure, io_error};
use super::footer::{self, ChunkEntry, TAIL_BYTES, Table, Tail};
use super::header::{Head, parse_header, parse_servers, server_section_bytes};
use super::mac::Signature;
use super::pages::{self, Pages, SavedRegion};
use super::{Dir, FileError, FileKeys, Mac, Meta, Progress, calls};

/// Table entries read at a time: 1 MiB, or 2 MiB when the file is signed.
const ENTRIES_AT_ONCE: usize = (1 << 20) / entry_bytes(false);

/// An open snapshot file whose head, table and trailer are sound.
///
/// - The chunks are disjoint, sorted by address, within the memory, and tile the file.
/// - Their contents are checked when they are read, not before.
#[derive(Debug)]
pub struct Snapshot {
    source: Source,
    meta: Meta,
    /// None when the file is not signed.
    signature: Option<Signature>,
    /// Of everything but the chunks; in a signed file that includes a hash of each.
    hash: blake3::Hash,
    /// None when the file has no page table.
    pages: Option<Pages>,
    table: Table,
    /// The numbers of the chunks in the order of the file.
    order: Vec<usize>,
}

impl Snapshot {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] when it cannot be read, [`FileError::Bad`] when it is not a snapshot or was
    /// damaged outside its chunks.
    pub fn open(path: impl AsRef<Path>) -> Result<Snapshot, FileError> {
        Snapshot::load(Source::open(path.as_ref())?)
    }

    /// Opens the file of this name in a folder, not following a link.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::open`].
    pub fn open_in(dir: &Dir, name: &str) -> Result<Snapshot, FileError> {
        Snapshot::load(Source::open_in(dir, name)?)
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// What it says about itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether the file is of somebody who knows the secret, going by the keys that there are here, if any. What the
    /// MAC promises for the chunks is checked when they are read.
    pub fn mac(&self, keys: Option<&FileKeys>) -> Mac {
        Mac::check(self.signature.as_ref(), &self.hash, &self.meta, keys)
    }

    /// How many allocations the page table has; none when there is no page table.
    pub fn allocations(&self) -> Option<u64> {
        self.pages.as_ref().map(|pages| pages.count)
    }

    /// The byte after the last one of an allocation; 0 when there is none.
    pub fn allocations_end(&self) -> u64 {
        self.pages.as_ref().map_or(0, |pages| pages.end)
    }

    /// Reads the page table, if there is one: all allocations, in address order.
    ///
    /// # Errors
    ///
    /// [`FileError::Bad`] when it is not what it was when the file was opened, [`FileError::Io`] when it cannot be read.
    pub fn page_table(&self) -> Result<Option<Vec<SavedRegion>>, FileError> {
        let Some(known) = &self.pages else { return Ok(None) };
        let mut regions = Vec::new();
        let mut take = |region| regions.push(region);
        let found = pages::read(&self.source, known.at, known.bytes, self.meta.space_bytes(), |_| (), &mut take)?;
        let changed = || Fault::new(Part::Pages, "it is not what it was a moment ago").read_from(self.path());
        if found == *known { Ok(Some(regions)) } else { Err(changed()) }
    }

    /// The chunks, sorted by address.
    pub fn chunks(&self) -> &[ChunkEntry] {
        self.table.entries()
    }

    /// The size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.source.file_bytes
    }

    /// Bytes of memory that the chunks record.
    pub fn memory_bytes(&self) -> u64 {
        self.table.totals().memory_bytes
    }

    /// Bytes stored for the chunks.
    pub fn stored_bytes(&self) -> u64 {
        self.table.totals().stored_bytes
    }

    /// Reads chunk `i` of [`Snapshot::chunks`] into `memory`, whose length becomes the chunk's.
    ///
    /// # Errors
    ///
    /// [`FileError::Bad`] when the chunk is damaged, [`FileError::Io`] when it cannot be read.
    ///
    /// # Panics
    ///
    /// When there is no chunk `i`.
    pub fn read_chunk(&self, i: usize, memory: &mut Vec<u8>) -> Result<(), FileError> {
        let entry = &self.chunks()[i];
        let part = Part::Chunk(entry.address);
        let mut chunk = vec![0; CHUNK_HEADER_BYTES + entry.stored as usize];
        self.source.read(part, entry.offset, &mut chunk)?;
        let stored = self.check_chunk(entry, &chunk).map_err(|fault| fault.read_from(self.path()))?;
        decode(entry.codec, stored, entry.length, memory).map_err(|why| Fault::new(part, why).read_from(self.path()))
    }

    /// Reads every chunk and proves it. Progress is in bytes of the file.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::read_chunk`], for the first chunk of the file that is wrong.
    pub fn verify(&self, progress: Progress<'_>) -> Result<(), FileError> {
        let (mut done, total) = (self.file_bytes(), self.file_bytes());
        done -= self.chunks().iter().map(ChunkEntry::file_bytes).sum::<u64>();
        let mut memory = Vec::new();
        progress(done, total);
        for i in &self.order {
            self.read_chunk(*i, &mut memory)?;
            done += self.chunks()[*i].file_bytes();
            progress(done, total);
        }
        Ok(())
    }

    fn load(source: Source) -> Result<Snapshot, FileError> {
        let at_fault = |fault: Fault| fault.read_from(&source.path);
        let mut head = source.read_header_bytes()?.to_vec();
        let parsed = parse_header(head.as_slice().try_into().expect("a whole header")).map_err(at_fault)?;
        let Head { mut meta, key, pages_bytes } = parsed;
        head.resize(HEADER_BYTES + server_section_bytes(meta.n()), 0);
        source.read(Part::Servers, HEADER_BYTES as u64, &mut head[HEADER_BYTES..])?;
        parse_servers(&mut meta, &head[HEADER_BYTES..]).map_err(at_fault)?;
        let (at, space_bytes) = (head.len() as u64, meta.space_bytes());
        let chunks_at = at.saturating_add(pages_bytes.unwrap_or(0));
        let tail = source.read_tail(chunks_at, key.is_some())?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        let mut hash = |bytes: &[u8]| {
            hasher.update(bytes);
        };
        let read_pages = |bytes| pages::read(&source, at, bytes, space_bytes, &mut hash, &mut drop);
        let pages = pages_bytes.map(read_pages).transpose()?;
        let table = source.read_table(hasher, &tail, space_bytes, entry_bytes(key.is_some()))?;
        let order = table.tiling(chunks_at, tail.footer_offset).map_err(at_fault)?;
        let signature = key.map(|key| Signature { key, mac: tail.mac });
        Ok(Snapshot { meta, signature, hash: tail.hash, pages, table, order, source })
    }

    /// The stored bytes of a chunk that is the one the table speaks of, and of this cut.
    fn check_chunk<'a>(&self, entry: &ChunkEntry, chunk: &'a [u8]) -> Result<&'a [u8], Fault> {
        let (header, stored) = ChunkBytes::ref_from_prefix(chunk).expect("the chunk has its header");
        let expected = chunk_bytes(entry.address, entry.length, entry.stored, entry.codec, entry.crc);
        let part = Part::Chunk(entry.address);
        ensure(*header == expected, part, || format!("at offset {} is not the chunk of the table", entry.offset))?;
        let crc = checksum(self.meta.cut, entry.address, entry.length, entry.codec, stored);
        ensure(crc == entry.crc, part, || format!("its CRC is {:#010x}, its bytes have {crc:#010x}", entry.crc))?;
        let found = entry.digest.map(|_| digest(header.as_bytes(), stored));
        ensure(found == entry.digest, part, || "its bytes do not have the hash of the table".into())?;
        Ok(stored)
    }
}

/// The facts of a file's header alone, with blank servers: what a damaged file claims to be.
pub(super) fn peek(dir: &Dir, name: &str) -> Result<Meta, FileError> {
    let source = Source::open_in(dir, name)?;
    let parsed = parse_header(&source.read_header_bytes()?).map_err(|fault| fault.read_from(&source.path));
    Ok(parsed?.meta)
}

/// An open regular file, with the size it had when it was opened.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    pub(super) path: PathBuf,
    file_bytes: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Source, FileError> {
        match calls::open(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => Source::of(File::from(file), path.to_owned()),
            Err(Errno::NXIO) => Err(not_a_file(path, NO_FILE)),
            Err(errno) => Err(io_error("open", path)(errno)),
        }
    }

    fn open_in(dir: &Dir, name: &str) -> Result<Source, FileError> {
        Source::of(dir.open_file(name)?, dir.path_of(name))
    }

    fn of(file: File, path: PathBuf) -> Result<Source, FileError> {
        let facts = file.metadata().map_err(io_error("look at", &path))?;
        ensure(facts.is_file(), Part::File, || "it is not a regular file".into()).map_err(|f| f.read_from(&path))?;
        Ok(Source { file, path, file_bytes: facts.len() })
    }

    pub(super) fn read(&self, part: Part, offset: u64, buffer: &mut [u8]) -> Result<(), FileError> {
        match calls::read_exact_at(&self.file, buffer, offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let why = format!("the file ends before the {} bytes at offset {offset} do", buffer.len());
                Err(Fault::new(part, why).read_from(&self.path))
            }
            result => result.map_err(io_error("read", &self.path)),
        }
    }

    fn read_header_bytes(&self) -> Result<[u8; HEADER_BYTES], FileError> {
        let mut bytes = [0; HEADER_BYTES];
        self.read(Part::Header, 0, &mut bytes)?;
        Ok(bytes)
    }

    fn read_tail(&self, head_bytes: u64, is_signed: bool) -> Result<Tail, FileError> {
        let at_fault = |fault: Fault| fault.read_from(&self.path);
        let smallest = head_bytes.saturating_add(TAIL_BYTES as u64);
        ensure(self.file_bytes >= smallest, Part::File, || {
            format!("it has {} bytes, and {smallest} is the least; it was cut short", self.file_bytes)
        })
        .map_err(at_fault)?;
        let mut bytes = [0; TAIL_BYTES];
        self.read(Part::Footer, self.file_bytes - TAIL_BYTES as u64, &mut bytes)?;
        Tail::parse(&bytes, self.file_bytes, is_signed).map_err(at_fault)
    }

    /// Reads the table piece by piece and checks each entry before the next piece is allocated: a
    /// count alone, or a hole in the file, makes nobody allocate much.
    fn read_table(
        &self,
        mut hasher: blake3::Hasher,
        tail: &Tail,
        space_bytes: u64,
        entry_bytes: usize,
    ) -> Result<Table, FileError> {
        let at_fault = |fault: Fault| fault.read_from(&self.path);
        let mut table = Table::new(space_bytes);
        let mut offset = tail.footer_offset;
        let mut left = tail.totals.count;
        let mut piece = Vec::new();
        while left > 0 {
            let entries = left.min(ENTRIES_AT_ONCE as u64);
            piece.resize(entries as usize * entry_bytes, 0);
            self.read(Part::Table, offset, &mut piece)?;
            hasher.update(&piece);
            for entry in piece.chunks_exact(entry_bytes) {
                ChunkEntry::parse(entry).and_then(|entry| table.push(entry)).map_err(at_fault)?;
            }
            offset += piece.len() as u64;
            left -= entries;
        }
        let totals = tail.totals.to_bytes();
        hasher.update(footer::hashed_totals(&totals));
        check_sums(&table, tail, hasher.finalize()).map_err(at_fault)?;
        Ok(table)
    }
}

fn check_sums(table: &Table, tail: &Tail, hash: blake3::Hash) -> Result<(), Fault> {
    ensure(tail.hash == hash, Part::Footer, || format!("its hash is {}, its bytes have {hash}", tail.hash))?;
    let totals = table.totals();
    ensure(totals == tail.totals, Part::Footer, || format!("it says {:?}, the table has {totals:?}", tail.totals))
}
