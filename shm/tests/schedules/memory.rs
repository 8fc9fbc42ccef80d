//! A memory whose loads may be late: the part of the C++20 memory model that the protocol relies on, as a machine that
//! can be stepped.
//!
//! Every word keeps all values that were ever stored to it, in order. A thread has a *view*: for each word the oldest
//! value that it may still see. A load returns any value from there on, and the explorer tries them all. What makes
//! views grow is what the model says: a thread's own accesses, acquire loads of release stores, fences, and the order
//! of all sequentially consistent operations. This is the operational form of RC11 without its psc subtleties, due to
//! Kang and others ("promising semantics", without promises); `proof_memory` holds it against the known litmus tests.
//!
//! What it leaves out: a load never returns a value that is stored later (load buffering), a word's stores are ordered
//! as they were executed, and a compare-and-swap that fails has seen the newest value. The first would need a store
//! that overtakes an older load; the readers of the protocol do not store, and its writers end in release stores. The
//! second cannot be told apart, because no word of the protocol has two writers at a time, but by read-modify-writes.

use std::cell::RefCell;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use crate::explore::choose;

/// Words that one model may have.
const WORDS_MAX: usize = 32;

/// For each word, how many of its values are too old to be seen.
#[derive(Clone, Copy, Default)]
pub(crate) struct View([u16; WORDS_MAX]);

impl View {
    fn join(&mut self, other: &View) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = theirs.max(*mine);
        }
    }
}

/// A value that was stored, and the view that whoever acquires it gets.
struct Message {
    value: u64,
    view: View,
}

/// The views of a thread.
#[derive(Clone, Copy, Default)]
struct Thread {
    /// What it may still see.
    now: View,
    /// What an acquire fence would add: the views of all that it has loaded.
    acquirable: View,
    /// What a relaxed store passes on: the view at the last release fence.
    released: View,
    /// The next load returns the newest value. Set by waiting, because no store stays hidden for ever.
    is_fresh: bool,
}

#[derive(Default)]
struct Memory {
    words: Vec<Vec<Message>>,
    threads: Vec<Thread>,
    /// What the sequentially consistent operations have settled so far.
    consistent: View,
}

thread_local!(static MEMORY: RefCell<Memory> = RefCell::default());

/// The number of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u16);

fn with<T>(act: impl FnOnce(&mut Memory) -> T) -> T {
    MEMORY.with_borrow_mut(act)
}

/// Forgets everything, for a new execution.
pub(crate) fn clear() {
    with(|memory| *memory = Memory { threads: vec![Thread::default()], ..Memory::default() });
}

/// A new word, which everybody sees.
pub(crate) fn word(value: u64) -> Word {
    with(|memory| {
        assert!(memory.words.len() < WORDS_MAX, "more than {WORDS_MAX} words");
        memory.words.push(vec![Message { value, view: View::default() }]);
        Word((memory.words.len() - 1) as u16)
    })
}

fn acquires(order: Ordering) -> bool {
    matches!(order, Acquire | AcqRel | SeqCst)
}

fn releases(order: Ordering) -> bool {
    matches!(order, Release | AcqRel | SeqCst)
}

impl Memory {
    fn thread(&mut self, thread: usize) -> &mut Thread {
        let count = self.threads.len().max(thread + 1);
        self.threads.resize_with(count, Thread::default);
        &mut self.threads[thread]
    }

    fn newest(&self, word: Word) -> u16 {
        (self.words[usize::from(word.0)].len() - 1) as u16
    }

    /// The oldest value that a load may return.
    fn oldest(&self, thread: usize, word: Word, order: Ordering) -> u16 {
        let at = usize::from(word.0);
        let seen = self.threads[thread].now.0[at];
        match order {
            _ if self.threads[thread].is_fresh => self.newest(word),
            SeqCst => seen.max(self.consistent.0[at]),
            _ => seen,
        }
    }

