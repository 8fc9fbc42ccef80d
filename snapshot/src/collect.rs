//! Copying one segment as of a cut, into encoded chunks.
//!
//! The blocks are dealt out to a few threads in stripes. Each walks its stripe, leaves out what is
//! zero (or, in an incremental snapshot, unchanged), gathers runs of blocks into chunks, and encodes
//! them. Nothing here can make a server wait: blocks are read from the read-only mapping, and a copy
//! that the segment has moved past is given up.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mcomp_shm::{CutError, Reader, ShmError, step_back};
use mcomp_wire::Space;
use mcomp_wire::control::SnapshotCollect;
use uuid::Uuid;

use crate::file::{BLOCK_BYTES, BlockRange, Cutter, EncodedChunk, FileError, MAX_CHUNK_BLOCKS};

const BLOCK: usize = BLOCK_BYTES as usize;

/// Encoded chunks that wait for the network at most.
const QUEUE: usize = 8;

/// Threads that copy and encode at most.
const MOST_WORKERS: usize = 4;

/// Blocks of one stripe: 4 MiB of memory.
const STRIPE_BLOCKS: u64 = 1024;

/// How long a block may stay half-written before its server is taken for frozen or dead.
const BLOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why a segment cannot be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    /// The segment cannot be mapped.
    #[error("the segment of server {server} cannot be read on this machine: {source}")]
    Segment { server: u32, source: ShmError },
    /// It is not the one that was cut.
    #[error("the segment on this machine is {found}; the one that was cut is {wanted}: the server was replaced")]
    OtherSegment { found: Uuid, wanted: Uuid },
    /// It does not hold what is wanted.
    #[error("server {server} keeps no copy of the memory of server {home}")]
    NoCopy { server: u32, home: u32 },
    /// The cut is over, or a block cannot be had.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// A chunk cannot be encoded.
    #[error(transparent)]
    Encode(#[from] FileError),
    /// A thread that copied blocks is gone, and said nothing.
    #[error("a copying thread ended early: {left} blocks were not looked at")]
    Incomplete { left: u64 },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// A copy in progress: chunks come out of it in no particular order.
pub(crate) struct Collection {
    chunks: Receiver<Result<EncodedChunk, CollectError>>,
    progress: Arc<Progress>,
}

/// How far a copy is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Blocks of the stripes whose chunks have all been sent. Relaxed: it is shown, and it is read for good
    /// after the last sender is gone, which orders it.
    done: AtomicU64,
    blocks: u64,
}

/// What all workers of a copy share.
struct Work {
    reader: Reader,
    request: SnapshotCollect,
    /// First address of what is copied.
    base: u64,
    /// Where its first block stands in the segment.
    first: u64,
    /// First block that nobody has taken yet. Relaxed: each value is handed out once.
    next: AtomicU64,
    progress: Arc<Progress>,
}

impl Collection {
    /// Maps the segment of `server` and starts to copy it.
    pub(crate) fn start(
        cluster: &str,
        server: u32,
        space: Space,
        request: SnapshotCollect,
    ) -> Result<Collection, CollectError> {
        let reader = Reader::open(cluster, server).map_err(|source| CollectError::Segment { server, source })?;
        let found = Uuid::from_bytes(reader.segment_id());
        if found != request.segment {
            return Err(CollectError::OtherSegment { found, wanted: request.segment });
        }
        let blocks = space.k() / BLOCK_BYTES;
        // Of replicated memory the blocks of the servers before stand behind the server's own.
        let part = request.home < space.n() && server < space.n();
        let first = if part { u64::from((server + space.n() - request.home) % space.n()) * blocks } else { u64::MAX };
        if first.checked_add(blocks).is_none_or(|end| end > reader.blocks()) {
            return Err(CollectError::NoCopy { server, home: request.home });
        }
        let progress = Arc::new(Progress { done: AtomicU64::new(0), blocks });
        let base = u64::from(request.home) * space.k();
        let next = AtomicU64::new(0);
        let work = Arc::new(Work { reader, request, base, first, next, progress: Arc::clone(&progress) });
        let (sender, chunks) = sync_channel(QUEUE);
        for index in 0..workers() {
            let (work, sender) = (Arc::clone(&work), sender.clone());
            let name = format!("copy-{index}");
            std::thread::Builder::new().name(name).stack_size(512 << 10).spawn(move || work.run(&sender))?;
        }
        Ok(Collection { chunks, progress })
    }

    /// The next chunk, or `None` when none came for `patience`: then the progress says whether the
    /// copy is done.
    pub(crate) fn next(&self, patience: Duration) -> Next {
        use std::sync::mpsc::RecvTimeoutError;
        match self.chunks.recv_timeout(patience) {
            Ok(Ok(chunk)) => Next::Chunk(chunk),
            Ok(Err(error)) => Next::Failed(error),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => {
                // A thread that panicked lets go of its end like one that is done, and took blocks with it.
                match self.progress.blocks.saturating_sub(self.progress.done.load(Ordering::Relaxed)) {
                    0 => Next::Done,
                    left => Next::Failed(CollectError::Incomplete { left }),
                }
            }
        }
    }

    /// Bytes of memory looked at, and in all.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let done = self.progress.done.load(Ordering::Relaxed);
        (done * BLOCK_BYTES, self.progress.blocks * BLOCK_BYTES)
    }
}

