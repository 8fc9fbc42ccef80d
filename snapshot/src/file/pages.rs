//! The page table of the cut: which memory was allocated, under what name, with which notes.
//!
//! Records stand in address order, each as long as its name and notes are, behind their count and before a CRC-32. They
//! are read in pieces, and each is checked before the next one is taken, so that a length or a count alone makes nobody
//! allocate much. The hash in the trailer covers the section as it covers the head.
//!
//! Leaves out: owners, leases and generations. Those end with a restore.

use std::collections::HashSet;

use mcomp_wire::limits;
use mcomp_wire::meta::{Owner, Region, is_name};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::FileError;
use super::bytes::{REGION_BYTES, RegionBytes};
use super::error::{Fault, Part, ensure};
use super::reader::Source;

/// Bytes that are read or written at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// The count at the beginning.
const COUNT_BYTES: usize = 8;
/// The CRC at the end.
const CRC_BYTES: usize = 4;
/// The lengths of the two parts of a note, before them.
const NOTE_HEAD_BYTES: usize = 4;
/// What can stand behind the fixed part of a record.
const REST_BYTES_MAX: usize = limits::MAX_NAME + limits::MAX_NOTES * (NOTE_HEAD_BYTES + limits::MAX_NOTE);

/// One allocation at the time of the cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRegion {
    /// Its first address.
    pub addr: u64,
    /// Bytes asked for.
    pub size: u64,
    /// Bytes taken, at least `size`.
    pub capacity: u64,
    /// When it was made, in milliseconds of its cluster's time.
    pub created_ms: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Notes for people.
    pub notes: Vec<(String, String)>,
}

/// What is known of the page table of an open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pages {
    /// Where the section begins.
    pub(super) at: u64,
    /// Bytes of the section.
    pub(super) bytes: u64,
    /// How many allocations it has.
    pub(super) count: u64,
    /// The byte after the last one of an allocation.
    pub(super) end: u64,
    /// The hash of the section.
    pub(super) hash: blake3::Hash,
}

impl From<Region> for SavedRegion {
    fn from(region: Region) -> SavedRegion {
        let Region { addr, size, capacity, created_ms, name, notes, .. } = region;
        SavedRegion { addr, size, capacity, created_ms, name, notes }
    }
}

impl From<SavedRegion> for Region {
    /// An allocation that belongs to nobody in particular.
    fn from(saved: SavedRegion) -> Region {
        let SavedRegion { addr, size, capacity, created_ms, name, notes } = saved;
        Region { addr, size, capacity, generation: 0, name, owner: Owner::Cluster, lease: None, notes, created_ms }
    }
}

/// Whether these can be the page table of a memory of `space_bytes`: how many bytes the section has.
pub(super) fn check(regions: &[SavedRegion], space_bytes: u64) -> Result<u64, Fault> {
    let mut rules = Rules::new(regions.len() as u64, space_bytes)?;
    let mut bytes = (COUNT_BYTES + CRC_BYTES) as u64;
    for region in regions {
        rules.take(region)?;
        bytes += (REGION_BYTES + region.rest_bytes()) as u64;
    }
    Ok(bytes)
}

/// Writes the section of regions that were checked.
pub(super) fn write(
    regions: &[SavedRegion],
    mut put: impl FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let mut crc = crc32fast::Hasher::new();
    let mut piece = (regions.len() as u64).to_le_bytes().to_vec();
    for region in regions {
        region.emit(&mut piece);
        if piece.len() as u64 >= PIECE_BYTES {
            crc.update(&piece);
            put(&piece)?;
            piece.clear();
        }
    }
    crc.update(&piece);
    piece.extend_from_slice(&crc.finalize().to_le_bytes());
    put(&piece)
}

/// Reads the section of `bytes` at `at` and proves it: `hash` gets its bytes, and `take` its allocations.
pub(super) fn read(
    source: &Source,
    at: u64,
    bytes: u64,
    space_bytes: u64,
    hash: impl FnMut(&[u8]),
    take: &mut dyn FnMut(SavedRegion),
) -> Result<Pages, FileError> {
    let hasher = blake3::Hasher::new();
    let crc = crc32fast::Hasher::new();
    let mut section = Section { source, at, left: bytes, piece: Vec::new(), taken: 0, hash, hasher, crc };
    let at_fault = |fault: Fault| fault.read_from(&source.path);
    let count = u64::from_le_bytes(section.next_array()?);
    let mut rules = Rules::new(count, space_bytes).map_err(at_fault)?;
    for _ in 0..count {
        let region = section.next_region()?;
        rules.take(&region).map_err(at_fault)?;
        take(region);
    }
    let expected = section.crc.clone().finalize().to_le_bytes();
    let found: [u8; CRC_BYTES] = section.next_array()?;
    let is_last = section.left == 0 && section.taken == section.piece.len();
    ensure(found == expected, Part::Pages, || format!("its CRC is {found:02x?}, its bytes have {expected:02x?}"))
        .and_then(|()| ensure(is_last, Part::Pages, || "bytes follow its CRC".into()))
        .map_err(at_fault)?;
    Ok(Pages { at, bytes, count, end: rules.end, hash: section.hasher.finalize() })
}

/// What must hold of the allocations of one table, looked after while they come.
struct Rules {
    space_bytes: u64,
    end: u64,
    names: HashSet<String>,
}

