//! The block path of a segment: what one read or write costs without a socket, and what the first
//! write to a block after a cut adds (it copies the block to its shadow page).

use std::cell::Cell;
use std::hint::black_box;

use divan::Bencher;
use mcomp_shm::{BLOCK_BYTES, Segment, Span, Spec};

/// Calls that are timed together: one is shorter than the clock can tell.
const SAMPLE: u32 = 512;

/// More than a sample, so that each write of one after a cut is the first to its block.
const BLOCKS: u64 = 16 << 10;

const SIZES: [usize; 3] = [8, 64, 4096];

fn main() {
    divan::main();
}

/// A segment that goes when it is dropped.
struct Scratch {
    cluster: String,
    segment: Option<Segment>,
}

impl Scratch {
    fn new(what: &str) -> Scratch {
        let cluster = format!("micro-{}-{what}", std::process::id());
        let spec =
            Spec { cluster: cluster.clone(), id: 0, n: 1, k_bytes: BLOCKS * BLOCK_BYTES as u64, registers: false };
        let (segment, _) = Segment::open(&spec).expect("a segment: is there room in /dev/shm?");
        Scratch { cluster, segment: Some(segment) }
    }

    fn segment(&self) -> &Segment {
        self.segment.as_ref().expect("taken by drop alone")
    }

    fn span(&self, block: u64, len_bytes: usize) -> Span {
        self.segment().span(block * BLOCK_BYTES as u64, len_bytes as u64).expect("inside the segment")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.segment = None;
        if let Err(error) = mcomp_shm::purge(&self.cluster) {
            eprintln!("the segment of {} was not removed: {error}", self.cluster);
        }
    }
}

#[divan::bench(args = SIZES, sample_size = SAMPLE)]
fn read(bencher: Bencher, size_bytes: usize) {
    let scratch = Scratch::new("read");
    let (span, mut buffer) = (scratch.span(1, size_bytes), vec![0; size_bytes]);
    bencher.bench_local(|| scratch.segment().read_into(black_box(span), black_box(&mut buffer)));
}

#[divan::bench(args = SIZES, sample_size = SAMPLE)]
fn write(bencher: Bencher, size_bytes: usize) {
    let scratch = Scratch::new("write");
    let (span, bytes) = (scratch.span(1, size_bytes), vec![1; size_bytes]);
    bencher.bench_local(|| scratch.segment().write(black_box(span), black_box(&bytes)));
}

/// Each write goes to another block, which has not been written since the cut.
#[divan::bench(args = SIZES, sample_size = SAMPLE)]
fn first_write_after_a_cut(bencher: Bencher, size_bytes: usize) {
    let scratch = Scratch::new("cut");
    let segment = scratch.segment();
    segment.prepare_shadow().expect("room for shadow pages");
    let bytes = vec![1; size_bytes];
    let next = Cell::new(0);
    let next_block = || {
        let block = next.replace((next.get() + 1) % BLOCKS);
        if block == 0 {
            segment.switch(segment.epoch() + 1).expect("a newer epoch");
        }
        scratch.span(block, size_bytes)
    };
    bencher.with_inputs(next_block).bench_local_values(|span| segment.write(black_box(span), black_box(&bytes)));
}

/// The same walk over blocks without a cut: what the one above is to be compared with.
#[divan::bench(args = SIZES, sample_size = SAMPLE)]
fn write_to_the_next_block(bencher: Bencher, size_bytes: usize) {
    let scratch = Scratch::new("next");
    let bytes = vec![1; size_bytes];
    let next = Cell::new(0);
    let next_block = || scratch.span(next.replace((next.get() + 1) % BLOCKS), size_bytes);
    bencher.with_inputs(next_block).bench_local_values(|span| scratch.segment().write(span, black_box(&bytes)));
}

#[divan::bench(sample_size = SAMPLE)]
fn fetch_add(bencher: Bencher) {
    let scratch = Scratch::new("add");
    let word = scratch.segment().word8(4096).expect("inside the segment");
    bencher.bench_local(|| scratch.segment().update8(black_box(word), |old| Some(old.wrapping_add(1))));
}
