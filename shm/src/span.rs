//! Addresses that have been checked: a span of bytes, and an aligned word.
//!
//! An offset or a length from outside is a claim. Only the constructors of [`crate::Segment`] and
//! [`crate::Reader`] turn it into one of these types, which prove that it lies inside k bytes. An operation
//! still asserts that the proof was made for a segment of its own size.

use crate::layout::BLOCK_BYTES;

/// `len` bytes from `offset`, inside the k bytes for which it was made.
///
/// * `offset + len <= k`, without overflow; `len` may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    offset: u64,
    len_bytes: usize,
}

impl Span {
    pub(crate) fn new(offset: u64, len_bytes: u64, k_bytes: u64) -> Option<Span> {
        let end = offset.checked_add(len_bytes)?;
        let len_bytes = usize::try_from(len_bytes).ok()?;
        (end <= k_bytes).then_some(Span { offset, len_bytes })
    }

    /// First byte, counted from the start of the segment's data.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of bytes.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Whether it covers no byte.
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.offset + self.len_bytes as u64
    }

    /// The part of each block that the span covers, ascending.
    #[inline]
    pub(crate) fn pieces(self) -> Pieces {
        Pieces { offset: self.offset, done_bytes: 0, left_bytes: self.len_bytes }
    }

    /// The sub-span of `len_bytes` from `skip_bytes` on; must lie inside.
    pub(crate) fn part(self, skip_bytes: usize, len_bytes: usize) -> Span {
        assert!(
            skip_bytes.checked_add(len_bytes).is_some_and(|end| end <= self.len_bytes),
            "part {skip_bytes}+{len_bytes} of a span of {} bytes",
            self.len_bytes
        );
        Span { offset: self.offset + skip_bytes as u64, len_bytes }
    }
}

/// The part of a span that lies in one block.
///
/// * `within + len_bytes <= BLOCK_BYTES` and `len_bytes > 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) block: u64,
    /// First byte, counted from the start of the block.
    pub(crate) within: usize,
    pub(crate) len_bytes: usize,
    /// How many bytes of the span come before it.
    pub(crate) skip_bytes: usize,
}

impl Piece {
    /// Whether it covers its block from end to end.
    pub(crate) fn is_whole(&self) -> bool {
        self.len_bytes == BLOCK_BYTES
    }
}

/// Iterator over the pieces of a span.
pub(crate) struct Pieces {
    offset: u64,
    done_bytes: usize,
    left_bytes: usize,
}

impl Iterator for Pieces {
    type Item = Piece;

    #[inline]
    fn next(&mut self) -> Option<Piece> {
        if self.left_bytes == 0 {
            return None;
        }
        let block_bytes = BLOCK_BYTES as u64;
        let within = (self.offset % block_bytes) as usize;
        let len_bytes = self.left_bytes.min(BLOCK_BYTES - within);
        let piece = Piece { block: self.offset / block_bytes, within, len_bytes, skip_bytes: self.done_bytes };
        self.offset += len_bytes as u64;
        self.done_bytes += len_bytes;
        self.left_bytes -= len_bytes;
        Some(piece)
    }
}

impl DoubleEndedIterator for Pieces {
    fn next_back(&mut self) -> Option<Piece> {
        if self.left_bytes == 0 {
            return None;
        }
        let block_bytes = BLOCK_BYTES as u64;
        let end = self.offset + self.left_bytes as u64;
        let block = (end - 1) / block_bytes;
        let start = self.offset.max(block * block_bytes);
        let len_bytes = (end - start) as usize;
        self.left_bytes -= len_bytes;
        let within = (start % block_bytes) as usize;
        Some(Piece { block, within, len_bytes, skip_bytes: self.done_bytes + self.left_bytes })
    }
}

/// Eight bytes at a multiple of eight, inside the k bytes for which it was made: a target of atomics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word8 {
    span: Span,
}

impl Word8 {
    pub(crate) fn new(offset: u64, k_bytes: u64) -> Option<Word8> {
        let span = Span::new(offset, 8, k_bytes)?;
        offset.is_multiple_of(8).then_some(Word8 { span })
    }

    /// The bytes that it covers.
    pub fn span(&self) -> Span {
        self.span
    }
}

/// Sixteen bytes at a multiple of sixteen, so that they never lie in two blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word16 {
    span: Span,
}

impl Word16 {
    pub(crate) fn new(offset: u64, k_bytes: u64) -> Option<Word16> {
        let span = Span::new(offset, 16, k_bytes)?;
        offset.is_multiple_of(16).then_some(Word16 { span })
    }

    /// The bytes that it covers.
    pub fn span(&self) -> Span {
        self.span
    }
}
