//! Many threads at once: no mixed block, no lost update, no wrong cut.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::Scratch;
use crate::{Mutant, Reader, Segment};

const BLOCK: u64 = 4096;

/// Stops the writers of a test when it ends, also by a panic: otherwise the scope would wait for them for ever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn is_uniform(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == bytes[0])
}

/// Eight threads write blocks of one value each and read them back, on few blocks so that they meet; a read-only
/// mapping reads along. No reader may ever see two values in one block.
#[test]
fn no_block_is_ever_seen_mixed() {
    const ROUNDS: u64 = 4_000;
    let scratch = Scratch::new();
    let segment = scratch.segment(3);
    let reader = Reader::open(&scratch.cluster, 0).unwrap();
    thread::scope(|scope| {
        for writer in 0..8u64 {
            let (segment, reader) = (&segment, &reader);
            scope.spawn(move || {
                let mut bytes = [0; BLOCK as usize];
                for round in 0..ROUNDS {
                    let span = segment.span((writer + round) % 3 * BLOCK, BLOCK).unwrap();
                    bytes.fill((writer * 31 + round) as u8);
                    segment.write(span, &bytes).unwrap();
                    let other = segment.span((writer + round / 2) % 3 * BLOCK, BLOCK).unwrap();
                    segment.read_into(other, &mut bytes).unwrap();
                    assert!(is_uniform(&bytes), "mixed for the server");
                    if reader.read_into(other, &mut bytes).is_ok() {
                        assert!(is_uniform(&bytes), "mixed for the mapper");
                    }
                }
            });
        }
    });
}

#[test]
fn no_update_is_ever_lost() {
    const ROUNDS: u64 = 10_000;
    let scratch = Scratch::new();
    let segment = scratch.segment(1);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    segment.update8(segment.word8(64).unwrap(), |old| Some(old + 1)).unwrap();
                    // Both halves move together, or the second thread to come finds them apart.
                    let both = |old: u128| Some(old + (1 << 64 | 1));
                    let old = segment.update16(segment.word16(128).unwrap(), both).unwrap();
                    assert_eq!(old as u64, (old >> 64) as u64);
                }
            });
        }
    });
    assert_eq!(segment.update8(segment.word8(64).unwrap(), |_| None), Ok(8 * ROUNDS));
}

/// Blocks of one writer in the cut test.
const CHAIN: u64 = 6;

/// Writer `me` of two writes 1, 2, 3 ... round its blocks, each block full of pairs (value, the last value that
/// the other writer had finished). So a cut is exact only if the blocks of each writer hold an unbroken run of
/// its last values, and nobody has seen a value of the other that the cut does not have.
fn write_chain(segment: &Segment, me: usize, done: &[AtomicU64; 2], stop: &AtomicBool) {
    let mut bytes = [0; BLOCK as usize];
    for value in 1.. {
        if stop.load(Relaxed) {
            return;
        }
        let seen = done[1 - me].load(SeqCst);
        for pair in bytes.as_chunks_mut::<16>().0 {
            pair[..8].copy_from_slice(&u64::to_le_bytes(value));
            pair[8..].copy_from_slice(&seen.to_le_bytes());
        }
        let block = me as u64 * CHAIN + value % CHAIN;
        segment.write(segment.span(block * BLOCK, BLOCK).unwrap(), &bytes).unwrap();
        done[me].store(value, SeqCst);
    }
}

/// Takes a cut, and says what is wrong with it.
fn cut_and_check(segment: &Segment, reader: &Reader, done: &[AtomicU64; 2]) -> Result<(), String> {
    let epoch = segment.epoch() + 1;
    segment.prepare_shadow().unwrap();
    let before = [done[0].load(SeqCst), done[1].load(SeqCst)];
    segment.switch(epoch).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let blocks: Vec<(u64, u64)> =
        (0..2 * CHAIN).map(|block| cut_pair(reader, block, epoch, deadline)).collect::<Result<_, _>>()?;
    segment.release(epoch);
    segment.end_cut().unwrap();
    let newest: Vec<u64> =
        blocks.chunks(CHAIN as usize).map(|chain| chain.iter().map(|pair| pair.0).max().unwrap_or(0)).collect();
    for writer in 0..2 {
        check_chain(&blocks[writer * CHAIN as usize..][..CHAIN as usize], newest[writer], newest[1 - writer])?;
        if newest[writer] < before[writer] {
            return Err(format!("value {} was written before the cut and is not in it", before[writer]));
        }
    }
    Ok(())
}

