//! The read-only side: snapshot processes and clients of the same machine.
//!
//! A `Reader` maps the segment without the right to write, and holds nothing that the server could wait for: kill
//! it or freeze it at any moment, and no writer notices. Whatever it reads, it validates afterwards; when it was
//! frozen while the memory moved on, it finds out and gives up.
//!
//! Shadow pages are read with `pread` and not through the mapping. A reader that was frozen past the end of its
//! cut would otherwise touch a page that has been given back: that allocates it anew, or, on a full machine, is a
//! SIGBUS.

use std::hint::spin_loop;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::thread;
use std::time::Instant;

use crate::block::{self, Attempt, READ_TRIES};
use crate::copy;
use crate::error::{CutError, ReadError, ShmError, Torn};
use crate::image::Image;
use crate::layout::{self, BLOCK_BYTES, FLAG_TORN, GATE_OPEN, Header, SHADOW_OF_TORN, State};
use crate::map::{Access, Map};
use crate::mutant::{self, Mutant};
use crate::object::{Object, Open};
use crate::segment::words_to_bytes;
use crate::span::{Piece, Span};

/// Tries that only spin; after them the reader leaves the core to others between two tries.
const SPINS: u32 = 64;

/// A segment that another process serves, mapped read-only.
///
/// * Only relaxed loads are made in it, ordered by fences; read-only memory allows no others.
pub struct Reader {
    map: Map,
    object: Object,
    n: u32,
    id: u32,
    pub(crate) mutant: Mutant,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.object.path).finish_non_exhaustive()
    }
}

/// What is known of a block of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMeta {
    /// Epoch of the block's last modification before the cut; 0 when it was never written. A block has changed
    /// since the cut of epoch P when this is at least P.
    pub change_epoch: u64,
}

impl Reader {
    /// Maps the segment of a server of this machine.
    ///
    /// # Errors
    /// [`ShmError::Missing`], [`ShmError::Unfinished`] and [`ShmError::Retired`] pass with time; the others do not.
    pub fn open(cluster: &str, id: u32) -> Result<Reader, ShmError> {
        layout::check_cluster(cluster)?;
        let object = Object::open(cluster, id, Open::ReadOnly)?;
        let image = Image::of(&object)?;
        if image.is_unfinished() {
            return Err(ShmError::Unfinished { path: object.path });
        }
        image.verify_layout(&object.path)?;
        if !matches!(image.state(), State::Serving | State::Clean) {
            return Err(ShmError::Retired { path: object.path });
        }
        let regions = image.verify(&object.path, object.file_bytes()?, cluster, id)?;
        let map = Map::new(&object.file, regions, Access::ReadOnly).map_err(|source| ShmError::Io {
            action: "map",
            path: object.path.clone(),
            source,
        })?;
        Ok(Reader { map, object, n: image.n(), id: image.id(), mutant: mutant::active() })
    }

    fn header(&self) -> &Header {
        self.map.header()
    }

    /// The checked span of `len_bytes` from `offset`, or `None` when it leaves the k bytes.
    pub fn span(&self, offset: u64, len_bytes: u64) -> Option<Span> {
        Span::new(offset, len_bytes, self.k_bytes())
    }

    /// Bytes lent.
    pub fn k_bytes(&self) -> u64 {
        self.map.regions().k_bytes
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.map.regions().blocks()
    }

    /// Number of servers of the cluster.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// Index of the server.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The segment's file.
    pub fn path(&self) -> &Path {
        &self.object.path
    }

    /// Random id given at creation: another id is other memory.
    pub fn segment_id(&self) -> [u8; 16] {
        words_to_bytes(&self.header().segment_id)
    }

    /// Number of the server's life on the segment; it grows with each take-over.
    pub fn incarnation(&self) -> u64 {
        self.header().incarnation.load(Relaxed)
    }

