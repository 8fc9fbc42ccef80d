//! How often a process has refused something, by cause: the status of its answer, or a word of its own where a status
//! says too little, or nobody was left to answer to. Each refusal is counted once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use mcomp_wire::Status;

use crate::Phase;

const STATUSES: usize = Status::ALL.len();

/// Causes of refusal that the status of an answer does not name: there was nobody to answer to, or the answer was
/// BUSY and there are several ways to be busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// All connections were taken.
    MaxConnections,
    /// One address had all the connections that one may have.
    MaxConnectionsPerAddress,
    /// There was no descriptor for a connection.
    OpenFiles,
    /// There was no thread for a connection.
    Threads,
    /// The large buffers were used up.
    BufferBudget,
    /// The handshake took too long.
    HandshakeTimeout,
    /// A frame was begun and not finished in time.
    FrameTimeout,
    /// No request came in time where one was due.
    RequestTimeout,
    /// The peer did not take its answer in time.
    WriteTimeout,
    /// Bytes that are no frame.
    BadFrame,
    /// A frame whose seal does not fit.
    BadSeal,
    /// A handshake without a key, where one is due.
    NoProof,
    /// A handshake with another key.
    BadProof,
    /// No TLS where it is due, or a certificate that one of both sides does not accept.
    BadTls,
}

impl Cause {
    const ALL: [Cause; 14] = [
        Cause::MaxConnections,
        Cause::MaxConnectionsPerAddress,
        Cause::OpenFiles,
        Cause::Threads,
        Cause::BufferBudget,
        Cause::HandshakeTimeout,
        Cause::FrameTimeout,
        Cause::RequestTimeout,
        Cause::WriteTimeout,
        Cause::BadFrame,
        Cause::BadSeal,
        Cause::NoProof,
        Cause::BadProof,
        Cause::BadTls,
    ];

    /// The stable word for it; that of the setting where there is one, so that an operator knows what to change.
    pub fn word(self) -> &'static str {
        match self {
            Cause::MaxConnections => "max_connections",
            Cause::MaxConnectionsPerAddress => "max_connections_per_address",
            Cause::OpenFiles => "open_files",
            Cause::Threads => "threads",
            Cause::BufferBudget => "buffer_budget",
            Cause::HandshakeTimeout => "handshake_timeout",
            Cause::FrameTimeout => "frame_timeout",
            Cause::RequestTimeout => "request_timeout",
            Cause::WriteTimeout => "write_timeout",
            Cause::BadFrame => "bad_frame",
            Cause::BadSeal => "bad_seal",
            Cause::NoProof => "no_proof",
            Cause::BadProof => "bad_proof",
            Cause::BadTls => "bad_tls",
        }
    }

    /// Why the watchdog has cut off a connection; nothing where no time is limited.
    pub fn of_overdue(phase: Phase) -> Option<Cause> {
        match phase {
            Phase::Handshake => Some(Cause::HandshakeTimeout),
            Phase::Frame => Some(Cause::FrameTimeout),
            Phase::Request => Some(Cause::RequestTimeout),
            Phase::Write => Some(Cause::WriteTimeout),
            Phase::Idle => None,
        }
    }
}

/// Totals since the process started. Relaxed everywhere: counts order nothing.
#[derive(Debug)]
pub struct Refusals {
    statuses: [AtomicU64; STATUSES],
    causes: [AtomicU64; Cause::ALL.len()],
}

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals {
            statuses: [const { AtomicU64::new(0) }; STATUSES],
            causes: [const { AtomicU64::new(0) }; Cause::ALL.len()],
        }
    }
}

impl Refusals {
    /// Counts a refusal under the status of its answer.
    pub fn refuse(&self, status: Status) {
        self.statuses[status as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal under its cause.
    pub fn reject(&self, cause: Cause) {
        self.causes[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that happened, in the form that a status shows.
    pub fn report(&self) -> BTreeMap<String, u64> {
        self.counts().filter(|&(_, count)| count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
    }

    /// All statuses and causes, also those that never were.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let refused = Status::ALL.iter().filter(|&&status| status != Status::Ok);
        let statuses = refused.map(move |&status| (status.word(), load(&self.statuses[status as usize])));
        statuses.chain(Cause::ALL.into_iter().map(move |cause| (cause.word(), load(&self.causes[cause as usize]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_place_and_a_word_of_its_own() {
        let refusals = Refusals::default();
        assert!(refusals.report().is_empty());
        for (at, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, at, "{cause:?}");
            refusals.reject(cause);
        }
        Status::ALL.iter().for_each(|&status| refusals.refuse(status));
        let words: Vec<_> = refusals.counts().collect();
        assert!(words.iter().all(|&(_, count)| count == 1), "{words:?}");
        assert_eq!((words.len(), refusals.report().len()), (STATUSES - 1 + Cause::ALL.len(), words.len()));
    }
}
