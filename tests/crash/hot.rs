//! Servers that are restarted in good order, again and again, under adds and writes: nothing that was acknowledged is
//! lost, no block is torn, and hardly ever a client is left in doubt: what the old server has not answered, it has not
//! done, and says so.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mcomp_client::Cluster as Client;
use mcomp_net::auth::Keyring;
use rustix::process::Signal;

use super::{BLOCK, StopAtEnd, Tally, Written, add_until_stopped, check_written, client};
use crate::harness::{Cluster, Setup, length, wait_until};
use crate::up::Up;

const RESTARTS: u64 = 20;
const ADDERS: usize = 4;
const WRITERS: u64 = 3;
/// Behind the blocks of the writers.
const COUNTER: u64 = 4 * WRITERS * BLOCK;

/// Writes until stopped, also after errors: between two servers nobody may be there.
fn write(client: &Client, writer: u64, written: &Written, stop: &AtomicBool, in_doubt: &AtomicU64) {
    for count in 1u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        written.tried.store(count, Ordering::Relaxed);
        let bytes = count.to_le_bytes().repeat(4 * BLOCK as usize / 8);
        match client.write_at(writer * 4 * BLOCK, &bytes) {
            Ok(()) => written.done.store(count, Ordering::Relaxed),
            Err(error) if error.outcome() == mcomp_client::Outcome::Unknown => {
                // It may have been done and then overwritten, or not: the next one says it anew.
                in_doubt.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }
}

/// Reads the writers' blocks all the time: each has one count in it.
fn look(client: &Client, stop: &AtomicBool) {
    let mut bytes = vec![0; COUNTER as usize];
    while !stop.load(Ordering::Relaxed) {
        if client.read_at(0, &mut bytes).is_ok() {
            let is_whole = |block: &[u8]| block.chunks(8).all(|word| word == &block[..8]);
            assert!(bytes.chunks(BLOCK as usize).all(is_whole), "a torn block");
        }
    }
}

/// Restarts under load; nearly no outcome may be unknown.
fn under_load(cluster: &mut Cluster, restarts: u64, mut restart: impl FnMut(&mut Cluster)) {
    let clients = [client(cluster, true), client(cluster, false)];
    let written: Vec<Written> = (0..WRITERS).map(|_| Written::default()).collect();
    let (tally, stop, in_doubt) = (Tally::default(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = (StopAtEnd(&stop), StopAtEnd(&tally.stop));
        for adder in 0..ADDERS {
            let (client, tally) = (&clients[adder % 2], &tally);
            scope.spawn(move || add_until_stopped(client, COUNTER, tally));
        }
        for (writer, written) in (0..).zip(&written) {
            let (client, stop, in_doubt) = (&clients[writer as usize % 2], &stop, &in_doubt);
            scope.spawn(move || write(client, writer, written, stop, in_doubt));
        }
        for client in &clients {
            let stop = &stop;
            scope.spawn(move || look(client, stop));
        }
        for _ in 0..restarts {
            let done = || tally.ok.load(Ordering::Relaxed);
            let enough = done() + 50;
            wait_until("the adders are at work", || done() >= enough);
            restart(cluster);
        }
    });
    let (ok, unknown) = (tally.ok.load(Ordering::Relaxed), tally.unknown.load(Ordering::Relaxed));
    let found = cluster.client().fetch_add(COUNTER, 0).expect("the counter is whole");
    assert!((ok..=ok + unknown).contains(&found), "{ok} done, {unknown} unknown, {found} there");
    (0..).zip(&written).for_each(|(writer, written)| check_written(cluster, writer, written));
    let counters = cluster.client().status(0).expect("a status").counters;
    assert_eq!((counters.torn_blocks, counters.repaired_blocks), (0, 0), "nobody was killed");
    let unknown = unknown + in_doubt.load(Ordering::Relaxed);
    let written: u64 = written.iter().map(|written| written.done.load(Ordering::Relaxed)).sum();
    eprintln!("{restarts} restarts under {ok} adds and {written} writes: {unknown} of unknown outcome");
    // A server that just closed its connections would leave several in doubt each time. One that does not answers
    // all of them, unless the machine gives its threads no time for a second.
    assert!(unknown < restarts, "{unknown} in doubt after {restarts} restarts");
}

#[test]
fn servers_started_over_running_ones_lose_nothing() {
    let mut cluster = Setup::new(1, "64KiB").servers();
    let restarts = length("MCOMP_TEST_RESTARTS", RESTARTS);
    under_load(&mut cluster, restarts, |cluster| drop(cluster.succeed_server(0)));
}

/// The successor proves a key of an admin, and the last words of the old server are sealed.
#[test]
fn servers_with_a_secret_lose_nothing_either() {
    let mut cluster = Setup::new(1, "64KiB").secret(&Keyring::random().expect("random numbers")).servers();
    under_load(&mut cluster, RESTARTS, |cluster| drop(cluster.succeed_server(0)));
}

#[test]
fn restarts_by_up_lose_nothing() {
    let mut cluster = Setup::new(1, "64KiB").prepare();
    let (up, _) = Up::start(&cluster);
    let restarts = length("MCOMP_TEST_RESTARTS", RESTARTS);
    under_load(&mut cluster, restarts, |cluster| drop(cluster.ok(&["up", "--restart", "0"])));
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
}