    /// The server's process id, 0 after it has stopped in good order.
    pub fn pid(&self) -> u32 {
        self.header().pid.load(Relaxed)
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

    /// The cut word: epoch << 1 | active.
    pub fn cut_word(&self) -> u64 {
        let word = self.header().cut.load(Relaxed);
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

    /// Copies a block as it was at the instant of the cut of `epoch`, while writers go on.
    ///
    /// # Errors
    /// [`CutError`]: the snapshot fails. `deadline` bounds the wait for a writer that stopped half-way through a
    /// change, which only a frozen or dead server does.
    ///
    /// # Panics
    /// When the segment has no such block.
    pub fn cut_block(
        &self,
        block: u64,
        epoch: u64,
        bytes: &mut [u8; BLOCK_BYTES],
        deadline: Instant,
    ) -> Result<BlockMeta, CutError> {
        let change_epoch = self.cut_with(block, epoch, Some(bytes), deadline)?;
        Ok(BlockMeta { change_epoch })
    }

    /// The change epoch that a block had at the instant of the cut of `epoch`, without its bytes: an incremental
    /// snapshot asks it first, and copies only blocks where it is at least the epoch of the parent's cut.
    ///
    /// # Errors
    /// As [`Reader::cut_block`].
    ///
    /// # Panics
    /// When the segment has no such block.
    pub fn cut_change(&self, block: u64, epoch: u64, deadline: Instant) -> Result<u64, CutError> {
        self.cut_with(block, epoch, None, deadline)
    }

    fn cut_with(
        &self,
        block: u64,
        epoch: u64,
        mut bytes: Option<&mut [u8; BLOCK_BYTES]>,
        deadline: Instant,
    ) -> Result<u64, CutError> {
        let mut tries = 0;
        loop {
            if let Some(change_epoch) = self.cut_attempt(block, epoch, bytes.as_deref_mut())? {
                return Ok(change_epoch);
            }
            tries += 1;
            if tries < SPINS {
                spin_loop();
            } else if Instant::now() < deadline {
                thread::yield_now();
            } else {
                return Err(CutError::Contended { block });
            }
        }
    }

    /// Tries once; `None` means that a writer was at it.
    ///
    /// `seq` is read before the shadow word. The other way round, a whole write could fit between the two: the
    /// shadow word would say "not kept", and the live block, already changed, would pass for the old one.
    fn cut_attempt(
        &self,
        block: u64,
        epoch: u64,
        bytes: Option<&mut [u8; BLOCK_BYTES]>,
    ) -> Result<Option<u64>, CutError> {
        let entry = self.map.entry(block);
        let seq = entry.seq.load(Relaxed);
        fence(Acquire);
        self.check_cut(epoch)?;
        // The other half of the writer's pair: a writer that missed this cut has made `seq` odd before it, so
        // after this fence either the shadow word or the second look at `seq` shows that writer.
        fence(SeqCst);
        let shadow_epoch = entry.shadow_epoch.load(Relaxed);
        fence(Acquire);
        let change_epoch = if shadow_epoch == epoch && self.mutant != Mutant::NaiveCopy {
            self.read_shadow(block, bytes)?;
            entry.shadow_change.load(Relaxed)
        } else {
            match self.read_live(block, seq, bytes) {
                Some(change_epoch) => change_epoch,
                None => return Ok(None),
            }
        };
        // What was read counts only if the cut still stood when the reading had ended.
        fence(Acquire);
        self.check_cut(epoch)?;
        if change_epoch == SHADOW_OF_TORN { Err(Torn { block }.into()) } else { Ok(Some(change_epoch)) }
    }

    /// Reads a block that nobody has changed since the cut; `None` when its `seq` is odd or not `seq` any more.
    fn read_live(&self, block: u64, seq: u64, bytes: Option<&mut [u8; BLOCK_BYTES]>) -> Option<u64> {
        if seq % 2 == 1 {
            return None;
        }
        let entry = self.map.entry(block);
        if let Some(bytes) = bytes {
            // SAFETY: the block is mapped, and both are one block long.
            unsafe { copy::from_shared(self.map.block(block), bytes.as_mut_ptr(), BLOCK_BYTES) };
        }
        let change_epoch = entry.change_epoch.load(Relaxed);
        let flags = entry.flags.load(Relaxed);
        fence(Acquire);
        if entry.seq.load(Relaxed) != seq {
            return None;
        }
        Some(if flags & FLAG_TORN == 0 { change_epoch } else { SHADOW_OF_TORN })
    }

    fn read_shadow(&self, block: u64, bytes: Option<&mut [u8; BLOCK_BYTES]>) -> Result<(), CutError> {
        let Some(bytes) = bytes else { return Ok(()) };
        let read = self.object.file.read_exact_at(bytes, self.map.shadow_offset(block));
        read.map_err(|source| CutError::Shadow { block, source })
    }

    /// Whether the cut of `epoch` is still the active one.
    fn check_cut(&self, epoch: u64) -> Result<(), CutError> {
        if !matches!(self.state(), State::Serving | State::Clean) {
            return Err(CutError::Retired);
        }
        let word = self.cut_word();
        if word == epoch << 1 | 1 {
            return Ok(());
        }
        Err(CutError::Superseded { asked: epoch, current: word >> 1, active: word & 1 == 1 })
    }
}
