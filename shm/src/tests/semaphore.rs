//! The semaphore alone, with real threads and the real futex.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::semaphore::take;
use crate::sync::{LOOKS, has_ended, thread_id};

#[test]
fn names_its_owner_and_is_free_afterwards() {
    let word = AtomicU32::new(0);
    let held = take(&word);
    assert_eq!(word.load(Relaxed), thread_id());
    drop(held);
    assert_eq!(word.load(Relaxed), 0);
}

#[test]
fn a_panic_releases_it() {
    let word = AtomicU32::new(0);
    let panicked = std::panic::catch_unwind(|| {
        let _held = take(&word);
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    assert_eq!(word.load(Relaxed), 0);
}

/// A word left by a dead owner, as the kernel marks it, can be taken, and says what it is.
#[test]
fn a_dead_owner_s_word_can_be_taken() {
    let word = AtomicU32::new(0x4000_0000);
    assert!(take(&word).is_inherited());
    assert_eq!(word.load(Relaxed), 0);
    assert!(!take(&word).is_inherited());
}

/// A thread that ends while it holds it leaves it to whoever waits.
#[test]
fn a_vanished_thread_is_inherited_from() {
    let word = AtomicU32::new(0);
    std::thread::scope(|scope| scope.spawn(|| std::mem::forget(take(&word))).join()).unwrap();
    assert_ne!(word.load(Relaxed), 0);
    assert!(take(&word).is_inherited());
    assert_eq!(word.load(Relaxed), 0);
}

/// A thread that does not move is alive: it is waited for through any number of looks.
#[test]
fn a_thread_that_stands_still_keeps_it() {
    let word = AtomicU32::new(0);
    let (has_it, told) = std::sync::mpsc::channel();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let held = &word;
        scope.spawn(move || {
            let _held = take(held);
            has_it.send(thread_id()).unwrap();
            waits.recv().unwrap();
        });
        assert!(!has_ended(told.recv().unwrap()));
        let before = LOOKS.load(Relaxed);
        let waiter = scope.spawn(|| take(&word).is_inherited());
        while LOOKS.load(Relaxed) < before + 3 {
            std::thread::yield_now();
        }
        go_on.send(()).unwrap();
        assert!(!waiter.join().unwrap(), "a living owner was taken for dead");
    });
    assert_eq!(word.load(Relaxed), 0);
}

#[test]
fn excludes() {
    let word = AtomicU32::new(0);
    let counter = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let _held = take(&word);
                    // Not an atomic increment on purpose: only the semaphore makes it one.
                    let seen = counter.load(Relaxed);
                    counter.store(seen + 1, Relaxed);
                }
            });
        }
    });
    assert_eq!(counter.load(Relaxed), 40_000);
    assert_eq!(word.load(Relaxed), 0);
}
