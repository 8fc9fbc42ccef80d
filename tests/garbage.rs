//! Any bytes at all on a socket get an error frame or a clean close, and harm nobody else.
//!
//! Each test attacks a server (or a snapshot process) while a good client goes on working. The memory
//! has three parts: a playground that valid requests may change, one block of the good client, and the
//! rest, whose bytes must be the same before and after. Nothing may hang, and no process may die.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mcomp_client::Cluster as Client;
use mcomp_net::Endpoint;
use mcomp_snapshot::{create, snapshotter_status};
use mcomp_wire::control::{
    self, CutEnd, CutPrepare, CutRelease, CutSwitch, Hello, RestoreAbort, RestoreBegin, RestoreEnd,
};
use mcomp_wire::control::{SnapshotCollect, SnapshotCreate, features};
use mcomp_wire::{AtomicOp, HEADER_LEN, Header, Kind, Ranges, Request, Role, Status, limits};
use uuid::Uuid;

use crate::harness::{Cluster, Setup, length, seed, wait_until};
use crate::raw::{Peer, body, frame, hello, tcp, unix};

const K: u64 = 64 << 10;
/// Valid requests stay below this address.
const PLAYGROUND: u64 = 16 << 10;
/// The block of the good client, on server 0.
const GOOD: u64 = K - 4096;
/// The part of server 0 that nobody may change.
const GUARD: std::ops::Range<u64> = PLAYGROUND..GOOD;

/// Runs `attack` on a cluster of two beside a good client, and checks that nobody was harmed.
fn unharmed(mut cluster: Cluster, attack: impl FnOnce(&mut Cluster)) {
    let client = cluster.client();
    let noise: Vec<u8> = (0..client.size()).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
    client.write_at(0, &noise).expect("the memory is filled");
    let guarded = |client: &Client| {
        let image = client.read_vec(0, client.size()).expect("the memory is read");
        (image[GUARD.start as usize..GUARD.end as usize].to_vec(), image[K as usize..].to_vec())
    };
    let before = (guarded(&client), starts(&client));
    beside_good_client(&client, || attack(&mut cluster));
    let after = (guarded(&client), starts(&client));
    assert!(before == after, "guarded memory changed, or a server was started again");
}

/// What changes when a server starts again, or is restored.
fn starts(client: &Client) -> Vec<(u32, u64, u64)> {
    let status = client.statuses().into_iter().map(|status| status.expect("every server answers"));
    status.map(|status| (status.pid, status.incarnation, status.config_epoch)).collect()
}

/// Runs `body` while a client writes and reads its own block and never sees a failure.
fn beside_good_client(client: &Client, body: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let stop_at_end = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let block = [rounds.load(Ordering::Relaxed) as u8; 4096];
                client.write_at(GOOD, &block).expect("a good client writes");
                assert!(client.read_vec(GOOD, 4096).expect("a good client reads") == block);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        wait_until("the good client works", || rounds.load(Ordering::Relaxed) > 0);
        body();
        let before = rounds.load(Ordering::Relaxed);
        wait_until("the good client works afterwards", || rounds.load(Ordering::Relaxed) > before + 1);
        drop(stop_at_end);
    });
}

fn servers() -> Cluster {
    Setup::new(2, "64KiB").servers()
}

/// The header of a frame of `body` bytes, changed by `change`, its checksum mended.
fn header_with(kind: Kind, body: usize, change: impl FnOnce(&mut [u8; HEADER_LEN])) -> Vec<u8> {
    let mut bytes = Header { kind: kind as u8, length: body as u32, ..Header::default() }.emit();
    change(&mut bytes);
    mend_header(&mut bytes);
    bytes.to_vec()
}

