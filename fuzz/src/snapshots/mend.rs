//! Mends a spoiled snapshot file, so that what was spoiled in it meets the checks behind the checksums.
//!
//! Written from `docs/snapshot.md` alone: it shares nothing with the code that it deceives. What does not lie
//! inside the file is left as it is.

const HEADER: usize = 512;
const SERVER: usize = 32;
const ENTRY: usize = 32;
/// A hash, behind each entry of a signed file.
const DIGEST: usize = 32;
const TOTALS: usize = 56;
const TRAILER: usize = 56;

/// Mends checksums when bit 0 of `how` is set, and before them, with bit 1, what the file says about its own end:
/// where the footer begins, and what the table adds up to.
pub(super) fn mend(file: &mut [u8], how: u8) {
    if how & 1 == 0 || file.len() < HEADER {
        return;
    }
    let crc = crc32fast::hash(&file[..HEADER - 4]);
    put(file, HEADER - 4, &crc.to_le_bytes());
    let head_end = mend_servers(file).and_then(|end| mend_pages(file, end));
    let (Some(head_end), Some(tail)) = (head_end, file.len().checked_sub(TOTALS + TRAILER)) else { return };
    let count = u64_at(file, tail) as usize;
    let entry_bytes = if u32_at(file, 20) & 1 == 1 { ENTRY + DIGEST } else { ENTRY };
    let Some(table) = count.checked_mul(entry_bytes).and_then(|bytes| tail.checked_sub(bytes)) else { return };
    if table < head_end {
        return;
    }
    for entry in (table..tail).step_by(entry_bytes) {
        mend_chunk(file, entry, entry_bytes, head_end..table);
    }
    if how & 2 != 0 {
        mend_sums(file, table, tail, entry_bytes);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file[..head_end]).update(&file[table..tail + 24]);
    put(file, tail + TOTALS + 24, hasher.finalize().as_bytes());
}

/// The CRC of the server section; where it ends, if it lies in the file.
fn mend_servers(file: &mut [u8]) -> Option<usize> {
    let records = (u32_at(file, 32) as usize).checked_mul(SERVER)?;
    let end = HEADER.checked_add(records)?;
    let crc = crc32fast::hash(file.get(HEADER..end)?);
    file.get_mut(end..end + 4)?.copy_from_slice(&crc.to_le_bytes());
    Some(end + 4)
}

/// The CRC of the page table behind `from`, if there is one; where it ends, if it lies in the file.
fn mend_pages(file: &mut [u8], from: usize) -> Option<usize> {
    if u32_at(file, 20) & 2 == 0 {
        return Some(from);
    }
    let end = usize::try_from(u64_at(file, 169)).ok().and_then(|bytes| from.checked_add(bytes))?;
    let (at, crc_at) = (file.get(from..end)?, end.checked_sub(4)?);
    let crc = crc32fast::hash(at.get(..crc_at.checked_sub(from)?)?);
    put(file, crc_at, &crc.to_le_bytes());
    Some(end)
}

/// The CRC of a chunk that lies in `chunks`, in its table entry and in front of it, and there the other fields of
/// the entry too; behind the entry its hash, if the file is signed. The MAC takes a key, and stays as it is.
fn mend_chunk(file: &mut [u8], entry: usize, entry_bytes: usize, chunks: std::ops::Range<usize>) {
    let (stored, offset) = (u32_at(file, entry + 12) as usize, u64_at(file, entry + 16) as usize);
    let Some(from) = offset.checked_add(28).filter(|_| offset >= chunks.start) else { return };
    let Some(end) = from.checked_add(stored).filter(|end| *end <= chunks.end) else { return };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file[40..56]);
    hasher.update(&file[entry..entry + 12]);
    hasher.update(&file[entry + 24..entry + 25]);
    hasher.update(&file[from..end]);
    let crc = hasher.finalize().to_le_bytes();
    put(file, entry + 28, &crc);
    put(file, offset, b"CHNK");
    file.copy_within(entry + 24..entry + 28, offset + 4);
    file.copy_within(entry..entry + 16, offset + 8);
    put(file, offset + 24, &crc);
    if entry_bytes > ENTRY {
        let digest = blake3::hash(&file[offset..end]);
        put(file, entry + ENTRY, digest.as_bytes());
    }
}

fn mend_sums(file: &mut [u8], table: usize, tail: usize, entry_bytes: usize) {
    let entries = || (table..tail).step_by(entry_bytes);
    let length: u64 = entries().map(|at| u64::from(u32_at(file, at + 8))).sum();
    let stored: u64 = entries().map(|at| u64::from(u32_at(file, at + 12))).sum();
    put(file, tail + 8, &length.to_le_bytes());
    put(file, tail + 16, &stored.to_le_bytes());
    put(file, tail + TOTALS + 8, &(table as u64).to_le_bytes());
    put(file, tail + TOTALS + 16, &((tail + TOTALS - table) as u64).to_le_bytes());
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u32_at(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| file[at + i]))
}

fn u64_at(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| file[at + i]))
}
