//! How far the memory has obeyed the metadata, noted in the header, so that a restart does nothing a second time that
//! would be wrong then: memory that was zeroed for an owner is not zeroed again when he has written to it.

use crate::segment::Segment;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

impl Segment {
    /// Up to which entry of the metadata's log `log` this memory was made what the log says: zeroed for its owners.
    pub fn agreed_index(&self, log: u64) -> u64 {
        let header = self.header();
        // Only one thread of one server writes these, and the next server comes after it.
        match header.agreed_log.load(Acquire) == log {
            true => header.agreed_index.load(Relaxed),
            false => 0,
        }
    }

    /// Notes that it was, after it was. A server that is killed in between has noted less than it did, never more.
    pub fn set_agreed_index(&self, log: u64, index: u64) {
        let header = self.header();
        if header.agreed_log.load(Relaxed) != log {
            header.agreed_index.store(0, Release);
            header.agreed_log.store(log, Release);
        }
        header.agreed_index.store(index, Release);
    }
}
