//! Segment files: what a reader, and a server that takes one over, make of any bytes in their place.
//!
//! A file would be mostly zeros, so the input is a short form of it: how it is mended in a byte, the fields of the
//! header, four entries of the block table, then records of receive slots. The reserved rest of the header, the pages of
//! the slots and the memory are zeros.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use mcomp_shm::{BLOCK_BYTES, Reader, Segment, ShmError, Spec};

use crate::Seed;

/// Bytes of the header that have a meaning.
const FIELDS: usize = 336;
const HEADER: u64 = 4096;
const ENTRY: usize = 64;
/// Entries that the short form has.
const ENTRIES: usize = 4;
/// The largest segment that a server takes over here; readers map larger ones.
const SERVED_BYTES_MAX: u64 = 64 << 10;
/// Blocks that are looked at from either end of a segment.
const BLOCKS_SEEN: u64 = 3;

/// Bits of the first byte.
mod how {
    /// The boot, the cluster and the id are those that are asked for.
    pub(super) const IDENTITY: u8 = 1;
    /// The region directory and the size of the file are those that k and the slots imply.
    pub(super) const REGIONS: u8 = 2;
    /// A server takes the segment over after it was read.
    pub(super) const SERVE: u8 = 4;
}

/// A segment file: it is refused, or every block of it can be read or is refused by itself. A server that takes
/// it over can write every block, and reads what it wrote.
pub fn segment(data: &[u8]) {
    let Some((&how, image)) = data.split_first() else { return };
    let scratch = Scratch::new();
    let mut fields = [0; FIELDS];
    let known = image.len().min(FIELDS);
    fields[..known].copy_from_slice(&image[..known]);
    if how & how::IDENTITY != 0 {
        mend_identity(&mut fields, &scratch.cluster);
    }
    let file_bytes = if how & how::REGIONS != 0 { mend_regions(&mut fields) } else { None };
    scratch.put(&fields, &image[known..], file_bytes.unwrap_or(image.len() as u64 * 64));
    let opened = Reader::open(&scratch.cluster, 0);
    if let Ok(reader) = &opened {
        read(reader);
    }
    let (k_bytes, n) = (u64_at(&fields, 24), u32_at(&fields, 36));
    if how & how::SERVE != 0 && k_bytes <= SERVED_BYTES_MAX {
        serve(Spec { cluster: scratch.cluster.clone(), id: 0, n, k_bytes, registers: false });
    }
}

/// Looks at everything that a client and a snapshot process look at.
fn read(reader: &Reader) {
    assert!(reader.k_bytes() > 0 && reader.k_bytes().is_multiple_of(BLOCK_BYTES as u64));
    assert_eq!(reader.blocks(), reader.k_bytes() / BLOCK_BYTES as u64);
    assert!(reader.span(reader.k_bytes(), 1).is_none() && reader.span(0, u64::MAX).is_none());
    let _ = (reader.segment_id(), reader.incarnation(), reader.pid(), reader.state(), reader.held());
    let mut block = [0; BLOCK_BYTES];
    let epoch = reader.cut_word() >> 1;
    for number in ends(reader.blocks()) {
        let span = reader.span(number * BLOCK_BYTES as u64, BLOCK_BYTES as u64).expect("a block of the segment");
        let _ = reader.read_into(span, &mut block);
        let _ = reader.read_as_client(span, &mut block, reader.config_epoch());
        let _ = reader.cut_change(number, epoch, Instant::now());
        let _ = reader.cut_block(number, epoch, &mut block, Instant::now());
    }
}

fn serve(spec: Spec) {
    let segment = match Segment::open(&spec) {
        Ok((segment, _)) => segment,
        Err(error) => return assert!(!matches!(error, ShmError::Io { .. }), "{error}"),
    };
    let mut block = [0; BLOCK_BYTES];
    for number in ends(segment.blocks()) {
        let span = segment.span(number * BLOCK_BYTES as u64, BLOCK_BYTES as u64).expect("a block of the segment");
        let _ = segment.read_into(span, &mut block);
        segment.write(span, &[number as u8; BLOCK_BYTES]).expect("a whole block heals what was torn");
        segment.read_into(span, &mut block).expect("a block that was written whole");
        assert_eq!(block, [number as u8; BLOCK_BYTES]);
    }
    let _ = (segment.is_restoring(), segment.torn_blocks(), segment.bytes_used(), segment.created_unix_ms());
    cut(&segment);
    let next = segment.config_epoch().wrapping_add(1);
    assert_eq!(segment.raise_config_epoch(next), next != 0);
    segment.mark_clean();
    let reader = Reader::open(&spec.cluster, spec.id).expect("what a server left in good order");
    read(&reader);
}

/// A cut of the segment, which an epoch that is used up refuses.
fn cut(segment: &Segment) {
    assert!(!segment.is_cutting() && segment.held() == 0, "a cut does not outlive its server");
    segment.prepare_shadow().expect("memory for a few blocks");
    if let Some(epoch) = segment.epoch().checked_add(1)
        && segment.switch(epoch).is_ok()
    {
        assert!(segment.is_cutting() && segment.epoch() == epoch);
        let span = segment.span(0, 8).expect("the first word");
        segment.write(span, b"new word").expect("the block is whole");
        assert!(segment.release(epoch));
    }
    segment.end_cut().expect("the end of a cut");
}

/// The first and the last blocks of so many.
fn ends(blocks: u64) -> impl Iterator<Item = u64> {
    (0..blocks.min(BLOCKS_SEEN)).chain(blocks.saturating_sub(BLOCKS_SEEN).max(BLOCKS_SEEN)..blocks)
}

