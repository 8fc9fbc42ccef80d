//! Every operation against a plain `Vec<u8>`.

use proptest::prelude::*;

use super::Scratch;
use crate::Segment;

const BLOCKS: u64 = 4;
const K: usize = BLOCKS as usize * 4096;

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    Fill(usize, usize, u8),
    Copy(usize, usize, usize),
    Read(usize, usize),
    Compare(usize, usize, Option<usize>),
    Add8(usize, u64),
    Swap16(usize, u128),
    /// A cut begins or ends: it must change no byte of the live memory.
    Cut,
}

/// Offsets gather around block borders, where the mistakes are.
fn offset() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..K,
        (0..BLOCKS as usize, 0..16usize).prop_map(|(block, near)| (block * 4096 + near).saturating_sub(8))
    ]
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![0..40usize, 200..300usize, 0..3 * 4096usize, Just(4096)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (offset(), len(), any::<u8>()).prop_map(|(at, len, seed)| {
            let len = len.min(K - at);
            Op::Write(at, (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect())
        }),
        (offset(), len(), any::<u8>()).prop_map(|(at, len, byte)| Op::Fill(at, len.min(K - at), byte)),
        (offset(), offset(), len()).prop_map(|(from, to, len)| Op::Copy(from, to, len.min(K - from.max(to)))),
        (offset(), len()).prop_map(|(at, len)| Op::Read(at, len.min(K - at))),
        (offset(), len(), proptest::option::of(0..3 * 4096usize)).prop_map(|(at, len, differ)| Op::Compare(
            at,
            len.min(K - at),
            differ
        )),
        (offset(), any::<u64>()).prop_map(|(at, delta)| Op::Add8(at / 8 * 8, delta)),
        (offset(), any::<u128>()).prop_map(|(at, new)| Op::Swap16(at / 16 * 16, new)),
        Just(Op::Cut),
    ]
}

fn toggle_cut(segment: &Segment) {
    if segment.is_cutting() {
        segment.end_cut().unwrap();
    } else {
        segment.prepare_shadow().unwrap();
        segment.switch(segment.epoch() + 1).unwrap();
    }
}

fn apply(segment: &Segment, model: &mut [u8], op: Op) {
    let span = |at: usize, len: usize| segment.span(at as u64, len as u64).unwrap();
    match op {
        Op::Write(at, bytes) => {
            segment.write(span(at, bytes.len()), &bytes).unwrap();
            model[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        Op::Fill(at, len, byte) => {
            segment.fill(span(at, len), byte).unwrap();
            model[at..at + len].fill(byte);
        }
        Op::Copy(from, to, len) => {
            segment.copy(span(from, len), span(to, len)).unwrap();
            model.copy_within(from..from + len, to);
        }
        Op::Read(at, len) => {
            let mut appended = vec![7; 3];
            segment.read_append(span(at, len), &mut appended).unwrap();
            assert_eq!(appended[..3], [7; 3]);
            assert_eq!(appended[3..], model[at..at + len]);
            let mut seen = Vec::new();
            segment.for_each_block(span(at, len), |bytes| seen.extend_from_slice(bytes)).unwrap();
            assert_eq!(seen, model[at..at + len]);
        }
        Op::Compare(at, len, differ) => {
            let mut bytes = model[at..at + len].to_vec();
            let differ = differ.filter(|&index| index < len);
            if let Some(index) = differ {
                bytes[index] ^= 1;
            }
            assert_eq!(segment.compare(span(at, len), &bytes).unwrap(), differ.map(|index| index as u64));
        }
        Op::Add8(at, delta) => {
            let old = u64::from_le_bytes(model[at..at + 8].try_into().unwrap());
            let new = old.wrapping_add(delta);
            let word = segment.word8(at as u64).unwrap();
            assert_eq!(segment.update8(word, |old| Some(old.wrapping_add(delta))).unwrap(), old);
            assert_eq!(segment.update8(word, |_| None).unwrap(), new);
            model[at..at + 8].copy_from_slice(&new.to_le_bytes());
        }
        Op::Swap16(at, new) => {
            let old = u128::from_le_bytes(model[at..at + 16].try_into().unwrap());
            assert_eq!(segment.update16(segment.word16(at as u64).unwrap(), |_| Some(new)).unwrap(), old);
            model[at..at + 16].copy_from_slice(&new.to_le_bytes());
        }
        Op::Cut => toggle_cut(segment),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_segment_behaves_like_a_vector(ops in proptest::collection::vec(op(), 1..60)) {
        let scratch = Scratch::new();
        let segment = scratch.segment(BLOCKS);
        let mut model = vec![0; K];
        for op in ops {
            apply(&segment, &mut model, op);
        }
        let mut all = vec![0xff; K];
        segment.read_into(segment.span(0, K as u64).unwrap(), &mut all).unwrap();
        prop_assert!(all == model, "the segment differs from its model");
        let reader = crate::Reader::open(&scratch.cluster, 0).unwrap();
        reader.read_into(reader.span(0, K as u64).unwrap(), &mut all).unwrap();
        prop_assert!(all == model, "the read-only mapping differs from the model");
    }
}