fn mend_header(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
    bytes[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
}

/// Headers after which there is no frame boundary any more, and the status that says why.
fn broken_headers() -> Vec<(&'static str, Vec<u8>, Status)> {
    let plain = |change: fn(&mut [u8; HEADER_LEN])| header_with(Kind::Status, 0, change);
    let mut bad_crc = plain(|_| {});
    bad_crc[HEADER_LEN - 1] ^= 1;
    vec![
        (
            "a request of another protocol",
            b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n".to_vec(),
            Status::Malformed,
        ),
        ("zeros", vec![0; 4096], Status::Malformed),
        ("ones", vec![0xff; 4096], Status::Malformed),
        ("a wrong magic", plain(|bytes| bytes[0] = b'm'), Status::Malformed),
        ("version 0", plain(|bytes| bytes[4] = 0), Status::Version),
        ("version 2", plain(|bytes| bytes[4] = 2), Status::Version),
        ("a bad header checksum", bad_crc, Status::Checksum),
        ("an unknown flag", plain(|bytes| bytes[7] = 0x80), Status::Malformed),
        ("the flag of an answer", plain(|bytes| bytes[6] = 1), Status::Malformed),
        ("the flag of an unfinished answer", plain(|bytes| bytes[6] = 4), Status::Malformed),
        ("a status", plain(|bytes| bytes[36] = 1), Status::Malformed),
        ("a reserved field", plain(|bytes| bytes[38] = 1), Status::Malformed),
        ("the longest length", plain(|bytes| bytes[32..36].fill(0xff)), Status::TooLarge),
        ("a length just too long", header_with(Kind::Write, limits::MAX_BODY + 1, |_| {}), Status::TooLarge),
    ]
}

#[test]
fn what_is_no_frame_is_answered_with_the_reason_and_closed() {
    unharmed(servers(), |cluster| {
        for endpoint in [tcp(cluster, 0), unix(cluster, 0)] {
            for (what, bytes, status) in broken_headers() {
                let greeted = || Peer::greeted(&endpoint, &hello(cluster, 0, Role::Client));
                for mut peer in [Peer::connect(&endpoint), greeted()] {
                    peer.send(&bytes);
                    // It is not we who close first: the server does.
                    let answer = peer.next().unwrap_or_else(|| panic!("{what}: closed without a reason"));
                    assert_eq!(
                        (answer.header.kind, answer.status()),
                        (Kind::Error as u8, status),
                        "{what}: {answer:?}"
                    );
                    assert!(!answer.body.is_empty() && std::str::from_utf8(&answer.body).is_ok(), "{what}: {answer:?}");
                    assert!(peer.next().is_none(), "{what}: closed after the reason");
                }
            }
        }
    });
}

#[test]
fn before_the_handshake_nothing_else_is_taken() {
    unharmed(servers(), |cluster| {
        let long_hello = Hello { auth: vec![0; limits::MAX_HELLO], ..hello(cluster, 0, Role::Client) };
        let mut cases = vec![
            ("a body that is too long", header_with(Kind::Hello, limits::MAX_HELLO + 1, |_| {}), Status::TooLarge),
            ("a long handshake", frame(Kind::Hello as u8, 1, 0, &control::encode(&long_hello)), Status::TooLarge),
            ("an unknown kind", frame(0xee, 1, 0, &[]), Status::Malformed),
        ];
        for &kind in Kind::ALL.iter().filter(|&&kind| kind != Kind::Hello) {
            cases.push((kind.word(), frame(kind as u8, 1, 0, &[0; 16]), Status::Malformed));
        }
        let good = control::encode(&hello(cluster, 0, Role::Client));
        for len in 0..good.len() {
            cases.push(("a handshake cut short", frame(Kind::Hello as u8, 1, 0, &good[..len]), Status::Malformed));
        }
        cases.push(("trailing", frame(Kind::Hello as u8, 1, 0, &[&good[..], &[0]].concat()), Status::Malformed));
        for (what, bytes, status) in cases {
            let mut peer = Peer::connect(&tcp(cluster, 0));
            peer.send(&bytes);
            let answer = peer.next().unwrap_or_else(|| panic!("{what}: closed without a reason"));
            assert_eq!(answer.status(), status, "{what}: {answer:?}");
            assert!(peer.next().is_none(), "{what}");
        }
    });
}

#[test]
fn a_handshake_that_means_someone_else_is_refused_with_both_values() {
    unharmed(servers(), |cluster| {
        let good = hello(cluster, 0, Role::Client);
        let wrong: Vec<(&str, Hello)> = vec![
            ("elsewhere", Hello { cluster: "elsewhere".into(), ..good.clone() }),
            ("\"\"", Hello { cluster: String::new(), ..good.clone() }),
            ("1", Hello { server: 1, ..good.clone() }),
            ("4294967295", Hello { server: u32::MAX, ..good.clone() }),
            ("131072", Hello { k: 2 * K, ..good.clone() }),
            ("18446744073709551615", Hello { k: u64::MAX, ..good.clone() }),
            ("3", Hello { n: 3, ..good.clone() }),
        ];
        for (value, hello) in wrong {
            let refused = Peer::try_greeted(&tcp(cluster, 0), &hello).expect_err("another mcomp.cfg");
            let answer = refused.expect("a reason");
            assert_eq!(answer.status(), Status::WrongCluster, "{answer:?}");
            assert!(String::from_utf8_lossy(&answer.body).contains(value), "{value}: {answer:?}");
        }
        Peer::greeted(&tcp(cluster, 0), &good);
    });
}

/// A list of ranges as on the wire, also one that no client would send.
fn ranges(count: u32, list: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    Ranges::emit(list, &mut out);
    out[..4].copy_from_slice(&count.to_le_bytes());
    out
}

/// One batch item with any header.
fn item(kind: u8, reserved: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[kind, reserved, 0, 0][..], &length.to_le_bytes(), body].concat()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Bodies of data requests that have not the shape of their kind.
fn malformed_bodies() -> Vec<(&'static str, Kind, Vec<u8>)> {
    let fixed =
        [(Kind::Read, 2), (Kind::Fill, 3), (Kind::Copy, 3), (Kind::Checksum, 2), (Kind::Atomic, 4), (Kind::Cas16, 5)];
    let mut cases = Vec::new();
    for (kind, fields) in fixed {
        // The second word is an operation or a length, and 1 is a valid one of either.
        let whole = words(&[0, 1, 0, 0, 0][..fields]);
        cases.extend((0..whole.len()).map(|len| ("short", kind, whole[..len].to_vec())));
        cases.push(("trailing", kind, [&whole[..], &[0]].concat()));
    }
    cases.extend((0..8).map(|len| ("no address", Kind::Write, vec![0; len])));
    cases.extend((0..8).map(|len| ("no address", Kind::Compare, vec![0; len])));
    for kind in [Kind::ReadV, Kind::WriteV] {
        cases.extend([
            ("no count", kind, vec![0; 7]),
            ("a reserved byte", kind, [&1u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0; 16]].concat()),
            ("more than there are", kind, ranges(2, &[(0, 8)])),
        ]);
    }
    cases.extend([
        ("a byte above 255", Kind::Fill, words(&[0, 1, 256])),
        ("operation 0", Kind::Atomic, words(&[0, 0, 0, 0])),
        ("operation 9", Kind::Atomic, words(&[0, 9, 0, 0])),
        ("operation 257", Kind::Atomic, words(&[0, 257, 0, 0])),
        ("fewer ranges than there are", Kind::ReadV, ranges(1, &[(0, 8), (0, 8)])),
        ("no data", Kind::WriteV, ranges(1, &[(0, 8)])),
        ("too few data", Kind::WriteV, [ranges(1, &[(0, 8)]), vec![1; 7]].concat()),
        ("too many data", Kind::WriteV, [ranges(1, &[(0, 8)]), vec![1; 9]].concat()),
        ("half an item", Kind::Batch, vec![0x10, 0, 0, 0]),
        ("an item that is too short", Kind::Batch, item(0x10, 0, 15, &[0; 15])),
        ("an item longer than the frame", Kind::Batch, item(0x10, 0, 17, &words(&[0, 8]))),
        ("an item of the longest length", Kind::Batch, item(0x10, 0, u32::MAX, &words(&[0, 8]))),
        ("a reserved byte", Kind::Batch, item(0x10, 1, 16, &words(&[0, 8]))),
        ("an unknown kind", Kind::Batch, item(0xee, 0, 0, &[])),
        ("a control kind", Kind::Batch, item(Kind::Status as u8, 0, 0, &[])),
        ("a batch in a batch", Kind::Batch, item(Kind::Batch as u8, 0, 0, &[])),
        // The first item is good, and must not be done before the second was looked at.
        (
            "a good item before a bad one",
            Kind::Batch,
            [item(Kind::Write as u8, 0, 16, &words(&[GUARD.start, 0])), item(0xee, 0, 0, &[])].concat(),
        ),
    ]);
    cases
}

