//! Snapshot files, alone and in chains.

use std::fs;
use std::path::Path;

use mcomp_net::auth::Keyring;
use mcomp_snapshot::file::{
    BLOCK_BYTES, Chain, Contents, Dir, EncodedChunk, FileError, FileKeys, MAX_CHAIN_FILES, Mac, Meta, Parent,
    SavedRegion, ServerRecord, Snapshot, Writer,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::Seed;
use crate::bodies::check_chunk;

mod mend;

/// Bytes of a chunk in front of what is stored.
const CHUNK_HEADER_BYTES: u64 = 28;

/// The largest memory that is compared byte by byte.
const MODEL_BYTES_MAX: u64 = 4 << 20;

/// A file, behind a first byte that says what is mended first: checksums, and sums. What opens keeps the promises of
/// its table; what also verifies is the one form of its facts and chunks.
pub fn snapshot_file(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    mend::mend(&mut bytes, *how);
    let folder = scratch();
    let path = folder.path().join("fuzz.mcs");
    fs::write(&path, &bytes).expect("a scratch file");
    let Ok(snapshot) = opened(Snapshot::open(&path)) else { return };
    check_table(&snapshot, bytes.len() as u64);
    match snapshot.verify(&mut |done, total| assert!(done <= total && total == bytes.len() as u64)) {
        Ok(()) => check_written_again(&snapshot, &bytes, folder.path()),
        Err(error) => assert!(matches!(error, FileError::Bad { .. }), "{error}"),
    }
}

/// Only what the file holds can be wrong with it: the machine has nothing to say.
fn opened<T>(result: Result<T, FileError>) -> Result<T, FileError> {
    if let Err(error) = &result {
        assert!(matches!(error, FileError::Bad { .. } | FileError::Chain { .. }), "{error}");
    }
    result
}

fn check_table(snapshot: &Snapshot, file_bytes: u64) {
    let meta = snapshot.meta();
    meta.check().expect("the facts of a file that opened");
    assert_eq!(meta.name().as_str().parse().ok(), Some(meta.name()));
    let (mut end, mut stored) = (0, 0);
    for chunk in snapshot.chunks() {
        assert!(chunk.address >= end, "the chunk at {} begins before {end}", chunk.address);
        check_chunk(chunk.address, chunk.length, chunk.codec, chunk.stored);
        end = chunk.end();
        stored += CHUNK_HEADER_BYTES + u64::from(chunk.stored);
    }
    assert!(end <= meta.space_bytes() && stored < file_bytes);
}

/// Writes the facts and the chunks anew, in the order of the file: the bytes come out as they were. Those of a signed
/// file only when it is signed with our key, which a mutated one is not.
fn check_written_again(snapshot: &Snapshot, bytes: &[u8], folder: &Path) {
    let mut chunks = snapshot.chunks().to_vec();
    chunks.sort_unstable_by_key(|chunk| chunk.offset);
    let dir = Dir::open(folder).expect("a scratch folder");
    let mac = snapshot.mac(Some(&keys()));
    if !matches!(mac, Mac::None | Mac::Fits) {
        return;
    }
    let regions = snapshot.page_table().expect("it was read a moment ago");
    assert_eq!(regions.as_ref().map(|regions| regions.len() as u64), snapshot.allocations());
    let mut writer = begin(&dir, snapshot.meta(), mac.is_signed(), regions.as_deref());
    for chunk in chunks {
        let from = (chunk.offset + CHUNK_HEADER_BYTES) as usize;
        let stored = bytes[from..from + chunk.stored as usize].to_vec();
        let encoded = EncodedChunk::from_parts(chunk.address, chunk.length, chunk.codec, chunk.crc, stored);
        writer.append(&encoded.expect("a shape that was accepted")).expect("a chunk that was accepted");
    }
    let finished = writer.finish().expect("a table that was accepted");
    assert!(fs::read(finished.path).expect("what was written") == bytes, "written again, the bytes differ");
}

/// Two files of one folder: what is mended, the length of the first in two bytes, and both. A chain that opens
/// and verifies gives the memory that its files have when they are laid over each other, the oldest first.
pub fn snapshot_chain(data: &[u8]) {
    let Some((&[how, low, high], files)) = data.split_first_chunk::<3>() else { return };
    let first_len = usize::from(u16::from_le_bytes([low, high])).min(files.len());
    let (mut first, mut second) = (files[..first_len].to_vec(), files[first_len..].to_vec());
    mend::mend(&mut first, how);
    mend::mend(&mut second, how);
    let folder = scratch();
    let paths = [("first.mcs", first), ("second.mcs", second)].map(|(name, bytes)| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a scratch file");
        path
    });
    for path in paths {
        if let Ok(chain) = opened(Chain::open(&path)) {
            check_chain(&chain);
        }
    }
}

