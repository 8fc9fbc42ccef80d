//! The cut: an image holds every operation that was over before the switch, none that began after it, and never a later
//! one without an earlier one. The shadow area is given back when no writer can touch it. A reader that comes too late,
//! or was frozen, returns nothing wrong.
//!
//! "Before" is real time here, the clock of the machine, and not what threads have told each other: an operation is over
//! when its answer could be on its way to anybody.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::explore;
use crate::layout::FIRST_EPOCH;
use crate::machine::{self, start};
use crate::memory;
use crate::reader::Reader;
use crate::segment::{Segment, full_of, value_of, words_of};

pub(crate) const CUT: u64 = FIRST_EPOCH + 1;

/// One write of a model, and when it was.
struct Write {
    block: u64,
    value: u64,
    began: u64,
    ended: Option<u64>,
}

/// All writes of an execution. The values that a block gets grow with time.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Write>>>);

impl Log {
    fn write(&self, segment: &Segment, block: u64, value: u64) {
        let number = {
            let mut writes = self.0.lock().expect("not poisoned");
            writes.push(Write { block, value, began: machine::now(), ended: None });
            writes.len() - 1
        };
        segment.write(segment.block(block), &full_of(value)).expect("not torn");
        self.0.lock().expect("not poisoned")[number].ended = Some(machine::now());
    }

    /// Asserts that an image is the memory at one instant between `began` and `ended`.
    fn check(&self, image: &[u64], began: u64, ended: u64) {
        let writes = self.0.lock().expect("not poisoned");
        let is_in = |write: &Write| image[write.block as usize] >= write.value;
        for write in writes.iter() {
            let Write { block, value, .. } = write;
            let was_before = write.ended.is_some_and(|over| over <= began);
            assert!(!was_before || is_in(write), "{value} of block {block} was over before the switch, and is out");
            assert!(write.began < ended || !is_in(write), "{value} of block {block} began after the switch, and is in");
            for earlier in writes.iter().filter(|earlier| earlier.ended.is_some_and(|over| over <= write.began)) {
                assert!(
                    !is_in(write) || is_in(earlier),
                    "{value} of block {block} is in, and {} is out",
                    earlier.value
                );
            }
        }
    }
}

/// A block of the cut, as often as it takes.
fn cut_block(reader: &Reader, block: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(3600);
    let mut bytes = [0; 16];
    let meta = reader.cut_block(block, CUT, &mut bytes, deadline).expect("the cut stands");
    let value = value_of(&bytes);
    assert_eq!(meta.change_epoch, if value == 0 { 0 } else { FIRST_EPOCH }, "change epoch of {value}");
    value
}

/// Cuts and reads the blocks while others write, and checks what it has read.
fn cut_and_check(segment: &Segment, log: &Log, blocks: &[u64]) {
    let reader = segment.reader();
    segment.prepare_shadow();
    let began = machine::now();
    segment.switch(CUT).expect("newer");
    let ended = machine::now();
    let mut image = [0; 2];
    blocks.iter().for_each(|block| image[*block as usize] = cut_block(&reader, *block));
    log.check(&image[..segment.blocks() as usize], began, ended);
}

/// A writer changes one block and then another; the cut falls anywhere.
pub(crate) fn a_chain_is_cut() {
    let (segment, log) = (Segment::without_rivals(2), Log::default());
    let (writes, noted) = (Arc::clone(&segment), log.clone());
    let writer = start(move || {
        noted.write(&writes, 0, 1);
        noted.write(&writes, 1, 2);
    });
    // The block that is written last is read last, when it is most likely to be too new.
    cut_and_check(&segment, &log, &[0, 1]);
    writer.join();
}

/// A writer changes a block twice: the second change finds the shadow page kept, or has to keep it.
pub(crate) fn a_block_is_cut() {
    let (segment, log) = (Segment::without_rivals(1), Log::default());
    let (writes, noted) = (Arc::clone(&segment), log.clone());
    let writer = start(move || {
        noted.write(&writes, 0, 1);
        noted.write(&writes, 0, 2);
    });
    cut_and_check(&segment, &log, &[0]);
    writer.join();
}

/// One thread writes a block; another sees it and then writes a second one.
fn a_chain_of_two_threads_is_cut() {
    let (segment, log) = (Segment::with_rivals(2, 2), Log::default());
    let (first, noted) = (Arc::clone(&segment), log.clone());
    let first = start(move || noted.write(&first, 0, 1));
    let (second, noted) = (Arc::clone(&segment), log.clone());
    let second = start(move || {
        let mut bytes = [0; 16];
        second.read_into(second.block(0), &mut bytes).expect("not torn");
        // What it saw was over for it, whether or not the first has its answer.
        if value_of(&bytes) == 1 {
            noted.0.lock().expect("not poisoned").iter_mut().for_each(|write| {
                write.ended.get_or_insert(machine::now());
            });
            noted.write(&second, 1, 1);
        }
    });
    cut_and_check(&segment, &log, &[1, 0]);
    first.join();
    second.join();
}

