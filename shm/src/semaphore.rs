//! The semaphore of a block: a futex word in the segment that names its owner.
//!
//! The word is 0 when free, else the owner's thread id; bit 31 says that somebody waits, bit 30 that the kernel
//! found the owner dead. This is the format of the kernel's robust futex list, so that a thread can be put on
//! that list without a change of the bytes. Today it is not needed: only threads of the one server take the
//! semaphore, they die together, and the server that takes the segment over clears every word.
//!
//! Free and uncontended, taking it is one compare-and-swap and releasing it one swap. It is not fair, and not
//! recursive: a thread that takes it twice waits for itself. It is never held across a system call that can
//! wait, nor while another block's semaphore is wanted.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use rustix::thread::futex::{self, Flags, Timespec};

/// The thread id's bits; the kernel calls them FUTEX_TID_MASK.
pub(crate) const OWNER: u32 = 0x3fff_ffff;
/// Somebody waits in the kernel, or did a moment ago.
pub(crate) const WAITERS: u32 = 0x8000_0000;

/// Looks at a taken word before going to the kernel. A block's write takes tens to hundreds of nanoseconds, a
/// sleep and a wake at least two thousand.
const SPINS: u32 = 100;

/// A wake can be lost in a corner (the woken thread is killed before it looks), so a sleeper looks again.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Proof that the calling thread holds a semaphore; releases it when dropped, also by a panic.
pub(crate) struct Held<'a> {
    word: &'a AtomicU32,
}

/// Takes the semaphore, waiting as long as it is held.
#[inline]
pub(crate) fn take(word: &AtomicU32) -> Held<'_> {
    let me = thread_id();
    if word.compare_exchange(0, me, Acquire, Relaxed).is_err() {
        take_contended(word, me);
    }
    Held { word }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.word.swap(0, Release) & WAITERS != 0 {
            wake_one(self.word);
        }
    }
}

#[cold]
fn take_contended(word: &AtomicU32, me: u32) {
    for _ in 0..SPINS {
        if word.load(Relaxed) == 0 && word.compare_exchange(0, me, Acquire, Relaxed).is_ok() {
            return;
        }
        spin_loop();
    }
    // Whoever comes this far takes the word with the bit set, because others may be asleep that it cannot know of.
    // The worst of that is one wake for nobody; without it a sleeper would be forgotten.
    loop {
        let seen = word.load(Relaxed);
        debug_assert_ne!(seen & OWNER, me, "the thread already holds this semaphore");
        if seen & OWNER == 0 {
            if word.compare_exchange(seen, me | WAITERS, Acquire, Relaxed).is_ok() {
                return;
            }
            continue;
        }
        let marked = seen | WAITERS;
        if seen == marked || word.compare_exchange(seen, marked, Relaxed, Relaxed).is_ok() {
            // Woken, timed out, interrupted or too late: every outcome means look again. The flags leave
            // PRIVATE out, because the word lies in memory that processes share.
            let _ = futex::wait(word, Flags::empty(), marked, Some(&LOOK_AGAIN));
        }
    }
}

#[cold]
fn wake_one(word: &AtomicU32) {
    // It fails only for an address that is not mapped, and this one is.
    let _ = futex::wake(word, Flags::empty(), 1);
}

/// The calling thread's kernel id, asked for once per thread: a system call would cost more than the semaphore.
#[inline]
fn thread_id() -> u32 {
    thread_local!(static ID: Cell<u32> = const { Cell::new(0) });
    ID.with(|id| {
        if id.get() == 0 {
            id.set(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs() & OWNER);
        }
        id.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

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

    /// A word left by a dead owner, as the kernel marks it, can be taken.
    #[test]
    fn a_dead_owner_s_word_can_be_taken() {
        let word = AtomicU32::new(0x4000_0000);
        drop(take(&word));
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
}
