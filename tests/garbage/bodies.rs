//! Frames that are well, with bodies that are not: each is refused, has no effect, and the connection goes on
//! where the stream still makes sense.

use super::*;

/// A list of ranges as on the wire, also one that no client would send.
pub(super) fn ranges(count: u32, list: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    Ranges::emit(list, &mut out);
    out[..4].copy_from_slice(&count.to_le_bytes());
    out
}

/// One batch item with any header.
fn item(kind: u8, reserved: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[kind, reserved, 0, 0][..], &length.to_le_bytes(), body].concat()
}

pub(super) fn words(words: &[u64]) -> Vec<u8> {
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
