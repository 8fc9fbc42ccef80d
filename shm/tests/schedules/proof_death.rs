//! Death at any access: of a whole server, of the next one that repairs, and of a thread alone.
//!
//! A block that was left odd becomes what its writer wanted; one that was even stays what it was. Nothing is torn, what
//! was acknowledged is there, and a cut still gets the block as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Plain, Ordering::SeqCst};

use crate::error::CutError;
use crate::explore::{self, choose};
use crate::layout::FIRST_EPOCH;
use crate::machine::{self, start, start_mortal};
use crate::segment::{Segment, full_of, value_of, words_of};
use crate::settle::{end_old_cut, settle_blocks};
use crate::sync::atomic::Ordering::Relaxed;

const CUT: u64 = FIRST_EPOCH + 1;

/// What a block holds, without asking anybody.
fn block_of(segment: &Segment, block: u64) -> [u64; 2] {
    let mut bytes = [0; 16];
    segment.read_into(segment.block(block), &mut bytes).expect("not torn");
    words_of(&bytes)
}

/// What one writer has begun and what it was answered.
#[derive(Default)]
struct Progress {
    begun: Plain,
    answered: Plain,
}

impl Progress {
    fn make(&self, value: u64, write: impl FnOnce()) {
        self.begun.store(value, SeqCst);
        write();
        self.answered.store(value, SeqCst);
    }

    fn check(&self, value: u64) {
        let (begun, answered) = (self.begun.load(SeqCst), self.answered.load(SeqCst));
        assert!((answered..=begun).contains(&value), "{value} is found, {answered} was answered, {begun} begun");
    }
}

/// Writers of whole blocks, of a part, of a fill and of an atomic; the server dies at any access of theirs. So does the
/// next one, while it repairs, and the one after that finds everything in order.
pub(crate) fn a_server_dies() {
    let segment = Segment::without_rivals(2);
    let (whole, part) = (Arc::new(Progress::default()), Arc::new(Progress::default()));
    machine::end_at(machine::now() + choose(70) as u64);
    let (writes, progress) = (Arc::clone(&segment), Arc::clone(&whole));
    let first = start(move || {
        progress.make(1, || writes.write(writes.block(0), &full_of(1)).expect("not torn"));
        let both = u64::from_le_bytes([2; 8]);
        progress.make(both, || writes.fill(writes.block(0), 2).expect("not torn"));
    });
    let (writes, progress) = (Arc::clone(&segment), Arc::clone(&part));
    let second = start(move || {
        progress.make(1, || writes.write(writes.part(1, 8, 8), &1u64.to_le_bytes()).expect("not torn"));
        progress.make(2, || {
            writes.update8(writes.word8(24), |old| Some(old + 1)).expect("not torn");
        });
    });
    first.join();
    second.join();
    machine::survive();
    settle_mortally(&segment);
    let found = settle_blocks(&segment.map, end_old_cut(segment.header()));
    assert_eq!((found.torn, found.newly_torn), (0, 0), "a record was not complete");
    let next = Segment::over(Arc::clone(&segment.map));
    let words = block_of(&next, 0);
    assert_eq!(words[0], words[1], "a mix");
    whole.check(words[0]);
    assert_eq!(block_of(&next, 1)[0], 0);
    part.check(block_of(&next, 1)[1]);
    next.write(next.block(0), &full_of(9)).expect("not torn");
    assert_eq!(block_of(&next, 0), [9, 9]);
}

/// A server dies in a cut, and the next one takes over while the reader of the cut goes on.
pub(crate) fn a_cut_outlives_its_server() {
    let segment = Segment::without_rivals(1);
    segment.write(segment.block(0), &full_of(1)).expect("not torn");
    segment.prepare_shadow();
    let victim = Arc::clone(&segment);
    let accesses = choose(32) as u64;
    let victim = start_mortal(Some(accesses), move || victim.write(victim.block(0), &full_of(2)).expect("not torn"));
    segment.switch(CUT).expect("newer");
    let reader = segment.reader();
    let reads = start(move || {
        let mut bytes = [0; 16];
        if let Ok(Some(change_epoch)) = reader.cut_attempt(0, CUT, Some(&mut bytes)) {
            assert_eq!(change_epoch, FIRST_EPOCH, "an image of {:?}", words_of(&bytes));
            value_of(&bytes);
        }
    });
    victim.join();
    assert_eq!(settle_blocks(&segment.map, end_old_cut(segment.header())).torn, 0);
    Segment::over(Arc::clone(&segment.map)).punch_shadow().expect("the machine has holes");
    reads.join();
}

/// A server that dies at any access while it takes over.
fn settle_mortally(segment: &Arc<Segment>) {
    let map = Arc::clone(&segment.map);
    let settles = move || {
        settle_blocks(&map, end_old_cut(map.header()));
    };
    start_mortal(Some(choose(30) as u64), settles).join();
    machine::survive();
}

