//! The litmus tests of the literature: all outcomes that the machine shows are those that the memory model allows, and no
//! others. Each comes with a weaker sibling, so that it is the order that forbids and not the machine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use crate::explore;
use crate::machine::{Running, start};
use crate::sync::atomic::{AtomicU64, fence};

type Outcomes<const N: usize> = BTreeSet<[u64; N]>;

thread_local!(static SEEN: RefCell<Vec<(usize, u64)>> = const { RefCell::new(Vec::new()) });

/// The two words of a litmus test.
struct Words {
    x: AtomicU64,
    y: AtomicU64,
}

/// Says what a thread has loaded into its place of the outcome.
fn saw(place: usize, value: u64) {
    SEEN.with_borrow_mut(|seen| seen.push((place, value)));
}

/// What N loads return, over all executions of the threads.
fn outcomes<const N: usize>(threads: &'static [fn(&Words)]) -> Outcomes<N> {
    let found = Arc::new(std::sync::Mutex::new(Outcomes::new()));
    let collected = Arc::clone(&found);
    explore::all(2, move || {
        SEEN.take();
        let words = Arc::new(Words { x: AtomicU64::shared("x", 0, 0), y: AtomicU64::shared("y", 0, 0) });
        let run = |thread: &fn(&Words)| {
            let (words, thread) = (Arc::clone(&words), *thread);
            start(move || thread(&words))
        };
        let running: Vec<Running> = threads.iter().map(run).collect();
        running.into_iter().for_each(|thread| assert!(!thread.join()));
        let mut outcome = [0; N];
        SEEN.take().into_iter().for_each(|(place, value)| outcome[place] = value);
        collected.lock().expect("not poisoned").insert(outcome);
    });
    found.lock().expect("not poisoned").clone()
}

fn all_but<const N: usize>(forbidden: &[[u64; N]]) -> Outcomes<N> {
    let every = (0..1 << N).map(|bits: u64| std::array::from_fn(|place| bits >> place & 1));
    every.filter(|outcome| !forbidden.contains(outcome)).collect()
}

