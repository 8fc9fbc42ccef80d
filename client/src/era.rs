//! Eras: what lies between two reconnects, and whether the present one has ended.
//!
//! A restore gives the servers other memory. A call that began before it must not go on after it, or
//! it would carry what it learned from the old memory into the new. So calls live in one era, and so do
//! connections.

use std::sync::atomic::{AtomicU64, Ordering};

/// No server has said that the memory was restored.
const NOT_FENCED: u32 = u32::MAX;

/// The present era and the server that ended it, if one did.
///
/// Relaxed throughout: it is one word and orders nothing; whatever slips past it meets the era of a link or of
/// its pool, or a server that refuses.
#[derive(Debug)]
pub(crate) struct Eras(AtomicU64);

impl Eras {
    /// The first era.
    pub(crate) fn new() -> Eras {
        Eras(AtomicU64::new(pack(0, NOT_FENCED)))
    }

    /// The present era, or the server that said that it is over.
    #[inline]
    pub(crate) fn current(&self) -> Result<u32, u32> {
        let (era, server) = unpack(self.0.load(Ordering::Relaxed));
        if server == NOT_FENCED { Ok(era) } else { Err(server) }
    }

    /// Whether nobody has begun another era since.
    #[inline]
    pub(crate) fn is_still(&self, era: u32) -> bool {
        unpack(self.0.load(Ordering::Relaxed)).0 == era
    }

    /// Begins the next era, and returns it.
    pub(crate) fn begin(&self) -> u32 {
        let next = |word| Some(pack(unpack(word).0.wrapping_add(1), NOT_FENCED));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        unpack(before.expect("there is always a next era")).0.wrapping_add(1)
    }

    /// Ends `era`, if it is the present one: a call from before says nothing of what came after.
    pub(crate) fn end(&self, era: u32, server: u32) {
        let (open, ended) = (pack(era, NOT_FENCED), pack(era, server));
        // Who was faster has ended it, or begun another.
        let _ = self.0.compare_exchange(open, ended, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn pack(era: u32, server: u32) -> u64 {
    u64::from(era) << 32 | u64::from(server)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_call_does_not_end_a_new_era() {
        let eras = Eras::new();
        assert_eq!(eras.current(), Ok(0));
        eras.end(0, 7);
        assert_eq!(eras.current(), Err(7));
        assert!(eras.is_still(0));
        assert_eq!(eras.begin(), 1);
        eras.end(0, 7);
        assert_eq!(eras.current(), Ok(1));
        assert!(!eras.is_still(0));
    }
}
