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

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{self, SEMAPHORE_SPINS, THREAD_ID, has_ended, spin_loop, thread_id};

/// Somebody waits in the kernel, or did a moment ago.
const WAITERS: u32 = 0x8000_0000;

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
            sync::futex_wake_one(self.word);
        }
    }
}

/// Takes it when it is not free. Whether it was inherited.
#[cold]
fn take_contended(word: &AtomicU32, me: u32) -> bool {
    for _ in 0..SEMAPHORE_SPINS {
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
        let owner = seen & THREAD_ID;
        debug_assert_ne!(owner, me, "the thread already holds this semaphore");
        if owner == 0 || (owner == suspect && has_ended(owner)) {
            if word.compare_exchange(seen, me | WAITERS, Acquire, Relaxed).is_ok() {
                return seen & !WAITERS != 0;
            }
            continue;
        }
        let marked = seen | WAITERS;
        if seen == marked || word.compare_exchange(seen, marked, Relaxed, Relaxed).is_ok() {
            suspect = if sync::futex_wait(word, marked) { owner } else { 0 };
        }
    }
}
