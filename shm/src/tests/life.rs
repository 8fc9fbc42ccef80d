//! A segment's life: created, taken over, refused, purged.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, Permissions};
use std::mem::offset_of;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use super::{SLOTS_BYTES, Scratch};
use crate::layout::{Directory, Entry, Header};
use crate::{
    Arrangement, CutError, Opened, PurgeOutcome, ReadError, Reader, Segment, ShmError, Spec, State, Torn, list, purge,
};

/// The file of a scratch segment, to do to it what a bug or a kill would.
fn file(scratch: &Scratch) -> File {
    OpenOptions::new().read(true).write(true).open(crate::object::path(&scratch.cluster, 0)).unwrap()
}

/// Makes a block's `seq` odd, without a receive slot that could tell of what.
fn interrupt(scratch: &Scratch, block: u64) {
    let at = 4096 + block * 64 + offset_of!(Entry, seq) as u64;
    file(scratch).write_all_at(&7u64.to_le_bytes(), at).unwrap();
    file(scratch).write_all_at(&1234u32.to_le_bytes(), 4096 + block * 64).unwrap();
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_new_segment_is_zero_private_and_wholly_described() {
    let scratch = Scratch::new();
    let (segment, opened) = scratch.reopen(3);
    assert_eq!(opened, Opened::Created);
    segment.for_each_block(segment.span(0, 3 * 4096).unwrap(), |bytes| assert!(bytes.iter().all(|&b| b == 0))).unwrap();
    let stat = fs::metadata(segment.path()).unwrap();
    assert_eq!(stat.mode() & 0o7777, 0o600);
    assert_eq!(stat.len(), 4096 + 4096 + 3 * 4096 + SLOTS_BYTES + 3 * 4096);
    assert_eq!(stat.blocks() * 512, 4096 + 4096 + 3 * 4096 + SLOTS_BYTES, "the shadow area takes memory before a cut");

    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    assert_eq!((reader.k_bytes(), reader.n(), reader.id(), reader.blocks()), (3 * 4096, 1, 0, 3));
    assert_eq!((reader.state(), reader.pid()), (State::Serving, std::process::id()));
    assert_eq!((reader.segment_id(), reader.incarnation()), (segment.segment_id(), segment.incarnation()));
    assert_eq!((reader.config_epoch(), reader.cut_word(), reader.held()), (1, 1 << 1, 0));
}

#[test]
fn a_take_over_keeps_the_bytes_and_counts_on() {
    let scratch = Scratch::new();
    let segment = scratch.segment(2);
    let span = segment.span(4000, 200).unwrap();
    segment.write(span, &[0xab; 200]).unwrap();
    segment.raise_config_epoch(5);
    segment.set_restoring(true);
    let (id, incarnation) = (segment.segment_id(), segment.incarnation());
    drop(segment);

    let (segment, opened) = scratch.reopen(2);
    assert_eq!(opened, Opened::TakenOver { clean: false, repaired: 0, torn: 0 });
    assert_eq!(segment.compare(span, &[0xab; 200]).unwrap(), None);
    assert_eq!((segment.segment_id(), segment.config_epoch(), segment.is_restoring()), (id, 5, true));
    assert!(segment.incarnation() > incarnation);
    segment.mark_clean();
    drop(segment);
    assert_eq!(Reader::open(&scratch.cluster, 0).unwrap().state(), State::Clean);

    let (_segment, opened) = scratch.reopen(2);
    assert_eq!(opened, Opened::TakenOver { clean: true, repaired: 0, torn: 0 });
}

#[test]
fn a_take_over_ends_the_cut_and_gives_the_shadow_back() {
    let scratch = Scratch::new();
    let segment = scratch.segment(2);
    segment.prepare_shadow().unwrap();
    segment.switch(9).unwrap();
    segment.fill(segment.span(0, 4096).unwrap(), 1).unwrap();
    drop(segment);

    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    let mut bytes = [9; 4096];
    reader.cut_block(0, 9, &mut bytes, soon()).unwrap();
    assert_eq!(bytes, [0; 4096]);

    let (segment, _) = scratch.reopen(2);
    assert_eq!((segment.cut_word(), segment.held()), (10 << 1, 0));
    assert_eq!(fs::metadata(segment.path()).unwrap().blocks() * 512, 4096 + 4096 + 2 * 4096 + SLOTS_BYTES);
    let over = reader.cut_block(0, 9, &mut bytes, soon());
    assert!(matches!(over, Err(CutError::Superseded { asked: 9, current: 10, active: false })), "{over:?}");
}

#[test]
fn a_block_that_cannot_be_finished_is_refused_until_it_is_wholly_written() {
    let scratch = Scratch::new();
    let segment = scratch.segment(3);
    segment.fill(segment.span(0, 3 * 4096).unwrap(), 1).unwrap();
    drop(segment);
    interrupt(&scratch, 1);

    let (segment, opened) = scratch.reopen(3);
    assert_eq!(opened, Opened::TakenOver { clean: false, repaired: 0, torn: 1 });
    let torn = Err(Torn { block: 1 });
    let all = segment.span(0, 3 * 4096).unwrap();
    let part = segment.span(4090, 10).unwrap();
    assert_eq!(segment.read_into(part, &mut [0; 10]), torn);
    let mut bytes = vec![1, 2, 3];
    assert_eq!(segment.read_append(all, &mut bytes), torn);
    assert_eq!(bytes, [1, 2, 3]);
    assert_eq!(segment.write(part, &[9; 10]), torn);
    assert_eq!(segment.fill(part, 9), torn);
    assert_eq!(segment.copy(part, segment.span(0, 10).unwrap()), torn);
    assert_eq!(segment.update8(segment.word8(4096).unwrap(), |_| panic!("asked of a torn block")).map(|_| ()), torn);
    // The refusals above had no effect, not even on the whole block before.
    assert_eq!(segment.compare(segment.span(0, 4096).unwrap(), &[1; 4096]), Ok(None));

    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    let found = reader.read_into(reader.span(4096, 8).unwrap(), &mut [0; 8]);
    assert_eq!(found, Err(ReadError::Torn(Torn { block: 1 })));

    // It stays torn over another take-over, without being counted as new.
    drop(segment);
    let (segment, opened) = scratch.reopen(3);
    assert_eq!(opened, Opened::TakenOver { clean: false, repaired: 0, torn: 0 });
    assert_eq!(segment.torn_blocks(), 1);

    segment.write(segment.span(4000, 2 * 4096).unwrap(), &[5; 2 * 4096]).unwrap();
    assert_eq!(segment.torn_blocks(), 0);
    assert_eq!(segment.compare(segment.span(4096, 4096).unwrap(), &[5; 4096]), Ok(None));
}

#[test]
fn a_shadow_area_that_is_given_up_leaves_nothing() {
    let scratch = Scratch::new();
    let segment = scratch.segment(9 << 10);
    let allocated_bytes = || fs::metadata(segment.path()).unwrap().blocks() * 512;
    let before = allocated_bytes();
    let asked = Cell::new(0);
    let prepared = segment.prepare_shadow_while(|| {
        asked.set(asked.get() + 1);
        asked.get() < 3
    });
    assert_eq!((prepared.unwrap(), asked.get(), allocated_bytes()), (false, 3, before));
    assert!(matches!(segment.switch(9), Err(ShmError::ShadowNotPrepared { asked: 9 })));
    segment.prepare_shadow().unwrap();
    assert_eq!(allocated_bytes(), before + 9 * 4096 * 1024);
    assert!(segment.prepare_shadow_while(|| false).unwrap(), "it is there");
    segment.switch(9).unwrap();
}

/// A block healed after the instant of a cut was still torn at that instant.
#[test]
fn a_cut_does_not_invent_what_a_torn_block_held() {
    let scratch = Scratch::new();
    drop(scratch.segment(2));
    interrupt(&scratch, 0);
    let segment = scratch.segment(2);
    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    segment.prepare_shadow().unwrap();
    segment.switch(2).unwrap();
    let mut bytes = [0; 4096];
    let refused = |found| assert!(matches!(found, Err(CutError::Torn(Torn { block: 0 }))), "{found:?}");
    refused(reader.cut_block(0, 2, &mut bytes, soon()).map(|_| ()));
    segment.fill(segment.span(0, 4096).unwrap(), 3).unwrap();
    refused(reader.cut_block(0, 2, &mut bytes, soon()).map(|_| ()));
    segment.end_cut().unwrap();
    segment.prepare_shadow().unwrap();
    segment.switch(3).unwrap();
    assert_eq!(reader.cut_block(0, 3, &mut bytes, soon()).unwrap().change_epoch, 2);
    assert_eq!(bytes, [3; 4096]);
}

#[test]
fn a_block_whose_writer_is_dead_is_reported_at_the_deadline() {
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    segment.prepare_shadow().unwrap();
    segment.switch(2).unwrap();
    drop(segment);
    interrupt(&scratch, 0);
    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    let found = reader.cut_change(0, 2, Instant::now());
    assert!(matches!(found, Err(CutError::Contended { block: 0 })), "{found:?}");
    let found = reader.read_into(reader.span(0, 8).unwrap(), &mut [0; 8]);
    assert_eq!(found, Err(ReadError::Contended { block: 0 }));
}

#[test]
fn one_server_at_a_time() {
    let scratch = Scratch::new();
    let _segment = scratch.segment(1);
    let second = Segment::open(&scratch.spec(1)).map(|_| ());
    assert!(matches!(second, Err(ShmError::Busy { pid, .. }) if pid == std::process::id()), "{second:?}");
    // What the second could not take over in any case is told first.
    let other = Segment::open(&scratch.spec(2)).map(|_| ());
    assert!(matches!(other, Err(ShmError::Mismatch { what: "k", .. })), "{other:?}");
    // The attempts have left no trace.
    assert_eq!(Reader::open(&scratch.cluster, 0).unwrap().state(), State::Serving);
}

#[test]
fn another_configuration_is_refused_with_both_values() {
    let scratch = Scratch::new();
    drop(scratch.segment(2));
    let refusal = |spec: Spec| Segment::open(&spec).map(|_| ()).unwrap_err().to_string();
    let message = refusal(scratch.spec(4));
    assert!(message.contains("has k 8192, and 16384 is expected"), "{message}");
    assert!(message.contains("`mcomp purge`"), "{message}");
}

#[test]
fn a_cluster_may_grow_around_a_segment() {
    let scratch = Scratch::new();
    drop(scratch.segment(2));
    let (segment, opened) = Segment::open(&Spec { n: 3, ..scratch.spec(2) }).unwrap();
    assert!(matches!(opened, Opened::TakenOver { .. }), "{opened:?}");
    assert_eq!((segment.servers(), segment.arrangement()), (1, None), "that is for its server to say");
    segment.set_servers(3);
    segment.set_arrangement(Arrangement { n: 2, step: 1 });
    drop(segment);
    assert_eq!(Reader::open(&scratch.cluster, 0).unwrap().n(), 3);
    let (segment, _) = scratch.reopen(2);
    assert_eq!((segment.servers(), segment.arrangement()), (3, Some(Arrangement { n: 2, step: 1 })));
}

/// The state is one that would have the segment removed, were the layout known.
#[test]
fn another_layout_is_refused_with_the_way_out_and_kept() {
    let scratch = Scratch::new();
    drop(scratch.segment(2));
    let store = |at: usize, word: u32| file(&scratch).write_all_at(&word.to_le_bytes(), at as u64).unwrap();
    for (found, state) in [(1, State::CLEAN), (3, State::SERVING), (3, State::RETIRED)] {
        store(offset_of!(Header, layout), found);
        store(offset_of!(Header, state), state);
        for error in [
            Segment::open(&scratch.spec(2)).map(|_| ()).unwrap_err(),
            Reader::open(&scratch.cluster, 0).map(|_| ()).unwrap_err(),
        ] {
            let message = error.to_string();
            assert!(message.contains(&format!("layout version {found}, and this mcomp knows version 2")), "{message}");
            let steps = ["snapshot create", "mcomp purge", "mcomp restore"].map(|step| message.find(step));
            assert!(steps.is_sorted() && steps[0].is_some(), "the way out is not told in order: {message}");
        }
    }
    store(offset_of!(Header, layout), 2);
    store(offset_of!(Header, state), State::CLEAN);
    assert!(matches!(scratch.reopen(2).1, Opened::TakenOver { clean: true, .. }));
}

/// Every field that is compared, damaged one by one; server and reader both refuse, and change nothing.
#[test]
fn a_damaged_header_is_refused() {
    let scratch = Scratch::new();
    drop(scratch.segment(2));
    let directory = offset_of!(Header, directory);
    let fields = [
        (offset_of!(Header, magic), "magic"),
        (offset_of!(Header, cluster) + 1, "cluster name"),
        (offset_of!(Header, cluster), "cluster name"),
        (offset_of!(Header, id), "server id"),
        (offset_of!(Header, block_bytes), "block size"),
        (offset_of!(Header, boot_id) + 3, "boot id"),
        (offset_of!(Header, k_bytes), "sizes"),
        (directory + offset_of!(Directory, table_bytes), "table size"),
        (directory + offset_of!(Directory, data_offset), "data offset"),
        (directory + offset_of!(Directory, shadow_offset), "shadow offset"),
        (directory + offset_of!(Directory, file_bytes), "end of the file"),
    ];
    for (at, what) in fields {
        let mut byte = [0];
        file(&scratch).read_exact_at(&mut byte, at as u64).unwrap();
        file(&scratch).write_all_at(&[byte[0] ^ 0x15], at as u64).unwrap();
        for error in [
            Segment::open(&scratch.spec(2)).map(|_| ()).unwrap_err(),
            Reader::open(&scratch.cluster, 0).map(|_| ()).unwrap_err(),
        ] {
            assert!(matches!(error, ShmError::Mismatch { what: found, .. } if found == what), "{what}: {error}");
        }
        file(&scratch).write_all_at(&byte, at as u64).unwrap();
    }
    file(&scratch).set_len(4 * 4096).unwrap();
    let short = Reader::open(&scratch.cluster, 0).map(|_| ()).unwrap_err();
    assert!(matches!(short, ShmError::Mismatch { what: "file size", .. }), "{short}");
}

#[test]
fn a_segment_open_to_others_is_refused_and_can_be_purged() {
    let scratch = Scratch::new();
    drop(scratch.segment(1));
    fs::set_permissions(crate::object::path(&scratch.cluster, 0), Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Segment::open(&scratch.spec(1)), Err(ShmError::Exposed { mode: 0o640, .. })));
    assert!(matches!(Reader::open(&scratch.cluster, 0), Err(ShmError::Exposed { .. })));
    assert!(matches!(purge(&scratch.cluster).unwrap()[0].outcome, PurgeOutcome::Removed));
    assert!(matches!(Reader::open(&scratch.cluster, 0), Err(ShmError::Missing { .. })));
}

