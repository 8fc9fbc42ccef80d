//! Golden bytes, round trips, and bytes that must be refused.

use proptest::prelude::*;

use super::*;
use crate::{Status, emit_answer_item, emit_item};

fn emitted(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.emit(&mut out);
    out
}

fn round_trip(request: Request<'_>) {
    let body = emitted(&request);
    assert_eq!(Request::parse(request.kind() as u8, &body), Ok(request));
}

#[test]
fn golden_bytes() {
    let read = Request::Read { addr: 0x0102, len: 3 };
    assert_eq!(emitted(&read), [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    let write = Request::Write { addr: 1, data: b"ab" };
    assert_eq!(emitted(&write), [1, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
    let add = Request::Atomic { addr: 8, op: AtomicOp::Add, operand: 5, expected: 0 };
    let mut expected = [0u8; 32];
    (expected[0], expected[8], expected[16]) = (8, 2, 5);
    assert_eq!(emitted(&add), expected);
    let mut ranges = Vec::new();
    Ranges::emit(&[(9, 1)], &mut ranges);
    assert_eq!(ranges, [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let mut batch = Vec::new();
    emit_item(&write, &mut batch);
    assert_eq!(batch, [0x11, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
    assert_eq!(AtomicAnswer { previous: 7, applied: true }.emit(), [7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn requests_round_trip() {
    round_trip(Request::Read { addr: 1, len: 2 });
    round_trip(Request::Write { addr: 1, data: &[] });
    round_trip(Request::Fill { addr: 1, len: 2, byte: 3 });
    round_trip(Request::Copy { from: 1, to: 2, len: 3 });
    round_trip(Request::Compare { addr: 1, data: b"xyz" });
    round_trip(Request::Checksum { addr: 1, len: 9 });
    round_trip(Request::Cas16 { addr: 16, expected: 1 << 100, new: 2 });
    for &op in AtomicOp::ALL {
        round_trip(Request::Atomic { addr: 8, op, operand: 2, expected: 1 });
    }
    let mut list = Vec::new();
    Ranges::emit(&[(1, 2), (9, 1)], &mut list);
    let ranges = Ranges::parse(&list).unwrap().0;
    round_trip(Request::ReadV(ranges));
    round_trip(Request::WriteV(ranges, b"abc"));
    let mut items = Vec::new();
    emit_item(&Request::Read { addr: 1, len: 2 }, &mut items);
    emit_item(&Request::WriteV(ranges, b"abc"), &mut items);
    round_trip(Request::Batch(Batch::parse(&items).unwrap()));
}

#[test]
fn wrong_shapes_are_refused() {
    assert_eq!(Request::parse(0x10, &[0; 15]), Err(Malformed::Short));
    assert_eq!(Request::parse(0x10, &[0; 17]), Err(Malformed::Trailing(1)));
    assert_eq!(Request::parse(0x16, &[0; 32]), Err(Malformed::AtomicOp(0)));
    assert_eq!(Request::parse(0x77, &[]), Err(Malformed::Kind(0x77)));
    let huge = emitted(&Request::Read { addr: 0, len: u64::MAX });
    assert!(matches!(Request::parse(0x10, &huge), Err(Malformed::TooLarge { .. })));
    let mut nested = Vec::new();
    emit_item(&Request::Batch(Batch::parse(&[]).unwrap()), &mut nested);
    assert_eq!(Batch::parse(&nested), Err(Malformed::Kind(Kind::Batch as u8)));
    let mut answered = Vec::new();
    emit_answer_item(Kind::Fill, &mut answered, |out| {
        Request::Fill { addr: 0, len: 1, byte: 2 }.emit(out);
        Status::Busy
    });
    assert_eq!(Batch::parse(&answered), Err(Malformed::Reserved), "a status is for answers");
    let mut list = Vec::new();
    Ranges::emit(&[(0, u64::MAX), (0, u64::MAX)], &mut list);
    assert!(matches!(Ranges::parse(&list), Err(Malformed::TooLarge { .. })));
    let claim = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert!(matches!(Ranges::parse(&claim), Err(Malformed::TooMany { .. })));
}

#[test]
fn an_answer_is_yes_or_no() {
    let (mut atomic, mut cas16) = ([0; AtomicAnswer::LEN], [0; Cas16Answer::LEN]);
    (atomic[8], cas16[16]) = (2, 2);
    assert_eq!(AtomicAnswer::parse(&atomic), Err(Malformed::Reserved));
    assert_eq!(Cas16Answer::parse(&cas16), Err(Malformed::Reserved));
}

/// What neither the request nor the answer holds costs its sender nothing, and must not keep a server busy.
#[test]
fn a_batch_touches_no_more_than_one_request_may() {
    let batch = |requests: &[Request<'_>]| {
        let mut items = Vec::new();
        requests.iter().for_each(|request| emit_item(request, &mut items));
        Batch::parse(&items).map(|batch| Request::Batch(batch).touched_len())
    };
    let half = limits::MAX_SPAN / 2;
    let fill = Request::Fill { addr: 0, len: half, byte: 0 };
    let read = Request::Read { addr: 0, len: 8 };
    assert_eq!(batch(&[fill, read, Request::Copy { from: 0, to: 1, len: half }]), Ok(limits::MAX_SPAN));
    let too_large = Err(Malformed::TooLarge { length: limits::MAX_SPAN + 1, max: limits::MAX_SPAN });
    assert_eq!(batch(&[fill, Request::Copy { from: 0, to: 1, len: half + 1 }]), too_large);
    assert_eq!(batch(&[fill, fill, Request::Checksum { addr: 0, len: 1 }]), too_large);
}

proptest! {
    #[test]
    fn no_body_panics(kind in 0u8..0x20, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = Request::parse(kind, &body) {
            let _ = (request.modifies(), request.answer_len());
            prop_assert_eq!(emitted(&request), body);
        }
    }
}