fn check_chain(chain: &Chain) {
    assert!((1..=MAX_CHAIN_FILES).contains(&chain.files().len()));
    assert!(chain.files().last().is_some_and(|oldest| oldest.meta().is_full()));
    let is_sound = chain.verify(&mut |done, total| assert!(done <= total)).is_ok();
    let space = chain.meta().space_bytes();
    let mut model = (space <= MODEL_BYTES_MAX && is_sound).then(|| overlaid(chain, space as usize));
    let (mut at, mut non_zero_end, mut runs) = (0, 0, chain.runs());
    loop {
        let run = match runs.next_run() {
            Ok(Some(run)) => run,
            Ok(None) => break,
            Err(error) => return assert!(!is_sound, "{error}"),
        };
        assert!(run.address >= at && run.end() > run.address && run.end() <= space);
        at = run.end();
        if let Contents::Data(bytes) = &run.contents
            && let Some(last) = bytes.iter().rposition(|byte| *byte != 0)
        {
            non_zero_end = run.address + last as u64 + 1;
        }
        if let Some(model) = &mut model {
            take(model, run.address as usize, &run.contents);
        }
    }
    if is_sound {
        assert_eq!(chain.non_zero_end().ok(), Some(non_zero_end));
        assert!(model.is_none_or(|model| model.iter().all(|byte| *byte == 0)), "recorded, and in no run");
    }
}

/// The memory of a chain by the document: each file over those before it.
fn overlaid(chain: &Chain, space: usize) -> Vec<u8> {
    let (mut memory, mut chunk) = (vec![0; space], Vec::new());
    for file in chain.files().iter().rev() {
        for (i, entry) in file.chunks().iter().enumerate() {
            file.read_chunk(i, &mut chunk).expect("it was verified");
            memory[entry.address as usize..][..chunk.len()].copy_from_slice(&chunk);
        }
    }
    memory
}

/// Compares a run with the model and blanks it there, so that what is left at the end was in no run.
fn take(model: &mut [u8], at: usize, contents: &Contents<'_>) {
    match contents {
        Contents::Data(bytes) => {
            let part = &mut model[at..at + bytes.len()];
            assert!(part == *bytes, "the run at {at} differs from the files");
            part.fill(0);
        }
        Contents::Zero(bytes) => {
            assert!(model[at..at + *bytes as usize].iter().all(|byte| *byte == 0), "the run at {at} is not zero");
        }
    }
}

