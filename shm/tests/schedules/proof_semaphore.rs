//! The semaphore: one holder at a time, who sees what the one before did, and no wake is lost.
//!
//! Nobody's sleep ends by itself here: a sleeper that is forgotten is a deadlock, which shuttle reports. In earnest it
//! would look again after 50 ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32 as Plain, Ordering::SeqCst};

use crate::explore;
use crate::machine::start;
use crate::semaphore;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64};

struct Shared {
    semaphore: AtomicU32,
    inside: Plain,
    /// What is done while it is held, with nothing but the semaphore to order it.
    guarded: AtomicU64,
}

fn rivals(count: u64) {
    let shared = Arc::new(Shared {
        semaphore: AtomicU32::shared("sem", 0, 0),
        inside: Plain::new(0),
        guarded: AtomicU64::shared("guarded", 0, 0),
    });
    let take = |shared: Arc<Shared>| {
        let held = semaphore::take(&shared.semaphore);
        assert_eq!(shared.inside.fetch_add(1, SeqCst), 0, "two holders");
        shared.guarded.store(shared.guarded.load(Relaxed) + 1, Relaxed);
        shared.inside.fetch_sub(1, SeqCst);
        drop(held);
    };
    let started: Vec<_> = (1..count)
        .map(|_| {
            let shared = Arc::clone(&shared);
            start(move || take(shared))
        })
        .collect();
    take(Arc::clone(&shared));
    started.into_iter().for_each(|thread| assert!(!thread.join()));
    assert_eq!(shared.guarded.load(Relaxed), count, "a holder missed what the one before did");
    assert_eq!(shared.semaphore.load(Relaxed), 0);
}

pub(crate) fn two_rivals() {
    rivals(2);
}

pub(crate) fn three_rivals() {
    rivals(3);
}

#[test]
fn two_rivals_take_turns() {
    explore::all(4, two_rivals);
}

#[test]
fn three_rivals_take_turns() {
    explore::all(3, three_rivals);
    explore::random(20_000, three_rivals);
}