    /// What loading the value number `time` does to the thread.
    fn see(&mut self, thread: usize, word: Word, time: u16, order: Ordering) -> u64 {
        let at = usize::from(word.0);
        let message = &self.words[at][usize::from(time)];
        let mine = &mut self.threads[thread];
        mine.now.0[at] = mine.now.0[at].max(time);
        mine.acquirable.join(&message.view);
        if acquires(order) {
            mine.now.join(&message.view);
        }
        if order == SeqCst {
            self.consistent.0[at] = self.consistent.0[at].max(time);
        }
        message.value
    }

    /// Appends a value. `passed_on` is the view that it passes on besides the thread's own: that of the value which a
    /// read-modify-write replaces.
    fn append(&mut self, thread: usize, word: Word, value: u64, order: Ordering, passed_on: View) {
        let (at, time) = (usize::from(word.0), self.newest(word) + 1);
        let mine = &mut self.threads[thread];
        mine.now.0[at] = time;
        let mut view = if releases(order) { mine.now } else { mine.released };
        view.join(&passed_on);
        view.0[at] = time;
        mine.acquirable.join(&view);
        self.words[at].push(Message { value, view });
        if order == SeqCst {
            self.consistent.0[at] = time;
        }
    }
}

/// Loads a word in a thread.
pub(crate) fn load(thread: usize, word: Word, order: Ordering) -> u64 {
    let (oldest, newest) = with(|memory| {
        let range = (memory.oldest(thread, word, order), memory.newest(word));
        memory.threads[thread].is_fresh = false;
        range
    });
    // The newest first: so what is tried first is what mostly happens.
    let age = choose(usize::from(newest - oldest) + 1) as u16;
    with(|memory| memory.see(thread, word, newest - age, order))
}

/// Stores to a word in a thread.
pub(crate) fn store(thread: usize, word: Word, value: u64, order: Ordering) {
    with(|memory| memory.append(thread, word, value, order, View::default()));
}

/// Replaces the newest value by what `change` makes of it, or leaves it.
pub(crate) fn modify(thread: usize, word: Word, order: Ordering, change: impl FnOnce(u64) -> Option<u64>) -> u64 {
    with(|memory| {
        let newest = memory.newest(word);
        let old = memory.words[usize::from(word.0)][usize::from(newest)].value;
        let new = change(old);
        memory.see(thread, word, newest, if new.is_some() { order } else { Relaxed });
        if let Some(new) = new {
            let passed_on = memory.words[usize::from(word.0)][usize::from(newest)].view;
            memory.append(thread, word, new, order, passed_on);
        }
        old
    })
}

/// A fence in a thread.
pub(crate) fn fence(thread: usize, order: Ordering) {
    with(|memory| {
        let Memory { threads, consistent, .. } = memory;
        let mine = &mut threads[thread];
        if acquires(order) {
            let acquirable = mine.acquirable;
            mine.now.join(&acquirable);
        }
        if order == SeqCst {
            mine.now.join(consistent);
            consistent.join(&mine.now);
        }
        if releases(order) {
            mine.released = mine.now;
        }
    });
}

/// The next load of the thread returns the newest value: it has waited.
pub(crate) fn wait(thread: usize) {
    with(|memory| memory.thread(thread).is_fresh = true);
}

/// What a thread knows: a thread that it starts, or that learns of its end, is told.
pub(crate) fn knowledge(thread: usize) -> View {
    with(|memory| memory.thread(thread).now)
}

/// Makes a thread see what another one knew.
pub(crate) fn tell(thread: usize, known: &View) {
    with(|memory| memory.thread(thread).now.join(known));
}

/// The value that everybody will see in the end.
pub(crate) fn newest(word: Word) -> u64 {
    with(|memory| memory.words[usize::from(word.0)].last().expect("a word has a value").value)
}

/// Makes a thread see everything.
pub(crate) fn wait_for_all(thread: usize) {
    with(|memory| {
        let newest: Vec<u16> = (0..memory.words.len()).map(|at| (memory.words[at].len() - 1) as u16).collect();
        memory.thread(thread).now.0[..newest.len()].copy_from_slice(&newest);
    });
}