/// Message passing: whoever sees the flag sees the message, if both sides say so.
#[test]
fn a_message_needs_release_and_acquire() {
    let strict = outcomes(&[
        |w| {
            w.x.store(1, Relaxed);
            w.y.store(1, Release);
        },
        |w| {
            saw(0, w.y.load(Acquire));
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(strict, all_but(&[[1, 0]]));
    let no_release = outcomes(&[
        |w| {
            w.x.store(1, Relaxed);
            w.y.store(1, Relaxed);
        },
        |w| {
            saw(0, w.y.load(Acquire));
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(no_release, all_but::<2>(&[]));
    let no_acquire = outcomes(&[
        |w| {
            w.x.store(1, Relaxed);
            w.y.store(1, Release);
        },
        |w| {
            saw(0, w.y.load(Relaxed));
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(no_acquire, all_but::<2>(&[]));
}

/// The same with fences, one at a time: each is needed, and only between its two accesses.
#[test]
fn a_message_by_fences() {
    let both = outcomes(&[
        |w| {
            w.x.store(1, Relaxed);
            fence(Release);
            w.y.store(1, Relaxed);
        },
        |w| {
            saw(0, w.y.load(Relaxed));
            fence(Acquire);
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(both, all_but(&[[1, 0]]));
    let misplaced = outcomes(&[
        |w| {
            fence(Release);
            w.x.store(1, Relaxed);
            w.y.store(1, Relaxed);
        },
        |w| {
            saw(0, w.y.load(Relaxed));
            fence(Acquire);
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(misplaced, all_but::<2>(&[]));
    let too_early = outcomes(&[
        |w| {
            w.x.store(1, Relaxed);
            fence(Release);
            w.y.store(1, Relaxed);
        },
        |w| {
            fence(Acquire);
            saw(0, w.y.load(Relaxed));
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(too_early, all_but::<2>(&[]));
}

/// One thread of store buffering: its store, then its look at the other's.
fn store_then_load(mine: &AtomicU64, store: Ordering, theirs: &AtomicU64, load: Ordering, place: usize) {
    mine.store(1, store);
    saw(place, theirs.load(load));
}

/// Store buffering: two that raise their flag and then look for the other's. All four accesses have to be sequentially
/// consistent, or both may miss the other.
#[test]
fn flags_need_four_sequentially_consistent_accesses() {
    let all = outcomes(&[
        |w| store_then_load(&w.x, SeqCst, &w.y, SeqCst, 0),
        |w| store_then_load(&w.y, SeqCst, &w.x, SeqCst, 1),
    ]);
    assert_eq!(all, all_but(&[[0, 0]]));
    let a_weaker_store = outcomes(&[
        |w| store_then_load(&w.x, Release, &w.y, SeqCst, 0),
        |w| store_then_load(&w.y, SeqCst, &w.x, SeqCst, 1),
    ]);
    assert_eq!(a_weaker_store, all_but::<2>(&[]));
    let a_weaker_load = outcomes(&[
        |w| store_then_load(&w.x, SeqCst, &w.y, SeqCst, 0),
        |w| store_then_load(&w.y, SeqCst, &w.x, Acquire, 1),
    ]);
    assert_eq!(a_weaker_load, all_but::<2>(&[]));
    let swapped = outcomes(&[
        |w| {
            w.x.swap(1, AcqRel);
            saw(0, w.y.load(SeqCst));
        },
        |w| store_then_load(&w.y, SeqCst, &w.x, SeqCst, 1),
    ]);
    assert_eq!(swapped, all_but::<2>(&[]), "a read-modify-write is no fence");
}

/// The same with fences, and with a fence on one side only: that is the pair of the writer and the reader of a cut.
#[test]
fn flags_by_fences() {
    let fences = outcomes(&[
        |w| {
            w.x.store(1, Relaxed);
            fence(SeqCst);
            saw(0, w.y.load(Relaxed));
        },
        |w| {
            w.y.store(1, Relaxed);
            fence(SeqCst);
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(fences, all_but(&[[0, 0]]));
    let one_fence = outcomes(&[
        |w| store_then_load(&w.x, SeqCst, &w.y, SeqCst, 0),
        |w| {
            w.y.store(1, SeqCst);
            fence(SeqCst);
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(one_fence, all_but(&[[0, 0]]));
    let no_fence = outcomes(&[
        |w| store_then_load(&w.x, SeqCst, &w.y, SeqCst, 0),
        |w| {
            w.y.store(1, SeqCst);
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(no_fence, all_but::<2>(&[]));
}

/// Two readers of two independent stores agree on their order only if everything is sequentially consistent.
#[test]
fn independent_stores() {
    let consistent = outcomes(&[
        |w| w.x.store(1, SeqCst),
        |w| w.y.store(1, SeqCst),
        |w| {
            saw(0, w.x.load(SeqCst));
            saw(1, w.y.load(SeqCst));
        },
        |w| {
            saw(2, w.y.load(SeqCst));
            saw(3, w.x.load(SeqCst));
        },
    ]);
    assert_eq!(consistent, all_but(&[[1, 0, 1, 0]]));
    let acquired = outcomes(&[
        |w| w.x.store(1, Release),
        |w| w.y.store(1, Release),
        |w| {
            saw(0, w.x.load(Acquire));
            saw(1, w.y.load(Acquire));
        },
        |w| {
            saw(2, w.y.load(Acquire));
            saw(3, w.x.load(Acquire));
        },
    ]);
    assert_eq!(acquired, all_but::<4>(&[]));
}

/// What was seen once is not unseen, and who is told of a store by a third knows it.
#[test]
fn coherence_and_causality() {
    let twice = outcomes(&[
        |w| w.x.store(1, Relaxed),
        |w| {
            saw(0, w.x.load(Relaxed));
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(twice, all_but(&[[1, 0]]));
    let told = outcomes(&[
        |w| w.x.store(1, Relaxed),
        |w| {
            saw(0, w.x.load(Relaxed));
            w.y.store(1, Release);
        },
        |w| {
            saw(1, w.y.load(Acquire));
            saw(2, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(told, all_but(&[[1, 1, 0]]));
}

/// A relaxed read-modify-write passes on what was released to it; a relaxed store does not.
#[test]
fn release_sequences() {
    let modified = outcomes(&[
        |w| {
            w.x.store(1, Relaxed);
            w.y.store(1, Release);
        },
        |w| {
            let _ = w.y.compare_exchange(1, 2, Relaxed, Relaxed);
        },
        |w| {
            saw(0, w.y.load(Acquire) / 2);
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(modified, all_but(&[[1, 0]]));
    let stored = outcomes(&[
        |w| {
            w.x.store(1, Relaxed);
            w.y.store(1, Release);
            w.y.store(2, Relaxed);
        },
        |w| {
            saw(0, w.y.load(Acquire) / 2);
            saw(1, w.x.load(Relaxed));
        },
    ]);
    assert_eq!(stored, all_but::<2>(&[]));
}
