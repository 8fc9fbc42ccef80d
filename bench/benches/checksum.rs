//! The checksum of bodies and chunks, at the size of a block and of the largest chunk.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

#[divan::bench(args = [4 << 10, 1 << 20], sample_size = 64)]
fn crc32(bencher: Bencher, size_bytes: usize) {
    let bytes = vec![0x5a; size_bytes];
    bencher.counter(BytesCount::new(size_bytes)).bench_local(|| crc32fast::hash(black_box(&bytes)));
}
