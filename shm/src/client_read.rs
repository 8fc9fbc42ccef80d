//! The reads of a client of the same machine: without asking the server, and then the questions whose answers could make
//! them wrong.

use crate::block::{self, Attempt};
use crate::error::{ReadError, Torn};
use crate::layout::{GATE_OPEN, State};
use crate::mutant::Mutant;
use crate::reader::Reader;
use crate::span::{Piece, Span};
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::fence;
use crate::sync::{READ_TRIES, spin_loop};

impl Reader {
    /// Copies the span into `bytes`, which has its length, without a system call; each piece inside one block is
    /// whole. On an error, part of `bytes` may have been overwritten.
    ///
    /// # Errors
    /// [`ReadError`]: ask the server instead.
    ///
    /// # Panics
    /// When `bytes` has another length than the span, or the span was made for a greater segment.
    #[inline]
    pub fn read_into(&self, span: Span, bytes: &mut [u8]) -> Result<(), ReadError> {
        assert_eq!(span.len_bytes(), bytes.len(), "buffer of a read");
        for piece in span.pieces() {
            self.read_piece(piece, &mut bytes[piece.skip_bytes..][..piece.len_bytes])?;
        }
        // Asked last: if it was not retired now, it was not while we read.
        if matches!(self.state(), State::Serving | State::Clean) { Ok(()) } else { Err(ReadError::Retired) }
    }

    /// As [`Reader::read_into`], for a client that lives in `config_epoch`: what it returns may be known outside.
    ///
    /// All questions are asked after the bytes were read, each before the one whose answer would make up for it:
    /// * A restore closes the gate, writes, raises the config epoch and opens the gate. Bytes of it are seen with
    ///   the gate closed, or with the gate open again and then with the new epoch.
    /// * A cut is held before the first writer belongs to its epoch. Bytes of that epoch are seen with the hold, or
    ///   after its end.
    ///
    /// # Errors
    /// [`ReadError`]: ask the server instead.
    ///
    /// # Panics
    /// As [`Reader::read_into`].
    #[inline]
    pub fn read_as_client(&self, span: Span, bytes: &mut [u8], config_epoch: u64) -> Result<(), ReadError> {
        self.read_into(span, bytes)?;
        if self.is_restoring() || self.config_epoch() != config_epoch {
            return Err(ReadError::Restored);
        }
        if self.held() != 0 && self.mutant != Mutant::HeldRead {
            return Err(ReadError::Held);
        }
        Ok(())
    }

    #[inline]
    fn read_piece(&self, piece: Piece, bytes: &mut [u8]) -> Result<(), ReadError> {
        assert_eq!(piece.len_bytes, bytes.len(), "buffer of a piece");
        for _ in 0..READ_TRIES {
            // SAFETY: `bytes` has the piece's length, and is ours for the call.
            match unsafe { block::attempt(&self.map, piece, bytes.as_mut_ptr()) } {
                Attempt::Done => return Ok(()),
                Attempt::Torn => return Err(ReadError::Torn(Torn { block: piece.block })),
                Attempt::Changing => spin_loop(),
            }
        }
        Err(ReadError::Contended { block: piece.block })
    }

    /// What the segment's life has come to.
    pub fn state(&self) -> State {
        let word = self.header().state.load(Relaxed);
        fence(Acquire);
        State::from_word(word)
    }

    /// Whether a restore has begun and not ended: go through the server, which refuses.
    pub fn is_restoring(&self) -> bool {
        let word = self.header().gate.load(Relaxed);
        fence(Acquire);
        word != GATE_OPEN
    }

    /// The config epoch that clients must speak of.
    pub fn config_epoch(&self) -> u64 {
        let word = self.header().config_epoch.load(Relaxed);
        fence(Acquire);
        word
    }

    /// The epoch whose answers are being held, 0 for none. A client asks after its read: while an epoch is held
    /// it goes through the server, which holds the answer.
    pub fn held(&self) -> u64 {
        let word = self.header().hold.load(Relaxed);
        fence(Acquire);
        word
    }
}