/// In memory, where syncing costs nothing.
fn scratch() -> TempDir {
    let prefix = format!("mcomp-fuzz-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in("/dev/shm").expect("a scratch folder")
}

/// The seeds of [`snapshot_file`].
pub fn snapshot_file_seeds() -> Vec<Seed> {
    let (full, incremental) = facts();
    let how = |how: u8, bytes: &[u8]| [&[how], bytes].concat();
    let small = written(&incremental, &[(4096, &[0; 8192])], false);
    let (text, random) = ([b'm'; 8192], noise(4096));
    let every_chunk: [(u64, &[u8]); 3] = [(40960, &text), (0, &random), (16384, &[0; 4096])];
    let every_codec = written(&full, &every_chunk, false);
    let signed = written(&full, &every_chunk, true);
    vec![
        ("unmended", how(0, &every_codec)),
        ("signed", how(0, &signed)),
        ("signed_mended", how(3, &signed)),
        ("every_codec", how(1, &every_codec)),
        ("side_by_side", how(3, &written(&full, &[0, 1, 2].map(|block| (4096 * block, &[0; 4096][..])), false))),
        ("incremental", how(1, &small)),
        ("incremental_sums", how(3, &small)),
        ("page_table", how(3, &written_with(&full, &every_chunk, false, Some(&regions())))),
        ("page_table_signed", how(3, &written_with(&incremental, &[], true, Some(&regions())))),
        ("no_chunk", how(3, &written(&full, &[], false))),
        ("cut_short", how(3, &every_codec[..every_codec.len() - 60])),
    ]
}

/// The seeds of [`snapshot_chain`].
pub fn snapshot_chain_seeds() -> Vec<Seed> {
    let (full, incremental) = facts();
    let parent = written(&full, &[(0, &[5; 16384]), (40960, &[0; 4096])], false);
    let changed: [(u64, &[u8]); 3] = [(8192, &[6; 4096]), (12288, &[0; 4096]), (49152, &[7; 4096])];
    let child = written(&incremental, &changed, false);
    let pair = |how: u8, first: &[u8], second: &[u8]| {
        [&[how], &(first.len() as u16).to_le_bytes()[..], first, second].concat()
    };
    vec![
        ("unmended", pair(0, &parent, &child)),
        ("mended", pair(1, &child, &parent)),
        ("sums", pair(3, &parent, &child)),
        ("orphan", pair(1, &child, &child)),
        ("signed_child", pair(3, &parent, &written(&incremental, &changed, true))),
    ]
}

/// A full snapshot of two servers of eight blocks, and an incremental one on top of it.
fn facts() -> (Meta, Meta) {
    let id = |byte| Uuid::from_bytes([byte; 16]);
    let server = |byte| ServerRecord { segment: id(byte), change_from_epoch: 0, cut_epoch: 1 };
    let full = Meta {
        cluster: "demo".into(),
        k_bytes: 8 * BLOCK_BYTES,
        servers: vec![server(0xa0), server(0xa1)],
        cut: id(1),
        parent: None,
        cut_epoch: 1,
        config_epoch: 9,
        created_us: 1_767_323_045_678_901,
    };
    let mut incremental = Meta { cut: id(2), cut_epoch: 2, ..full.clone() };
    incremental.parent = Some(Parent { cut: full.cut, epoch: full.cut_epoch });
    incremental.servers.iter_mut().for_each(|server| (server.change_from_epoch, server.cut_epoch) = (1, 2));
    (full, incremental)
}

/// One allocation without anything, and one with everything.
fn regions() -> Vec<SavedRegion> {
    let bare = SavedRegion { addr: 0, size: 5, capacity: 16, created_ms: 7, name: None, notes: Vec::new() };
    let notes = vec![("by".to_owned(), "me".to_owned()), ("empty".to_owned(), String::new())];
    let name = Some("table".to_owned());
    let whole = SavedRegion { addr: 4096, size: 5000, capacity: 8192, created_ms: 8, name, notes };
    vec![bare, whole]
}

/// The one key of these files.
fn keys() -> FileKeys {
    FileKeys::of(&Keyring::parse(&format!("node {}\n", "1".repeat(64))).expect("a secret"))
}

fn begin(dir: &Dir, meta: &Meta, is_signed: bool, regions: Option<&[SavedRegion]>) -> Writer {
    let keys = is_signed.then(keys);
    Writer::begin(dir, meta.clone(), keys.as_ref(), regions).expect("facts that are accepted")
}

/// The bytes of a file of these chunks.
fn written(meta: &Meta, chunks: &[(u64, &[u8])], is_signed: bool) -> Vec<u8> {
    written_with(meta, chunks, is_signed, None)
}

/// The same with a page table.
fn written_with(meta: &Meta, chunks: &[(u64, &[u8])], is_signed: bool, regions: Option<&[SavedRegion]>) -> Vec<u8> {
    let folder = scratch();
    let mut writer = begin(&Dir::open(folder.path()).expect("a scratch folder"), meta, is_signed, regions);
    for (address, memory) in chunks {
        writer.append(&EncodedChunk::encode(meta.cut, *address, memory, 1).expect("a chunk")).expect("written");
    }
    fs::read(writer.finish().expect("a snapshot").path).expect("what was written")
}

/// Bytes that do not compress, the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}
