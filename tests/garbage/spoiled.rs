//! Valid frames with bits flipped, cut and doubled, and bytes of no meaning at all. Every seed is printed.

use std::fmt;
use std::time::Instant;

use mcomp_net::auth::{Keyring, Prover};

use super::bodies::ranges;
use super::orders::{control_requests, some_id};
use super::*;
use crate::raw::Frame;

/// Frames on one connection at most: all of them, and their answers, fit between two sockets.
const VOLLEY: u64 = 32;

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

/// Whether a frame of this role is one that a server answers, and then goes on with what follows.
fn is_followed(bytes: &[u8], role: Role) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<HEADER_LEN>() else { return false };
    let Ok(header) = Header::parse(head) else { return false };
    let whole = header.length as usize == body.len() && body.len() <= limits::MAX_BODY;
    // A seal is put on later, where there is a key.
    let plain = header.flags & flags::SEALED == 0 && header.check_request(false).is_ok();
    let sound = whole && plain && header.check_body(body).is_ok();
    let is_answered = |kind| match kind {
        Kind::Bye => false,
        // What a server says to another has no answer, and the end of the connection where it makes no sense.
        Kind::Peer => role != Role::Node,
        _ => true,
    };
    sound && Kind::from_wire(header.kind).is_some_and(is_answered)
}

/// Spoiled frames for one connection. After the last one, if it breaks the order of frames, nothing can follow;
/// all others have an answer each.
#[derive(Debug, Default)]
struct Volley {
    followed: Vec<Vec<u8>>,
    last: Option<Vec<u8>>,
}

impl Volley {
    /// At most `most` frames for a far side that has been greeted by one of this role.
    fn greeted(random: &mut fastrand::Rng, role: Role, most: u64) -> Volley {
        let mut volley = Volley::default();
        while volley.frames() < most.min(VOLLEY) && volley.last.is_none() {
            let (kind, body) = valid_request(random);
            let bytes = spoiled(random, kind, &body);
            if is_followed(&bytes, role) {
                volley.followed.push(bytes);
            } else if random.u32(..8) == 0 {
                // Most of those that break the order are left out, so that a connection sees many frames.
                volley.last = Some(bytes);
            }
        }
        volley
    }

    /// A spoiled handshake, or another first frame: whatever it is, no other is read behind it.
    fn first(random: &mut fastrand::Rng, hello: &Hello) -> Volley {
        let (kind, body) = match random.u32(..4) {
            0 => valid_request(random),
            _ => (Kind::Hello, control::encode(hello)),
        };
        Volley { followed: Vec::new(), last: Some(spoiled(random, kind, &body)) }
    }

    fn frames(&self) -> u64 {
        self.followed.len() as u64 + u64::from(self.last.is_some())
    }

    /// All of it as it goes over the connection of `peer`. The last one may also be one whose seal is broken.
    fn bytes(&self, random: &mut fastrand::Rng, peer: &mut Peer) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.followed.iter().flat_map(|frame| peer.seal(frame)).collect();
        let Some(last) = &self.last else { return bytes };
        match self.followed.first().filter(|_| random.bool()) {
            Some(followed) if peer.is_sealed() => {
                let mut sealed = peer.seal(followed);
                let at = random.usize(..sealed.len());
                sealed[at] ^= 1 << random.u32(..8);
                bytes.append(&mut sealed);
            }
            _ => bytes.extend_from_slice(last),
        }
        bytes
    }
}

/// A spoiled frame that does not change guarded memory by being a valid request for it.
fn spoiled(random: &mut fastrand::Rng, kind: Kind, body: &[u8]) -> Vec<u8> {
    loop {
        let mut bytes = frame(kind as u8, random.u64(..8), 1, body);
        mutate(random, &mut bytes);
        if !is_allowed_to_harm(&bytes) {
            return bytes;
        }
    }
}

/// When the spoiled frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    BeforeHandshake,
    AfterHandshake,
}

/// Whom to attack, as whom.
#[derive(Clone)]
pub(super) struct Target<'a> {
    pub(super) endpoints: &'a [Endpoint],
    pub(super) hello: Hello,
    pub(super) keyring: Option<&'a Keyring>,
}

impl Target<'_> {
    /// Sends `count` spoiled frames and expects an answer to each, or a close.
    pub(super) fn attack(&self, random: &mut fastrand::Rng, when: When, count: u64) -> Tally {
        let mut tally = Tally::default();
        while tally.frames < count {
            let endpoint = &self.endpoints[random.usize(..self.endpoints.len())];
            let (mut peer, volley) = match when {
                When::BeforeHandshake => (Peer::connect(endpoint), Volley::first(random, &self.hello)),
                When::AfterHandshake => {
                    let peer = Peer::admitted(endpoint, &self.hello, self.keyring);
                    (peer, Volley::greeted(random, self.hello.role, count - tally.frames))
                }
            };
            let bytes = volley.bytes(random, &mut peer);
            peer.send(&bytes);
            tally.add(&volley, &peer.finish());
        }
        tally
    }
}