/// Bodies that ask for more than a maximum of the protocol, or claim to hold more.
fn oversized_bodies() -> Vec<(&'static str, Kind, Vec<u8>)> {
    let max = limits::MAX_PAYLOAD as u64;
    let mut cases = vec![
        ("a byte too long", Kind::Read, words(&[0, max + 1])),
        ("as long as can be", Kind::Read, words(&[0, u64::MAX])),
        ("a byte too long", Kind::Write, vec![0; 8 + max as usize + 1]),
        ("a byte too long", Kind::Compare, vec![0; 8 + max as usize + 1]),
        ("a byte too long", Kind::Fill, words(&[0, limits::MAX_SPAN + 1, 0])),
        ("as long as can be", Kind::Fill, words(&[0, u64::MAX, 0])),
        ("as long as can be", Kind::Copy, words(&[0, 0, u64::MAX])),
        ("as long as can be", Kind::Checksum, words(&[0, u64::MAX])),
        ("too many items", Kind::Batch, item(Kind::Read as u8, 0, 16, &[0; 16]).repeat(limits::MAX_BATCH + 1)),
        ("an answer too large", Kind::Batch, item(Kind::Read as u8, 0, 16, &words(&[0, max])).repeat(2)),
    ];
    for kind in [Kind::ReadV, Kind::WriteV] {
        cases.extend([
            ("as many as fit into no memory", kind, ranges(u32::MAX, &[(0, 8)])),
            ("one too many", kind, ranges(limits::MAX_RANGES as u32 + 1, &[(0, 0); limits::MAX_RANGES])),
            ("a sum too large", kind, ranges(2, &[(0, max), (0, 1)])),
            ("a sum that overflows", kind, ranges(2, &[(0, u64::MAX), (0, 2)])),
            ("a sum that overflows to little", kind, ranges(3, &[(0, 1 << 63), (0, 1 << 63), (0, 8)])),
        ]);
    }
    cases
}