/// The pair that fills a block of the cut.
fn cut_pair(reader: &Reader, block: u64, epoch: u64, deadline: Instant) -> Result<(u64, u64), String> {
    let mut bytes = [0; BLOCK as usize];
    let meta = reader.cut_block(block, epoch, &mut bytes, deadline).map_err(|error| error.to_string())?;
    // Writers go on; what the block was at the cut must not change by that.
    let again = reader.cut_change(block, epoch, deadline).map_err(|error| error.to_string())?;
    assert!(reader.mutant != Mutant::None || again == meta.change_epoch, "block {block} has two change epochs");
    // The mutant is to be caught by the bytes alone, so this holds for the real protocol only.
    assert!(reader.mutant != Mutant::None || meta.change_epoch < epoch, "block {block} is from after the cut");
    let pairs = bytes.as_chunks::<16>().0;
    if pairs.iter().any(|pair| *pair != pairs[0]) {
        return Err(format!("block {block} is mixed"));
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    Ok((word(0), word(8)))
}

/// Each block must hold the last value, up to the newest, whose turn it was.
fn check_chain(chain: &[(u64, u64)], newest: u64, newest_of_other: u64) -> Result<(), String> {
    for (at, &(value, seen)) in chain.iter().enumerate() {
        let age = (newest + CHAIN - at as u64) % CHAIN;
        let wanted = newest.saturating_sub(age);
        if newest >= CHAIN && value != wanted {
            return Err(format!("block {at} of a chain has {value} and not {wanted}; the newest is {newest}"));
        }
        if seen > newest_of_other {
            return Err(format!("value {value} had seen {seen} of the other, which has only {newest_of_other}"));
        }
    }
    Ok(())
}

/// Takes up to `cuts` cuts under fire; the first fault, if any.
fn cuts_under_fire(cuts: u32, mutant: Mutant) -> Result<(), String> {
    let scratch = Scratch::new();
    let mut segment = scratch.segment(2 * CHAIN);
    let mut reader = Reader::open(&scratch.cluster, 0).unwrap();
    (segment.mutant, reader.mutant) = (mutant, mutant);
    let (segment, done, stop) = (&segment, [AtomicU64::new(0), AtomicU64::new(0)], AtomicBool::new(false));
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for me in 0..2 {
            let (done, stop) = (&done, &stop);
            scope.spawn(move || write_chain(segment, me, done, stop));
        }
        while done.iter().any(|done| done.load(SeqCst) < CHAIN) {
            thread::yield_now();
        }
        (0..cuts).try_for_each(|_| cut_and_check(segment, &reader, &done))
    })
}

#[test]
fn cuts_are_exact_under_fire() {
    assert_eq!(cuts_under_fire(400, Mutant::None), Ok(()));
}

/// The same test goes red on the mutant, so it would notice.
#[test]
fn the_naive_copy_is_caught() {
    let fault = cuts_under_fire(20_000, Mutant::NaiveCopy);
    assert!(fault.is_err(), "20,000 naive copies passed for exact cuts");
}

/// `end_cut` gives pages back while writers are still filling them, over and over.
#[test]
fn ending_a_cut_never_meets_a_writer() {
    let scratch = Scratch::new();
    let segment = scratch.segment(4);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for writer in 0..3u64 {
            let (segment, stop) = (&segment, &stop);
            scope.spawn(move || {
                for round in 0.. {
                    if stop.load(Relaxed) {
                        return;
                    }
                    let span = segment.span((writer + round) % 4 * BLOCK + 8 * writer, 8).unwrap();
                    segment.write(span, &round.to_le_bytes()).unwrap();
                }
            });
        }
        for _ in 0..500 {
            segment.prepare_shadow().unwrap();
            segment.switch(segment.epoch() + 1).unwrap();
            segment.end_cut().unwrap();
            // A writer that kept a page too late would have allocated it again.
            let allocated = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(segment.path()).unwrap()) * 512;
            assert_eq!(allocated, 4096 + 4096 + 4 * BLOCK + super::SLOTS_BYTES);
        }
    });
}
