//! The chunk table and the footer that holds it.
//!
//! The table is sorted by address, so a reader finds a byte by binary search and overlays a chain by
//! merging. It also proves the file: the chunks it names are disjoint in memory and tile the file
//! from the head to the footer without a gap, so no byte hides between them. The BLAKE3 hash in the
//! trailer covers the head, the table and the totals; the CRCs in the table cover the chunks.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::bytes::{
    CHUNK_HEADER_BYTES, DIGEST_BYTES, EntryBytes, TOTALS_BYTES, TRAILER_BYTES, TRAILER_MAGIC, TotalsBytes,
    TrailerBytes, entry_bytes,
};
use super::chunk::{Codec, check_shape};
use super::error::{Fault, Part, ensure};

/// The totals and the trailer: the fixed end of every file.
pub(super) const TAIL_BYTES: usize = TOTALS_BYTES + TRAILER_BYTES;

/// Where a chunk of memory stands in the file: one entry of the chunk table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// The first byte of memory that it records.
    pub address: u64,
    /// How many bytes of memory it records.
    pub length: u32,
    /// How many bytes are stored for them, without the chunk header.
    pub stored: u32,
    /// Where the chunk header stands in the file.
    pub offset: u64,
    /// How the stored bytes are to be read.
    pub codec: Codec,
    /// The CRC-32 over cut id, address, length, codec and stored bytes.
    pub crc: u32,
    /// In a signed file, the hash over the chunk header and the stored bytes.
    pub digest: Option<blake3::Hash>,
}

impl ChunkEntry {
    /// The byte of memory after the last one that it records.
    pub fn end(&self) -> u64 {
        self.address + u64::from(self.length)
    }

    /// Bytes of the chunk in the file, with its header.
    pub(super) fn file_bytes(&self) -> u64 {
        CHUNK_HEADER_BYTES as u64 + u64::from(self.stored)
    }

    /// The entry as it stands in the table.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let fixed = EntryBytes {
            address: U64::new(self.address),
            length: U32::new(self.length),
            stored: U32::new(self.stored),
            offset: U64::new(self.offset),
            codec: self.codec as u8,
            reserved: [0; 3],
            crc: U32::new(self.crc),
        };
        let mut bytes = fixed.as_bytes().to_vec();
        bytes.extend(self.digest.iter().flat_map(|digest| digest.as_bytes()));
        bytes
    }

    /// Reads an entry, that of a signed file when it has the bytes of one.
    pub(super) fn parse(bytes: &[u8]) -> Result<ChunkEntry, Fault> {
        let (raw, digest) = EntryBytes::ref_from_prefix(bytes).expect("the caller cuts entries of the right size");
        let digest = <[u8; DIGEST_BYTES]>::try_from(digest).ok().map(blake3::Hash::from_bytes);
        let address = raw.address.get();
        let codec = Codec::from_number(raw.codec).filter(|_| raw.reserved == [0; 3]).ok_or_else(|| {
            Fault::new(Part::Table, format!("codec {} {:?} at {address:#x} is unknown", raw.codec, raw.reserved))
        })?;
        let (length, stored) = (raw.length.get(), raw.stored.get());
        check_shape(address, length, stored, codec)?;
        Ok(ChunkEntry { address, length, stored, offset: raw.offset.get(), codec, crc: raw.crc.get(), digest })
    }
}

/// The entries of a chunk table.
///
/// - sorted by address and disjoint;
/// - all within the memory of `space_bytes` bytes.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<ChunkEntry>,
    space_bytes: u64,
}

impl Table {
    pub(super) fn new(space_bytes: u64) -> Table {
        Table { entries: Vec::new(), space_bytes }
    }

    /// A table of chunks that came in any order.
    pub(super) fn from_unsorted(mut entries: Vec<ChunkEntry>, space_bytes: u64) -> Result<Table, Fault> {
        entries.sort_unstable_by_key(|entry| entry.address);
        let mut table = Table { entries: Vec::with_capacity(entries.len()), space_bytes };
        entries.into_iter().try_for_each(|entry| table.push(entry))?;
        Ok(table)
    }

