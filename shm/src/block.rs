//! The operations on blocks: reads, writes, fills, copies, comparisons and atomics.
//!
//! Each block's part of an operation is atomic. How a block changes is in `change`. A reader takes nothing: it reads
//! `seq`, copies, and reads `seq` again; the copy counts when both are the same even number. After a bounded number of
//! tries it takes the semaphore, so that a writer that the scheduler has put aside costs a wait and not a spin.
//!
//! Lock order: a receive slot, then one semaphore at a time, never two, and nothing else is taken while they are held.
//! `copy` moves its bytes through its slot for that reason.
//!
//! An acquire fence after the first `seq`, and one before the second, keep the copy between the two.

use std::mem::MaybeUninit;

use crate::copy;
use crate::error::Torn;
use crate::layout::{BLOCK_BYTES, FLAG_TORN};
use crate::map::Map;
use crate::segment::Segment;
use crate::span::{Piece, Span, Word8, Word16};
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::fence;
use crate::sync::{READ_TRIES, spin_loop};

impl Segment {
    /// Copies the span into `bytes`, which has its length.
    ///
    /// # Errors
    /// [`Torn`] for the first torn block; the bytes before it have been copied.
    ///
    /// # Panics
    /// When `bytes` has another length than the span, or the span was made for a greater segment.
    #[inline]
    pub fn read_into(&self, span: Span, bytes: &mut [u8]) -> Result<(), Torn> {
        assert_eq!(span.len_bytes(), bytes.len(), "buffer of a read");
        // SAFETY: `bytes` has the span's length, and is ours for the call.
        unsafe { self.read_to(span, bytes.as_mut_ptr()) }
    }

    /// Appends the span to `bytes`, writing straight into its spare capacity.
    ///
    /// It allocates when the capacity does not suffice. On [`Torn`], `bytes` is as before.
    pub fn read_append(&self, span: Span, bytes: &mut Vec<u8>) -> Result<(), Torn> {
        bytes.reserve(span.len_bytes());
        // SAFETY: the spare capacity has the span's length, and is ours for the call.
        unsafe { self.read_to(span, bytes.spare_capacity_mut().as_mut_ptr().cast())? };
        // SAFETY: the read has initialised exactly so many bytes more.
        unsafe { bytes.set_len(bytes.len() + span.len_bytes()) };
        Ok(())
    }

    /// Writes `bytes`, which has the span's length. A torn block that is wholly written is healed.
    ///
    /// # Errors
    /// [`Torn`] when the span covers a torn block in part; nothing has been written then.
    ///
    /// # Panics
    /// When `bytes` has another length than the span, or the span was made for a greater segment.
    #[inline]
    pub fn write(&self, span: Span, bytes: &[u8]) -> Result<(), Torn> {
        assert_eq!(span.len_bytes(), bytes.len(), "bytes of a write");
        self.refuse_torn_edges(span)?;
        let slot = self.take_slot();
        for piece in span.pieces() {
            let part = &bytes[piece.skip_bytes..][..piece.len_bytes];
            slot.note(&piece, part);
            // SAFETY: `part` has the piece's length.
            unsafe { self.write_piece(&slot, piece, part.as_ptr())? };
        }
        Ok(())
    }

    /// Sets every byte of the span. A torn block that is wholly filled is healed.
    ///
    /// # Errors
    /// [`Torn`] as for [`Segment::write`].
    pub fn fill(&self, span: Span, byte: u8) -> Result<(), Torn> {
        self.refuse_torn_edges(span)?;
        let page = [byte; BLOCK_BYTES];
        let slot = self.take_slot();
        for piece in span.pieces() {
            slot.note_fill(&piece, byte);
            // SAFETY: no piece is longer than a page.
            unsafe { self.write_piece(&slot, piece, page.as_ptr())? };
        }
        Ok(())
    }