#[test]
fn a_malformed_body_is_refused_and_the_connection_goes_on() {
    unharmed(servers(), |cluster| {
        let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, Role::Client));
        let malformed = malformed_bodies().into_iter().map(|case| (Status::Malformed, case));
        let oversized = oversized_bodies().into_iter().map(|case| (Status::TooLarge, case));
        for (id, (status, (what, kind, body))) in (2..).step_by(2).zip(malformed.chain(oversized)) {
            let answer = peer.ask(kind as u8, id, &body);
            assert_eq!(answer.status(), status, "{kind} {what}: {answer:?}");
            let answer = peer.ask(Kind::Read as u8, id + 1, &words(&[0, 8]));
            assert_eq!((answer.status(), answer.body.len()), (Status::Ok, 8), "after {kind} {what}: {answer:?}");
        }
    });
}

#[test]
fn a_range_that_overflows_or_lies_outside_is_refused_whole() {
    unharmed(servers(), |cluster| {
        let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, Role::Client));
        let outside = [
            (K, 8),
            (K - 7, 8),
            (K - 8, 16),
            (2 * K, 8),
            (u64::MAX, 1),
            (u64::MAX - 7, 8),
            (u64::MAX - 3, 8),
            (1 << 63, 1 << 19),
            (K + 1, 0),
        ];
        let guarded = (GUARD.start, 8);
        let mut id = 1;
        for (addr, len) in outside {
            let data = vec![0; len as usize];
            // The first range is good: not even that one is touched.
            let list = ranges(2, &[guarded, (addr, len)]);
            let list_data = vec![0; (guarded.1 + len) as usize];
            let mut cases = vec![
                (Kind::Read, words(&[addr, len])),
                (Kind::Write, [words(&[addr]), data.clone()].concat()),
                (Kind::Fill, words(&[addr, len, 0])),
                (Kind::Copy, words(&[guarded.0, addr, len])),
                (Kind::Copy, words(&[addr, guarded.0, len])),
                (Kind::Compare, [words(&[addr]), data].concat()),
                (Kind::Checksum, words(&[addr, len])),
                (Kind::ReadV, list.clone()),
                (Kind::WriteV, [list, list_data].concat()),
            ];
            if len == 8 {
                cases.push((Kind::Atomic, words(&[addr, AtomicOp::Swap as u64, 0, 0])));
                cases.push((Kind::Cas16, words(&[addr, 0, 0, 0, 0])));
            }
            for (kind, body) in cases {
                id += 1;
                let answer = peer.ask(kind as u8, id, &body);
                assert_eq!(answer.status(), Status::OutOfRange, "{kind} {addr:#x}+{len}: {answer:?}");
            }
        }
        for (kind, body) in [
            (Kind::Atomic, words(&[PLAYGROUND + 4, AtomicOp::Swap as u64, 0, 0])),
            (Kind::Cas16, words(&[PLAYGROUND + 8, 0, 0, 0, 0])),
        ] {
            id += 1;
            assert_eq!(peer.ask(kind as u8, id, &body).status(), Status::Unaligned, "{kind}");
        }
    });
}

