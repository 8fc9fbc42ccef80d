//! The frame codec: headers parsed and emitted, and whole frames finished with and without a
//! checksum of their body.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use mcomp_net::{begin_frame, finish_frame};
use mcomp_wire::{Header, Kind, Request};

const SIZES: [usize; 3] = [8, 4096, 1 << 20];

fn main() {
    divan::main();
}

fn header() -> Header {
    Header { kind: Kind::Read as u8, request_id: 7, config_epoch: 1, length: 16, ..Header::default() }
}

#[divan::bench]
fn emit_header(bencher: Bencher) {
    bencher.bench_local(|| black_box(header()).emit());
}

#[divan::bench]
fn parse_header(bencher: Bencher) {
    let bytes = header().emit();
    bencher.bench_local(|| Header::parse(black_box(&bytes)));
}

#[divan::bench]
fn parse_read_request(bencher: Bencher) {
    let mut body = Vec::new();
    let request = Request::Read { addr: 4096, len: 8 };
    request.emit(&mut body);
    bencher.bench_local(|| Request::parse(black_box(request.kind() as u8), black_box(&body)).is_ok());
}

#[divan::bench(args = SIZES)]
fn frame(bencher: Bencher, body_bytes: usize) {
    finish(bencher, body_bytes, false);
}

#[divan::bench(args = SIZES)]
fn frame_with_checksum(bencher: Bencher, body_bytes: usize) {
    finish(bencher, body_bytes, true);
}

/// A frame around a body that is already in place, as a server builds its answers.
fn finish(bencher: Bencher, body_bytes: usize, checksum: bool) {
    let mut out = Vec::new();
    let at = begin_frame(&mut out);
    out.resize(out.len() + body_bytes, 0x5a);
    let bencher = bencher.counter(BytesCount::new(body_bytes));
    bencher.bench_local(|| finish_frame(black_box(&mut out), at, header(), checksum));
}
