//! A batch: many small requests of any kind, one frame per server.
//!
//! Items are independent: one that fails does not stop the others. Items that touch the same server
//! are done in the order in which they were added; between servers there is no order.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mcomp_wire::{AtomicOp, limits};

use crate::cluster::{PIECE, zeros};
use crate::lane::Lane;
use crate::transfer::{OnFailure, drive};
use crate::{Cluster, Error, Exchanged, Exchanged16, Outcome};

use frame::{Frame, Part};

mod frame;

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
    /// A write or fill is done.
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

#[derive(Debug)]
enum Item<'a> {
    Read { addr: u64, len: u64 },
    Write { addr: u64, data: Cow<'a, [u8]> },
    Fill { addr: u64, len: u64, byte: u8 },
    Atomic { addr: u64, op: AtomicOp, operand: u64, expected: u64 },
    Cas16 { addr: u64, expected: u128, new: u128 },
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
        self.add(Item::Read { addr, len })
    }

    /// Adds a write of borrowed or owned bytes.
    pub fn write(&mut self, addr: u64, data: impl Into<Cow<'a, [u8]>>) -> &mut Self {
        self.add(Item::Write { addr, data: data.into() })
    }

    /// Adds a fill.
    pub fn fill(&mut self, addr: u64, len: u64, byte: u8) -> &mut Self {
        self.add(Item::Fill { addr, len, byte })
    }

    /// Adds an atomic; its outcome is [`BatchOutcome::Previous`]. A compare-exchange added this way
    /// expects zero; see [`Batch::compare_exchange`].
    pub fn atomic(&mut self, addr: u64, op: AtomicOp, operand: u64) -> &mut Self {
        self.add(Item::Atomic { addr, op, operand, expected: 0 })
    }

    /// Adds a compare-exchange; its outcome is [`BatchOutcome::Exchanged`].
    pub fn compare_exchange(&mut self, addr: u64, expected: u64, new: u64) -> &mut Self {
        self.add(Item::Atomic { addr, op: AtomicOp::CompareExchange, operand: new, expected })
    }

    /// Adds a compare-exchange of 16 bytes; its outcome is [`BatchOutcome::Exchanged16`].
    pub fn compare_exchange_16(&mut self, addr: u64, expected: u128, new: u128) -> &mut Self {
        self.add(Item::Cas16 { addr, expected, new })
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
    pub fn run(self) -> Vec<Result<BatchOutcome, Error>> {
        // Without an era, no item is prepared either.
        let era = self.cluster.era().unwrap_or_default();
        let mut items: Vec<Progress> =
            self.items.iter().map(|item| Progress::new(item.prepare(self.cluster))).collect();
        let plan = self.plan(&mut items);
        let (mut lanes, mut frames_of) = (Vec::new(), Vec::new());
        for (server, frames) in &plan {
            match self.cluster.note(era, self.cluster.checkout(*server, era)) {
                Ok(lease) => {
                    lanes
                        .push(Lane::new(lease, frames.iter().zip(0..).map(|(frame, tag)| frame.ask(tag, &self.items))));
                    frames_of.push(frames);
                }
                Err(error) => frames.iter().for_each(|frame| frame.fail(&mut items, &error)),
            }
        }
        let mut answered: Vec<_> = frames_of.iter().map(|frames| vec![false; frames.len()]).collect();
        drive(&mut lanes, OnFailure::GoOn, &mut |lane: usize, tag: u64, body: &[u8]| {
            let frame = &frames_of[lane][tag as usize];
            let peer = self.cluster.pool(frame.server()).peer();
            frame.take(body, &self.items, &mut items, peer)?;
            answered[lane][tag as usize] = true;
            Ok(())
        });
        self.cluster.note_failures(era, &lanes);
        for ((lane, frames), answered) in lanes.iter().zip(frames_of).zip(answered) {
            let unanswered = frames.iter().zip(0..).zip(answered).filter(|(_, answered)| !answered);
            for ((frame, index), _) in unanswered {
                frame.fail(&mut items, &lane.failure_of(index, frame.modifies()));
            }
        }
        items.into_iter().map(|item| item.finish(self.cluster)).collect()
    }

    fn add(&mut self, item: Item<'a>) -> &mut Self {
        self.items.push(item);
        self
    }

    /// Sorts the items that are well so far into frames by server.
    fn plan(&self, items: &mut [Progress]) -> BTreeMap<u32, Vec<Frame>> {
        let mut plan: BTreeMap<u32, Vec<Frame>> = BTreeMap::new();
        for (index, (item, progress)) in self.items.iter().zip(items).enumerate() {
            if progress.failure.is_some() {
                continue;
            }
            let (addr, len) = item.range();
            let range = self.cluster.space().check(addr, len).expect("prepare checked it");
            for piece in range.pieces(item.longest()) {
                progress.open += 1;
                let part = Part::new(index, piece.addr - addr, piece);
                let request = part.request(item);
                let frames = plan.entry(piece.server).or_default();
                if !frames.last().is_some_and(|frame| frame.has_room(&request)) {
                    frames.push(Frame::new(piece.server));
                }
                frames.last_mut().expect("pushed when there was none").push(part, &request);
            }
        }
        plan
    }
}

