//! Faults of the disk on demand, so that tests can put one at every system call of the snapshot file.
//!
//! `MCOMP_TEST_FAULT` names them: `write:3:eio` makes the third write of this process fail, and a list
//! of them is separated by commas. The calls are those of [`Call`], in lower case, or `any`; the
//! effects are `kill` (the process kills itself before the call), `eio`, `enospc`, and `short` (a
//! write that takes half of the bytes). Each that is met is told in the log, and at the level `trace`
//! every call. `MCOMP_TEST_SHRINK`
//! divides the sizes of buffers, so that small files take the ways of large ones.
//!
//! Without the feature `faults` all of this is constants, and neither variable is looked at.

use rustix::io::Errno;

/// A kind of system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "faults"),
    expect(dead_code, reason = "writes are met by `meet_write`, which then needs no name")
)]
pub(super) enum Call {
    Open,
    Mkdir,
    List,
    Read,
    Write,
    Truncate,
    Sync,
    Rename,
    Unlink,
    Lock,
}

#[cfg(not(feature = "faults"))]
pub(super) const fn meet(_: Call) -> Result<(), Errno> {
    Ok(())
}

/// How many of `bytes` a write may take.
#[cfg(not(feature = "faults"))]
pub(super) const fn meet_write(bytes: usize) -> Result<usize, Errno> {
    Ok(bytes)
}

/// The size of a buffer.
#[cfg(not(feature = "faults"))]
pub(super) const fn shrunk(bytes: u64) -> u64 {
    bytes
}

#[cfg(feature = "faults")]
pub(super) use asked::{meet, meet_write, shrunk};

#[cfg(feature = "faults")]
mod asked {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// What becomes of a call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Effect {
        Kill,
        Fail(Errno),
        Short,
    }

    /// A fault that waits for its call.
    #[derive(Debug)]
    struct Fault {
        /// None is any.
        call: Option<Call>,
        left: AtomicU64,
        effect: Effect,
    }

    static FAULTS: LazyLock<Vec<Fault>> = LazyLock::new(|| {
        let asked = std::env::var("MCOMP_TEST_FAULT").unwrap_or_default();
        let faults = asked.split(',').filter(|text| !text.is_empty());
        faults.map(|text| Fault::parse(text).unwrap_or_else(|| panic!("MCOMP_TEST_FAULT: what is {text:?}?"))).collect()
    });

    static SHRINK: LazyLock<u64> = LazyLock::new(|| {
        let asked = std::env::var("MCOMP_TEST_SHRINK").ok();
        asked.map_or(1, |text| text.parse().expect("MCOMP_TEST_SHRINK is a number"))
    });

    /// Lets the call pass, or makes it the one that fails.
    pub(in crate::file) fn meet(call: Call) -> Result<(), Errno> {
        effect(call).map(|_| ())
    }

    /// How many of `bytes` a write may take.
    pub(in crate::file) fn meet_write(bytes: usize) -> Result<usize, Errno> {
        Ok(if effect(Call::Write)?.is_some() { bytes.div_ceil(2) } else { bytes })
    }

    /// The size of a buffer.
    pub(in crate::file) fn shrunk(bytes: u64) -> u64 {
        (bytes / *SHRINK).max(1)
    }

    /// Counts the call at every fault that waits for one of its kind.
    fn effect(call: Call) -> Result<Option<Effect>, Errno> {
        tracing::trace!(?call, "disk");
        let mut met = None;
        for fault in FAULTS.iter().filter(|fault| fault.call.is_none_or(|kind| kind == call)) {
            // Relaxed: a count, and nothing hangs on it. It is not decremented below zero.
            let taken = fault.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if taken == Ok(1) {
                tracing::warn!(?call, effect = ?fault.effect, "a fault was asked for");
                met = Some(fault.effect);
            }
        }
        match met {
            Some(Effect::Kill) => die(),
            Some(Effect::Fail(errno)) => Err(errno),
            other => Ok(other),
        }
    }

    fn die() -> ! {
        kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
        // The signal is for the process; this thread may have a moment left.
        loop {
            std::thread::park();
        }
    }

    impl Fault {
        fn parse(text: &str) -> Option<Fault> {
            let mut parts = text.split(':');
            let call = match parts.next()? {
                "any" => None,
                "open" => Some(Call::Open),
                "mkdir" => Some(Call::Mkdir),
                "list" => Some(Call::List),
                "read" => Some(Call::Read),
                "write" => Some(Call::Write),
                "truncate" => Some(Call::Truncate),
                "sync" => Some(Call::Sync),
                "rename" => Some(Call::Rename),
                "unlink" => Some(Call::Unlink),
                "lock" => Some(Call::Lock),
                _ => return None,
            };
            let left = AtomicU64::new(parts.next()?.parse().ok().filter(|nth| *nth > 0)?);
            let effect = match parts.next()? {
                "kill" => Effect::Kill,
                "eio" => Effect::Fail(Errno::IO),
                "enospc" => Effect::Fail(Errno::NOSPC),
                "short" => Effect::Short,
                _ => return None,
            };
            parts.next().is_none().then_some(Fault { call, left, effect })
        }
    }
}