/// A thread vanishes at any access of its write while a cut is made. Whoever wants the block next finishes it.
pub(crate) fn a_thread_dies_in_a_cut() {
    let segment = Segment::with_rivals(1, 3);
    machine::have_timeouts();
    segment.write(segment.block(0), &full_of(1)).expect("not torn");
    let victim = Arc::clone(&segment);
    let accesses = choose(32) as u64;
    let victim = start_mortal(Some(accesses), move || victim.write(victim.block(0), &full_of(2)).expect("not torn"));
    segment.prepare_shadow();
    segment.switch(CUT).expect("newer");
    let died = victim.join();
    // Takes the semaphore, and changes nothing. `end_cut` does as much for what nobody asks for.
    if choose(2) == 0 {
        segment.update8(segment.word8(0), |_| None).expect("not torn");
        check_image(&segment, CUT);
    }
    segment.end_cut().expect("the machine has holes");
    let now = block_of(&segment, 0);
    assert!(now == [1, 1] || now == [2, 2], "{now:?}");
    assert!(died || now == [2, 2], "a write was lost");
}

/// The image holds the old value, or the new one if it was written before the cut; or the cut has lost the block.
fn check_image(segment: &Segment, cut: u64) {
    let (reader, mut bytes) = (segment.reader(), [0; 16]);
    let change_epoch = match reader.cut_attempt(0, cut, Some(&mut bytes)) {
        Err(CutError::Torn(_)) => return,
        attempt => attempt.expect("the cut stands").expect("nobody writes"),
    };
    assert_eq!(change_epoch, FIRST_EPOCH);
    let (now, changed_in) = (block_of(segment, 0), segment.map.entry(0).change_epoch.load(Relaxed));
    let expected = if changed_in == cut { 1 } else { now[0] };
    assert_eq!(value_of(&bytes), expected, "the image, and {now:?} of epoch {changed_in}");
}

/// A thread vanishes, another finishes its block, and readers of both kinds look on.
pub(crate) fn a_finisher_is_watched() {
    let segment = Segment::with_rivals(1, 3);
    machine::have_timeouts();
    segment.write(segment.block(0), &full_of(1)).expect("not torn");
    segment.prepare_shadow();
    let victim = Arc::clone(&segment);
    let accesses = choose(32) as u64;
    let victim = start_mortal(Some(accesses), move || victim.write(victim.block(0), &full_of(2)).expect("not torn"));
    segment.switch(CUT).expect("newer");
    let finisher = Arc::clone(&segment);
    let finisher = start(move || {
        finisher.update8(finisher.word8(0), |_| None).expect("not torn");
    });
    let (reader, mut bytes) = (segment.reader(), [0; 16]);
    if reader.read_into(segment.block(0), &mut bytes).is_ok() {
        assert!([1, 2].contains(&value_of(&bytes)));
    }
    if let Ok(Some(_)) = reader.cut_attempt(0, CUT, Some(&mut bytes)) {
        assert!([1, 2].contains(&value_of(&bytes)), "an image of {:?}", words_of(&bytes));
    }
    victim.join();
    finisher.join();
}

/// A thread vanishes with the only slot. Whoever takes the slot next finishes the block for which it was used.
pub(crate) fn a_slot_is_inherited() {
    let segment = Segment::with_rivals(2, 1);
    machine::have_timeouts();
    let victim = Arc::clone(&segment);
    let accesses = choose(32) as u64;
    let victim = start_mortal(Some(accesses), move || victim.write(victim.block(0), &full_of(1)).expect("not torn"));
    segment.write(segment.block(1), &full_of(2)).expect("not torn");
    let died = victim.join();
    segment.write(segment.block(1), &full_of(3)).expect("not torn");
    let words = block_of(&segment, 0);
    assert!(words == [0, 0] && died || words == [1, 1], "{words:?}");
    assert_eq!(block_of(&segment, 1), [3, 3]);
    assert_eq!(segment.map.entry(0).seq.load(Relaxed) % 2, 0);
}

#[test]
fn a_server_that_dies_leaves_whole_blocks() {
    explore::all(1, a_server_dies);
}

#[test]
fn a_reader_of_the_dead_server_s_cut_finds_out() {
    explore::all(2, a_cut_outlives_its_server);
}

#[test]
fn a_thread_that_dies_in_a_cut_is_finished() {
    explore::all(1, a_thread_dies_in_a_cut);
    explore::random(20_000, a_thread_dies_in_a_cut);
}

#[test]
fn no_reader_sees_a_block_before_it_is_finished() {
    explore::all(1, a_finisher_is_watched);
    explore::random(20_000, a_finisher_is_watched);
}

#[test]
fn a_slot_of_the_dead_is_inherited() {
    explore::all(1, a_slot_is_inherited);
    explore::random(20_000, a_slot_is_inherited);
}
