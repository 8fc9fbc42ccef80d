//! The semaphore of a block: a futex word in the segment that names its owner.
//!
//! The word is 0 when free, else the owner's thread id; bit 31 says that somebody waits, bit 30 that the kernel
//! found the owner dead. This is the format of the kernel's robust futex list, which is not used: that list belongs
//! to the C library's mutexes, and a thread has only one.
//!
//! It survives its owner. When a server dies, all its threads die, and the server that takes the segment over
//! clears every word. A thread that vanishes alone is found by whoever waits for it: a sleeper that was not woken in
//! time looks whether the owner still exists, takes the word over if not, and is told that it inherited what the
//! dead left half done. A thread that is stopped exists, and is waited for, however long it takes. Should the number of a dead thread be
//! given to a new thread of the same server, the word is taken over when that one ends.
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

use rustix::fs::Access;
use rustix::io::Errno;
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
    inherited: bool,
}

impl Held<'_> {
    /// Whether the holder before died while it held it.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        self.inherited
    }
}

/// Takes the semaphore if it is free.
#[inline]
pub(crate) fn try_take(word: &AtomicU32) -> Option<Held<'_>> {
    let taken = word.compare_exchange(0, thread_id(), Acquire, Relaxed).is_ok();
    // Lazily: a `Held` that is dropped releases.
    taken.then(|| Held { word, inherited: false })
}

/// Takes the semaphore, waiting as long as it is held.
#[inline]
pub(crate) fn take(word: &AtomicU32) -> Held<'_> {
    let me = thread_id();
    let free = word.compare_exchange(0, me, Acquire, Relaxed).is_ok();
    Held { word, inherited: !free && take_contended(word, me) }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.word.swap(0, Release) & WAITERS != 0 {
            wake_one(self.word);
        }
    }
}

/// Takes it when it is not free. Whether it was inherited.
#[cold]
fn take_contended(word: &AtomicU32, me: u32) -> bool {
    for _ in 0..SPINS {
        if word.load(Relaxed) == 0 && word.compare_exchange(0, me, Acquire, Relaxed).is_ok() {
            return false;
        }
        spin_loop();
    }
    // Whoever comes this far takes the word with the bit set, because others may be asleep that it cannot know of.
    // The worst of that is one wake for nobody; without it a sleeper would be forgotten.
    let mut suspect = 0;
    loop {
        let seen = word.load(Relaxed);
        let owner = seen & OWNER;
        debug_assert_ne!(owner, me, "the thread already holds this semaphore");
        if owner == 0 || (owner == suspect && has_ended(owner)) {
            if word.compare_exchange(seen, me | WAITERS, Acquire, Relaxed).is_ok() {
                return seen & !WAITERS != 0;
            }
            continue;
        }
        let marked = seen | WAITERS;
        if seen == marked || word.compare_exchange(seen, marked, Relaxed, Relaxed).is_ok() {
            // Woken, timed out, interrupted or too late: every outcome means look again. The flags leave
            // PRIVATE out, because the word lies in memory that processes share.
            let waited = futex::wait(word, Flags::empty(), marked, Some(&LOOK_AGAIN));
            suspect = if waited == Err(Errno::TIMEDOUT) { owner } else { 0 };
            #[cfg(test)]
            tests::LOOKS.fetch_add(1, Relaxed);
        }
    }
}

/// Whether this process has no such thread any more. Only threads of the one server take semaphores, so no other
/// process is asked. Where /proc does not show even the calling thread, nothing is known, and nobody is dead.
///
/// What a dead thread stored is visible to whoever has learned of its end from the kernel.
#[cold]
fn has_ended(thread: u32) -> bool {
    let is_shown = |thread: u32| rustix::fs::access(format!("/proc/self/task/{thread}"), Access::EXISTS).is_ok();
    !is_shown(thread) && is_shown(thread_id())
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

    /// How often waiters have looked again, in all tests together.
    pub(super) static LOOKS: AtomicU32 = AtomicU32::new(0);

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
}
