//! Valid frames with bits flipped, cut and doubled, and bytes of no meaning at all. Every seed is printed.

use super::bodies::ranges;
use super::orders::{control_requests, some_id};
use super::*;

/// A valid request in the playground, or a control request that a client may not ask.
fn valid_request(random: &mut fastrand::Rng) -> (Kind, Vec<u8>) {
    let len = random.u64(..512);
    let data: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
    let addr = random.u64(..PLAYGROUND - 1024);
    let aligned = addr & !15;
    let list = [(addr, len / 2), (addr / 2, len - len / 2)];
    let request = match random.u32(..12) {
        0 => Request::Read { addr, len },
        1 => Request::Write { addr, data: &data },
        2 => Request::Fill { addr, len, byte: random.u8(..) },
        3 => Request::Copy { from: addr / 2, to: addr, len },
        4 => Request::Compare { addr, data: &data },
        5 => Request::Checksum { addr, len },
        6 => {
            let op = AtomicOp::ALL[random.usize(..AtomicOp::ALL.len())];
            Request::Atomic { addr: aligned, op, operand: random.u64(..), expected: 0 }
        }
        7 => Request::Cas16 { addr: aligned, expected: 0, new: u128::from(random.u64(..)) },
        8 => return (Kind::ReadV, ranges(2, &list)),
        9 => return (Kind::WriteV, [ranges(2, &list), data].concat()),
        10 => return (Kind::Batch, valid_batch(random)),
        _ => {
            let all = control_requests();
            let (kind, _, body) = &all[random.usize(..all.len())];
            return (*kind, body.clone());
        }
    };
    (request.kind(), body(&request))
}

fn valid_batch(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..random.u32(1..6) {
        let addr = random.u64(..PLAYGROUND - 1024);
        mcomp_wire::emit_item(&Request::Read { addr, len: 16 }, &mut out);
        mcomp_wire::emit_item(&Request::Write { addr, data: &random.u64(..).to_le_bytes() }, &mut out);
    }
    out
}

/// Spoils a frame in one way or several, and mends some of its checksums, so that the harm gets deep.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    const TELLING: [u64; 10] = [0, 1, 8, 4095, K - 8, K, 2 * K, 1 << 32, 1 << 63, u64::MAX];
    for _ in 0..random.u32(1..4) {
        let at = random.usize(..bytes.len().max(1));
        match random.u32(..8) {
            _ if bytes.is_empty() => bytes.push(random.u8(..)),
            0 | 1 => bytes[at] ^= 1 << random.u32(..8),
            2 => bytes[at] = random.u8(..),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.u8(..)),
            5 => {
                let end = bytes.len().min(at + random.usize(..64));
                bytes.drain(at..end);
            }
            _ => {
                let word = TELLING[random.usize(..TELLING.len())].to_le_bytes();
                let at = at & !7;
                let len = word.len().min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&word[..len]);
            }
        }
    }
    if bytes.len() >= HEADER_LEN && random.u32(..4) > 0 {
        if random.bool() {
            let length = (bytes.len() - HEADER_LEN) as u32;
            bytes[32..36].copy_from_slice(&length.to_le_bytes());
        }
        if random.bool() {
            bytes[..5].copy_from_slice(b"MCMP\x01");
        }
        mend_header(bytes);
    }
}

/// Whether a stream of frames holds a valid request that changes guarded memory, as it may.
fn is_allowed_to_harm(mut stream: &[u8]) -> bool {
    while let Some(head) = stream.first_chunk::<HEADER_LEN>() {
        let Ok(header) = Header::parse(head) else { return false };
        let Some((body, rest)) = stream[HEADER_LEN..].split_at_checked(header.length as usize) else { return false };
        if Request::parse(header.kind, body).is_ok_and(|request| touches_guard(&request)) {
            return true;
        }
        stream = rest;
    }
    false
}