/// What a copy has to say.
pub(crate) enum Next {
    /// A chunk.
    Chunk(EncodedChunk),
    /// Nothing yet.
    Nothing,
    /// All chunks came out.
    Done,
    /// The copy is given up.
    Failed(CollectError),
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)
}

impl Work {
    fn run(&self, chunks: &SyncSender<Result<EncodedChunk, CollectError>>) {
        step_back();
        while let Some(stripe) = self.next_stripe() {
            match self.copy_stripe(stripe, chunks) {
                Ok(true) => {}
                // Nobody listens any more.
                Ok(false) => return,
                Err(error) => {
                    let _ = chunks.send(Err(error));
                    return;
                }
            }
        }
    }

    fn next_stripe(&self) -> Option<Range<u64>> {
        let first = self.next.fetch_add(STRIPE_BLOCKS, Ordering::Relaxed);
        let end = self.progress.blocks.min(first.saturating_add(STRIPE_BLOCKS));
        (first < end).then_some(first..end)
    }

    /// Copies one stripe; false when nobody takes its chunks.
    fn copy_stripe(
        &self,
        stripe: Range<u64>,
        chunks: &SyncSender<Result<EncodedChunk, CollectError>>,
    ) -> Result<bool, CollectError> {
        let mut gathered = Gathered::default();
        let mut cutter = Cutter::new();
        let blocks = stripe.end - stripe.start;
        for block in stripe {
            let wanted = self.take_block(block, cutter.open_at().is_some(), &mut gathered)?;
            if let Some(range) = cutter.push(block, wanted)
                && chunks.send(self.encode(range, &gathered)).is_err()
            {
                return Ok(false);
            }
            gathered.keep_from(cutter.open_at());
        }
        if let Some(range) = cutter.finish()
            && chunks.send(self.encode(range, &gathered)).is_err()
        {
            return Ok(false);
        }
        self.progress.done.fetch_add(blocks, Ordering::Relaxed);
        Ok(true)
    }

    /// Whether the block must be in the snapshot. It is copied if it must, or if it may become part
    /// of a chunk that bridges it.
    fn take_block(&self, block: u64, bridged: bool, gathered: &mut Gathered) -> Result<bool, CollectError> {
        let deadline = Instant::now() + BLOCK_PATIENCE;
        let (reader, epoch) = (&self.reader, self.request.epoch);
        let changed = reader.cut_change(self.first + block, epoch, deadline)?;
        // A block that was never written is zero; one that did not change since the parent is there.
        let looked_for = changed >= self.request.since.max(1);
        if !looked_for && !bridged {
            return Ok(false);
        }
        let bytes = gathered.room(block);
        reader.cut_block(self.first + block, epoch, bytes, deadline)?;
        let wanted = looked_for && (self.request.since > 0 || *bytes != [0; BLOCK]);
        if !wanted && !bridged {
            gathered.forget_last();
        }
        Ok(wanted)
    }

    fn encode(&self, range: BlockRange, gathered: &Gathered) -> Result<EncodedChunk, CollectError> {
        let addr = self.base + range.first * BLOCK_BYTES;
        Ok(EncodedChunk::encode(self.request.cut, addr, gathered.bytes(range), self.request.level)?)
    }
}

/// Copies of consecutive blocks. Invariant: `bytes` holds the blocks from `first` on, whole, and
/// never more than a chunk and the block after it.
#[derive(Default)]
struct Gathered {
    first: u64,
    bytes: Vec<u8>,
}

impl Gathered {
    /// Room for `block`, which follows the last one or starts anew.
    fn room(&mut self, block: u64) -> &mut [u8; BLOCK] {
        if self.bytes.is_empty() {
            self.first = block;
            self.bytes.reserve_exact((MAX_CHUNK_BLOCKS as usize + 1) * BLOCK);
        }
        debug_assert_eq!(self.first + (self.bytes.len() / BLOCK) as u64, block, "blocks are gathered in order");
        self.bytes.resize(self.bytes.len() + BLOCK, 0);
        self.bytes.last_chunk_mut().expect("one block was just added")
    }

    fn forget_last(&mut self) {
        self.bytes.truncate(self.bytes.len() - BLOCK);
    }

    fn bytes(&self, range: BlockRange) -> &[u8] {
        let at = (range.first - self.first) as usize * BLOCK;
        &self.bytes[at..at + range.blocks as usize * BLOCK]
    }

    /// Forgets what lies before `block`, or everything.
    fn keep_from(&mut self, block: Option<u64>) {
        match block {
            None => self.bytes.clear(),
            Some(block) if block > self.first => {
                self.bytes.drain(..(block - self.first) as usize * BLOCK);
                self.first = block;
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(done: u64) -> Collection {
        let (_, chunks) = sync_channel(1);
        Collection { chunks, progress: Arc::new(Progress { done: AtomicU64::new(done), blocks: 8 }) }
    }

    /// A copying thread that panics lets go of its end of the queue, as one that is done does.
    #[test]
    fn a_copy_whose_thread_is_gone_is_not_done() {
        assert!(matches!(collection(8).next(Duration::ZERO), Next::Done));
        let left = match collection(5).next(Duration::ZERO) {
            Next::Failed(CollectError::Incomplete { left }) => left,
            _ => panic!("an incomplete copy passes for a whole one"),
        };
        assert_eq!(left, 3);
    }
}
