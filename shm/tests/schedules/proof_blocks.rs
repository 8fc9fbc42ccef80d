//! Blocks: no reader returns a mix of two writes or goes back in time, and no update is lost.

use std::sync::Arc;

use crate::explore;
use crate::machine::start;
use crate::segment::{Segment, full_of, value_of, words_of};

/// One writer, and a reader that maps the memory read-only.
pub(crate) fn a_mapper_reads_along() {
    let segment = Segment::without_rivals(1);
    let writes = Arc::clone(&segment);
    let writer = start(move || {
        for value in 1..=2 {
            writes.write(writes.block(0), &full_of(value)).expect("not torn");
        }
    });
    let (reader, mut bytes, mut last) = (segment.reader(), [0; 16], 0);
    for _ in 0..2 {
        if reader.read_into(segment.block(0), &mut bytes).is_ok() {
            let value = value_of(&bytes);
            assert!(value >= last, "{value} after {last}");
            last = value;
        }
    }
    writer.join();
    reader.read_into(segment.block(0), &mut bytes).expect("nobody writes");
    assert_eq!(value_of(&bytes), 2, "what was written is there");
}

/// A writer, and a reader of the server itself, which takes the semaphore when it has tried often enough.
pub(crate) fn the_server_reads_along() {
    let segment = Segment::with_rivals(1, 2);
    let writes = Arc::clone(&segment);
    let writer = start(move || writes.write(writes.block(0), &full_of(1)).expect("not torn"));
    let mut bytes = [0; 16];
    segment.read_into(segment.block(0), &mut bytes).expect("not torn");
    let before = value_of(&bytes);
    segment.read_into(segment.block(0), &mut bytes).expect("not torn");
    assert!(value_of(&bytes) >= before);
    writer.join();
}

/// Two writers of a block each write a whole one; a third writes half of it.
pub(crate) fn writers_meet() {
    let segment = Segment::with_rivals(1, 3);
    let mut writers = Vec::new();
    for value in [10, 20] {
        let segment = Arc::clone(&segment);
        writers.push(start(move || segment.write(segment.block(0), &full_of(value)).expect("not torn")));
    }
    let half = Arc::clone(&segment);
    writers.push(start(move || half.fill(half.part(0, 8, 8), 0).expect("not torn")));
    let (reader, mut bytes) = (segment.reader(), [0; 16]);
    if reader.read_into(segment.block(0), &mut bytes).is_ok() {
        assert_possible(words_of(&bytes));
    }
    writers.into_iter().for_each(|writer| assert!(!writer.join()));
    segment.read_into(segment.block(0), &mut bytes).expect("not torn");
    assert_possible(words_of(&bytes));
    assert_ne!(words_of(&bytes)[0], 0, "a write was lost");
}

/// Both words are of one write, or the upper one was zeroed after it.
fn assert_possible([low, high]: [u64; 2]) {
    assert!(high == low || high == 0, "a mix: {low} and {high}");
}

/// Two threads add to one word.
pub(crate) fn adders_meet() {
    let segment = Segment::with_rivals(1, 2);
    let adds = Arc::clone(&segment);
    let adder = start(move || {
        adds.update8(adds.word8(8), |old| Some(old + 1)).expect("not torn");
    });
    segment.update8(segment.word8(8), |old| Some(old + 2)).expect("not torn");
    adder.join();
    assert_eq!(segment.update8(segment.word8(8), |_| None), Ok(3), "an add was lost");
}

#[test]
fn no_mapper_sees_a_mix() {
    explore::all(3, a_mapper_reads_along);
}

#[test]
fn no_reader_of_the_server_sees_a_mix() {
    explore::all(3, the_server_reads_along);
}

#[test]
fn writers_and_readers_that_meet_see_whole_writes() {
    explore::random(20_000, writers_meet);
}

#[test]
fn no_update_is_lost() {
    explore::all(3, adders_meet);
}