/// What became of spoiled frames.
#[derive(Debug, Default)]
pub(super) struct Tally {
    frames: u64,
    connections: u64,
    accepted: usize,
    refused: usize,
    closed: usize,
}

impl Tally {
    fn add(&mut self, volley: &Volley, answers: &[Frame]) {
        let accepted = answers.iter().filter(|answer| answer.status() == Status::Ok).count();
        self.frames += volley.frames();
        self.connections += 1;
        self.accepted += accepted;
        self.refused += answers.len() - accepted;
        self.closed += usize::from((answers.len() as u64) < volley.frames());
        let bug = answers.iter().find(|answer| answer.status() == Status::Internal);
        assert!(bug.is_none(), "frame {} shows a bug: {bug:?} to {volley:02x?}", self.frames);
        let due = volley.followed.len();
        let is_answered = answers.len() == due || (volley.last.is_some() && answers.len() > due);
        assert!(is_answered, "{} answers, {due} due to {volley:02x?}", answers.len());
    }

    fn sum(mut self, other: &Tally) -> Tally {
        self.frames += other.frames;
        self.connections += other.connections;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.closed += other.closed;
        self
    }

    fn is_two_sided(&self, when: When) -> bool {
        // Of spoiled handshakes few are good all the same.
        (self.accepted > 0 || when == When::BeforeHandshake) && self.refused > 0 && self.closed > 0
    }
}

/// Several connections at once spoil frames, each with numbers of its own.
fn storm(random: &mut fastrand::Rng, targets: &[Target<'_>], when: When, count: u64) -> Tally {
    std::thread::scope(|scope| {
        let attack = |target| {
            let mut random = fastrand::Rng::with_seed(random.u64(..));
            scope.spawn(move || Target::attack(target, &mut random, when, count / targets.len() as u64))
        };
        let attackers: Vec<_> = targets.iter().map(attack).collect();
        attackers.into_iter().fold(Tally::default(), |sum, attacker| {
            sum.sum(&attacker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })
}

/// The most that a server may grow, whatever comes.
const GROWTH: u64 = 64 << 20;

#[test]
fn spoiled_frames_harm_nobody() {
    spoil(servers(), None);
}

#[test]
fn spoiled_frames_of_those_who_have_a_key_harm_nobody() {
    let keyring = Keyring::random().expect("random numbers");
    spoil(Setup::new(2, "64KiB").secret(&keyring).servers(), Some(&keyring));
}

fn spoil(cluster: Cluster, keyring: Option<&Keyring>) {
    let mut random = fastrand::Rng::with_seed(seed());
    let count = length("MCOMP_TEST_MUTATIONS", 24_000);
    unharmed(cluster, |cluster| {
        let endpoints = [tcp(cluster, 0), unix(cluster, 0)];
        let client = hello(cluster, 0, Role::Client);
        // One that comes back again and again under the same name, with numbers that were there before.
        let returning = Hello { session: some_id(), ..client.clone() };
        // One that may ask for cuts.
        let node = Hello { role: Role::Node, ..client.clone() };
        let targets = [client, returning, node].map(|mut hello| {
            // Where a proof is due, it is asked for.
            keyring.inspect(|keyring| drop(Prover::new(keyring, &mut hello).expect("random numbers")));
            Target { endpoints: &endpoints, hello, keyring }
        });
        let alone = Latency::of(cluster, || false, 10_000);
        let before = cluster.resident_bytes_of_server(0);
        let done = AtomicBool::new(false);
        let beside = std::thread::scope(|scope| {
            let stop_at_end = Stop(&done);
            let beside = scope.spawn(|| Latency::of(cluster, || done.load(Ordering::Relaxed), u64::MAX));
            for (when, share) in [(When::BeforeHandshake, count / 4), (When::AfterHandshake, count - count / 4)] {
                let tally = storm(&mut random, &targets, when, share);
                eprintln!("{when:?}: {tally:?}");
                assert!(tally.is_two_sided(when), "one-sided garbage: {tally:?}");
            }
            drop(stop_at_end);
            beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let after = cluster.resident_bytes_of_server(0);
        eprintln!("reads of 4 KiB over TCP: {alone} alone, {beside} beside; resident: {before} bytes, then {after}");
        assert!(after < before + GROWTH, "{before} bytes before, {after} after");
    });
}

/// How long reads of a block take a client that behaves.
struct Latency(hdrhistogram::Histogram<u64>);

impl Latency {
    /// Reads until it is `done`, or often enough; each read must succeed.
    fn of(cluster: &Cluster, done: impl Fn() -> bool, most: u64) -> Latency {
        let client = cluster.remote_client();
        let mut times_ns = hdrhistogram::Histogram::new(3).expect("three digits");
        while times_ns.len() < most && !done() {
            let began = Instant::now();
            client.read_vec(GUARD.start, 4096).expect("a good client reads");
            times_ns.record(began.elapsed().as_nanos() as u64).expect("less than centuries");
        }
        Latency(times_ns)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |quantile| self.0.value_at_quantile(quantile) / 1000;
        write!(f, "p50 {} us, p99 {} us of {}", us(0.5), us(0.99), self.0.len())
    }
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