/// Only root can give a file away, so as an ordinary user this test has nothing to look at.
#[test]
fn another_user_s_segment_is_left_alone() {
    let scratch = Scratch::new();
    drop(scratch.segment(1));
    let path = crate::object::path(&scratch.cluster, 0);
    if std::os::unix::fs::chown(&path, Some(54321), None).is_err() {
        return;
    }
    assert!(matches!(Segment::open(&scratch.spec(1)), Err(ShmError::Foreign { owner: 54321, .. })));
    assert!(matches!(Reader::open(&scratch.cluster, 0), Err(ShmError::Foreign { owner: 54321, .. })));
    assert!(matches!(purge(&scratch.cluster).unwrap()[0].outcome, PurgeOutcome::Foreign { owner: 54321 }));
    assert!(path.exists());
}

#[test]
fn a_link_is_not_followed() {
    let scratch = Scratch::new();
    std::os::unix::fs::symlink("/dev/null", crate::object::path(&scratch.cluster, 0)).unwrap();
    assert!(matches!(Segment::open(&scratch.spec(1)), Err(ShmError::NotAFile { .. })));
}

#[test]
fn a_creation_that_was_cut_short_is_made_anew() {
    let scratch = Scratch::new();
    drop(scratch.segment(1));
    file(&scratch).write_all_at(&[0; 8], 0).unwrap();
    assert!(matches!(Reader::open(&scratch.cluster, 0), Err(ShmError::Unfinished { .. })));
    let (segment, opened) = scratch.reopen(2);
    assert_eq!((opened, segment.blocks()), (Opened::Created, 2));
    drop(segment);

    fs::remove_file(crate::object::path(&scratch.cluster, 0)).unwrap();
    File::create(crate::object::path(&scratch.cluster, 0))
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
        .unwrap();
    assert_eq!(scratch.reopen(1).1, Opened::Created);
}