#[test]
fn a_body_without_the_checksum_that_was_agreed_on_ends_the_connection() {
    unharmed(servers(), |cluster| {
        let hello = Hello { features: features::CHECKSUM, ..hello(cluster, 0, Role::Client) };
        let body = body(&Request::Write { addr: GUARD.start, data: &[0; 100] });
        for (summed, status) in [(true, Status::Checksum), (false, Status::Malformed)] {
            let mut peer = Peer::greeted(&tcp(cluster, 0), &hello);
            let header = Header { kind: Kind::Write as u8, config_epoch: peer.epoch(), ..Header::default() };
            let mut bytes = [&header.for_body(&body, summed).emit(), &body[..]].concat();
            bytes[HEADER_LEN + 20] ^= 1;
            peer.send(&bytes);
            let answer = peer.next().expect("a reason");
            assert_eq!(answer.status(), status, "{answer:?}");
            assert!(peer.next().is_none());
        }
    });
}

/// The id of a cut, restore or session that nobody else has.
fn some_id() -> Uuid {
    Uuid::from_bytes([7; 16])
}

/// A cut that is not in progress anywhere, and everything that can be asked about it.
fn control_requests() -> Vec<(Kind, Role, Vec<u8>)> {
    let cut = some_id();
    vec![
        (Kind::CutPrepare, Role::Node, control::encode(&CutPrepare { cut })),
        (Kind::CutSwitch, Role::Node, control::encode(&CutSwitch { cut, epoch: 9 })),
        (Kind::CutRelease, Role::Node, control::encode(&CutRelease { cut })),
        (Kind::CutEnd, Role::Node, control::encode(&CutEnd { cut, failure: Some("no reason".into()) })),
        (Kind::RestoreBegin, Role::Admin, control::encode(&RestoreBegin { restore: cut })),
        (Kind::RestoreEnd, Role::Admin, control::encode(&RestoreEnd { restore: cut, config_epoch: 99 })),
        (Kind::RestoreAbort, Role::Admin, control::encode(&RestoreAbort { restore: cut })),
    ]
}

#[test]
fn control_requests_need_their_role_and_their_shape() {
    unharmed(servers(), |cluster| {
        for (kind, needed, whole) in control_requests() {
            for &role in Role::ALL.iter().filter(|&&role| role != needed) {
                let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, role));
                assert_eq!(peer.ask(kind as u8, 2, &whole).status(), Status::Denied, "{kind} by {role}");
                assert_eq!(peer.ask(Kind::Read as u8, 3, &words(&[0, 8])).status(), Status::Ok, "{kind} by {role}");
            }
            let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, needed));
            let mut wrong: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
            wrong.push([&whole[..], &[0]].concat());
            wrong.push(vec![0xff; 64]);
            for (id, body) in (2..).zip(wrong) {
                let answer = peer.ask(kind as u8, id, &body);
                assert_eq!(answer.status(), Status::Malformed, "{kind} {body:02x?}: {answer:?}");
            }
            let answer = peer.ask(kind as u8, 1000, &vec![0; limits::MAX_CONTROL + 1]);
            assert_eq!(answer.status(), Status::TooLarge, "{kind}: {answer:?}");
        }
    });
}

