//! Tests of the whole: a segment from creation to purge, its operations against a model, and the cut.
//!
//! Each test has a cluster of its own, named after the process and a counter, so that any number of runs can go
//! on side by side; a guard removes the objects, also when the test panics.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::{Opened, Segment, Spec};

mod concurrent; // threads on one segment: whole blocks, exact counters, exact cuts, and the mutant that is caught
mod death; // writes that nobody ends: finished by the next server, or by the next writer
mod life; // creation, take-over, refusals, torn blocks, purge
mod look; // what a look sees is what a server would meet
mod model; // every operation against a plain Vec<u8>
mod semaphore; // the semaphore alone: who holds it, who inherits it, who waits for it
mod span; // addresses: what is refused, and how a span falls into pieces

/// What the receive slots take: 128 records of 64 bytes, and a page for each.
const SLOTS_BYTES: u64 = 128 * (64 + 4096);

/// A cluster of its own for one test; its segments go when it does.
struct Scratch {
    cluster: String,
}

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        Scratch { cluster: format!("test-{}-{number}", std::process::id()) }
    }

    fn spec(&self, blocks: u64) -> Spec {
        Spec { cluster: self.cluster.clone(), id: 0, n: 1, k_bytes: blocks * 4096, registers: false }
    }

    fn segment(&self, blocks: u64) -> Segment {
        Segment::open(&self.spec(blocks)).expect("a scratch segment").0
    }

    fn reopen(&self, blocks: u64) -> (Segment, Opened) {
        Segment::open(&self.spec(blocks)).expect("a scratch segment, again")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for id in 0..2 {
            let _ = std::fs::remove_file(crate::object::path(&self.cluster, id));
        }
    }
}
