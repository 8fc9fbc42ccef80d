//! Writes that nobody ends. A writer is stopped at each point of its way for good: what it left is finished by the next
//! server, or, if its thread vanished alone, by the next writer of the block.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::Scratch;
use crate::slot::Slot;
use crate::span::Piece;
use crate::{CutError, Opened, Reader, Segment, copy};

const BLOCK: usize = 4096;

/// How far a writer comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    Noted,
    Odd,
    HalfCopied,
    Copied,
}

/// Begins to write `bytes` at `within` of a block, and vanishes.
fn die(segment: &Segment, block: u64, within: usize, bytes: &[u8], until: Until) {
    let piece = Piece { block, within, len_bytes: bytes.len(), skip_bytes: 0 };
    let slot = segment.take_slot();
    slot.note(&piece, bytes);
    vanish(segment, slot, piece, bytes, until);
}

fn vanish(segment: &Segment, slot: Slot<'_>, piece: Piece, bytes: &[u8], until: Until) {
    let held = segment.hold(piece.block);
    let entry = segment.map.entry(piece.block);
    entry.writer.store(slot.writer(), Relaxed);
    let copied = match until {
        Until::Noted | Until::Odd => 0,
        Until::HalfCopied => bytes.len() / 2,
        Until::Copied => bytes.len(),
    };
    if until != Until::Noted {
        entry.seq.fetch_add(1, SeqCst);
    }
    // SAFETY: the piece lies inside its block, and no more than `bytes` is copied.
    unsafe { copy::to_shared(bytes.as_ptr(), segment.map.block(piece.block).add(piece.within), copied) };
    std::mem::forget((held, slot));
}

fn read(segment: &Segment, at: u64, len_bytes: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    segment.read_append(segment.span(at, len_bytes).unwrap(), &mut bytes).expect("no block is torn");
    bytes
}

/// The value of a block is that before or that after the write, never a mix, and the next server says what it did.
#[test]
fn the_next_server_finishes_what_the_last_one_began() {
    for until in [Until::Noted, Until::Odd, Until::HalfCopied, Until::Copied] {
        let scratch = Scratch::new();
        let segment = scratch.segment(3);
        segment.fill(segment.span(0, 3 * 4096).unwrap(), 1).unwrap();
        die(&segment, 1, 0, &[2; BLOCK], until);
        drop(segment);

        let (segment, opened) = scratch.reopen(3);
        let repaired = u64::from(until != Until::Noted);
        assert_eq!(opened, Opened::TakenOver { clean: false, repaired, torn: 0 }, "{until:?}");
        assert_eq!(segment.repaired_blocks(), repaired);
        let expected = if repaired == 1 { 2 } else { 1 };
        assert_eq!(read(&segment, 4096, 4096), [expected; BLOCK], "{until:?}");
        assert_eq!(read(&segment, 0, 4096), [1; BLOCK]);
        assert_eq!(read(&segment, 8192, 4096), [1; BLOCK]);
        // Once is enough.
        drop(segment);
        assert_eq!(scratch.reopen(3).1, Opened::TakenOver { clean: false, repaired: 0, torn: 0 });
    }
}

#[test]
fn a_part_of_a_block_a_fill_and_an_atomic_are_finished_too() {
    let scratch = Scratch::new();
    let segment = scratch.segment(3);
    segment.fill(segment.span(0, 3 * 4096).unwrap(), 1).unwrap();
    die(&segment, 0, 100, &[2; 1000], Until::HalfCopied);
    let slot = segment.take_slot();
    let piece = Piece { block: 1, within: 4000, len_bytes: 96, skip_bytes: 0 };
    slot.note_fill(&piece, 3);
    vanish(&segment, slot, piece, &[3; 96], Until::HalfCopied);
    die(&segment, 2, 16, &77u128.to_le_bytes(), Until::HalfCopied);
    drop(segment);

    let (segment, opened) = scratch.reopen(3);
    assert_eq!(opened, Opened::TakenOver { clean: false, repaired: 3, torn: 0 });
    assert_eq!(read(&segment, 0, 4096), [vec![1; 100], vec![2; 1000], vec![1; 2996]].concat());
    assert_eq!(read(&segment, 4096, 4096), [vec![1; 4000], vec![3; 96]].concat());
    assert_eq!(segment.update16(segment.word16(8192 + 16).unwrap(), |_| None), Ok(77));
}

/// What a slot says about a block that is even was done long ago: others may have written it since.
#[test]
fn an_old_record_is_not_done_again() {
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    let span = segment.span(0, 4096).unwrap();
    thread::scope(|scope| scope.spawn(|| segment.write(span, &[1; BLOCK]).unwrap()).join()).unwrap();
    // Another thread has another slot.
    thread::scope(|scope| scope.spawn(|| segment.write(span, &[2; BLOCK]).unwrap()).join()).unwrap();
    drop(segment);
    let (segment, opened) = scratch.reopen(1);
    assert_eq!(opened, Opened::TakenOver { clean: false, repaired: 0, torn: 0 });
    assert_eq!(read(&segment, 0, 4096), [2; BLOCK]);
}

