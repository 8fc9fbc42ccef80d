//! The page table in the file: golden bytes, every byte damaged, and tables that none can be.

use std::fs;

use super::fixture::{full, incremental};
use super::*;

fn region(addr: u64, size: u64) -> SavedRegion {
    SavedRegion { addr, size, capacity: size, created_ms: 7, name: None, notes: Vec::new() }
}

fn table() -> Vec<SavedRegion> {
    let notes = vec![("k".to_owned(), "v1".to_owned()), ("e".to_owned(), String::new())];
    vec![region(16, 16), SavedRegion { name: Some("ab".into()), notes, size: 5000, capacity: 8192, ..region(4096, 1) }]
}

fn write(dir: &Dir, meta: Meta, regions: Option<&[SavedRegion]>) -> Result<Finished, FileError> {
    let mut writer = Writer::begin(dir, meta.clone(), None, regions)?;
    writer.append(&EncodedChunk::encode(meta.cut, 4096, &[0; 8192], 0)?)?;
    writer.finish()
}

#[test]
fn what_goes_in_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let many: Vec<SavedRegion> = (0..40_000)
        .map(|i| {
            let notes = vec![("note".to_owned(), "x".repeat(i % 200))];
            SavedRegion { name: Some(format!("n{i}")), notes, ..region(i as u64 * 16, 16) }
        })
        .collect();
    for (number, regions) in [(1, Vec::new()), (2, table()), (3, many)] {
        let path = write(&dir, full(number, 256), Some(&regions)).unwrap().path;
        let snapshot = Snapshot::open(path).unwrap();
        assert_eq!(snapshot.allocations(), Some(regions.len() as u64));
        assert_eq!(snapshot.allocations_end(), regions.last().map_or(0, |last| last.addr + last.capacity));
        assert!(snapshot.page_table().unwrap() == Some(regions));
    }
    let without = Snapshot::open(write(&dir, full(4, 8), None).unwrap().path).unwrap();
    assert_eq!((without.allocations(), without.page_table().unwrap()), (None, None));
}

#[test]
fn the_bytes_of_version_3_do_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let meta = incremental(2, &full(1, 8));
    let new = fs::read(write(&dir, meta.clone(), Some(&table())).unwrap().path).unwrap();
    fs::remove_file(dir.path_of(meta.name().as_str())).unwrap();
    let old = fs::read(write(&dir, meta, None).unwrap().path).unwrap();
    let number = |number: u64| number.to_le_bytes();
    let mut section = [number(2), number(16), number(16), number(16), number(7), number(0)].concat();
    section.extend([number(4096), number(5000), number(8192), number(7)].concat());
    section.extend(b"\x02\0\x02\0\x0e\0\0\0ab\x01\0\x02\0kv1\x01\0\0\0e");
    section.extend(crc32fast::hash(&section).to_le_bytes());
    assert_eq!((new[8], new[20], &new[169..177]), (3, 2, &number(section.len() as u64)[..]));
    assert_eq!(new[580..580 + section.len()], section);
    assert_eq!(new.len(), old.len() + section.len());
    assert_eq!(new[580 + section.len()..][..28], old[580..608], "the chunk stands behind");
    let table = old.len() - 112 - 32;
    let hash = blake3::hash(&[&new[..580 + section.len()], &new[table + section.len()..][..32 + 24]].concat());
    assert_eq!(new[new.len() - 32..], *hash.as_bytes());
}

#[test]
fn every_damaged_byte_and_length_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&Dir::open(folder.path()).unwrap(), full(1, 8), Some(&table())).unwrap().path;
    let original = fs::read(&path).unwrap();
    let is_refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let result = Snapshot::open(&path).and_then(|snapshot| snapshot.verify(&mut |_, _| ()));
        assert!(matches!(result, Err(FileError::Bad { .. })), "{what}: {result:?}");
    };
    for at in 0..original.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = original.clone();
            bytes[at] ^= flip;
            is_refused(&bytes, &format!("byte {at} xor {flip:#x}"));
            // With the CRCs of the header and of the page table right, what is behind them has to find it.
            let crc = crc32fast::hash(&bytes[..508]).to_le_bytes();
            bytes[508..512].copy_from_slice(&crc);
            let crc = crc32fast::hash(&bytes[580..original.len() - 112 - 32 - 28 - 4]).to_le_bytes();
            let crc_at = original.len() - 112 - 32 - 28 - 4;
            bytes[crc_at..crc_at + 4].copy_from_slice(&crc);
            if bytes != original {
                is_refused(&bytes, &format!("byte {at} xor {flip:#x}, mended"));
            }
        }
        is_refused(&original[..at], &format!("cut to {at} bytes"));
    }
}

#[test]
fn a_table_that_changes_while_it_is_open_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&Dir::open(folder.path()).unwrap(), full(1, 8), Some(&table())).unwrap().path;
    let snapshot = Snapshot::open(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[580 + 8 + 24] ^= 1;
    let crc_at = bytes.len() - 112 - 32 - 28 - 4;
    let crc = crc32fast::hash(&bytes[580..crc_at]).to_le_bytes();
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(snapshot.page_table(), Err(FileError::Bad { part: Part::Pages, .. })));
}

#[test]
fn what_is_no_page_table_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let named = |addr, name: &str| SavedRegion { name: Some(name.into()), ..region(addr, 16) };
    let noted = |notes: Vec<(&str, String)>| {
        let notes = notes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        vec![SavedRegion { notes, ..region(0, 16) }]
    };
    let wrong = [
        (vec![region(0, 0)], "size"),
        (vec![SavedRegion { capacity: 15, ..region(0, 16) }], "size"),
        (vec![region(16, 16), region(0, 16)], "predecessor"),
        (vec![region(0, 17), region(16, 16)], "predecessor"),
        (vec![region(2 * 8 * 4096 - 16, 17)], "end of the memory"),
        (vec![region(u64::MAX, 1)], "end of the memory"),
        (vec![named(0, "0x")], "name"),
        (vec![named(0, "")], "name"),
        (vec![named(0, "a"), named(16, "a")], "name"),
        (noted(vec![("", "v".into())]), "note"),
        (noted(vec![("k", "v".repeat(256))]), "note"),
        (noted(vec![("k", "v".into()); 17]), "notes"),
    ];
    for (regions, word) in wrong {
        let text = write(&dir, full(1, 8), Some(&regions)).unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