#[test]
fn control_requests_out_of_order_are_refused() {
    unharmed(servers(), |cluster| {
        for (kind, role, body) in control_requests() {
            if matches!(kind, Kind::CutPrepare | Kind::RestoreBegin) {
                continue;
            }
            let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, role));
            let answer = peer.ask(kind as u8, 2, &body);
            let refused = if role == Role::Node { Status::CutLost } else { Status::Malformed };
            assert_eq!(answer.status(), refused, "{kind}: {answer:?}");
        }
    });
}

#[test]
fn a_kind_that_is_not_served_here_is_refused() {
    unharmed(servers(), |cluster| {
        let foreign = [Kind::Error, Kind::Hello, Kind::SnapshotCreate, Kind::SnapshotCollect, Kind::SnapshotStatus];
        for role in [Role::Client, Role::Node, Role::Admin] {
            let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, role));
            for kind in foreign.into_iter().chain([Kind::SnapshotProgress, Kind::SnapshotChunk]) {
                let answer = peer.ask(kind as u8, 2, &[0; 32]);
                assert_eq!(answer.status(), Status::UnknownKind, "{kind}: {answer:?}");
            }
            peer.request(0xee, 3, &[]);
            let answer = peer.next().expect("a reason");
            assert_eq!((answer.header.kind, answer.status()), (0xee, Status::UnknownKind));
            assert!(peer.next().is_none(), "closed after an unknown number");
        }
    });
}

