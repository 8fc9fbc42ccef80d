//! Many threads on one cluster: who gets a connection, who waits for one, and that none gets lost.
//!
//! In a debug build a pool counts its connections when it is dropped: each test ends with that.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mcomp_client::Cluster;

use crate::fake::{Act, Fake};

#[test]
fn threads_that_outnumber_the_connections_all_get_their_turn() {
    let fake = Fake::start(1);
    let mut options = fake.options();
    options.max_connections = 3;
    let cluster = Cluster::with_options(options).unwrap();
    let start = Barrier::new(24);
    let call = || {
        start.wait();
        for _ in 0..100 {
            cluster.fetch_add(0, 1).unwrap();
        }
    };
    thread::scope(|scope| (0..24).for_each(|_| drop(scope.spawn(call))));
    assert_eq!(cluster.fetch_add(0, 0).unwrap(), 24 * 100);
    assert!(fake.shared.hellos.load(Ordering::Relaxed) <= 3, "the cap holds");
}

#[test]
fn a_thread_that_waits_is_served_before_the_busy_ones() {
    let fake = Fake::start(1);
    let mut options = fake.options();
    options.max_connections = 1;
    let cluster = Cluster::with_options(options).unwrap();
    // Two threads that never stop share the only connection with one that needs it now and then. Each of its
    // calls would time out if the others could go on taking it.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    cluster.fetch_add(0, 1).unwrap();
                }
            });
        }
        let read = (0..300).try_for_each(|_| cluster.read_vec(0, 8).map(drop));
        done.store(true, Ordering::Relaxed);
        read.unwrap();
    });
    assert_eq!(fake.shared.hellos.load(Ordering::Relaxed), 1);
}

#[test]
fn a_connection_is_found_by_threads_that_come_later() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    for before in 0..80 {
        let add = || cluster.fetch_add(0, 1).unwrap();
        let found = thread::scope(|scope| scope.spawn(add).join().unwrap());
        assert_eq!(found, before);
    }
    assert_eq!(fake.shared.hellos.load(Ordering::Relaxed), 1, "wherever the thread before left it");
}

#[test]
fn no_connection_outlives_its_era_at_rest() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    let pause = Barrier::new(9);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    pause.wait();
                    // A connection of the era before would be refused.
                    cluster.fetch_add(0, 1).unwrap();
                    pause.wait();
                }
            });
        }
        for epoch in 2..22 {
            pause.wait();
            pause.wait();
            fake.shared.epoch.store(epoch, Ordering::Relaxed);
            cluster.reconnect();
        }
    });
    assert_eq!(cluster.fetch_add(0, 0).unwrap(), 8 * 20);
}

#[test]
fn connections_are_counted_right_while_eras_begin_and_connections_break() {
    let fake = Fake::start(1);
    let mut options = fake.options();
    options.max_connections = 2;
    let cluster = Cluster::with_options(options).unwrap();
    let mut count = 0;
    fake.script(move |_| {
        count += 1;
        if count % 13 == 7 { Act::CloseBefore } else { Act::Serve }
    });
    let start = Barrier::new(7);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..100 {
                    // A call that an era's begin catches fails of it, and none fails of waiting.
                    if let Err(error) = cluster.read_vec(0, 8) {
                        assert_eq!(error.kind(), "fenced", "{error}");
                    }
                }
            });
        }
        start.wait();
        for _ in 0..50 {
            cluster.reconnect();
            thread::yield_now();
        }
    });
    assert_eq!(cluster.read_vec(0, 8).unwrap(), [0; 8]);
}