/// A record that names another block, or no place in one, finishes nothing.
#[test]
fn a_damaged_record_is_not_believed() {
    type Damage = fn(&crate::layout::SlotRecord);
    let damages: [Damage; 6] = [
        |record| record.block.store(0, Relaxed),
        |record| record.within.store(4096, Relaxed),
        |record| record.within.store(u32::MAX, Relaxed),
        |record| record.len_bytes.store(0, Relaxed),
        |record| record.len_bytes.store(4097, Relaxed),
        |record| record.kind.store(9, Relaxed),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let scratch = Scratch::new();
        let segment = scratch.segment(2);
        die(&segment, 1, 0, &[2; BLOCK], Until::HalfCopied);
        damage(segment.map.slot(segment.map.entry(1).writer.load(Relaxed) - 1));
        drop(segment);
        let (segment, opened) = scratch.reopen(2);
        assert_eq!(opened, Opened::TakenOver { clean: false, repaired: 0, torn: 1 }, "damage {number}");
        assert_eq!(segment.torn_blocks(), 1);
    }
}

/// An incremental snapshot must not leave out a block because its last write was finished by another server.
#[test]
fn a_finished_block_counts_as_changed() {
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    segment.prepare_shadow().unwrap();
    segment.switch(5).unwrap();
    segment.end_cut().unwrap();
    die(&segment, 0, 0, &[2; BLOCK], Until::HalfCopied);
    drop(segment);
    let (segment, _) = scratch.reopen(1);
    segment.prepare_shadow().unwrap();
    let next = segment.epoch() + 1;
    segment.switch(next).unwrap();
    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    let soon = Instant::now() + Duration::from_secs(20);
    assert!(reader.cut_change(0, next, soon).unwrap() >= 5);
}

/// A thread that vanishes alone leaves its block to the next one that wants it, and its slot too.
#[test]
fn a_vanished_thread_s_block_is_finished_by_the_next_writer() {
    let scratch = Scratch::new();
    let segment = scratch.segment(2);
    segment.fill(segment.span(0, 8192).unwrap(), 1).unwrap();
    thread::scope(|scope| scope.spawn(|| die(&segment, 0, 0, &[2; BLOCK], Until::HalfCopied)).join()).unwrap();
    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    assert!(reader.read_into(reader.span(0, 8).unwrap(), &mut [0; 8]).is_err(), "a half-written block was shown");
    assert_eq!(read(&segment, 0, 4096), [2; BLOCK]);
    assert_eq!((segment.repaired_blocks(), segment.torn_blocks()), (1, 0));
    // All slots are used, that of the dead as well.
    for slot in 0..segment.map.regions().slot_count {
        thread::scope(|scope| scope.spawn(|| segment.fill(segment.span(4096, 8).unwrap(), 3).unwrap()).join()).unwrap();
        assert_eq!(segment.map.entry(1).seq.load(Relaxed) % 2, 0, "after {slot} writers");
    }
}

/// The thread vanished during a cut, and has not kept the shadow page: it may have begun before the switch, so nobody
/// knows what the block was. The cut has lost the block, and the next one has it.
#[test]
fn a_cut_loses_the_block_of_a_vanished_thread() {
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    segment.fill(segment.span(0, 4096).unwrap(), 1).unwrap();
    segment.prepare_shadow().unwrap();
    segment.switch(2).unwrap();
    thread::scope(|scope| scope.spawn(|| die(&segment, 0, 0, &[2; BLOCK], Until::Odd)).join()).unwrap();
    assert_eq!(read(&segment, 0, 4096), [2; BLOCK]);
    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    let (mut bytes, soon) = ([0; BLOCK], Instant::now() + Duration::from_secs(20));
    assert!(matches!(reader.cut_block(0, 2, &mut bytes, soon), Err(CutError::Torn(_))));
    segment.switch(3).unwrap();
    reader.cut_block(0, 3, &mut bytes, soon).unwrap();
    assert_eq!(bytes, [2; BLOCK]);
    segment.end_cut().unwrap();
}

/// Nobody asks for the block of a vanished thread: the end of the cut finishes it, and does not wait for the thread.
#[test]
fn the_end_of_a_cut_finishes_the_block_of_a_vanished_thread() {
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    segment.prepare_shadow().unwrap();
    segment.switch(2).unwrap();
    thread::scope(|scope| scope.spawn(|| die(&segment, 0, 0, &[2; BLOCK], Until::Odd)).join()).unwrap();
    segment.end_cut().unwrap();
    assert_eq!(segment.repaired_blocks(), 1);
    assert_eq!(read(&segment, 0, 4096), [2; BLOCK]);
}