#[test]
fn a_frame_cut_off_at_any_byte_has_no_effect() {
    unharmed(servers(), |cluster| {
        let greeting = hello(cluster, 0, Role::Client);
        let hello = frame(Kind::Hello as u8, 1, 0, &control::encode(&greeting));
        for len in 0..hello.len() {
            let mut peer = Peer::connect(&tcp(cluster, 0));
            peer.send(&hello[..len]);
            assert!(peer.finish().is_empty(), "{len} bytes of a handshake are not answered");
        }
        let data = [0; 100];
        let pair = [(GUARD.start, 50), (GUARD.start + 4096, 50)];
        let list = [ranges(2, &pair), data.to_vec()].concat();
        let requests = [(Kind::Write, body(&Request::Write { addr: GUARD.start, data: &data })), (Kind::WriteV, list)];
        for (kind, body) in requests {
            for len in 0..HEADER_LEN + body.len() {
                let mut peer = Peer::greeted(&unix(cluster, 0), &greeting);
                peer.send(&frame(kind as u8, 2, peer.epoch(), &body)[..len]);
                assert!(peer.finish().is_empty(), "{len} bytes of a {kind} are not answered");
            }
        }
    });
}

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
fn fuzz(random: &mut fastrand::Rng, endpoints: &[Endpoint], hello: &Hello, count: u64) -> Tally {
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
struct Tally {
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

/// A collect of a cut that never was, of the segment that is there.
fn collect_of(cluster: &Cluster, level: i32) -> SnapshotCollect {
    let segment = cluster.client().dedicated(0).expect("a connection").welcome().segment;
    SnapshotCollect { cut: segment, epoch: 77, segment, since: 0, level }
}

#[test]
fn a_snapshot_process_takes_garbage_as_well() {
    let mut random = fastrand::Rng::with_seed(seed());
    unharmed(Setup::new(2, "64KiB").start(), |cluster| {
        let endpoint = Endpoint::Tcp(cluster.snapshot_address(0));
        let greeted = |role| Peer::greeted(&endpoint, &hello(cluster, 0, role));
        for (what, bytes, _) in broken_headers() {
            for mut peer in [Peer::connect(&endpoint), greeted(Role::Admin)] {
                peer.send(&bytes);
                let answers = peer.finish();
                assert!(answers.iter().all(|answer| answer.status() != Status::Ok), "{what}: {answers:?}");
            }
        }
        for &kind in Kind::ALL.iter().filter(|&&kind| kind != Kind::Hello) {
            let mut peer = Peer::connect(&endpoint);
            peer.request(kind as u8, 1, &[]);
            assert_eq!(peer.next().expect("a reason").status(), Status::Malformed, "{kind} before the handshake");
            assert!(peer.next().is_none());
        }
        let other = Hello { n: 9, ..hello(cluster, 0, Role::Admin) };
        let refused = Peer::try_greeted(&endpoint, &other).expect_err("another mcomp.cfg").expect("a reason");
        assert_eq!(refused.status(), Status::WrongCluster);
        is_served_by_role_only(cluster, &greeted);
        let client = hello(cluster, 0, Role::Client);
        eprintln!(
            "{:?}",
            fuzz(&mut random, std::slice::from_ref(&endpoint), &client, length("MCOMP_TEST_MUTATIONS", 500))
        );
        let config = cluster.config();
        assert_eq!(snapshotter_status(&config, 0).expect("it answers").pid, cluster.snapshotter_pid(0));
        create(&config, false, &mut |_| {}).expect("the next snapshot works");
    });
}

fn is_served_by_role_only(cluster: &Cluster, greeted: &dyn Fn(Role) -> Peer) {
    let collect = control::encode(&collect_of(cluster, 1));
    let requests = [
        (Kind::SnapshotCollect, Role::Node, collect),
        (Kind::SnapshotCreate, Role::Admin, control::encode(&SnapshotCreate { incremental: false })),
    ];
    for (kind, needed, whole) in requests {
        for &role in Role::ALL.iter().filter(|&&role| role != needed) {
            assert_eq!(greeted(role).ask(kind as u8, 2, &whole).status(), Status::Denied, "{kind} by {role}");
        }
        let mut peer = greeted(needed);
        for (id, len) in (2..).zip(0..whole.len()) {
            let answer = peer.ask(kind as u8, id, &whole[..len]);
            assert_eq!(answer.status(), Status::Malformed, "{len} bytes of {kind}: {answer:?}");
        }
    }
    // The right segment, but no such cut; and a level that no compressor has.
    for level in [1, 1000, i32::MIN, i32::MAX] {
        let mut peer = greeted(Role::Node);
        let answer = peer.ask(Kind::SnapshotCollect as u8, 2, &control::encode(&collect_of(cluster, level)));
        assert_eq!(answer.status(), Status::CutLost, "{answer:?}");
    }
    for kind in [Kind::Read, Kind::Write, Kind::CutPrepare, Kind::RestoreBegin, Kind::Status] {
        let answer = greeted(Role::Client).ask(kind as u8, 2, &[0; 32]);
        assert_eq!(answer.status(), Status::UnknownKind, "{kind}: {answer:?}");
    }
}

#[test]
fn an_epoch_at_the_end_of_all_numbers_does_not_end_the_snapshots() {
    unharmed(Setup::new(2, "64KiB").start(), |cluster| {
        let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, Role::Node));
        let cut = some_id();
        let prepare = CutPrepare { cut };
        assert_eq!(peer.ask(Kind::CutPrepare as u8, 2, &control::encode(&prepare)).status(), Status::Ok);
        for epoch in [u64::MAX, u64::MAX >> 1, 1 << 40] {
            let answer = peer.ask(Kind::CutSwitch as u8, 3, &control::encode(&CutSwitch { cut, epoch }));
            assert_eq!(answer.status(), Status::CutLost, "{answer:?}");
        }
        drop(peer);
        create(&cluster.config(), false, &mut |_| {}).expect("the next snapshot works");
    });
}

#[test]
fn an_epoch_at_the_end_of_all_numbers_does_not_end_the_restores() {
    let cluster = Setup::new(2, "64KiB").start();
    cluster.client().write_at(0, b"kept").expect("a write");
    let path = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a plain path");
    let mut peer = Peer::greeted(&tcp(&cluster, 0), &hello(&cluster, 0, Role::Admin));
    let restore = some_id();
    let begin = control::encode(&RestoreBegin { restore });
    assert_eq!(peer.ask(Kind::RestoreBegin as u8, 2, &begin).status(), Status::Ok);
    for config_epoch in [u64::MAX, 1 << 40, 0] {
        let end = control::encode(&RestoreEnd { restore, config_epoch });
        let answer = peer.ask(Kind::RestoreEnd as u8, 3, &end);
        assert_eq!(answer.status(), Status::Malformed, "{answer:?}");
    }
    let write = body(&Request::Write { addr: 0, data: b"half" });
    assert_eq!(peer.ask(Kind::Write as u8, 4, &write).status(), Status::Ok);
    drop(peer);
    // The memory stays closed until a restore goes through, and one does.
    cluster.exits(75, &["read", "0", "4"]);
    cluster.ok(&["restore", path.trim()]);
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"kept");
}