fn mend_identity(fields: &mut [u8; FIELDS], cluster: &str) {
    put(fields, 0, b"MCOMPSEG");
    put(fields, 32, &[0; 4]);
    put(fields, 40, &[0; 64]);
    put(fields, 40, &[cluster.len() as u8]);
    put(fields, 41, cluster.as_bytes());
    put(fields, 104, &*BOOT_ID);
}

/// The directory of `docs/segment.md`; the size of the file, if the sums make one.
fn mend_regions(fields: &mut [u8; FIELDS]) -> Option<u64> {
    let k = u64_at(fields, 24);
    let slots = u64::from(u32_at(fields, 304));
    let pages = slots * u64::from(u32_at(fields, 308));
    let table = (k / 4096).checked_mul(64)?.checked_next_multiple_of(4096)?;
    let slots = (slots * 64).checked_next_multiple_of(4096)?.checked_add(pages)?;
    let data_at = HEADER.checked_add(table)?;
    let slots_at = data_at.checked_add(k)?;
    let shadow_at = slots_at.checked_add(slots)?;
    let end = shadow_at.checked_add(k)?;
    let (before, after) = ([HEADER, table, data_at, k, slots_at, slots], [shadow_at, k, end]);
    (256..).step_by(8).zip(before).for_each(|(at, value)| put(fields, at, &value.to_le_bytes()));
    (312..).step_by(8).zip(after).for_each(|(at, value)| put(fields, at, &value.to_le_bytes()));
    Some(end)
}

static BOOT_ID: LazyLock<[u8; 16]> = LazyLock::new(|| {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the kernel's boot id");
    uuid::Uuid::try_parse(text.trim()).expect("a UUID").into_bytes()
});

/// A cluster of our own, whose segment goes with it.
struct Scratch {
    cluster: String,
    path: PathBuf,
}

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let cluster = format!("fuzz-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Scratch { path: PathBuf::from(format!("/dev/shm/mcomp.{cluster}.0")), cluster }
    }

    /// Makes the file; one that cannot be so long stays shorter.
    fn put(&self, fields: &[u8], entries: &[u8], file_bytes: u64) {
        let mut options = OpenOptions::new();
        let file: File = options.write(true).create_new(true).mode(0o600).open(&self.path).expect("a scratch segment");
        let (table, slots) = entries.split_at(entries.len().min(ENTRIES * ENTRY));
        file.write_all_at(fields, 0).expect("a header");
        file.write_all_at(table, HEADER).expect("a table");
        let _ = file.set_len(file_bytes);
        let slots_at = u64_at(fields, 288);
        // Whatever the slots lie on: the memory need not be zeros either.
        if slots_at.checked_add(slots.len() as u64).is_some_and(|end| end <= file_bytes) {
            let _ = file.write_all_at(slots, slots_at);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The seeds of [`segment`]: a segment as its server leaves it, without what differs from run to run.
pub fn segment_seeds() -> Vec<Seed> {
    let mut clean = image();
    let all = how::IDENTITY | how::REGIONS | how::SERVE;
    let seed = |how: u8, image: &[u8]| [&[how], image].concat();
    let mut seeds = vec![
        ("clean", seed(all, &clean)),
        ("read_only", seed(how::IDENTITY | how::REGIONS, &clean)),
        ("unmended", seed(0, &clean)),
        ("header_only", seed(all, &clean[..FIELDS])),
    ];
    // In the middle of a cut, with one block half written and one kept in its shadow page.
    put(&mut clean, 12, &1u32.to_le_bytes());
    put(&mut clean, 192, &11u64.to_le_bytes());
    put(&mut clean, 200, &5u64.to_le_bytes());
    put(&mut clean, FIELDS + 8, &7u64.to_le_bytes());
    seeds.push(("killed_in_a_write", seed(all, &clean)));
    put(&mut clean, FIELDS + ENTRY + 16, &5u64.to_le_bytes());
    seeds.push(("killed_in_a_cut", seed(all, &clean)));
    put(&mut clean, 16, &1u32.to_le_bytes());
    put(&mut clean, 192, &[0xff; 8]);
    put(&mut clean, 136, &[0xff; 16]);
    seeds.push(("epochs_used_up", seed(all, &clean)));
    put(&mut clean, 24, &(1u64 << 40).to_le_bytes());
    seeds.push(("large", seed(how::IDENTITY | how::REGIONS, &clean)));
    seeds
}

/// The short form of a segment of four blocks of which two were written, made by a server.
fn image() -> Vec<u8> {
    let scratch = Scratch::new();
    let spec =
        Spec { cluster: scratch.cluster.clone(), id: 0, n: 3, k_bytes: 4 * BLOCK_BYTES as u64, registers: false };
    let (segment, _) = Segment::open(&spec).expect("a scratch segment");
    let span = segment.span(4000, 200).expect("a span over two blocks");
    segment.write(span, &[7; 200]).expect("nothing is torn");
    segment.mark_clean();
    let file = fs::read(&scratch.path).expect("the segment's file");
    let mut image = [&file[..FIELDS], &file[HEADER as usize..][..ENTRIES * ENTRY]].concat();
    // Both blocks name one slot, whichever it was, and its record tells of the second.
    let slots = &file[u64_at(&file, 288) as usize..];
    let used = u32_at(&image, FIELDS + 4) - 1;
    image.extend_from_slice(&slots[used as usize * 64..][..64]);
    (0..2).for_each(|block| put(&mut image, FIELDS + block * ENTRY + 4, &1u32.to_le_bytes()));
    // The name, the boot, the id of the segment, its times and its process.
    for (at, len) in [(40, 64), (104, 16), (120, 16), (136, 8), (152, 4), (160, 8)] {
        image[at..at + len].fill(0);
    }
    image
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
