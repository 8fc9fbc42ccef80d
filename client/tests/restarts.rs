//! Servers that stop in good order under load, and start again: nobody is left in doubt.
//!
//! Every request was answered, or its client was told that it was not done, and did it at the next server. So
//! no outcome is unknown, and what is there is exactly what was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use mcomp_client::{AtomicOp, Cluster, Error, Options, Outcome};

use crate::real::Real;

const K: u64 = 8 << 20;
/// Larger than the windows of a connection, so that several requests are under way at once.
const LONG: usize = 3 << 20;
const ROUNDS: u64 = 20;

/// What was acknowledged.
#[derive(Default)]
struct Tally {
    adds: AtomicU64,
    writes: AtomicU64,
    stop: AtomicBool,
}

/// Raised also when the one who should raise it panics, because others wait for it.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Between two servers nobody may be there, which is no doubt.
fn certain<T>(result: Result<T, Error>) -> Option<T> {
    result.map_err(|error| assert_eq!(error.outcome(), Outcome::Fail, "{error}")).ok()
}

fn add(cluster: &Cluster, tally: &Tally) {
    let _stop = StopAtEnd(&tally.stop);
    while !tally.stop.load(Relaxed) {
        if certain(cluster.fetch_add(0, 1)).is_some() {
            tally.adds.fetch_add(1, Relaxed);
        }
    }
}

fn add_in_batches(cluster: &Cluster, tally: &Tally) {
    let _stop = StopAtEnd(&tally.stop);
    while !tally.stop.load(Relaxed) {
        let mut batch = cluster.batch();
        for _ in 0..10 {
            batch.atomic(0, AtomicOp::Add, 1);
        }
        let done = batch.run().into_iter().filter_map(certain).count();
        tally.adds.fetch_add(done as u64, Relaxed);
    }
}

/// A write as long as this one is several requests, of which none may be left in doubt either.
fn write(cluster: &Cluster, addr: u64, tally: &Tally) {
    let _stop = StopAtEnd(&tally.stop);
    for count in 0u64.. {
        let bytes = vec![count as u8; LONG];
        let written = certain(cluster.write_at(addr, &bytes));
        if tally.stop.load(Relaxed) {
            return;
        }
        if let (Some(()), Some(found)) = (written, certain(cluster.read_vec(addr, LONG as u64))) {
            assert!(found == bytes, "an acknowledged write is not there");
            tally.writes.fetch_add(1, Relaxed);
        }
    }
}

fn client(real: &Real, unix: bool) -> Cluster {
    // Enough for a stop and a start on a loaded machine.
    let timeout = std::time::Duration::from_secs(30);
    let options = Options { unix, timeout, segment: false, ..Options::from_config(&real.config) };
    Cluster::with_options(options).unwrap()
}

#[test]
fn a_server_that_stops_leaves_nobody_in_doubt() {
    let mut real = Real::start(K, 1, "");
    let clients = [client(&real, true), client(&real, false)];
    let tally = Tally::default();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&tally.stop);
        for (at, cluster) in (0..).zip(&clients) {
            let tally = &tally;
            (0..2).for_each(|_| drop(scope.spawn(move || add(cluster, tally))));
            scope.spawn(move || add_in_batches(cluster, tally));
            scope.spawn(move || write(cluster, K - (at + 1) * LONG as u64, tally));
        }
        for round in 1..=ROUNDS {
            let is_enough = || tally.adds.load(Relaxed) >= 100 * round && tally.writes.load(Relaxed) >= round;
            while !is_enough() && !tally.stop.load(Relaxed) {
                std::thread::yield_now();
            }
            real.stop_one(0);
            real.start_one(0);
            if tally.stop.load(Relaxed) {
                break;
            }
        }
    });
    let found = client(&real, false).fetch_add(0, 0).unwrap();
    assert_eq!(found, tally.adds.load(Relaxed), "what is there is what was acknowledged");
}
