//! A batch: many small requests of any kind, one frame per server.
//!
//! Items are independent: one that fails does not stop the others. Items that touch the same server
//! are done in the order in which they were added; between servers there is no order.
//!
//! A batch is there to make small requests cheap, so nothing is allocated for a single item but the
//! bytes of a read that was given no buffer.

use std::borrow::Cow;

use mcomp_wire::{AtomicOp, Range, Space, Status, limits};

use crate::cluster::PIECE;
use crate::lane::Lane;
use crate::transfer::{OnFailure, drive};
use crate::{Cluster, Error, Exchanged, Exchanged16};

use frame::{Again, Frame};
use progress::Progress;

mod frame;
mod plan;
mod progress;

/// Items that a batch has room for from the first on: 4 KiB, so that it need not grow again and again.
const MANY: usize = 64;

/// Requests that are collected and sent together; made by [`Cluster::batch`].
///
/// ```no_run
/// # fn f(cluster: &mcomp_client::Cluster) -> Result<(), mcomp_client::Error> {
/// let mut batch = cluster.batch();
/// batch.write(0, b"new value").atomic(64, mcomp_client::AtomicOp::Add, 1).read(128, 16);
/// for outcome in batch.run() {
///     println!("{:?}", outcome?);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Batch<'a> {
    cluster: &'a Cluster,
    items: Vec<Item<'a>>,
}

/// What came of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// A write or fill is done, or the caller's buffer holds what a read found.
    Done,
    /// What a read found.
    Bytes(Vec<u8>),
    /// What an atomic found there before.
    Previous(u64),
    /// What a compare-exchange found.
    Exchanged(Exchanged),
    /// What a compare-exchange of 16 bytes found.
    Exchanged16(Exchanged16),
}

/// A request as the caller made it. Its range may be wrong.
#[derive(Debug)]
struct Item<'a> {
    addr: u64,
    what: What<'a>,
}

#[derive(Debug)]
enum What<'a> {
    Read {
        len: u64,
    },
    /// Its buffer, until [`Progress`] takes it.
    ReadInto(&'a mut [u8]),
    Write(Cow<'a, [u8]>),
    Fill {
        len: u64,
        byte: u8,
    },
    Atomic {
        op: AtomicOp,
        operand: u64,
        expected: u64,
    },
    Cas16 {
        expected: u128,
        new: u128,
    },
}

impl Cluster {
    /// An empty batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch { cluster: self, items: Vec::new() }
    }
}

impl<'a> Batch<'a> {
    /// Adds a read; its outcome is [`BatchOutcome::Bytes`].
    pub fn read(&mut self, addr: u64, len: u64) -> &mut Self {
        self.add(addr, What::Read { len })
    }

    /// Adds a read that fills `buffer`; its outcome is [`BatchOutcome::Done`]. Cheaper for many small ones, as
    /// nothing is allocated. When it fails, `buffer` may have changed.
    pub fn read_into(&mut self, addr: u64, buffer: &'a mut [u8]) -> &mut Self {
        self.add(addr, What::ReadInto(buffer))
    }

    /// Adds a write of borrowed or owned bytes.
    pub fn write(&mut self, addr: u64, data: impl Into<Cow<'a, [u8]>>) -> &mut Self {
        self.add(addr, What::Write(data.into()))
    }

    /// Adds a fill.
    pub fn fill(&mut self, addr: u64, len: u64, byte: u8) -> &mut Self {
        self.add(addr, What::Fill { len, byte })
    }

    /// Adds an atomic; its outcome is [`BatchOutcome::Previous`]. A compare-exchange added this way
    /// expects zero; see [`Batch::compare_exchange`].
    pub fn atomic(&mut self, addr: u64, op: AtomicOp, operand: u64) -> &mut Self {
        self.add(addr, What::Atomic { op, operand, expected: 0 })
    }

    /// Adds a compare-exchange; its outcome is [`BatchOutcome::Exchanged`].
    pub fn compare_exchange(&mut self, addr: u64, expected: u64, new: u64) -> &mut Self {
        self.add(addr, What::Atomic { op: AtomicOp::CompareExchange, operand: new, expected })
    }

