//! What the protocol of blocks and cuts asks of the machine: atomics, a futex, and who a thread is.
//!
//! The files that keep the protocol (`block`, `change`, `client_read`, `cut`, `cut_read`, `gate`, `semaphore`, `settle`,
//! `slot`) reach the machine through here and nowhere else. `tests/schedules` compiles the same files once more, with a
//! machine in this place whose schedules and memory orders it controls.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic;
pub(crate) use std::thread::yield_now;

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

/// Tries before a reader takes another way. A writer that is only running loses far fewer; one that was preempted
/// was seen to cost 450,000.
pub(crate) const READ_TRIES: u32 = 300;

/// Looks at a taken semaphore before going to the kernel. A block's write takes tens to hundreds of nanoseconds, a
/// sleep and a wake at least two thousand.
pub(crate) const SEMAPHORE_SPINS: u32 = 100;

/// Tries of the reader of a cut that only spin; after them it leaves the core to others between two tries.
pub(crate) const CUT_SPINS: u32 = 64;

/// Looks at a change that does not end, a core given away between two, before the end of a cut takes the semaphore.
pub(crate) const CHANGE_LOOKS: u32 = 1_000;

/// The thread id's bits of a semaphore; the kernel calls them FUTEX_TID_MASK.
pub(crate) const THREAD_ID: u32 = 0x3fff_ffff;

/// A wake can be lost in a corner (the woken thread is killed before it looks), so a sleeper looks again.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How often waiters have looked again, in all tests together.
#[cfg(test)]
pub(crate) static LOOKS: AtomicU32 = AtomicU32::new(0);

/// Sleeps while `word` is `seen`, until a wake, a signal, or the time to look again: every outcome means look again.
/// Whether it was the time.
///
/// The flags leave PRIVATE out, because the word lies in memory that processes share.
pub(crate) fn futex_wait(word: &AtomicU32, seen: u32) -> bool {
    let waited = futex::wait(word, Flags::empty(), seen, Some(&LOOK_AGAIN));
    #[cfg(test)]
    LOOKS.fetch_add(1, Relaxed);
    waited == Err(Errno::TIMEDOUT)
}

/// Wakes one thread that sleeps on `word`.
#[cold]
pub(crate) fn futex_wake_one(word: &AtomicU32) {
    // It fails only for an address that is not mapped, and this one is.
    let _ = futex::wake(word, Flags::empty(), 1);
}

/// The calling thread's kernel id, asked for once per thread: a system call would cost more than the semaphore.
#[inline]
pub(crate) fn thread_id() -> u32 {
    thread_local!(static ID: Cell<u32> = const { Cell::new(0) });
    ID.with(|id| {
        if id.get() == 0 {
            id.set(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs() & THREAD_ID);
        }
        id.get()
    })
}

/// Whether this process has no such thread any more. Only threads of the one server take semaphores, so no other
/// process is asked. Where /proc does not show even the calling thread, nothing is known, and nobody is dead.
///
/// What a dead thread stored is visible to whoever has learned of its end from the kernel.
#[cold]
pub(crate) fn has_ended(thread: u32) -> bool {
    let is_shown = |thread: u32| rustix::fs::access(format!("/proc/self/task/{thread}"), Access::EXISTS).is_ok();
    !is_shown(thread) && is_shown(thread_id())
}

/// How many threads asked before the calling one: a small number that is each thread's own.
#[inline]
pub(crate) fn thread_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    thread_local!(static MINE: Cell<Option<u32>> = const { Cell::new(None) });
    MINE.with(|mine| {
        mine.get().unwrap_or_else(|| {
            let number = NEXT.fetch_add(1, Relaxed);
            mine.set(Some(number));
            number
        })
    })
}