    /// Adds the entry that follows the last one in memory.
    pub(super) fn push(&mut self, entry: ChunkEntry) -> Result<(), Fault> {
        let floor = self.entries.last().map_or(0, ChunkEntry::end);
        ensure(entry.address >= floor, Part::Table, || {
            format!("the chunk at {:#x} begins before its predecessor ends, at {floor:#x}", entry.address)
        })?;
        check_space(entry.address, entry.length, self.space_bytes)?;
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn entries(&self) -> &[ChunkEntry] {
        &self.entries
    }

    /// The numbers of the entries in the order of the file, once it is proved that their chunks tile
    /// the bytes from `start` to `end`.
    pub(super) fn tiling(&self, start: u64, end: u64) -> Result<Vec<usize>, Fault> {
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_unstable_by_key(|i| self.entries[*i].offset);
        let mut at = start;
        for entry in order.iter().map(|i| &self.entries[*i]) {
            ensure(entry.offset == at, Part::Table, || {
                format!("the chunk at {:#x} stands at offset {}, not {at}", entry.address, entry.offset)
            })?;
            at = at.saturating_add(entry.file_bytes());
        }
        ensure(at == end, Part::Table, || format!("the chunks end at offset {at}, the footer begins at {end}"))?;
        Ok(order)
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            count: self.entries.len() as u64,
            memory_bytes: self.entries.iter().map(|e| u64::from(e.length)).sum(),
            stored_bytes: self.entries.iter().map(|e| u64::from(e.stored)).sum(),
        }
    }
}

/// What a table adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) count: u64,
    pub(super) memory_bytes: u64,
    pub(super) stored_bytes: u64,
}

impl Totals {
    /// The totals without a MAC.
    pub(super) fn to_bytes(self) -> TotalsBytes {
        TotalsBytes {
            count: U64::new(self.count),
            memory_bytes: U64::new(self.memory_bytes),
            stored_bytes: U64::new(self.stored_bytes),
            mac: [0; 32],
        }
    }
}

/// The part of the totals that the hash covers: a MAC is made from the hash and cannot be in it.
pub(super) fn hashed_totals(totals: &TotalsBytes) -> &[u8] {
    &totals.as_bytes()[..std::mem::offset_of!(TotalsBytes, mac)]
}

/// The last bytes of a file whose table of `table_bytes` begins at `footer_offset`.
pub(super) fn trailer(footer_offset: u64, table_bytes: u64, hash: blake3::Hash) -> TrailerBytes {
    TrailerBytes {
        magic: TRAILER_MAGIC,
        footer_offset: U64::new(footer_offset),
        footer_bytes: U64::new(table_bytes + TOTALS_BYTES as u64),
        hash: *hash.as_bytes(),
    }
}

/// The end of a file, whose offsets were proved to add up to the file's size.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) totals: Totals,
    pub(super) footer_offset: u64,
    /// Zero when the file is not signed.
    pub(super) mac: blake3::Hash,
    pub(super) hash: blake3::Hash,
}

impl Tail {
    pub(super) fn parse(bytes: &[u8; TAIL_BYTES], file_bytes: u64, is_signed: bool) -> Result<Tail, Fault> {
        let (totals, trailer) = bytes.split_at(TOTALS_BYTES);
        let totals = TotalsBytes::ref_from_bytes(totals).expect("the sizes are equal");
        let trailer = TrailerBytes::ref_from_bytes(trailer).expect("the sizes are equal");
        ensure(trailer.magic == TRAILER_MAGIC, Part::Footer, || {
            "it does not end in a trailer; it was cut short, or more was added".into()
        })?;
        ensure(is_signed || totals.mac == [0; 32], Part::Footer, || "it has a MAC, and no flag says so".into())?;
        let count = totals.count.get();
        let (offset, bytes) = (trailer.footer_offset.get(), trailer.footer_bytes.get());
        let table = count.checked_mul(entry_bytes(is_signed) as u64);
        let footer = table.and_then(|table| table.checked_add(TOTALS_BYTES as u64));
        let end = offset.checked_add(bytes).and_then(|end| end.checked_add(TRAILER_BYTES as u64));
        ensure(footer == Some(bytes) && end == Some(file_bytes), Part::Footer, || {
            format!("{count} chunks, a footer of {bytes} bytes at {offset} and {file_bytes} bytes of file do not agree")
        })?;
        let [mac, hash] = [totals.mac, trailer.hash].map(blake3::Hash::from_bytes);
        let totals = Totals { count, memory_bytes: totals.memory_bytes.get(), stored_bytes: totals.stored_bytes.get() };
        Ok(Tail { totals, footer_offset: offset, mac, hash })
    }
}

/// Refuses a chunk that reaches past the end of the memory.
pub(super) fn check_space(address: u64, length: u32, space_bytes: u64) -> Result<(), Fault> {
    let fits = address.checked_add(u64::from(length)).is_some_and(|end| end <= space_bytes);
    ensure(fits, Part::Chunk(address), || format!("its {length} bytes reach past the end of {space_bytes} bytes"))
}