fn touches_guard(request: &Request<'_>) -> bool {
    // A range that leaves the server's memory is refused, and does no harm.
    let touches = |addr: u64, len: u64| {
        let end = addr.checked_add(len).filter(|&end| end <= K);
        end.is_some_and(|end| end > PLAYGROUND)
    };
    match request {
        Request::Write { addr, data } => touches(*addr, data.len() as u64),
        Request::Fill { addr, len, .. } | Request::Copy { to: addr, len, .. } => touches(*addr, *len),
        Request::Atomic { addr, .. } => touches(*addr, 8),
        Request::Cas16 { addr, .. } => touches(*addr, 16),
        Request::WriteV(ranges, _) => ranges.iter().any(|(addr, len)| touches(addr, len)),
        Request::Batch(batch) => batch.requests().any(|request| touches_guard(&request)),
        _ => false,
    }
}

/// Sends `count` spoiled frames, each on a connection of its own, and expects answers or a close.
pub(super) fn fuzz(random: &mut fastrand::Rng, endpoints: &[Endpoint], hello: &Hello, count: u64) -> Tally {
    let mut tally = Tally::default();
    while tally.frames < count {
        let endpoint = &endpoints[random.usize(..endpoints.len())];
        let greets = random.u32(..8) > 0;
        let (kind, body) = match greets {
            true => valid_request(random),
            false => (Kind::Hello, control::encode(hello)),
        };
        let mut bytes = frame(kind as u8, random.u64(..8), 1, &body);
        mutate(random, &mut bytes);
        if is_allowed_to_harm(&bytes) {
            continue;
        }
        let mut peer = if greets { Peer::greeted(endpoint, hello) } else { Peer::connect(endpoint) };
        peer.send(&bytes);
        let answers = peer.finish();
        tally.frames += 1;
        tally.accepted += answers.iter().filter(|answer| answer.status() == Status::Ok).count();
        tally.refused += answers.iter().filter(|answer| answer.status() != Status::Ok).count();
        tally.closed += usize::from(answers.is_empty());
        let bug = answers.iter().find(|answer| answer.status() == Status::Internal);
        assert!(bug.is_none(), "frame {} shows a bug: {bug:?} to {bytes:02x?}", tally.frames);
    }
    tally
}

/// What became of spoiled frames.
#[derive(Debug, Default)]
pub(super) struct Tally {
    frames: u64,
    accepted: usize,
    refused: usize,
    closed: usize,
}

#[test]
fn spoiled_frames_harm_nobody() {
    let mut random = fastrand::Rng::with_seed(seed());
    unharmed(servers(), |cluster| {
        let endpoints = [tcp(cluster, 0), unix(cluster, 0)];
        let count = length("MCOMP_TEST_MUTATIONS", 6_000) / 3;
        let client = hello(cluster, 0, Role::Client);
        // One that comes back again and again under the same name, with numbers that were there before.
        let returning = Hello { session: some_id(), ..client.clone() };
        // One that may ask for cuts.
        let node = Hello { role: Role::Node, ..client.clone() };
        for hello in [client, returning, node] {
            let tally = fuzz(&mut random, &endpoints, &hello, count);
            eprintln!("{tally:?}");
            assert!(tally.accepted > 0 && tally.refused > 0 && tally.closed > 0, "one-sided garbage: {tally:?}");
        }
    });
}

#[test]
fn random_bytes_harm_nobody() {
    let mut random = fastrand::Rng::with_seed(seed());
    unharmed(Setup::new(2, "64KiB").start(), |cluster| {
        let snapshotter = Endpoint::Tcp(cluster.snapshot_address(0));
        for endpoint in [tcp(cluster, 0), unix(cluster, 0), snapshotter] {
            for greeted in [false, true] {
                for _ in 0..100 {
                    let bytes: Vec<u8> = (0..random.usize(1..8192)).map(|_| random.u8(..)).collect();
                    let hello = hello(cluster, 0, Role::Client);
                    let mut peer = if greeted { Peer::greeted(&endpoint, &hello) } else { Peer::connect(&endpoint) };
                    peer.send(&bytes);
                    let answers = peer.finish();
                    assert!(answers.iter().all(|answer| answer.status() != Status::Ok), "{answers:?}");
                }
            }
        }
    });
}