    /// Copies one span onto another of the same length. Where they overlap, a client that is alone sees the result
    /// of `memmove`.
    ///
    /// # Errors
    /// [`Torn`] when a source block is torn, or a torn target block is covered in part; nothing has been written
    /// then.
    ///
    /// # Panics
    /// When the lengths differ, or a span was made for a greater segment.
    pub fn copy(&self, from: Span, to: Span) -> Result<(), Torn> {
        assert_eq!(from.len_bytes(), to.len_bytes(), "lengths of a copy");
        self.refuse_torn(from)?;
        self.refuse_torn_edges(to)?;
        let slot = self.take_slot();
        let move_piece = |piece: Piece| {
            let bytes = slot.place(&piece);
            // SAFETY: the slot's page is ours, and the piece has its place in it.
            unsafe { self.read_to(from.part(piece.skip_bytes, piece.len_bytes), bytes)? };
            slot.note_placed(&piece);
            // SAFETY: the read has filled the place, and nobody else touches it.
            unsafe { self.write_piece(&slot, piece, bytes) }
        };
        // Towards higher addresses the last piece goes first, or it would be overwritten before it is read.
        if to.offset() > from.offset() {
            to.pieces().rev().try_for_each(move_piece)
        } else {
            to.pieces().try_for_each(move_piece)
        }
    }

    /// Compares the span with `bytes`, which has its length: the first index at which they differ, if any.
    ///
    /// # Errors
    /// [`Torn`] when a torn block comes before the first difference.
    pub fn compare(&self, span: Span, bytes: &[u8]) -> Result<Option<u64>, Torn> {
        assert_eq!(span.len_bytes(), bytes.len(), "bytes of a comparison");
        let mut bounce = Bounce::new();
        for piece in span.pieces() {
            let found = bounce.read(self, span.part(piece.skip_bytes, piece.len_bytes))?;
            let wanted = &bytes[piece.skip_bytes..][..piece.len_bytes];
            if found != wanted {
                let first = found.iter().zip(wanted).take_while(|(found, wanted)| found == wanted).count();
                return Ok(Some((piece.skip_bytes + first) as u64));
            }
        }
        Ok(None)
    }

    /// Gives the span to `see`, block by block in ascending order, as private copies that were whole at one
    /// instant each: for checksums.
    ///
    /// # Errors
    /// [`Torn`] for the first torn block; what comes before it has been seen.
    pub fn for_each_block(&self, span: Span, mut see: impl FnMut(&[u8])) -> Result<(), Torn> {
        let mut bounce = Bounce::new();
        for piece in span.pieces() {
            see(bounce.read(self, span.part(piece.skip_bytes, piece.len_bytes))?);
        }
        Ok(())
    }

    /// Replaces a word of eight bytes atomically: `decide` gets its value and returns the new one, or `None` to
    /// leave it. Returns the value that was there.
    ///
    /// `decide` runs while the block's semaphore is held: it must be short, and must not use the segment.
    ///
    /// # Errors
    /// [`Torn`] when the block is torn; `decide` has not run then.
    #[inline]
    pub fn update8(&self, word: Word8, decide: impl FnOnce(u64) -> Option<u64>) -> Result<u64, Torn> {
        let piece = only_piece(word.span());
        let slot = self.take_slot();
        let held = self.hold_whole(piece.block)?;
        let target = self.map.word(piece.block, piece.within);
        let old = target.load(Relaxed);
        if let Some(new) = decide(old) {
            slot.note(&piece, &new.to_le_bytes());
            self.change(piece.block, &held, &slot, false, || target.store(new, Relaxed));
        }
        Ok(old)
    }

    /// Replaces a word of sixteen bytes atomically, as [`Segment::update8`] does one of eight.
    #[inline]
    pub fn update16(&self, word: Word16, decide: impl FnOnce(u128) -> Option<u128>) -> Result<u128, Torn> {
        let piece = only_piece(word.span());
        let slot = self.take_slot();
        let held = self.hold_whole(piece.block)?;
        let (low, high) = (self.map.word(piece.block, piece.within), self.map.word(piece.block, piece.within + 8));
        let old = u128::from(low.load(Relaxed)) | u128::from(high.load(Relaxed)) << 64;
        if let Some(new) = decide(old) {
            slot.note(&piece, &new.to_le_bytes());
            self.change(piece.block, &held, &slot, false, || {
                low.store(new as u64, Relaxed);
                high.store((new >> 64) as u64, Relaxed);
            });
        }
        Ok(old)
    }

    /// # Safety
    /// `bytes` is writable for the span's length, and nobody else touches it.
    #[inline]
    unsafe fn read_to(&self, span: Span, bytes: *mut u8) -> Result<(), Torn> {
        for piece in span.pieces() {
            // SAFETY: the pieces of a span add up to its length.
            unsafe { self.read_piece(piece, bytes.add(piece.skip_bytes))? };
        }
        Ok(())
    }