/// The cut is ended at any moment; its reader must not return what it found in pages given back, nor a writer touch
/// them. Then the same with the next cut.
pub(crate) fn a_cut_is_ended() {
    let (segment, log) = (Segment::with_rivals(1, 4), Log::default());
    log.write(&segment, 0, 1);
    let (writes, noted) = (Arc::clone(&segment), log.clone());
    let writer = start(move || noted.write(&writes, 0, 2));
    segment.prepare_shadow();
    let began = machine::now();
    segment.switch(CUT).expect("newer");
    let ended = machine::now();
    let (reader, noted) = (segment.reader(), log.clone());
    let reads = start(move || {
        let mut bytes = [0; 16];
        if let Ok(Some(_)) = reader.cut_attempt(0, CUT, Some(&mut bytes)) {
            noted.check(&[value_of(&bytes)], began, ended);
        }
    });
    segment.end_cut().expect("the machine has holes");
    segment.prepare_shadow();
    segment.switch(CUT + 1).expect("newer");
    segment.end_cut().expect("the machine has holes");
    writer.join();
    reads.join();
}

/// A writer meets the end of a cut, and nothing else happens.
pub(crate) fn pages_are_given_back() {
    let segment = Segment::with_rivals(1, 2);
    let writes = Arc::clone(&segment);
    let writer = start(move || writes.write(writes.block(0), &full_of(1)).expect("not torn"));
    segment.prepare_shadow();
    segment.switch(CUT).expect("newer");
    segment.end_cut().expect("the machine has holes");
    writer.join();
}

/// A reader of a shadow page meets the end of its cut.
pub(crate) fn a_reader_is_late() {
    let segment = Segment::without_rivals(1);
    segment.write(segment.block(0), &full_of(1)).expect("not torn");
    segment.prepare_shadow();
    segment.switch(CUT).expect("newer");
    segment.write(segment.block(0), &full_of(2)).expect("not torn");
    let reader = segment.reader();
    let reads = start(move || {
        let mut bytes = [0; 16];
        if let Ok(change_epoch) = reader.cut_attempt(0, CUT, Some(&mut bytes)) {
            assert_eq!((change_epoch, words_of(&bytes)), (Some(FIRST_EPOCH), [1, 1]), "from pages given back");
        }
    });
    segment.end_cut().expect("the machine has holes");
    reads.join();
}

/// A restore writes while a client of the same machine reads: it gets the memory of before, or none.
pub(crate) fn a_restore_is_read() {
    let segment = Segment::without_rivals(1);
    let reader = segment.reader();
    let span = segment.block(0);
    let reads = start(move || {
        let mut bytes = [0; 16];
        if reader.read_as_client(span, &mut bytes, 1).is_ok() {
            assert_eq!(words_of(&bytes), [0, 0], "half a restore was shown, or the memory of another epoch");
        }
    });
    segment.set_restoring(true);
    segment.write(span, &full_of(1)).expect("not torn");
    assert!(segment.raise_config_epoch(2));
    segment.set_restoring(false);
    reads.join();
}

/// A client of the same machine reads while a cut is held: what it returns of the new epoch was released.
pub(crate) fn a_held_cut_is_read() {
    let segment = Segment::without_rivals(1);
    let writes = Arc::clone(&segment);
    let writer = start(move || writes.write(writes.block(0), &full_of(1)).expect("not torn"));
    let is_released = Arc::new(Mutex::new(false));
    let (reader, span, released) = (segment.reader(), segment.block(0), Arc::clone(&is_released));
    let reads = start(move || {
        let mut bytes = [0; 16];
        if reader.read_as_client(span, &mut bytes, 1).is_ok() && value_of(&bytes) == 1 {
            let epoch = memory::newest(machine::word_of("change_epoch", 0));
            assert!(epoch < CUT || *released.lock().expect("not poisoned"), "a held write was shown");
        }
    });
    segment.prepare_shadow();
    segment.switch(CUT).expect("newer");
    // Here the other servers switch.
    explore::point();
    *is_released.lock().expect("not poisoned") = true;
    segment.release(CUT);
    writer.join();
    reads.join();
}

#[test]
fn a_cut_through_a_chain_is_exact() {
    explore::all(3, a_chain_is_cut);
}

#[test]
fn a_cut_through_a_block_is_exact() {
    explore::all(3, a_block_is_cut);
}

#[test]
fn a_cut_through_two_threads_is_exact() {
    explore::random(20_000, a_chain_of_two_threads_is_cut);
}

#[test]
fn an_ended_cut_harms_nobody() {
    explore::all(2, a_cut_is_ended);
    explore::random(20_000, a_cut_is_ended);
}

#[test]
fn no_writer_touches_a_page_given_back() {
    explore::all(4, pages_are_given_back);
}

#[test]
fn no_reader_returns_a_page_given_back() {
    explore::all(4, a_reader_is_late);
}

#[test]
fn nobody_is_shown_half_a_restore() {
    explore::all(3, a_restore_is_read);
}

#[test]
fn a_held_write_is_not_shown() {
    explore::all(3, a_held_cut_is_read);
}
