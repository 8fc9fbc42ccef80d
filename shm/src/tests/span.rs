//! Addresses: what is refused, and how a span falls into pieces.

use crate::span::{Piece, Span, Word8, Word16};

#[test]
fn a_span_is_inside_or_is_not_made() {
    let k = 8192;
    assert!(Span::new(0, 8192, k).is_some());
    assert!(Span::new(8192, 0, k).is_some());
    assert!(Span::new(8192, 1, k).is_none());
    assert!(Span::new(8193, 0, k).is_none());
    assert!(Span::new(1, u64::MAX, k).is_none());
    assert!(Span::new(u64::MAX, 1, k).is_none());
}

#[test]
fn pieces_cover_a_span_once() {
    let pieces: Vec<Piece> = Span::new(4000, 4300, 16384).unwrap().pieces().collect();
    let piece = |block, within, len_bytes, skip_bytes| Piece { block, within, len_bytes, skip_bytes };
    assert_eq!(pieces, [piece(0, 4000, 96, 0), piece(1, 0, 4096, 96), piece(2, 0, 108, 4192)]);
    let mut backwards: Vec<Piece> = Span::new(4000, 4300, 16384).unwrap().pieces().rev().collect();
    backwards.reverse();
    assert_eq!(backwards, pieces);
    assert_eq!(Span::new(4096, 0, 16384).unwrap().pieces().count(), 0);
}

#[test]
fn words_are_aligned() {
    assert!(Word8::new(8, 4096).is_some());
    assert!(Word8::new(4, 4096).is_none());
    assert!(Word8::new(4096, 4096).is_none());
    assert!(Word16::new(4080, 4096).is_some());
    assert!(Word16::new(4088, 8192).is_none());
}
