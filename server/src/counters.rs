//! What the server counts. A connection counts for itself and adds up once per burst, so that a
//! small request touches no shared cache line of counters more than once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use mcomp_wire::control::{ByteCounters, Counters as Report, SnapshotCounters};
use mcomp_wire::{Kind, Status, limits};
use parking_lot::Mutex;

const KINDS: usize = Kind::Batch as usize + 1;
const STATUSES: usize = Status::ALL.len();

/// Causes of refusal that the status of an answer does not name: there was nobody to answer to, or the answer was
/// BUSY and there are several ways to be busy. Each refusal is counted once, under its cause or under its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
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
}

impl Cause {
    const ALL: [Cause; 12] = [
        Cause::MaxConnections,
        Cause::MaxConnectionsPerAddress,
        Cause::OpenFiles,
        Cause::Threads,
        Cause::BufferBudget,
        Cause::HandshakeTimeout,
        Cause::FrameTimeout,
        Cause::WriteTimeout,
        Cause::BadFrame,
        Cause::BadSeal,
        Cause::NoProof,
        Cause::BadProof,
    ];

    /// The stable word for it; that of the setting where there is one, so that an operator knows what to change.
    fn word(self) -> &'static str {
        match self {
            Cause::MaxConnections => "max_connections",
            Cause::MaxConnectionsPerAddress => "max_connections_per_address",
            Cause::OpenFiles => "open_files",
            Cause::Threads => "threads",
            Cause::BufferBudget => "buffer_budget",
            Cause::HandshakeTimeout => "handshake_timeout",
            Cause::FrameTimeout => "frame_timeout",
            Cause::WriteTimeout => "write_timeout",
            Cause::BadFrame => "bad_frame",
            Cause::BadSeal => "bad_seal",
            Cause::NoProof => "no_proof",
            Cause::BadProof => "bad_proof",
        }
    }
}

/// Totals since the server started. Relaxed everywhere: counts order nothing.
#[derive(Debug)]
pub(crate) struct Counters {
    ops: [AtomicU64; KINDS],
    refused: [AtomicU64; STATUSES],
    causes: [AtomicU64; Cause::ALL.len()],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    snapshots_ok: AtomicU64,
    snapshots_aborted: AtomicU64,
    /// Why the last snapshot was aborted. Taken alone, for the length of a string copy.
    last_error: Mutex<String>,
}

/// One connection's counts since it last added up.
#[derive(Debug)]
pub(crate) struct Tally {
    ops: [u32; KINDS],
    read_bytes: u64,
    written_bytes: u64,
    /// One bit for each kind that it has counted, from the lowest.
    kinds: u32,
}

const _: () = assert!(KINDS <= u32::BITS as usize, "each kind has a bit");

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            ops: [const { AtomicU64::new(0) }; KINDS],
            refused: [const { AtomicU64::new(0) }; STATUSES],
            causes: [const { AtomicU64::new(0) }; Cause::ALL.len()],
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            snapshots_ok: AtomicU64::new(0),
            snapshots_aborted: AtomicU64::new(0),
            last_error: Mutex::default(),
        }
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { ops: [0; KINDS], read_bytes: 0, written_bytes: 0, kinds: 0 }
    }
}

impl Tally {
    pub(crate) fn count(&mut self, kind: Kind, read_bytes: usize, written_bytes: usize) {
        self.ops[kind as usize] += 1;
        self.read_bytes += read_bytes as u64;
        self.written_bytes += written_bytes as u64;
        self.kinds |= 1 << kind as usize;
    }
}

impl Counters {
    pub(crate) fn add(&self, tally: &mut Tally) {
        if tally.kinds == 0 {
            return;
        }
        for kind in bits(tally.kinds) {
            self.ops[kind].fetch_add(u64::from(tally.ops[kind]), Ordering::Relaxed);
        }
        self.read_bytes.fetch_add(tally.read_bytes, Ordering::Relaxed);
        self.written_bytes.fetch_add(tally.written_bytes, Ordering::Relaxed);
        *tally = Tally::default();
    }

    /// Counts a refusal under the status of its answer.
    pub(crate) fn refuse(&self, status: Status) {
        self.refused[status as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal under its cause.
    pub(crate) fn reject(&self, cause: Cause) {
        self.causes[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a cut; `failure` says why there is no snapshot. It may be a peer's, and as long as a
    /// control body: what is kept of it fits into the answer to a status request.
    pub(crate) fn cut_ended(&self, failure: Option<&str>) {
        match failure {
            None => self.snapshots_ok.fetch_add(1, Ordering::Relaxed),
            Some(reason) => {
                limits::cut_message(reason).clone_into(&mut self.last_error.lock());
                self.snapshots_aborted.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    /// The counts in the form that `status` shows.
    pub(crate) fn report(&self) -> Report {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let data = Kind::ALL.iter().filter(|kind| kind.is_data());
        let refused = Status::ALL.iter().filter(|&&status| status != Status::Ok);
        let statuses = refused.map(|&status| (status.word(), load(&self.refused[status as usize])));
        let causes = Cause::ALL.into_iter().map(|cause| (cause.word(), load(&self.causes[cause as usize])));
        Report {
            ops: data.map(|&kind| (kind.word().to_owned(), load(&self.ops[kind as usize]))).collect(),
            bytes: ByteCounters { read: load(&self.read_bytes), written: load(&self.written_bytes) },
            rejected: non_zero(statuses.chain(causes)),
            snapshot: SnapshotCounters {
                ok: load(&self.snapshots_ok),
                aborted: load(&self.snapshots_aborted),
                last_error: self.last_error.lock().clone(),
            },
            repaired_blocks: 0,
            torn_blocks: 0,
        }
    }
}

/// The numbers of the bits that are set.
fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (lowest < u32::BITS).then_some(lowest as usize)
    })
}

fn non_zero(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.filter(|&(_, count)| count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_does_not_make_the_status_long() {
        let counters = Counters::default();
        counters.cut_ended(Some(&"é".repeat(limits::MAX_CONTROL / 2)));
        assert_eq!(counters.report().snapshot.last_error, "é".repeat(limits::MAX_MESSAGE / 2));
        counters.cut_ended(Some("short"));
        assert_eq!(counters.report().snapshot.last_error, "short");
    }

    #[test]
    fn a_burst_is_added_once() {
        let counters = Counters::default();
        let mut tally = Tally::default();
        tally.count(Kind::Batch, 0, 0);
        tally.count(Kind::Read, 7, 0);
        tally.count(Kind::Read, 1, 0);
        counters.add(&mut tally);
        counters.add(&mut tally);
        let report = counters.report();
        assert_eq!((report.ops["read"], report.ops["batch"], report.ops.values().sum::<u64>()), (2, 1, 3));
        assert_eq!((report.bytes.read, report.bytes.written), (8, 0));
    }
}
