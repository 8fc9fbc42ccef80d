//! Golden bytes, and every way to damage a small file that fits in a test: each byte flipped, each
//! length cut off, bytes added, chunks exchanged, counts forged. All of it must be refused.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::fixture::{Spoiled, cut, full, incremental, noise, verify, write_chunks};
use super::*;

/// Every codec once, in an order that is not that of the addresses; incremental, so that all fields
/// of the header are in use.
fn small(dir: &Dir) -> Finished {
    let meta = incremental(2, &full(1, 8));
    let (text, random) = (vec![b'm'; 8192], noise(1, 4096));
    write_chunks(dir, &meta, &[(40960, &text), (0, &random), (16384, &[0; 4096])])
}

#[test]
fn every_flipped_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = small(&Dir::open(folder.path()).unwrap()).path;
    verify(&path).unwrap();
    let original = std::fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    for (at, byte) in original.iter().enumerate() {
        for flip in [0x01, 0x80, 0xff] {
            file.write_all_at(&[byte ^ flip], at as u64).unwrap();
            let result = verify(&path);
            assert!(matches!(result, Err(FileError::Bad { .. })), "byte {at} xor {flip:#x}: {result:?}");
        }
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
    verify(&path).unwrap();
}

#[test]
fn every_truncation_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let finished = small(&Dir::open(folder.path()).unwrap());
    let file = File::options().write(true).open(&finished.path).unwrap();
    for len in (0..finished.file_bytes).rev() {
        file.set_len(len).unwrap();
        let result = verify(&finished.path);
        assert!(matches!(result, Err(FileError::Bad { .. })), "cut to {len} bytes: {result:?}");
    }
}

#[test]
fn every_extension_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = small(&Dir::open(folder.path()).unwrap()).path;
    let original = std::fs::read(&path).unwrap();
    for extra in 1..=original.len() {
        // Zeros, and a copy of the file's own end, which has a trailer at the right place.
        for tail in [vec![0; extra], original[original.len() - extra..].to_vec()] {
            std::fs::write(&path, [original.as_slice(), &tail].concat()).unwrap();
            let result = verify(&path);
            assert!(matches!(result, Err(FileError::Bad { .. })), "{extra} bytes more: {result:?}");
        }
    }
}

#[test]
fn bytes_hidden_between_the_chunks_and_the_footer_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let finished = small(&Dir::open(folder.path()).unwrap());
    let mut bytes = std::fs::read(&finished.path).unwrap();
    let trailer = bytes.len() - 56;
    let footer = u64::from_le_bytes(bytes[trailer + 8..trailer + 16].try_into().unwrap());
    // The footer moves by eight bytes and says so: its hash still holds, only the tiling does not.
    bytes[trailer + 8..trailer + 16].copy_from_slice(&(footer + 8).to_le_bytes());
    bytes.splice(footer as usize..footer as usize, *b"stowaway");
    std::fs::write(&finished.path, bytes).unwrap();
    let error = Snapshot::open(&finished.path).unwrap_err();
    assert!(matches!(error, FileError::Bad { part: Part::Table, .. }), "{error}");
}

#[test]
fn a_chunk_of_another_snapshot_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let (mine, foreign) = (noise(1, 4096), noise(2, 4096));
    let path = write_chunks(&dir, &full(1, 8), &[(0, &mine)]).path;
    let other = std::fs::read(write_chunks(&dir, &full(2, 8), &[(0, &foreign)]).path).unwrap();
    let start = 512 + 2 * 32 + 4;
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&other[start..start + 28 + 4096], start as u64).unwrap();
    Snapshot::open(&path).unwrap();
    let error = verify(&path).unwrap_err();
    assert!(matches!(error, FileError::Bad { part: Part::Chunk(0), .. }), "{error}");
}