    /// # Safety
    /// `bytes` is writable for the piece's length, and nobody else touches it.
    #[inline]
    unsafe fn read_piece(&self, piece: Piece, bytes: *mut u8) -> Result<(), Torn> {
        for _ in 0..READ_TRIES {
            // SAFETY: the caller's promise, passed on.
            match unsafe { attempt(&self.map, piece, bytes) } {
                Attempt::Done => return Ok(()),
                Attempt::Torn => return Err(Torn { block: piece.block }),
                Attempt::Changing => spin_loop(),
            }
        }
        // SAFETY: the caller's promise, passed on.
        unsafe { self.read_piece_held(piece, bytes) }
    }

    /// # Safety
    /// As [`Segment::read_piece`].
    #[cold]
    unsafe fn read_piece_held(&self, piece: Piece, bytes: *mut u8) -> Result<(), Torn> {
        let _held = self.hold_whole(piece.block)?;
        // SAFETY: the piece lies inside its block, which is mapped; the caller vouches for `bytes`.
        unsafe { copy::from_shared(self.map.block(piece.block).add(piece.within), bytes, piece.len_bytes) };
        Ok(())
    }

    /// Refuses a span in which any block is torn. No block of a running server becomes torn later, so the answer stays
    /// right.
    fn refuse_torn(&self, span: Span) -> Result<(), Torn> {
        if self.torn.load(Relaxed) == 0 {
            return Ok(());
        }
        span.pieces().try_for_each(|piece| self.refuse_torn_block(piece.block))
    }

    /// Refuses a span that covers a torn block in part: it could not heal it. A request of several writes asks for
    /// all of them first, so that it is refused whole.
    ///
    /// # Errors
    /// [`Torn`] for the first such block.
    #[inline]
    pub fn refuse_torn_edges(&self, span: Span) -> Result<(), Torn> {
        if self.torn.load(Relaxed) == 0 {
            return Ok(());
        }
        let mut parts = span.pieces().filter(|piece| !piece.is_whole());
        parts.try_for_each(|piece| self.refuse_torn_block(piece.block))
    }
}

/// The piece of a span that lies in one block.
#[inline]
fn only_piece(span: Span) -> Piece {
    let within = (span.offset() % BLOCK_BYTES as u64) as usize;
    Piece { block: span.offset() / BLOCK_BYTES as u64, within, len_bytes: span.len_bytes(), skip_bytes: 0 }
}

/// How one try to read a piece went.
pub(crate) enum Attempt {
    /// The copy is whole.
    Done,
    /// The block is torn.
    Torn,
    /// A writer was at it: try again.
    Changing,
}

/// Tries once to copy a piece without taking anything; a read-only mapping suffices.
///
/// # Safety
/// `bytes` is writable for the piece's length, and nobody else touches it.
#[inline]
pub(crate) unsafe fn attempt(map: &Map, piece: Piece, bytes: *mut u8) -> Attempt {
    let entry = map.entry(piece.block);
    let seq = entry.seq.load(Relaxed);
    fence(Acquire);
    if seq % 2 == 1 {
        return Attempt::Changing;
    }
    // SAFETY: the piece lies inside its block, which is mapped; the caller vouches for `bytes`.
    unsafe { copy::from_shared(map.block(piece.block).add(piece.within), bytes, piece.len_bytes) };
    let flags = entry.flags.load(Relaxed);
    fence(Acquire);
    if entry.seq.load(Relaxed) != seq {
        return Attempt::Changing;
    }
    if flags & FLAG_TORN != 0 { Attempt::Torn } else { Attempt::Done }
}

/// A private page on the stack. It is not zeroed, because it is always read into before it is looked at.
struct Bounce {
    bytes: MaybeUninit<[u8; BLOCK_BYTES]>,
}

impl Bounce {
    fn new() -> Bounce {
        Bounce { bytes: MaybeUninit::uninit() }
    }

    /// Reads at most a page; the span may touch two blocks.
    fn read(&mut self, segment: &Segment, span: Span) -> Result<&[u8], Torn> {
        assert!(span.len_bytes() <= BLOCK_BYTES, "{} bytes into a page", span.len_bytes());
        let start = self.bytes.as_mut_ptr().cast::<u8>();
        // SAFETY: the page holds the span by the assertion, and is ours.
        unsafe { segment.read_to(span, start)? };
        // SAFETY: the read has initialised so many bytes, and the borrow of `self` keeps them unchanged.
        Ok(unsafe { std::slice::from_raw_parts(start, span.len_bytes()) })
    }
}
