//! Random memories and random edits, against a plain `Vec<u8>`: whatever the chain of snapshots, what
//! comes out is what went in. Proptest prints the seed of a failure and repeats it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::fixture::{full, incremental, noise, write};
use super::*;

const K_BLOCKS: u64 = 150;
const SPACE_BLOCKS: u64 = 2 * K_BLOCKS;

/// What an edit does to a run of blocks.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Zero,
    Fill(u8),
    Noise(u64),
    /// One byte of the first block, so that most of a block is zero.
    Poke(u16),
}

fn edits() -> impl Strategy<Value = Vec<(u64, u64, Edit)>> {
    let edit = prop_oneof![
        Just(Edit::Zero),
        any::<u8>().prop_map(Edit::Fill),
        any::<u64>().prop_map(Edit::Noise),
        (0..4096u16).prop_map(Edit::Poke),
    ];
    proptest::collection::vec((0..SPACE_BLOCKS, 1..40u64, edit), 0..12)
}

/// Applies an edit and notes the blocks that it touched.
fn apply(memory: &mut [u8], changed: &mut BTreeSet<u64>, (first, blocks, edit): (u64, u64, Edit)) {
    let end = (first + blocks).min(SPACE_BLOCKS);
    let bytes = &mut memory[(first * BLOCK_BYTES) as usize..(end * BLOCK_BYTES) as usize];
    match edit {
        Edit::Zero => bytes.fill(0),
        Edit::Fill(byte) => bytes.fill(byte),
        Edit::Noise(seed) => bytes.copy_from_slice(&noise(seed, bytes.len())),
        Edit::Poke(at) => {
            bytes[usize::from(at)] ^= 0x5a;
            changed.insert(first);
            return;
        }
    }
    changed.extend(first..end);
}

fn check(path: &std::path::Path, memory: &[u8], out: &std::path::Path) {
    let chain = Chain::open(path).unwrap();
    let mut last = (0, 0);
    chain.verify(&mut |done, total| last = (done, total)).unwrap();
    assert_eq!(last, (chain.file_bytes(), chain.file_bytes()));

    let mut rebuilt = vec![0; memory.len()];
    let mut at = 0;
    let mut runs = chain.runs();
    while let Some(run) = runs.next_run().unwrap() {
        assert!(run.address >= at, "runs must ascend");
        at = run.end();
        if let Contents::Data(bytes) = run.contents {
            rebuilt[run.address as usize..at as usize].copy_from_slice(bytes);
        }
    }
    assert!(rebuilt == memory, "the runs are not the memory");

    chain.export(out, &mut |_, _| ()).unwrap();
    assert!(std::fs::read(out).unwrap() == memory, "the image is not the memory");
    let mut stream = Vec::new();
    chain.export_stream(&mut stream, out, &mut |_, _| ()).unwrap();
    assert!(stream == memory, "the stream is not the memory");

    let end = memory.iter().rposition(|b| *b != 0).map_or(0, |last| last as u64 + 1);
    assert_eq!(chain.non_zero_end().unwrap(), end);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_chain_gives_back_the_memory_of_its_newest_cut(versions in proptest::collection::vec(edits(), 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let mut memory = vec![0; (SPACE_BLOCKS * BLOCK_BYTES) as usize];
        let mut parent: Option<Meta> = None;
        for (number, edits) in (1..).zip(versions) {
            let mut changed = BTreeSet::new();
            for edit in edits {
                apply(&mut memory, &mut changed, edit);
            }
            let meta = match &parent {
                None => full(number, K_BLOCKS),
                Some(parent) => incremental(number, parent),
            };
            let is_full = meta.is_full();
            let block = |b: u64| &memory[(b * BLOCK_BYTES) as usize..((b + 1) * BLOCK_BYTES) as usize];
            let wanted = |b| if is_full { block(b).iter().any(|byte| *byte != 0) } else { changed.contains(&b) };
            let finished = write(&dir, &meta, &memory, wanted);
            check(&finished.path, &memory, &folder.path().join("image"));
            parent = Some(meta);
        }
        let entries = Folder::open(folder.path()).unwrap().list().unwrap();
        prop_assert!(entries.iter().all(|entry| entry.state == State::Complete));
    }
}

#[test]
fn an_image_is_sparse_where_the_memory_is_zero() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let mut memory = vec![0; (SPACE_BLOCKS * BLOCK_BYTES) as usize];
    memory[5] = 1;
    let meta = full(1, K_BLOCKS);
    let finished = write(&Dir::open(folder.path()).unwrap(), &meta, &memory, |block| block < 200);
    let image = folder.path().join("image");
    Chain::open(&finished.path).unwrap().export(&image, &mut |_, _| ()).unwrap();
    let facts = image.metadata().unwrap();
    assert_eq!(facts.len(), meta.space_bytes());
    assert!(facts.blocks() * 512 <= 64 << 10, "{} bytes are allocated", facts.blocks() * 512);
    assert_eq!(facts.mode() & 0o777, 0o600);
}

#[test]
fn an_export_writes_to_what_is_no_file_and_replaces_what_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let memory = vec![7; (SPACE_BLOCKS * BLOCK_BYTES) as usize];
    let finished = write(&Dir::open(folder.path()).unwrap(), &full(1, K_BLOCKS), &memory, |_| true);
    let chain = Chain::open(&finished.path).unwrap();
    chain.export("/dev/null", &mut |_, _| ()).unwrap();
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    let full_disk = chain.export("/dev/full", &mut |_, _| ());
    assert!(matches!(full_disk, Err(FileError::Io { .. })), "{full_disk:?}");
    let (image, link) = (folder.path().join("image"), folder.path().join("link"));
    std::fs::write(&image, "old").unwrap();
    std::os::unix::fs::symlink("image", &link).unwrap();
    chain.export(&link, &mut |_, _| ()).unwrap();
    assert!(link.is_symlink() && std::fs::read(&image).unwrap() == memory);
}
