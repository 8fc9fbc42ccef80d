//! The splitter: how a claimed range becomes pieces by server.

use std::hint::black_box;

use divan::Bencher;
use mcomp_wire::Space;

/// The size of one piece of a long transfer in the client.
const PIECE_BYTES: u64 = 256 << 10;

fn main() {
    divan::main();
}

fn space() -> Space {
    Space::new(1 << 30, 3).expect("it fits into 64 bits")
}

/// What every small request pays.
#[divan::bench(sample_size = 512)]
fn check_and_first_piece(bencher: Bencher) {
    let space = black_box(space());
    bencher.bench_local(|| {
        let range = space.check(black_box(4096), black_box(8)).expect("inside");
        range.pieces(PIECE_BYTES).next()
    });
}

/// A mebibyte across the border of two servers.
#[divan::bench(sample_size = 512)]
fn pieces_of_1_mib(bencher: Bencher) {
    let range = space().check((1 << 30) - (512 << 10), 1 << 20).expect("inside");
    bencher.bench_local(|| black_box(range).pieces(PIECE_BYTES).map(|piece| piece.len).sum::<u64>());
}