/// Another server is still allocating it, which takes a while at a large k. It has not said which process it is, so
/// nobody may be told to stop it: `kill 0` would stop whoever types it.
#[test]
fn a_segment_that_is_being_made_has_no_process_to_stop() {
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    file(&scratch).write_all_at(&[0; 8], 0).unwrap();
    let error = Segment::open(&scratch.spec(1)).map(|_| ()).unwrap_err();
    assert!(matches!(error, ShmError::Unfinished { .. }), "{error}");
    drop(segment);
}

#[test]
fn a_purge_removes_what_is_free_and_tells_who_maps_it() {
    let scratch = Scratch::new();
    let other = Spec { id: 1, n: 2, ..scratch.spec(1) };
    let served = Segment::open(&Spec { n: 2, ..scratch.spec(1) }).unwrap().0;
    drop(Segment::open(&other).unwrap());
    let reader = Reader::open(&scratch.cluster, 1).unwrap();

    let listed = list(&scratch.cluster).unwrap();
    assert_eq!(
        listed.iter().map(|l| (l.id, l.served_by)).collect::<Vec<_>>(),
        [(0, Some(std::process::id())), (1, None)]
    );
    let purged = purge(&scratch.cluster).unwrap();
    assert!(matches!(purged[0].outcome, PurgeOutcome::Busy { pid } if pid == std::process::id()), "{purged:?}");
    assert!(matches!(purged[1].outcome, PurgeOutcome::Removed), "{purged:?}");
    assert_eq!(reader.state(), State::Retired);
    assert_eq!(reader.read_into(reader.span(0, 1).unwrap(), &mut [0]), Err(ReadError::Retired));
    assert!(matches!(reader.cut_change(0, 1, soon()), Err(CutError::Retired)));

    served.retire_and_unlink().unwrap();
    assert!(list(&scratch.cluster).unwrap().is_empty());
}

