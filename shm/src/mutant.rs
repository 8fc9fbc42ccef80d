//! Known wrong versions of the protocol, kept so that tests can prove that they would notice.
//!
//! A cut is easy to get almost right: the mistakes below survive hundreds of runs of a test that is not
//! aimed at them. Each has a test that goes red on it. Without the feature `mutants` the
//! switch is the constant `Mutant::None`; this crate's own tests set it on single segments instead.

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The protocol as specified.
    None,
    /// Writers keep no shadow page, and the reader of a cut copies blocks as they are now.
    NaiveCopy,
    /// The server does not hold the answers of operations that touched the new epoch. This crate behaves
    /// as specified under it; the server asks.
    ColourOnly,
    /// A client that reads the segment itself does so while a cut is held, too.
    HeldRead,
    /// A server that takes a segment over does again what the receive slots say, whether or not their block is odd.
    RedoEven,
    /// Writers leave out what they are about to do from their receive slots.
    NoRecord,
    /// Replicated blocks are copied for a snapshot as they stand, without looking at the other replicas. As with
    /// `ColourOnly` the server asks.
    Unsettled,
}

/// The mistake that `MCOMP_MUTANT` asks for (its name in lower case, with hyphens), read once per process.
#[cfg(feature = "mutants")]
pub fn active() -> Mutant {
    static ACTIVE: std::sync::OnceLock<Mutant> = std::sync::OnceLock::new();
    *ACTIVE.get_or_init(|| match std::env::var("MCOMP_MUTANT").as_deref() {
        Ok("naive-copy") => Mutant::NaiveCopy,
        Ok("colour-only") => Mutant::ColourOnly,
        Ok("held-read") => Mutant::HeldRead,
        Ok("redo-even") => Mutant::RedoEven,
        Ok("no-record") => Mutant::NoRecord,
        Ok("unsettled") => Mutant::Unsettled,
        _ => Mutant::None,
    })
}

/// The mistake asked for: always none, because this build leaves the feature `mutants` out.
#[cfg(not(feature = "mutants"))]
pub const fn active() -> Mutant {
    Mutant::None
}

/// Waits as long as `MCOMP_STRETCH_SWITCH_US` says, at most a second: the time between the switch of one server and
/// that of the next, in which a wrong cut shows and a right one must not.
#[cfg(feature = "mutants")]
pub fn stretch_switch() {
    let asked = std::env::var("MCOMP_STRETCH_SWITCH_US").ok().and_then(|text| text.parse().ok());
    if let Some(micros) = asked {
        std::thread::sleep(std::time::Duration::from_micros(u64::min(micros, 1_000_000)));
    }
}

/// Nothing, because this build leaves the feature `mutants` out.
#[cfg(not(feature = "mutants"))]
pub const fn stretch_switch() {}

/// Makes the middle of a copy last: `copy_half` gets the number of bytes of its first half, and then the thread waits as
/// long as `MCOMP_STRETCH_COPY_US` says, at most a second. So a server that is killed under load dies in the middle of
/// one. Returns how many bytes were copied.
#[cfg(feature = "mutants")]
#[inline]
pub(crate) fn pause_in_copy(len_bytes: usize, copy_half: impl FnOnce(usize)) -> usize {
    static PAUSE: std::sync::OnceLock<Option<std::time::Duration>> = std::sync::OnceLock::new();
    let asked = || std::env::var("MCOMP_STRETCH_COPY_US").ok().and_then(|text| text.parse().ok());
    let pause = PAUSE.get_or_init(|| asked().map(|us: u64| std::time::Duration::from_micros(us.min(1_000_000))));
    let Some(pause) = pause else { return 0 };
    copy_half(len_bytes / 2);
    std::thread::sleep(*pause);
    len_bytes / 2
}

/// Nothing, because this build leaves the feature `mutants` out.
#[cfg(not(feature = "mutants"))]
#[inline]
pub(crate) fn pause_in_copy(_len_bytes: usize, _copy_half: impl FnOnce(usize)) -> usize {
    0
}