impl Rules {
    fn new(count: u64, space_bytes: u64) -> Result<Rules, Fault> {
        ensure(count <= limits::MAX_REGIONS as u64, Part::Pages, || {
            format!("{count} allocations, and {} is the most", limits::MAX_REGIONS)
        })?;
        Ok(Rules { space_bytes, end: 0, names: HashSet::new() })
    }

    fn take(&mut self, region: &SavedRegion) -> Result<(), Fault> {
        let SavedRegion { addr, size, capacity, name, .. } = region;
        let is = |holds: bool, what: &str| {
            ensure(holds, Part::Pages, || format!("the allocation of {size} bytes at {addr} {what}"))
        };
        is((1..=*capacity).contains(size), "has a size that makes no sense")?;
        is(*addr >= self.end, "begins before its predecessor ends")?;
        let end = addr.checked_add(*capacity).filter(|end| *end <= self.space_bytes);
        is(end.is_some(), "reaches past the end of the memory")?;
        self.end = end.expect("it was checked");
        is(name.as_ref().is_none_or(|name| is_name(name)), "has a name that is none")?;
        is(name.as_ref().is_none_or(|name| self.names.insert(name.clone())), "has the name of another one")?;
        is(region.notes.len() <= limits::MAX_NOTES, "has too many notes")?;
        let is_note = |(key, value): &(String, String)| !key.is_empty() && key.len() + value.len() <= limits::MAX_NOTE;
        is(region.notes.iter().all(is_note), "has a note that is none")
    }
}

impl SavedRegion {
    fn rest_bytes(&self) -> usize {
        let note = |(key, value): &(String, String)| NOTE_HEAD_BYTES + key.len() + value.len();
        self.name.as_ref().map_or(0, String::len) + self.notes.iter().map(note).sum::<usize>()
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let name = self.name.as_deref().unwrap_or_default();
        let head = RegionBytes {
            addr: U64::new(self.addr),
            size: U64::new(self.size),
            capacity: U64::new(self.capacity),
            created_ms: U64::new(self.created_ms),
            name_bytes: U16::new(name.len() as u16),
            notes: U16::new(self.notes.len() as u16),
            rest_bytes: U32::new(self.rest_bytes() as u32),
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(name.as_bytes());
        for (key, value) in &self.notes {
            out.extend_from_slice(&(key.len() as u16).to_le_bytes());
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    }

    /// What comes of a record; None when its lengths do not add up, or what they speak of is no text.
    fn parse(head: &RegionBytes, mut rest: &[u8]) -> Option<SavedRegion> {
        let mut text = |len: usize| {
            let (text, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some(text)
        };
        let name = string(text(head.name_bytes.get().into())?)?;
        let mut notes = Vec::new();
        for _ in 0..head.notes.get() {
            let &[k0, k1, v0, v1] = text(NOTE_HEAD_BYTES)? else { return None };
            let key = string(text(u16::from_le_bytes([k0, k1]).into())?)?;
            notes.push((key, string(text(u16::from_le_bytes([v0, v1]).into())?)?));
        }
        rest.is_empty().then(|| SavedRegion {
            addr: head.addr.get(),
            size: head.size.get(),
            capacity: head.capacity.get(),
            created_ms: head.created_ms.get(),
            name: (!name.is_empty()).then_some(name),
            notes,
        })
    }
}

fn string(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The section while it is read.
struct Section<'a, H> {
    source: &'a Source,
    /// Where the next piece stands, and how many bytes are left from there.
    at: u64,
    left: u64,
    piece: Vec<u8>,
    /// How much of the piece is done with.
    taken: usize,
    hash: H,
    hasher: blake3::Hasher,
    /// Of what is done with.
    crc: crc32fast::Hasher,
}

impl<H: FnMut(&[u8])> Section<'_, H> {
    /// The next `len` bytes, which are few.
    fn next(&mut self, len: usize) -> Result<&[u8], FileError> {
        if self.piece.len() - self.taken < len {
            self.refill()?;
        }
        let from = self.taken;
        let short = || Fault::new(Part::Pages, "it ends in the middle of an allocation").read_from(&self.source.path);
        let bytes = self.piece.get(from..from + len).ok_or_else(short)?;
        self.taken += len;
        self.crc.update(bytes);
        Ok(bytes)
    }

    fn next_array<const LEN: usize>(&mut self) -> Result<[u8; LEN], FileError> {
        Ok(self.next(LEN)?.try_into().expect("as many as were asked for"))
    }

    fn next_region(&mut self) -> Result<SavedRegion, FileError> {
        let head: [u8; REGION_BYTES] = self.next_array()?;
        let head = RegionBytes::ref_from_bytes(&head).expect("the sizes are equal");
        let path = &self.source.path;
        let odd = || {
            let why = format!("the lengths in the record of the allocation at {} do not add up", head.addr);
            Fault::new(Part::Pages, why).read_from(path)
        };
        let rest_bytes = head.rest_bytes.get() as usize;
        if rest_bytes > REST_BYTES_MAX {
            return Err(odd());
        }
        SavedRegion::parse(head, self.next(rest_bytes)?).ok_or_else(odd)
    }

    fn refill(&mut self) -> Result<(), FileError> {
        self.piece.drain(..std::mem::take(&mut self.taken));
        let (before, more) = (self.piece.len(), self.left.min(PIECE_BYTES));
        self.piece.resize(before + more as usize, 0);
        let fresh = &mut self.piece[before..];
        self.source.read(Part::Pages, self.at, fresh)?;
        (self.hash)(fresh);
        self.hasher.update(fresh);
        self.at += more;
        self.left -= more;
        Ok(())
    }
}