#[test]
fn more_memory_than_there_is_is_refused_with_the_numbers() {
    let scratch = Scratch::new();
    let spec = Spec { k_bytes: 1 << 45, ..scratch.spec(1) };
    let error = Segment::open(&spec).map(|_| ()).unwrap_err();
    assert!(matches!(error, ShmError::Full { needed_bytes, .. } if needed_bytes > 1 << 45), "{error}");
    assert!(list(&scratch.cluster).unwrap().is_empty());
}

#[test]
fn a_cut_needs_a_newer_epoch_and_a_shadow() {
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    assert!(matches!(segment.switch(2), Err(ShmError::ShadowNotPrepared { asked: 2 })));
    segment.prepare_shadow().unwrap();
    assert!(matches!(segment.switch(1), Err(ShmError::EpochNotNewer { asked: 1, current: 1 })));
    for far in [u64::MAX, u64::MAX >> 1, 1 << 40] {
        assert!(matches!(segment.switch(far), Err(ShmError::EpochNotNewer { .. })), "{far} leaves too few epochs");
        assert!(!segment.raise_config_epoch(far), "{far} leaves too few epochs");
    }
    segment.switch(4).unwrap();
    assert_eq!((segment.held(), segment.epoch(), segment.is_cutting()), (4, 4, true));
    assert!(!segment.release(3));
    assert!(segment.release(4) && !segment.release(4));
    segment.end_cut().unwrap();
    assert_eq!((segment.held(), segment.epoch(), segment.is_cutting()), (0, 4, false));
    assert!(!segment.release(0));
}

/// A panic of the caller's closure must leave neither the semaphore held nor the block odd.
#[test]
fn a_panic_in_a_closure_leaves_the_block_usable() {
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    let word = segment.word8(16).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = segment.update8(word, |_| panic!("on purpose"));
    }));
    assert!(panicked.is_err());
    assert_eq!(segment.update8(word, |old| Some(old + 1)), Ok(0));
    let mut bytes = [0; 8];
    segment.read_into(word.span(), &mut bytes).unwrap();
    assert_eq!(bytes, 1u64.to_le_bytes());
}
