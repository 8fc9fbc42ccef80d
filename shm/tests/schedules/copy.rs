//! Copies by words of the model's memory, each a step of the schedule, where `src/copy.rs` moves bytes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::Ordering::Relaxed;

use crate::machine::{self, Named};
use crate::{memory, mistake, shadow};

thread_local!(static WORDS: RefCell<HashMap<usize, Named>> = RefCell::default());

/// Forgets all addresses, for a new execution.
pub(crate) fn clear() {
    WORDS.take();
}

/// Says that the word at this address is one of the model's.
pub(crate) fn register(address: usize, word: Named) {
    WORDS.with_borrow_mut(|words| words.insert(address, word));
}

/// The model's word at this address; the pages of slots have none.
fn at(address: *const u8) -> Option<Named> {
    WORDS.with_borrow(|words| words.get(&address.addr()).copied())
}

fn steps(len_bytes: usize) -> impl Iterator<Item = usize> {
    assert!(len_bytes.is_multiple_of(8), "{len_bytes} bytes, and a model copies words");
    (0..len_bytes).step_by(8)
}

fn load(word: Named) -> u64 {
    if machine::access(true) { memory::load(machine::me(), word.word, Relaxed) } else { 0 }
}

fn store(word: Named, value: u64) {
    if word.name == "shadow" {
        shadow::assert_allocated();
    }
    memory::store(machine::me(), word.word, value, Relaxed);
}

/// # Safety
/// As in `src/copy.rs`.
pub(crate) unsafe fn from_shared(shared: *const u8, private: *mut u8, len_bytes: usize) {
    for step in steps(len_bytes) {
        // SAFETY: the caller vouches for `len_bytes`.
        let (from, to) = unsafe { (shared.add(step), private.add(step).cast::<u64>()) };
        // SAFETY: a page of a slot lies in the array of a `Map`, aligned, and one thread runs at a time.
        let value = at(from).map_or_else(|| unsafe { from.cast::<u64>().read() }, load);
        // SAFETY: as for `from`.
        unsafe { to.write_unaligned(value) };
    }
}

/// # Safety
/// As in `src/copy.rs`.
#[track_caller]
pub(crate) unsafe fn to_shared(private: *const u8, shared: *mut u8, len_bytes: usize) {
    let caller = Location::caller();
    for step in steps(len_bytes) {
        // SAFETY: the caller vouches for `len_bytes`.
        let (value, to) = unsafe { (private.add(step).cast::<u64>().read_unaligned(), shared.add(step)) };
        let to = at(to).expect("only blocks are copied to");
        if machine::access(true) {
            mistake::store_in_time(caller, to.name, move || store(to, value));
        }
    }
}

/// # Safety
/// As in `src/copy.rs`.
#[track_caller]
pub(crate) unsafe fn between_shared(from: *const u8, to: *mut u8, len_bytes: usize) {
    let caller = Location::caller();
    for step in steps(len_bytes) {
        // SAFETY: the caller vouches for `len_bytes`.
        let (from, to) = unsafe { (from.add(step), to.add(step)) };
        let (from, to) = (at(from).expect("a block"), at(to).expect("a shadow page"));
        if machine::access(true) {
            mistake::store_in_time(caller, to.name, move || store(to, load(from)));
        }
    }
}
