//! Files among files: what a failed, dropped or killed writer leaves behind, which chains open, and
//! what retention may remove.

use std::collections::BTreeSet;
use std::path::Path;

use super::fixture::{Spoiled, cut, full, incremental, noise, write_chunks};
use super::*;

fn scratch() -> (tempfile::TempDir, Folder) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = Folder::open_or_create(scratch.path().join("a/b")).unwrap();
    (scratch, folder)
}

fn names(folder: &Folder) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder.dir().path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A snapshot with one chunk; returns its facts.
fn put(folder: &Folder, meta: Meta) -> Meta {
    write_chunks(folder.dir(), &meta, &[(0, &[1; 4096])]);
    meta
}

fn path(folder: &Folder, meta: &Meta) -> std::path::PathBuf {
    folder.dir().path().join(meta.name().as_str())
}

fn remaining(folder: &Folder) -> Vec<u8> {
    let entries = folder.list().unwrap();
    entries.iter().filter_map(|entry| entry.meta.as_ref().map(|m| m.cut.as_bytes()[0])).collect()
}

fn break_file(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.pop();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_folder_is_created_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_scratch, folder) = scratch();
    assert_eq!(folder.dir().path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let meta = put(&folder, full(1, 8));
    assert_eq!(path(&folder, &meta).metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_writer_that_is_dropped_or_refuses_a_chunk_leaves_nothing() {
    let (_scratch, folder) = scratch();
    let mut writer = Writer::create(folder.dir(), full(1, 8)).unwrap();
    assert_eq!(names(&folder).len(), 1);
    let chunk = |number, address| EncodedChunk::encode(cut(number), address, &[1; 8192], 1).unwrap();
    writer.append(&chunk(1, 0)).unwrap();
    let foreign = writer.append(&chunk(2, 8192));
    assert!(matches!(foreign, Err(FileError::Refused { .. })), "{foreign:?}");
    assert!(names(&folder).is_empty());
    assert!(writer.append(&chunk(1, 8192)).is_err() && writer.finish().is_err());

    let mut writer = Writer::create(folder.dir(), full(1, 8)).unwrap();
    assert!(writer.append(&chunk(1, 15 * BLOCK_BYTES)).is_err(), "it reaches past the end of the memory");

    let mut writer = Writer::create(folder.dir(), full(1, 8)).unwrap();
    writer.append(&chunk(1, 4096)).unwrap();
    writer.append(&chunk(1, 0)).unwrap();
    let overlap = writer.finish();
    assert!(matches!(overlap, Err(FileError::Refused { .. })), "{overlap:?}");

    drop(Writer::create(folder.dir(), full(1, 8)).unwrap());
    assert!(names(&folder).is_empty());
}

#[test]
fn a_name_that_is_taken_is_not_replaced() {
    let (_scratch, folder) = scratch();
    let path = path(&folder, &full(1, 8));
    std::fs::write(&path, "precious").unwrap();
    let result = Writer::create(folder.dir(), full(1, 8)).unwrap().finish();
    assert!(matches!(result, Err(FileError::Io { .. })), "{result:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    assert_eq!(names(&folder).len(), 1);
}

#[test]
fn a_sweep_removes_what_dead_writers_left_and_nothing_else() {
    let (_scratch, folder) = scratch();
    let stale = ".mcs-4242-0123456789abcdef.tmp";
    for name in [stale, ".mcs-x-0123456789abcdef.tmp", ".mcs-1-0123.tmp", "other.tmp"] {
        std::fs::write(folder.dir().path().join(name), "").unwrap();
    }
    let writer = Writer::create(folder.dir(), full(1, 8)).unwrap();
    assert_eq!(folder.leftovers().unwrap(), [stale], "it is told and not removed");
    assert_eq!(folder.sweep().unwrap(), [stale]);
    assert_eq!(folder.leftovers().unwrap(), [""; 0]);
    assert_eq!(names(&folder).len(), 4);
    let finished = writer.finish().unwrap();
    assert_eq!(folder.sweep().unwrap(), [""; 0]);
    assert!(finished.path.exists());
}

#[test]
fn a_snapshot_without_chunks_is_an_empty_memory() {
    let (_scratch, folder) = scratch();
    let finished = Writer::create(folder.dir(), full(1, 8)).unwrap().finish().unwrap();
    let chain = Chain::open(&finished.path).unwrap();
    assert_eq!((finished.chunks, chain.non_zero_end().unwrap()), (0, 0));
    assert_eq!(chain.runs().next_run().unwrap(), None);
}

#[test]
fn chains_open_only_when_every_ancestor_is_there_and_fits() {
    let (_scratch, folder) = scratch();
    let first = put(&folder, full(1, 8));
    let second = put(&folder, incremental(2, &first));
    let third = put(&folder, incremental(3, &second));
    assert_eq!(Chain::open(path(&folder, &third)).unwrap().files().len(), 3);
    // A chain is found by cut id: names do not matter, links lead to the folder of their target.
    let renamed = folder.dir().path().join("kept.mcs");
    std::fs::rename(path(&folder, &second), &renamed).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(path(&folder, &third), outside.path().join("link")).unwrap();
    assert_eq!(Chain::open(outside.path().join("link")).unwrap().files().len(), 3);

    let refusal = |meta: &Meta| Chain::open(path(&folder, meta)).unwrap_err().to_string();
    break_file(&renamed);
    assert!(refusal(&third).contains("broken"), "{}", refusal(&third));
    std::fs::remove_file(&renamed).unwrap();
    assert!(refusal(&third).contains(&second.cut.to_string()));
    assert!(matches!(folder.list().unwrap()[1].state, State::Broken(_)));
}

#[test]
fn a_parent_of_another_memory_is_refused() {
    let wrong: [Spoiled; 6] = [
        ("cluster", |m| m.cluster = "other".into()),
        ("bytes", |m| m.k_bytes *= 2),
        ("servers", |m| m.servers.truncate(1)),
        ("segment", |m| m.servers[1].segment = cut(77)),
        ("epochs", |m| m.servers[0].change_from_epoch += 1),
        ("epoch", |m| m.parent = Some(Parent { cut: cut(1), epoch: 0 })),
    ];
    for (word, change) in wrong {
        let (_scratch, folder) = scratch();
        let first = put(&folder, full(1, 8));
        let mut second = incremental(2, &first);
        change(&mut second);
        put(&folder, second.clone());
        let text = Chain::open(path(&folder, &second)).unwrap_err().to_string();
        assert!(text.contains(word), "{word}: {text}");
        let entries = folder.list().unwrap();
        assert!(entries.iter().any(|entry| matches!(&entry.state, State::Broken(why) if text.contains(why))));
    }
}

#[test]
fn names_are_resolved_in_the_folder_and_paths_as_they_are() {
    let (scratch, folder) = scratch();
    let meta = put(&folder, full(1, 8));
    let (name, path) = (meta.name(), path(&folder, &meta));
    assert_eq!(folder.resolve(name.as_str()).unwrap(), path);
    assert_eq!(folder.resolve(path.to_str().unwrap()).unwrap(), path);
    let outside = scratch.path().join("copy");
    std::fs::copy(&path, &outside).unwrap();
    assert_eq!(folder.resolve(outside.to_str().unwrap()).unwrap(), outside);
    for missing in ["absent.mcs", "", "/absent/file.mcs"] {
        assert!(matches!(folder.resolve(missing), Err(FileError::NotFound { .. })), "{missing:?}");
    }
}

#[test]
fn a_name_that_is_a_link_or_garbles_a_listing_is_no_snapshot() {
    let (scratch, folder) = scratch();
    let meta = put(&folder, full(1, 8));
    let outside = scratch.path().join("outside.mcs");
    std::fs::rename(path(&folder, &meta), &outside).unwrap();
    for (name, target) in [("link.mcs", &outside), ("nothing.mcs", &scratch.path().join("nothing"))] {
        std::os::unix::fs::symlink(target, folder.dir().path().join(name)).unwrap();
        let refused = folder.resolve(name).unwrap_err().to_string();
        assert!(refused.contains("it is a link"), "{refused}");
    }
    let entries = folder.list().unwrap();
    assert!(entries.iter().all(|e| matches!(&e.state, State::Broken(why) if why.contains("it is a link"))));
    assert!(folder.prune("demo", 1).unwrap().removed.is_empty(), "what is a link keeps nobody from pruning");
    assert_eq!(entries.len(), 2);
    for name in ["a\nb.mcs", "\u{1b}[2J.mcs", "\u{9b}2J.mcs"] {
        std::fs::copy(&outside, folder.dir().path().join(name)).unwrap();
        assert!(matches!(folder.resolve(name), Err(FileError::NotFound { .. })));
    }
    assert_eq!(folder.list().unwrap(), entries);
}

#[test]
fn a_folder_that_is_swapped_after_it_was_opened_redirects_nothing() {
    let (scratch, folder) = scratch();
    let (aside, trap) = (scratch.path().join("aside"), scratch.path().join("trap"));
    let writer = Writer::create(folder.dir(), full(1, 8)).unwrap();
    std::fs::rename(folder.dir().path(), &aside).unwrap();
    std::fs::create_dir(&trap).unwrap();
    std::os::unix::fs::symlink(&trap, folder.dir().path()).unwrap();
    let name = writer.finish().unwrap().name;
    assert!(aside.join(name.as_str()).exists());
    assert_eq!(folder.prune("demo", 1).unwrap(), Pruned::default());
    put(&folder, full(2, 8));
    assert_eq!(folder.prune("demo", 1).unwrap().removed.len(), 1);
    assert_eq!(std::fs::read_dir(&trap).unwrap().count(), 0);
}

#[test]
fn pruning_keeps_the_newest_and_all_that_they_build_on() {
    let (_scratch, folder) = scratch();
    let first = put(&folder, full(1, 8));
    let second = put(&folder, incremental(2, &first));
    let third = put(&folder, full(3, 8));
    let fourth = put(&folder, incremental(4, &third));
    put(&folder, incremental(5, &fourth));
    let mut foreign = full(6, 8);
    foreign.cluster = "other".into();
    put(&folder, foreign);

    assert!(folder.prune("demo", 5).unwrap().removed.is_empty());
    let removed = |pruned: Pruned| pruned.removed.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    assert!(removed(folder.prune("demo", 4).unwrap()).is_empty(), "2 is kept and needs 1");
    let gone = removed(folder.prune("demo", 1).unwrap());
    assert_eq!(gone, [second.name().to_string(), first.name().to_string()], "children go first");
    assert_eq!(remaining(&folder), [3, 4, 5, 6]);
}

#[test]
fn pruning_never_removes_the_last_complete_chain_or_what_is_broken_or_renamed() {
    let (_scratch, folder) = scratch();
    let first = put(&folder, full(1, 8));
    let second = put(&folder, incremental(2, &first));
    let third = put(&folder, full(3, 8));
    put(&folder, incremental(4, &third));
    break_file(&path(&folder, &third));
    for keep in [0, 1] {
        let pruned = folder.prune("demo", keep).unwrap();
        assert!(pruned.removed.is_empty());
        assert_eq!(pruned.broken.len(), 2, "the broken file, and the one that builds on it");
    }
    put(&folder, full(5, 8));
    std::fs::rename(path(&folder, &second), folder.dir().path().join("release.mcs")).unwrap();
    assert!(folder.prune("demo", 1).unwrap().removed.is_empty(), "the renamed file needs its parent");
    put(&folder, full(6, 8));
    assert_eq!(folder.prune("demo", 1).unwrap().removed.len(), 1);
    assert_eq!(remaining(&folder), [1, 2, 3, 4, 6]);
}

#[test]
fn a_damaged_chunk_stops_an_export_and_leaves_no_image() {
    let (scratch, folder) = scratch();
    let finished = write_chunks(folder.dir(), &full(1, 8), &[(0, &noise(1, 4096))]);
    let mut bytes = std::fs::read(&finished.path).unwrap();
    bytes[700] ^= 1;
    std::fs::write(&finished.path, bytes).unwrap();
    let image = scratch.path().join("image");
    let result = Chain::open(&finished.path).unwrap().export(&image, &mut |_, _| ());
    assert!(matches!(result, Err(FileError::Bad { .. })), "{result:?}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "only the folder itself is left");
}

/// Whoever puts it there, a file of the last day of the calendar is not the newest, and leaves room for the next.
#[test]
fn a_date_that_no_clock_shows_is_no_date() {
    let (_scratch, folder) = scratch();
    let real = put(&folder, full(1, 8));
    let planted = put(&folder, Meta { created_us: 253_402_300_799_999_999, ..full(2, 8) });
    let child = put(&folder, incremental(3, &planted));
    let slow_clock_us = jiff::Timestamp::now().as_microsecond() + 80 * 365 * 24 * 3600 * 1_000_000;
    let ahead = put(&folder, Meta { created_us: slow_clock_us, ..full(4, 8) });
    let entries = folder.list().unwrap();
    let state = |meta: &Meta| &entries.iter().find(|entry| entry.name == meta.name().as_str()).unwrap().state;
    assert!(matches!(state(&planted), State::Broken(why) if why.contains("a thousand years")), "{:?}", state(&planted));
    assert!(matches!(state(&child), State::Broken(_)), "it builds on that file");
    assert_eq!((state(&real), state(&ahead)), (&State::Complete, &State::Complete));
    let pruned = folder.prune("demo", 2).unwrap();
    assert!(pruned.removed.is_empty() && pruned.broken.len() == 2, "{pruned:?}");
}
