//! Reading and changing blocks: the protocol that makes each piece of an operation atomic.
//!
//! A writer takes the block's semaphore, makes `seq` odd, keeps the shadow page if a cut asks for it, changes the
//! bytes, makes `seq` even, and releases. A reader takes nothing: it reads `seq`, copies, and reads `seq` again;
//! the copy counts when both are the same even number. After a bounded number of tries it takes the semaphore, so
//! that a writer that the scheduler has put aside costs a wait and not a spin.
//!
//! Lock order: one semaphore at a time, never two, and nothing else is taken while it is held. `copy` moves its
//! bytes through a private buffer for that reason.
//!
//! | order | where | why |
//! |---|---|---|
//! | SeqCst swap of `seq`, then SeqCst load of `cut` | writer | either the writer sees the new cut, or whoever made it sees the odd `seq`; both accesses of both sides are SeqCst, or each could miss the other |
//! | release fence after them | writer | whoever sees a byte of the change, or of the shadow page, also sees the odd `seq` and the cut word behind it |
//! | release store of the even `seq` | writer | whoever sees it sees the whole change |
//! | acquire fence after the first `seq`, and before the second | reader | the copy stays between the two |
//!
//! Between odd and even nothing can panic, wait or call out: a block left odd would be refused for ever.

use std::hint::spin_loop;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use crate::copy;
use crate::error::Torn;
use crate::layout::{BLOCK_BYTES, Entry, FLAG_TORN, SHADOW_OF_TORN};
use crate::map::Map;
use crate::mutant::Mutant;
use crate::segment::Segment;
use crate::semaphore::{self, Held};
use crate::span::{Piece, Span, Word8, Word16};

/// Tries before a reader takes another way. A writer that is only running loses far fewer; one that was preempted
/// was seen to cost 450,000.
pub(crate) const READ_TRIES: u32 = 300;

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
        for piece in span.pieces() {
            self.write_piece(piece, &bytes[piece.skip_bytes..][..piece.len_bytes])?;
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
        span.pieces().try_for_each(|piece| self.write_piece(piece, &page[..piece.len_bytes]))
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
        let mut bounce = Bounce::new();
        let mut move_piece = |piece: Piece| {
            let bytes = bounce.read(self, from.part(piece.skip_bytes, piece.len_bytes))?;
            self.write_piece(piece, bytes)
        };
        // Towards higher addresses the last piece goes first, or it would be overwritten before it is read.
        if to.offset() > from.offset() {
            to.pieces().rev().try_for_each(&mut move_piece)
        } else {
            to.pieces().try_for_each(&mut move_piece)
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
        let (block, within) = place(word.span());
        let held = self.hold_whole(block)?;
        let target = self.map.word(block, within);
        let old = target.load(Relaxed);
        if let Some(new) = decide(old) {
            self.change(block, &held, false, || target.store(new, Relaxed));
        }
        Ok(old)
    }

    /// Replaces a word of sixteen bytes atomically, as [`Segment::update8`] does one of eight.
    #[inline]
    pub fn update16(&self, word: Word16, decide: impl FnOnce(u128) -> Option<u128>) -> Result<u128, Torn> {
        let (block, within) = place(word.span());
        let held = self.hold_whole(block)?;
        let (low, high) = (self.map.word(block, within), self.map.word(block, within + 8));
        let old = u128::from(low.load(Relaxed)) | u128::from(high.load(Relaxed)) << 64;
        if let Some(new) = decide(old) {
            self.change(block, &held, false, || {
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

    /// Writes the part of one block.
    #[inline]
    fn write_piece(&self, piece: Piece, bytes: &[u8]) -> Result<(), Torn> {
        assert_eq!(piece.len_bytes, bytes.len(), "bytes of a piece");
        let held = self.hold(piece.block);
        if !piece.is_whole() {
            self.refuse_torn_block(piece.block)?;
        }
        let to = self.map.block(piece.block);
        self.change(piece.block, &held, piece.is_whole(), || {
            // SAFETY: the piece lies inside its block, which is mapped and writable; `bytes` has its length.
            unsafe { copy::to_shared(bytes.as_ptr(), to.add(piece.within), piece.len_bytes) };
        });
        Ok(())
    }

    /// Takes the block's semaphore.
    #[inline]
    fn hold(&self, block: u64) -> Held<'_> {
        semaphore::take(&self.map.entry(block).sem)
    }

    /// Takes the block's semaphore, unless the block is torn.
    #[inline]
    fn hold_whole(&self, block: u64) -> Result<Held<'_>, Torn> {
        let held = self.hold(block);
        self.refuse_torn_block(block)?;
        Ok(held)
    }

    /// Changes a block whose semaphore is held, by `store`, which must neither panic nor wait.
    #[inline]
    fn change(&self, block: u64, _held: &Held<'_>, heals: bool, store: impl FnOnce()) {
        let entry = self.map.entry(block);
        let seq = entry.seq.load(Relaxed);
        debug_assert_eq!(seq % 2, 0, "seq of block {block} while its semaphore was free");
        entry.seq.swap(seq.wrapping_add(1), SeqCst);
        let cut = self.header().cut.load(SeqCst);
        fence(Release);
        let epoch = cut >> 1;
        if cut & 1 == 1 && entry.shadow_epoch.load(Relaxed) < epoch && self.mutant != Mutant::NaiveCopy {
            self.keep_shadow(block, entry, epoch);
        }
        entry.change_epoch.store(epoch, Relaxed);
        if heals && entry.flags.load(Relaxed) & FLAG_TORN != 0 {
            entry.flags.fetch_and(!FLAG_TORN, Relaxed);
            self.torn.fetch_sub(1, Relaxed);
        }
        store();
        entry.seq.store(seq.wrapping_add(2), Release);
    }

    /// Keeps the block as it is for the cut of `epoch`, before its first change after that cut.
    #[cold]
    fn keep_shadow(&self, block: u64, entry: &Entry, epoch: u64) {
        let is_torn = entry.flags.load(Relaxed) & FLAG_TORN != 0;
        let change = if is_torn { SHADOW_OF_TORN } else { entry.change_epoch.load(Relaxed) };
        // SAFETY: block and shadow page are mapped, disjoint, page-aligned and one page each. The shadow page is
        // allocated: a cut is active only while the area is prepared, and `end_cut` gives it back only after this
        // block's `seq`, now odd, has moved on.
        unsafe { copy::between_shared(self.map.block(block), self.map.shadow(block), BLOCK_BYTES) };
        entry.shadow_change.store(change, Relaxed);
        entry.shadow_epoch.store(epoch, Release);
    }

    /// Refuses a torn block. The mark of a block changes only under its semaphore, and only from set to clear.
    #[inline]
    fn refuse_torn_block(&self, block: u64) -> Result<(), Torn> {
        let is_torn = self.map.entry(block).flags.load(Relaxed) & FLAG_TORN != 0;
        if is_torn { Err(Torn { block }) } else { Ok(()) }
    }

    /// Refuses a span in which any block is torn. No block becomes torn later, so the answer stays right.
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

/// The block of a span that lies in one, and where in it.
#[inline]
fn place(span: Span) -> (u64, usize) {
    (span.offset() / BLOCK_BYTES as u64, (span.offset() % BLOCK_BYTES as u64) as usize)
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