impl Item<'_> {
    fn range(&self) -> (u64, u64) {
        match self {
            Item::Read { addr, len } | Item::Fill { addr, len, .. } => (*addr, *len),
            Item::Write { addr, data } => (*addr, data.len() as u64),
            Item::Atomic { addr, .. } => (*addr, 8),
            Item::Cas16 { addr, .. } => (*addr, 16),
        }
    }

    /// Bytes that one part of it may have.
    fn longest(&self) -> u64 {
        if let Item::Fill { .. } = self { limits::MAX_SPAN } else { PIECE }
    }

    /// Refuses what must not be sent, and makes the outcome that the parts complete.
    fn prepare(&self, cluster: &Cluster) -> Result<BatchOutcome, Error> {
        let (addr, len) = self.range();
        cluster.range_of(addr, len)?;
        match self {
            Item::Read { len, .. } => Ok(BatchOutcome::Bytes(zeros(*len)?)),
            Item::Write { .. } | Item::Fill { .. } => Ok(BatchOutcome::Done),
            Item::Atomic { .. } | Item::Cas16 { .. } => cluster.home_of(addr, len).map(|_| BatchOutcome::Done),
        }
    }
}

/// How far an item has come.
///
/// - `open` counts its parts without an answer. It is done when that is zero and none has failed:
///   a part that nobody accounts for never becomes a success.
/// - `done_at` is a server where a part of it changed memory.
#[derive(Debug)]
struct Progress {
    outcome: BatchOutcome,
    failure: Option<Error>,
    open: usize,
    done_at: Option<u32>,
}

impl Progress {
    /// An item before it is sent: what its outcome will look like, or why it must not be sent.
    fn new(prepared: Result<BatchOutcome, Error>) -> Progress {
        let (outcome, failure) = match prepared {
            Ok(outcome) => (outcome, None),
            Err(error) => (BatchOutcome::Done, Some(error)),
        };
        Progress { outcome, failure, open: 0, done_at: None }
    }

    /// Notes that a part failed. The first failure stands, unless a later one leaves more open.
    fn fail(&mut self, error: Error) {
        let first = self.failure.as_ref().map(Error::outcome);
        if first.is_none() || (first, error.outcome()) == (Some(Outcome::Fail), Outcome::Unknown) {
            self.failure = Some(error);
        }
    }

    /// What came of the whole item.
    fn finish(self, cluster: &Cluster) -> Result<BatchOutcome, Error> {
        match (self.failure, self.done_at) {
            (None, _) => {
                assert_eq!(self.open, 0, "parts of a batch item were neither answered nor failed");
                Ok(self.outcome)
            }
            (Some(error), Some(server)) => Err(cluster.pool(server).peer().in_part(error)),
            (Some(error), None) => Err(error),
        }
    }
}
