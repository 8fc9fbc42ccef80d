//! The threads of a model: how they start, sleep and die.
//!
//! Death is what it is for the protocol: a killed thread has executed its instructions up to some point and none after
//! it. Every access to shared memory is such a point here. A thread dies by unwinding, and what its destructors would do
//! to the memory is left out.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use crate::explore::point;
use crate::memory::{self, Word};
use crate::mistake;

/// A word of the memory, by the name that mistakes and sites use, and the block or slot that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) of: u64,
    pub(crate) word: Word,
}

#[derive(Default)]
struct Machine {
    words: Vec<Named>,
    threads: Vec<Life>,
    /// Accesses of all threads so far: the clock of the model.
    now: u64,
    /// When everything dies.
    end: Option<u64>,
    sleepers: Vec<(usize, Named)>,
    has_timeouts: bool,
}

#[derive(Default)]
pub(crate) struct Life {
    /// Accesses until it dies.
    left: Option<u64>,
    is_dead: bool,
    /// Stores that a mistake has put off, and the value of a load that one has made early.
    pub(crate) late: Vec<Box<dyn FnOnce()>>,
    pub(crate) early: Option<u64>,
    handle: Option<shuttle::thread::Thread>,
}

thread_local!(static MACHINE: RefCell<Machine> = RefCell::default());

/// What a dying thread unwinds with.
struct Death;

fn with<T>(act: impl FnOnce(&mut Machine) -> T) -> T {
    MACHINE.with_borrow_mut(act)
}

/// Forgets everything, for a new execution.
pub(crate) fn clear() {
    // Outside of the borrow: what is dropped may ask the machine.
    let old = with(std::mem::take);
    drop(old);
}

/// A new word with a name.
pub(crate) fn named(name: &'static str, of: u64, value: u64) -> Named {
    let named = Named { name, of, word: memory::word(value) };
    with(|machine| machine.words.push(named));
    named
}

/// The word with this name, of this block.
pub(crate) fn word_of(name: &str, of: u64) -> Word {
    let word = with(|machine| machine.words.iter().find(|word| word.name == name && word.of == of).copied());
    word.expect("a word of the model").word
}

/// The number of the calling thread.
pub(crate) fn me() -> usize {
    usize::from(shuttle::current::me())
}

/// The clock: accesses so far. What has ended before another thing begins has the smaller number.
pub(crate) fn now() -> u64 {
    with(|machine| machine.now)
}

pub(crate) fn life<T>(thread: usize, act: impl FnOnce(&mut Life) -> T) -> T {
    with(|machine| {
        let count = machine.threads.len().max(thread + 1);
        machine.threads.resize_with(count, Life::default);
        act(&mut machine.threads[thread])
    })
}

/// A thread of a model.
pub(crate) struct Running {
    handle: shuttle::thread::JoinHandle<usize>,
}

/// Starts a thread, which knows what the calling one knows.
pub(crate) fn start(body: impl FnOnce() + Send + 'static) -> Running {
    start_mortal(None, body)
}

/// Starts a thread that dies before its access number `accesses`, if it comes so far.
pub(crate) fn start_mortal(accesses: Option<u64>, body: impl FnOnce() + Send + 'static) -> Running {
    let known = memory::knowledge(me());
    let handle = shuttle::thread::spawn(move || {
        memory::tell(me(), &known);
        life(me(), |life| life.left = accesses);
        match catch_unwind(AssertUnwindSafe(body)) {
            Err(reason) if !reason.is::<Death>() => resume_unwind(reason),
            _ => me(),
        }
    });
    Running { handle }
}

impl Running {
    /// Waits for its end; whether it died.
    pub(crate) fn join(self) -> bool {
        let thread = self.handle.join().expect("its panic has ended the execution");
        memory::tell(me(), &memory::knowledge(thread));
        life(thread, |life| life.is_dead)
    }
}

/// Makes all threads but the calling one die when the clock shows `at`.
pub(crate) fn end_at(at: u64) {
    with(|machine| machine.end = Some(at));
}

/// The calling thread goes on alone, and sees what all have done: a server that takes over.
pub(crate) fn survive() {
    with(|machine| machine.end = None);
    memory::wait_for_all(me());
}

/// From here on, a thread that sleeps looks again after a while.
pub(crate) fn have_timeouts() {
    with(|machine| machine.has_timeouts = true);
}

/// The calling thread is about to access shared memory; `false` when it is dying, and nothing more comes of it.
pub(crate) fn access(is_point: bool) -> bool {
    if std::thread::panicking() {
        return false;
    }
    if is_point {
        point();
    }
    let me = me();
    let dies = with(|machine| {
        machine.now += 1;
        machine.end.is_some_and(|end| machine.now > end) && me != 0
    });
    let dies = dies
        || life(me, |life| {
            life.left.as_mut().is_some_and(|left| left.checked_sub(1).map(|less| *left = less).is_none())
        });
    if dies {
        die(me);
    }
    true
}

fn die(me: usize) -> ! {
    life(me, |life| life.is_dead = true);
    // Those who sleep die as well when everything does; the others see that nobody has woken them.
    let handles: Vec<_> = with(|machine| machine.threads.iter().filter_map(|life| life.handle.clone()).collect());
    handles.iter().for_each(shuttle::thread::Thread::unpark);
    resume_unwind(Box::new(Death))
}

/// Whether the thread with this number died. Whoever learns of it sees what it stored.
pub(crate) fn has_died(thread: usize) -> bool {
    let is_dead = life(thread, |life| life.is_dead);
    if is_dead {
        memory::tell(me(), &memory::knowledge(thread));
    }
    is_dead
}

/// Sleeps while the word's newest value is `seen`. Whether the time to look again ended it.
pub(crate) fn sleep(word: Named, seen: u64) -> bool {
    if !access(true) {
        return false;
    }
    let me = me();
    // The kernel looks with the thread's own eyes: what it has seen, the thread cannot miss afterwards.
    if memory::modify(me, word.word, Ordering::Relaxed, |_| None) != seen {
        return false;
    }
    life(me, |life| life.handle = Some(shuttle::thread::current()));
    with(|machine| machine.sleepers.push((me, word)));
    if with(|machine| machine.has_timeouts) {
        shuttle::thread::yield_now();
        let timed_out = is_listed(me);
        with(|machine| machine.sleepers.retain(|(sleeper, _)| *sleeper != me));
        return timed_out;
    }
    while is_listed(me) {
        shuttle::thread::park();
        access(false);
    }
    false
}

/// Whether a thread sleeps until it is woken.
pub(crate) fn is_asleep(thread: usize) -> bool {
    !with(|machine| machine.has_timeouts) && is_listed(thread)
}

fn is_listed(thread: usize) -> bool {
    with(|machine| machine.sleepers.iter().any(|(sleeper, _)| *sleeper == thread))
}

/// Wakes one of those who sleep on the word.
pub(crate) fn wake(word: Named) {
    if !access(true) || mistake::is_mute() {
        return;
    }
    let woken = with(|machine| {
        let at = machine.sleepers.iter().position(|(_, on)| *on == word)?;
        let (sleeper, _) = machine.sleepers.remove(at);
        machine.threads[sleeper].handle.clone()
    });
    if let Some(woken) = woken {
        woken.unpark();
    }
}
