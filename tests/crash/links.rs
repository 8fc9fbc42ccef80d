//! Deaths of connections alone: every add happens exactly once.
//!
//! A relay stands between the clients and a server, and breaks every connection after a random number of
//! bytes, in either direction: before a request has arrived whole, after it has and before its answer,
//! in the middle of either, in the handshake. The server lives, so the session can be resumed, and no
//! outcome may be unknown.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mcomp_client::{AtomicOp, BatchOutcome, Cluster as Client, Error, Options, Outcome};

use crate::harness::{PATIENCE, Setup, length, seed};

#[test]
fn every_add_happens_once_though_connections_break_at_any_byte() {
    const ADDERS: usize = 8;
    let adds = length("MCOMP_TEST_PROXY_ADDS", 250);
    let seed = seed();
    let cluster = Setup::new(1, "16KiB").servers();
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
    let through = proxy.local_addr().expect("its address");
    let options = Options {
        servers: vec![through.to_string()],
        unix: false,
        timeout: PATIENCE,
        ..Options::from_config(&cluster.config())
    };
    let (stop, cuts) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut seen = std::thread::scope(|scope| {
        let (server, stop, cuts) = (cluster.address(0), &stop, &cuts);
        scope.spawn(move || relay(&proxy, &server, seed, stop, cuts));
        let _closing = Closing { stop, through };
        let client = Client::with_options(options).expect("a client");
        let add = |adder: usize| {
            let client = client.clone();
            let adds_by = if adder < ADDERS / 2 { add_singly } else { add_in_batches };
            scope.spawn(move || adds_by(&client, adds))
        };
        let adders: Vec<_> = (0..ADDERS).map(add).collect();
        adders.into_iter().flat_map(|adder| adder.join().expect("an adder")).collect::<Vec<u64>>()
    });
    let (total, cuts) = (seen.len() as u64, cuts.load(Ordering::Relaxed));
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..total), "every value was there before exactly one add");
    assert_eq!(cluster.client().fetch_add(0, 0).expect("a look"), total, "done as often as acknowledged");
    eprintln!("{total} adds over {cuts} broken connections");
    assert!(total == ADDERS as u64 * adds && cuts * 40 >= total.min(1600), "only {cuts} connections broke");
}

/// Ends the relay, also when an adder has panicked.
struct Closing<'a> {
    stop: &'a AtomicBool,
    through: SocketAddr,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It sits in accept and sees the flag when somebody comes.
        let _ = TcpStream::connect(self.through);
    }
}

/// Adds one at a time. Returns what was there before each. An add that certainly had no effect is made
/// again; one of unknown outcome is a failure, because the session can be resumed.
fn add_singly(client: &Client, adds: u64) -> Vec<u64> {
    let again_until_done = |_| {
        let done = std::iter::repeat_with(|| settled(client.fetch_add(0, 1)));
        done.flatten().next().expect("it repeats for ever")
    };
    (0..adds).map(again_until_done).collect()
}

/// Adds up to forty in one frame.
fn add_in_batches(client: &Client, adds: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while (seen.len() as u64) < adds {
        let mut batch = client.batch();
        let left = adds - seen.len() as u64;
        for _ in 0..left.min(40) {
            batch.atomic(0, AtomicOp::Add, 1);
        }
        let previous = |outcome| match outcome {
            BatchOutcome::Previous(previous) => previous,
            other => panic!("an add answers {other:?}"),
        };
        seen.extend(batch.run().into_iter().filter_map(settled).map(previous));
    }
    seen
}

/// The answer, or none if it certainly was not done.
fn settled<T>(result: Result<T, Error>) -> Option<T> {
    result.map_err(|error| assert_eq!(error.outcome(), Outcome::Fail, "the session resumes, and yet: {error}")).ok()
}

/// Hands bytes on between clients and the server, and breaks every connection after a random number
/// of them: before, in and behind frames, in either direction.
fn relay(proxy: &TcpListener, server: &str, seed: u64, stop: &AtomicBool, cuts: &AtomicU64) {
    let mut random = fastrand::Rng::with_seed(seed);
    std::thread::scope(|scope| {
        while let Ok((client, _)) = proxy.accept() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let server = TcpStream::connect(server).expect("the server listens");
            for socket in [&client, &server] {
                socket.set_nodelay(true).expect("an option of a socket");
            }
            // One direction in two ends by the other's cut, so that all mixtures occur.
            let (requests, answers) = (random.u64(100..4_000), random.u64(100..4_000));
            let (to_client, to_server) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            scope.spawn(move || hand_on(client, to_server, requests, cuts));
            scope.spawn(move || hand_on(server, to_client, answers, cuts));
        }
    });
}

/// Hands on at most `most` bytes, then closes both sides.
fn hand_on(mut from: TcpStream, mut to: TcpStream, most: u64, cuts: &AtomicU64) {
    let (mut left, mut bytes) = (most, [0; 4096]);
    while left > 0 {
        let room = left.min(bytes.len() as u64) as usize;
        let count = from.read(&mut bytes[..room]).unwrap_or(0);
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
        left -= count as u64;
    }
    if left == 0 {
        cuts.fetch_add(1, Ordering::Relaxed);
    }
    for socket in [from, to] {
        // The other direction may have done it already.
        let _ = socket.shutdown(Shutdown::Both);
    }
}
