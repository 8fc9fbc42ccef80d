//! Programs that write all the time, and what their writes prove.
//!
//! Each of four threads goes round a chain of counters that lie on different servers by turns, and
//! adds one to each. So at every instant a counter is at least as large as the next one, and the
//! first is ahead of the last by at most the number of threads. A snapshot of any single instant
//! shows that too; one that saved the servers one after the other while the writers ran would not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use mcomp_client::{Cluster, Error};

use super::layout::COUNTERS;
use crate::exit::{Exit, Failure};

/// How many threads write.
pub(super) const WRITERS: u64 = 4;

/// The values of all counters, in the order of the chain.
pub(super) type Counts = [u64; COUNTERS];

/// Reads all counters, the last of the chain first, so that the order of reading alone cannot make
/// the chain look wrong.
pub(super) fn read_counts(cluster: &Cluster, addrs: &[u64; COUNTERS]) -> Result<Counts, Error> {
    let mut counts = [0; COUNTERS];
    for (count, addr) in counts.iter_mut().zip(addrs).rev() {
        let mut bytes = [0; 8];
        cluster.read_at(*addr, &mut bytes)?;
        *count = u64::from_le_bytes(bytes);
    }
    Ok(counts)
}

/// Refuses counts that no instant can have.
pub(super) fn check_instant(counts: &Counts) -> Result<(), Failure> {
    let falls = counts.is_sorted_by(|a, b| a >= b);
    let is_close = counts[0].saturating_sub(counts[COUNTERS - 1]) <= WRITERS;
    match falls && is_close {
        true => Ok(()),
        false => Err(wrong(format!(
            "the counters are {counts:?}: each must be at least the next, and the first at most {WRITERS} above \
             the last, so these are not of one instant"
        ))),
    }
}

/// Something that mcomp promises is not so.
pub(super) fn wrong(text: impl Into<String>) -> Failure {
    Failure::new(Exit::BUG, "bug", text)
}

/// Threads that write until they are stopped.
#[derive(Debug)]
pub(super) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<u64, Error>>>,
}

/// Relaxed throughout: a flag and a count that order nothing.
#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    increments: AtomicU64,
}

impl Writers {
    /// Starts them.
    pub(super) fn start(cluster: &Cluster, addrs: [u64; COUNTERS]) -> std::io::Result<Writers> {
        let mut writers = Writers { shared: Arc::default(), threads: Vec::new() };
        for number in 0..WRITERS {
            let (cluster, shared) = (cluster.clone(), Arc::clone(&writers.shared));
            let thread = std::thread::Builder::new().name(format!("writer {number}"));
            writers.threads.push(thread.spawn(move || shared.write(&cluster, &addrs))?);
        }
        Ok(writers)
    }

    /// How many increments have been answered so far.
    pub(super) fn increments(&self) -> u64 {
        self.shared.increments.load(Ordering::Relaxed)
    }

    /// Stops them; how many rounds they did together.
    pub(super) fn stop(mut self) -> Result<u64, Error> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        threads.into_iter().map(|thread| thread.join().expect("a writer does not panic")).sum()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Goes round and round; how many times.
    fn write(&self, cluster: &Cluster, addrs: &[u64; COUNTERS]) -> Result<u64, Error> {
        let mut rounds = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            for addr in addrs {
                cluster.fetch_add(*addr, 1)?;
                self.increments.fetch_add(1, Ordering::Relaxed);
            }
            rounds += 1;
        }
        Ok(rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counts_of_one_instant_pass() {
        for good in [[0, 0, 0, 0], [9, 9, 8, 8], [12, 10, 9, 8]] {
            assert!(check_instant(&good).is_ok(), "{good:?}");
        }
        for bad in [[1, 2, 0, 0], [9, 9, 8, 9], [13, 9, 8, 8], [0, 0, 0, 5]] {
            let message = check_instant(&bad).unwrap_err().to_string();
            assert!(message.contains(&format!("{bad:?}")), "{message}");
        }
    }
}
