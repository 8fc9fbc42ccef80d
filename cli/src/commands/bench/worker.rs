//! One thread of a run: sends requests as fast as they are answered, and times each.
//!
//! Promises
//! - The clock is read before and after each request, or each batch when the depth is above 1. The
//!   price of one reading is part of the time.
//! - At a depth of 1 nothing is allocated between the two.
//! - The connections are its own: threads share nothing but the flag that ends them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mcomp_client::{BatchOutcome, Cluster, Error};

use super::plan::Places;
use super::tally::Tally;

/// What a thread is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) places: Places,
    pub(super) size_bytes: usize,
    pub(super) depth: u32,
    pub(super) reads_percent: u8,
    /// The instant from which on it measures.
    pub(super) warm_until: Instant,
    /// How long it measures, if it is not a count that ends it.
    pub(super) time: Option<Duration>,
    /// How many requests it measures, if it is not the time that ends it.
    pub(super) count: u64,
}

/// What a thread and the one that waits for it share. Relaxed: neither orders anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared<'a> {
    /// Ends all threads early.
    pub(super) stop: &'a AtomicBool,
    /// Requests measured so far.
    pub(super) done: &'a Done,
}

/// A count in a cache line of its own: a neighbour's would slow both down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Done(pub(super) AtomicU64);

/// A thread that has not started yet.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    task: Task,
    shared: Shared<'a>,
    cluster: Cluster,
    random: Rng,
    /// Where reads go to.
    buffer: Vec<u8>,
    /// Where writes come from.
    payload: Vec<u8>,
    tally: Tally,
}

impl<'a> Worker<'a> {
    /// A worker whose connections nobody else uses.
    pub(super) fn new(task: Task, shared: Shared<'a>, cluster: Cluster, mut random: Rng) -> Worker<'a> {
        let writes = task.reads_percent < 100;
        let mut payload = vec![0; if writes { task.size_bytes } else { 0 }];
        random.fill(&mut payload);
        Worker { task, shared, cluster, random, buffer: vec![0; task.size_bytes], payload, tally: Tally::default() }
    }

    /// Warms up, then measures.
    pub(super) fn run(mut self) -> Tally {
        let mut now = Instant::now();
        while now < self.task.warm_until && !self.is_stopped() {
            now = self.send(self.task.depth);
        }
        self.tally.end_warm_up();
        self.measure();
        self.tally
    }

    fn measure(&mut self) {
        let began = Instant::now();
        let deadline = self.task.time.map(|time| began + time);
        let (mut now, mut left) = (began, self.task.count);
        let goes_on = |now: Instant, left: u64| left > 0 && deadline.is_none_or(|deadline| now < deadline);
        while goes_on(now, left) && !self.is_stopped() {
            let together = left.min(self.task.depth.into());
            now = self.send(together as u32);
            left -= together;
            self.shared.done.0.store(self.task.count - left, Ordering::Relaxed);
        }
        // One that had nothing to do says nothing about how long the others took.
        self.tally.span = (now > began).then_some((began, now));
        self.tally.is_complete = !goes_on(now, left);
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Sends so many requests together; when they are done.
    fn send(&mut self, together: u32) -> Instant {
        if self.task.depth == 1 { self.send_one() } else { self.send_batch(together) }
    }

    fn send_one(&mut self) -> Instant {
        let (addr, reads) = (self.task.places.draw(&mut self.random), self.next_reads());
        let began = Instant::now();
        let result = match reads {
            true => self.cluster.read_at(addr, &mut self.buffer),
            false => self.cluster.write_at(addr, &self.payload),
        };
        let ended = Instant::now();
        match result {
            Ok(()) => self.tally.succeed(reads.into(), (!reads).into(), ended - began),
            Err(error) => self.fail(error),
        }
        ended
    }

    fn send_batch(&mut self, together: u32) -> Instant {
        let requests: Vec<(u64, bool)> =
            (0..together).map(|_| (self.task.places.draw(&mut self.random), self.next_reads())).collect();
        let began = Instant::now();
        let mut batch = self.cluster.batch();
        for (addr, reads) in requests {
            match reads {
                true => batch.read(addr, self.task.size_bytes as u64),
                false => batch.write(addr, &self.payload[..]),
            };
        }
        let results = batch.run();
        let ended = Instant::now();
        let (mut reads, mut writes) = (0, 0);
        for result in results {
            match result {
                Ok(BatchOutcome::Bytes(_)) => reads += 1,
                Ok(_) => writes += 1,
                Err(error) => self.fail(error),
            }
        }
        self.tally.succeed(reads, writes, ended - began);
        ended
    }

    fn next_reads(&mut self) -> bool {
        // The common case draws nothing.
        self.task.reads_percent == 100 || self.random.u8(..100) < self.task.reads_percent
    }

    fn fail(&mut self, error: Error) {
        if let Error::Fenced { .. } = error {
            // Nothing here depends on what the memory held before it was restored.
            self.cluster.reconnect();
        }
        self.tally.fail(error);
    }
}