    /// Adds a compare-exchange of 16 bytes; its outcome is [`BatchOutcome::Exchanged16`].
    pub fn compare_exchange_16(&mut self, addr: u64, expected: u128, new: u128) -> &mut Self {
        self.add(addr, What::Cas16 { expected, new })
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends everything and waits for it. One result per item, in the order in which they were added.
    /// An item that is refused before it is sent leaves the others alone.
    pub fn run(mut self) -> Vec<Result<BatchOutcome, Error>> {
        let cluster = self.cluster;
        let era = match cluster.era() {
            Ok(era) => era,
            Err(error) => return self.items.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut progress = Progress::new(self.items.len());
        let frames = plan::frames(&mut self.items, cluster.space(), &mut progress);
        let items = &self.items;
        if cluster.replicas() > 1 {
            run_replicated(cluster, &frames, items, &mut progress);
            return progress.finish(cluster);
        }
        let (mut lanes, mut shares) = (Vec::new(), Vec::new());
        for share in frames.chunk_by(|a, b| a.server() == b.server()) {
            match cluster.note(era, cluster.checkout(share[0].server(), era)) {
                Ok(lease) => {
                    lanes.push(Lane::new(lease, share.iter().zip(0..).map(|(frame, tag)| frame.ask(tag, items))));
                    shares.push(share);
                }
                Err(error) => share.iter().for_each(|frame| frame.fail(&mut progress, &error)),
            }
        }
        drive(&mut lanes, OnFailure::GoOn, &mut |lane: usize, tag: u64, body: &[u8]| {
            let frame: &Frame = &shares[lane][tag as usize];
            frame.take(body, items, &mut progress, cluster.pool(frame.server()).peer(), None)
        });
        cluster.note_failures(era, &lanes);
        for (lane, share) in lanes.iter().zip(shares) {
            for (frame, index) in share.iter().zip(0..).filter(|(frame, _)| !frame.is_answered()) {
                frame.fail(&mut progress, &lane.failure_of(index, frame.modifies()));
            }
        }
        progress.finish(cluster)
    }

    fn add(&mut self, addr: u64, what: What<'a>) -> &mut Self {
        if self.items.capacity() == 0 {
            self.items.reserve(MANY);
        }
        self.items.push(Item { addr, what });
        self
    }
}

/// Has the frames done by replicas, one after the other, and then what single items still need.
fn run_replicated(cluster: &Cluster, frames: &[Frame], items: &[Item<'_>], progress: &mut Progress<'_>) {
    for frame in frames {
        let (home, peer) = (frame.server(), cluster.pool(frame.server()).peer());
        let names = cluster.pool(home).names();
        let mut ask = frame.ask(0, items);
        let name = names.next();
        ask.name = Some(name);
        let mut again = Vec::new();
        let asked = cluster.ask_replicas(home, ask, false, &mut |_, _, body: &[u8]| {
            frame.take(body, items, progress, peer, Some(&mut again))
        });
        if let Err(error) = asked {
            frame.fail(progress, &error);
        }
        for Again { index, status } in again {
            // What was forgotten is another operation from now on.
            let name = (status != Status::Forgotten).then_some(name);
            let mut answer = Vec::new();
            let ask = frame.ask_part(index, items, name);
            let asked = cluster.ask_replicas(home, ask, status == Status::Unknown, &mut |_, _, body: &[u8]| {
                answer.extend_from_slice(body);
                Ok(())
            });
            frame.close(index, asked.map(|()| answer), items, progress, peer);
        }
    }
}

impl Item<'_> {
    /// Turns the claim into a range, or refuses what must not be sent.
    fn check(&self, space: Space) -> Result<Range, Error> {
        let (len, align) = match &self.what {
            What::Read { len } | What::Fill { len, .. } => (*len, 1),
            What::ReadInto(buffer) => (buffer.len() as u64, 1),
            What::Write(data) => (data.len() as u64, 1),
            What::Atomic { .. } => (8, 8),
            What::Cas16 { .. } => (16, 16),
        };
        let range = space.check(self.addr, len)?;
        // As `is_multiple_of`, for a power of two that the compiler does not know.
        if self.addr & (align - 1) == 0 { Ok(range) } else { Err(Error::Unaligned { addr: self.addr, align }) }
    }

    /// Bytes that one part of it may have.
    fn longest(&self) -> u64 {
        if let What::Fill { .. } = self.what { limits::MAX_SPAN } else { PIECE }
    }

    /// Whether it may change memory.
    fn modifies(&self) -> bool {
        !matches!(self.what, What::Read { .. } | What::ReadInto(_))
    }
}
