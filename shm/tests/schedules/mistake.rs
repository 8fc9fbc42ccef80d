//! The mistakes that the machine makes on purpose, and the places of the protocol where it could.
//!
//! A [`Mistake`] makes the machine execute the protocol's own code wrongly, so that no switch for it stands in the code:
//! one memory order weakened at one line, a store that comes late, a load that comes early or is not made at all.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::atomic::Ordering;

use crate::explore::point;
use crate::machine::{self, access, life, me};
use crate::{memory, sync};

/// A line of the protocol, and what is done there: for a word, its name, the operation and the order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    pub(crate) file: &'static str,
    pub(crate) line: u32,
    pub(crate) what: String,
}

/// One thing that the machine does wrongly.
#[derive(Clone, Debug)]
pub(crate) enum Mistake {
    /// The order is `to` at these sites; a fence that is relaxed is none.
    Weaker { sites: Vec<Site>, to: Ordering },
    /// Stores to `what` in `file` happen only after the next change of `until`.
    Late { file: &'static str, what: &'static str, until: &'static str },
    /// The load of `what` in `file` happens already with that of `at`, which is of the same block.
    Early { file: &'static str, what: &'static str, at: &'static str },
    /// The load of `what` in `file` is not made, and `value` is taken for its result.
    Blind { file: &'static str, what: &'static str, value: u64 },
    /// Whoever takes a free semaphore forgets that others may wait for it.
    Forgetful,
    /// A wake wakes nobody.
    Mute,
}

thread_local! {
    static MISTAKE: RefCell<Option<Mistake>> = const { RefCell::new(None) };
    static SITES: RefCell<BTreeSet<Site>> = const { RefCell::new(BTreeSet::new()) };
}

/// Runs `act` on a machine that makes the mistake.
pub(crate) fn mistaken<T>(mistake: Mistake, act: impl FnOnce() -> T) -> T {
    MISTAKE.set(Some(mistake));
    let result = act();
    MISTAKE.set(None);
    result
}

/// The sites with an order that have been executed since the last call.
pub(crate) fn take_sites() -> BTreeSet<Site> {
    SITES.take()
}

/// The file of the protocol in which `at` lies; `None` in the files of the model.
fn protocol_file(at: &Location<'static>) -> Option<&'static str> {
    at.file().contains("/../../src/").then(|| at.file().rsplit('/').next().unwrap_or_default())
}

/// The order to use at a site; it is noted that the site exists.
pub(crate) fn order_at(at: &'static Location<'static>, what: &str, order: Ordering) -> Ordering {
    let Some(file) = protocol_file(at).filter(|_| order != Ordering::Relaxed) else { return order };
    let site = Site { file, line: at.line(), what: format!("{what} {order:?}") };
    let weaker = MISTAKE.with_borrow(|mistake| match mistake {
        Some(Mistake::Weaker { sites, to }) if sites.contains(&site) => Some(*to),
        _ => None,
    });
    SITES.with_borrow_mut(|sites| sites.insert(site));
    weaker.unwrap_or(order)
}

/// Whether the mistake is about this place; what it says then.
fn mistake_at<T>(at: &Location<'static>, ask: impl FnOnce(&Mistake, &str) -> Option<T>) -> Option<T> {
    let file = protocol_file(at)?;
    MISTAKE.with_borrow(|mistake| ask(mistake.as_ref()?, file))
}

/// What a mistaken machine takes for the result of a load; it may also make another load early.
pub(crate) fn mistaken_load(at: &'static Location<'static>, name: &str, of: u64) -> Option<u64> {
    let early = mistake_at(at, |mistake, in_file| match mistake {
        Mistake::Early { file, what, at } if *file == in_file && *at == name => Some(*what),
        _ => None,
    });
    if let Some(early) = early {
        let value = memory::load(me(), machine::word_of(early, of), Ordering::Relaxed);
        life(me(), |life| life.early = Some(value));
        point();
    }
    mistake_at(at, |mistake, in_file| match mistake {
        Mistake::Blind { file, what, value } if *file == in_file && *what == name => Some(*value),
        Mistake::Early { file, what, .. } if *file == in_file && *what == name => life(me(), |life| life.early.take()),
        _ => None,
    })
}

/// What a compare-and-swap of a semaphore stores.
pub(crate) fn mistaken_exchange(from: u64, to: u64) -> u64 {
    let is_forgetful = MISTAKE.with_borrow(|mistake| matches!(mistake, Some(Mistake::Forgetful)));
    let thread_id = u64::from(sync::THREAD_ID);
    if is_forgetful && from & thread_id == 0 { to & thread_id } else { to }
}

/// Makes a store now, or later if the machine is mistaken about it.
pub(crate) fn store_in_time(at: &'static Location<'static>, name: &'static str, store: impl FnOnce() + 'static) {
    let is_late = mistake_at(at, |mistake, in_file| match mistake {
        Mistake::Late { file, what, .. } if *file == in_file && *what == name => Some(()),
        _ => None,
    });
    if is_late.is_some() {
        life(me(), |life| life.late.push(Box::new(store)));
        return;
    }
    store();
    changed(name);
}

/// `name` has been changed: what was to come after it comes now.
pub(crate) fn changed(name: &str) {
    let is_awaited =
        MISTAKE.with_borrow(|mistake| matches!(mistake, Some(Mistake::Late { until, .. }) if *until == name));
    if is_awaited {
        let late = life(me(), |life| std::mem::take(&mut life.late));
        for store in late {
            if access(true) {
                store();
            }
        }
    }
}

/// Whether wakes are lost.
pub(crate) fn is_mute() -> bool {
    MISTAKE.with_borrow(|mistake| matches!(mistake, Some(Mistake::Mute)))
}