#[test]
fn a_forged_count_in_a_huge_hollow_file_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = small(&Dir::open(folder.path()).unwrap()).path;
    let bytes = std::fs::read(&path).unwrap();
    let (count, head) = (1u64 << 34, 512 + 2 * 32 + 4);
    let footer_bytes = count * 32 + 56;
    let end = head as u64 + footer_bytes + 56;
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(end).unwrap();
    file.write_all_at(&bytes[..head], 0).unwrap();
    file.write_all_at(&count.to_le_bytes(), end - 112).unwrap();
    let trailer = [*b"MCOMPEND", (head as u64).to_le_bytes(), footer_bytes.to_le_bytes()].concat();
    file.write_all_at(&trailer, end - 56).unwrap();
    let error = Snapshot::open(&path).unwrap_err();
    assert!(matches!(error, FileError::Bad { part: Part::Chunk(0), .. }), "{error}");
}

#[test]
fn what_is_no_snapshot_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.mcs");
    std::fs::write(&path, [b'x'; 1000]).unwrap();
    let text = Snapshot::open(&path).unwrap_err().to_string();
    assert!(text.contains("notes.mcs") && text.contains("xxxxxxxx"), "{text}");
    let is_bad = |result| matches!(result, Err(FileError::Bad { part: Part::File, .. }));
    assert!(is_bad(Snapshot::open(folder.path()).map(drop)));
    assert!(is_bad(Snapshot::open("/dev/null").map(drop)));
    let missing = Snapshot::open(folder.path().join("missing"));
    assert!(matches!(missing, Err(FileError::Io { .. })));
}

#[test]
fn facts_that_no_snapshot_has_are_refused() {
    let wrong: [Spoiled; 9] = [
        ("cluster", |m| m.cluster = "../x".into()),
        ("cluster", |m| m.cluster = "x".repeat(49)),
        ("k", |m| m.k_bytes = 4095),
        ("2^63", |m| m.k_bytes = 1 << 62),
        ("servers", |m| m.servers.clear()),
        ("servers", |m| m.servers = vec![m.servers[0]; 257]),
        ("created", |m| m.created_us = -1),
        ("zero", |m| m.cut = uuid::Uuid::nil()),
        ("epoch", |m| m.parent = Some(Parent { cut: cut(9), epoch: m.cut_epoch })),
    ];
    full(1, 8).check().unwrap();
    for (word, change) in wrong {
        let mut meta = full(1, 8);
        change(&mut meta);
        let text = meta.check().unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    }
}

/// The stretches of the file that are not zero, with their offsets, as version 1 was defined. They
/// were also computed from the document alone, by a program that shares nothing with this one.
const GOLDEN: &[(usize, &str)] = &[
    (0, "4d434f4d50534e5001000000000200000010000000000000"),
    (24, "00800000000000000200000020000000"),
    (40, "02020202020202020202020202020202"),
    (56, "01010101010101010101010101010101"),
    (72, "020000000000000001000000000000000900000000000000"),
    (96, "b5d375f65e470600"),
    (104, "0464656d6f"),
    (508, "40d7b8af"),
    (512, "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a001000000000000000200000000000000"),
    (544, "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a101000000000000000200000000000000"),
    (576, "c52b2f84"),
    (580, "43484e4b020000000010000000000000002000000000000077f9c38b"),
    (608, "0010000000000000002000000000000044020000000000000200000077f9c38b"),
    (640, "010000000000000000200000000000000000000000000000"),
    (696, "4d434f4d50454e4460020000000000005800000000000000"),
    (720, "b373e30a9d86d78adafddbd69099f2c923d2d90756adcd957cb64d69238c3724"),
];

#[test]
fn the_bytes_of_version_1_do_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let meta = incremental(2, &full(1, 8));
    let finished = write_chunks(&dir, &meta, &[(4096, &[0; 8192])]);
    let bytes = std::fs::read(finished.path).unwrap();
    let mut golden = vec![0; 752];
    for (at, hex) in GOLDEN {
        for (i, digits) in hex.as_bytes().chunks(2).enumerate() {
            golden[at + i] = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        }
    }
    assert_eq!(bytes, golden);
    assert_eq!(finished.name.as_str(), "demo-20260102T030407.678Z-incr-02020202.mcs");
}
