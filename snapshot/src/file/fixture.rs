//! Small snapshots for the tests of this module.

use uuid::Uuid;

use super::*;

/// A way to spoil the facts of a snapshot, and a word that the refusal must contain.
pub(super) type Spoiled = (&'static str, fn(&mut Meta));

/// The cut whose id is all this byte.
pub(super) fn cut(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

/// A full snapshot of cluster "demo" with two servers, of the cut and the epoch `number`.
pub(super) fn full(number: u8, k_blocks: u64) -> Meta {
    let server = |id| ServerRecord { segment: cut(id), change_from_epoch: 0, cut_epoch: u64::from(number) };
    Meta {
        cluster: "demo".into(),
        k_bytes: k_blocks * BLOCK_BYTES,
        servers: vec![server(0xa0), server(0xa1)],
        cut: cut(number),
        parent: None,
        cut_epoch: u64::from(number),
        config_epoch: 9,
        // 2026-01-02T03:04:05.678901Z, and one second more for every number.
        created_us: 1_767_323_045_678_901 + i64::from(number) * 1_000_000,
    }
}

/// An incremental snapshot on top of `parent`.
pub(super) fn incremental(number: u8, parent: &Meta) -> Meta {
    let mut meta = full(number, parent.k_bytes / BLOCK_BYTES);
    meta.parent = Some(Parent { cut: parent.cut, epoch: parent.cut_epoch });
    for (server, parent) in meta.servers.iter_mut().zip(&parent.servers) {
        server.change_from_epoch = parent.cut_epoch;
    }
    meta
}

/// Bytes that do not compress, the same for the same seed.
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Writes the snapshot of a memory of which the blocks for which `wanted` holds must be recorded.
pub(super) fn write(dir: &Dir, meta: &Meta, memory: &[u8], wanted: impl Fn(u64) -> bool) -> Finished {
    let mut writer = Writer::create(dir, meta.clone()).unwrap();
    let blocks = 0..memory.len() as u64 / BLOCK_BYTES;
    let mut ranges: Vec<BlockRange> = cut_runs(blocks.filter(|block| wanted(*block))).collect();
    // Chunks may come in any order.
    ranges.reverse();
    for range in ranges {
        let (at, len) = (range.first * BLOCK_BYTES, range.blocks * BLOCK_BYTES);
        let bytes = &memory[at as usize..(at + len) as usize];
        writer.append(&EncodedChunk::encode(meta.cut, at, bytes, 1).unwrap()).unwrap();
    }
    writer.finish().unwrap()
}

/// Writes the snapshot whose chunks are given as address and memory.
pub(super) fn write_chunks(dir: &Dir, meta: &Meta, chunks: &[(u64, &[u8])]) -> Finished {
    let mut writer = Writer::create(dir, meta.clone()).unwrap();
    for (address, memory) in chunks {
        writer.append(&EncodedChunk::encode(meta.cut, *address, memory, 1).unwrap()).unwrap();
    }
    writer.finish().unwrap()
}

/// Opens and proves one file.
pub(super) fn verify(path: &std::path::Path) -> Result<(), FileError> {
    Snapshot::open(path)?.verify(&mut |_, _| ())
}
