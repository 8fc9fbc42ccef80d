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

#[divan::bench(sample_size = 512)]
fn emit_header(bencher: Bencher) {
    bencher.bench_local(|| black_box(header()).emit());
}

#[divan::bench(sample_size = 512)]
fn parse_header(bencher: Bencher) {
    let bytes = header().emit();
    bencher.bench_local(|| Header::parse(black_box(&bytes)));
}

#[divan::bench(sample_size = 512)]
fn parse_read_request(bencher: Bencher) {
    let mut body = Vec::new();
    let request = Request::Read { addr: 4096, len: 8 };
    request.emit(&mut body);
    bencher.bench_local(|| Request::parse(black_box(request.kind() as u8), black_box(&body)).is_ok());
}

#[divan::bench(args = SIZES, sample_size = 64)]
fn frame(bencher: Bencher, body_bytes: usize) {
    finish(&mut framed(body_bytes), bencher, false);
}

#[divan::bench(args = SIZES, sample_size = 64)]
fn frame_with_checksum(bencher: Bencher, body_bytes: usize) {
    finish(&mut framed(body_bytes), bencher.counter(BytesCount::new(body_bytes)), true);
}

/// Room for a header and a body that is already in place, as a server builds its answers.
fn framed(body_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    begin_frame(&mut out);
    out.resize(out.len() + body_bytes, 0x5a);
    out
}

fn finish(out: &mut [u8], bencher: Bencher, checksum: bool) {
    bencher.bench_local(|| finish_frame(black_box(out), 0, header(), checksum));
}
