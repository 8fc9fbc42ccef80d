//! What `src/sync.rs` is to the protocol in earnest, over the machine of this test.

use crate::machine::{self, Named};
use crate::{explore, memory, mistake};

pub(crate) const READ_TRIES: u32 = 2;
pub(crate) const SEMAPHORE_SPINS: u32 = 1;
pub(crate) const CUT_SPINS: u32 = 1;
pub(crate) const CHANGE_LOOKS: u32 = 2;
pub(crate) const THREAD_ID: u32 = 0x3fff_ffff;

/// Atomics that are words of the model's memory, or plain ones.
pub(crate) mod atomic {
    use std::panic::Location;
    use std::sync::Arc;
    pub(crate) use std::sync::atomic::Ordering;

    use super::*;

    /// A word whose loads may be late; or, when its order is not in question, one that is at once as it is.
    enum Cell {
        Shared(Named),
        Plain(&'static str, Arc<std::sync::atomic::AtomicU64>),
    }

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            pub(crate) struct $name(Cell);

            impl $name {
                /// A word of the model's memory.
                pub(crate) fn shared(name: &'static str, of: u64, value: $value) -> $name {
                    $name(Cell::Shared(machine::named(name, of, value.into())))
                }

                /// A word that has its name already.
                pub(crate) fn of(named: Named) -> $name {
                    $name(Cell::Shared(named))
                }

                /// A word on which no order depends.
                pub(crate) fn plain(name: &'static str, value: $value) -> $name {
                    $name(Cell::Plain(name, Arc::new(std::sync::atomic::AtomicU64::new(value.into()))))
                }

                pub(super) fn named(&self) -> Named {
                    match self.0 {
                        Cell::Shared(named) => named,
                        Cell::Plain(name, _) => panic!("{name} is not shared in this model"),
                    }
                }

                #[track_caller]
                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.0.load(order) as $value
                }

                #[track_caller]
                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    self.0.store(value.into(), order);
                }

                #[track_caller]
                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.0.modify("swap", order, |_| Some(value.into())) as $value
                }

                #[track_caller]
                pub(crate) fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    order: Ordering,
                    _failure: Ordering,
                ) -> Result<$value, $value> {
                    let replace =
                        |old| (old == u64::from(from)).then(|| mistake::mistaken_exchange(from.into(), to.into()));
                    let old = self.0.modify("exchange", order, replace) as $value;
                    if old == from { Ok(old) } else { Err(old) }
                }

                #[track_caller]
                pub(crate) fn fetch_update(
                    &self,
                    order: Ordering,
                    _failure: Ordering,
                    mut change: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let mut is_changed = false;
                    let old = self.0.modify("update", order, |old| {
                        let new = change(old as $value);
                        is_changed = new.is_some();
                        new.map(Into::into)
                    });
                    if is_changed { Ok(old as $value) } else { Err(old as $value) }
                }

                #[track_caller]
                pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    self.0.modify("add", order, |old| Some(old.wrapping_add(value.into()))) as $value
                }

                #[track_caller]
                pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    self.0.modify("sub", order, |old| Some(old.wrapping_sub(value.into()))) as $value
                }

                #[track_caller]
                pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    self.0.modify("and", order, |old| Some(old & u64::from(value))) as $value
                }

                #[track_caller]
                pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    self.0.modify("or", order, |old| Some(old | u64::from(value))) as $value
                }
            }
        };
    }

    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);

    impl Cell {
        #[track_caller]
        fn load(&self, order: Ordering) -> u64 {
            let at = Location::caller();
            if !machine::access(matches!(self, Cell::Shared(_))) {
                return 0;
            }
            match self {
                Cell::Shared(Named { name, of, word }) => {
                    let order = mistake::order_at(at, &format!("{name}.load"), order);
                    let mistaken = mistake::mistaken_load(at, name, *of);
                    mistaken.unwrap_or_else(|| memory::load(machine::me(), *word, order))
                }
                Cell::Plain(_, word) => word.load(Ordering::SeqCst),
            }
        }

        #[track_caller]
        fn store(&self, value: u64, order: Ordering) {
            let at = Location::caller();
            if !machine::access(matches!(self, Cell::Shared(_))) {
                return;
            }
            match self {
                Cell::Shared(Named { name, word, .. }) => {
                    let order = mistake::order_at(at, &format!("{name}.store"), order);
                    let word = *word;
                    mistake::store_in_time(at, name, move || memory::store(machine::me(), word, value, order));
                }
                Cell::Plain(name, word) => {
                    let word = Arc::clone(word);
                    mistake::store_in_time(at, name, move || word.store(value, Ordering::SeqCst));
                }
            }
        }

        #[track_caller]
        fn modify(&self, how: &str, order: Ordering, change: impl FnOnce(u64) -> Option<u64>) -> u64 {
            let at = Location::caller();
            if !machine::access(matches!(self, Cell::Shared(_))) {
                return 0;
            }
            match self {
                Cell::Shared(Named { name, word, .. }) => {
                    let order = mistake::order_at(at, &format!("{name}.{how}"), order);
                    let old = memory::modify(machine::me(), *word, order, change);
                    mistake::changed(name);
                    old
                }
                Cell::Plain(_, word) => {
                    let old = word.load(Ordering::SeqCst);
                    word.store(change(old).unwrap_or(old), Ordering::SeqCst);
                    old
                }
            }
        }
    }

    #[track_caller]
    pub(crate) fn fence(order: Ordering) {
        let order = mistake::order_at(Location::caller(), "fence", order);
        if std::thread::panicking() {
            return;
        }
        // The others concern only the thread itself, so nothing can come between them and its access before.
        if order == Ordering::SeqCst {
            explore::point();
        }
        memory::fence(machine::me(), order);
    }

    /// Nothing: the machine executes a thread's instructions in the order in which they are written.
    pub(crate) fn compiler_fence(_order: Ordering) {}
}

use atomic::AtomicU32;

/// Others have their turn, and what they stored is seen after it.
pub(crate) fn yield_now() {
    if machine::access(false) {
        memory::wait(machine::me());
        shuttle::thread::yield_now();
    }
}

pub(crate) fn spin_loop() {
    yield_now();
}

pub(crate) fn futex_wait(word: &AtomicU32, seen: u32) -> bool {
    machine::sleep(word.named(), seen.into())
}

pub(crate) fn futex_wake_one(word: &AtomicU32) {
    machine::wake(word.named());
}

/// Not 0, which says that a semaphore is free.
pub(crate) fn thread_id() -> u32 {
    machine::me() as u32 + 1
}

pub(crate) fn has_ended(thread: u32) -> bool {
    machine::access(true) && machine::has_died(thread as usize - 1)
}

pub(crate) fn thread_number() -> u32 {
    machine::me() as u32
}
