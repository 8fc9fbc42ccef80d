//! Each test breaks something and checks the outcome, the error's sort, and the memory.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mcomp_client::{AtomicOp, BatchOutcome, Cluster, Error, Options, Outcome, Space};
use mcomp_wire::Status;

use crate::fake::{Act, Fake};

#[test]
fn an_atomic_whose_answer_was_lost_is_done_once() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    assert_eq!(cluster.fetch_add(0, 1).unwrap(), 0);
    for before in 1..20 {
        fake.once(Act::CloseAfter);
        assert_eq!(cluster.fetch_add(0, 1).unwrap(), before, "the first answer is found again");
    }
    assert_eq!(cluster.fetch_add(0, 0).unwrap(), 20);
}

#[test]
fn reads_ride_over_a_restart() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    cluster.write_at(10, b"kept").unwrap();
    let mut closed = 0;
    fake.script(move |_| {
        closed += 1;
        if closed <= 2 { Act::CloseBefore } else { Act::Serve }
    });
    assert_eq!(cluster.read_vec(10, 4).unwrap(), b"kept");
}

#[test]
fn a_write_cut_off_by_a_restart_is_unknown() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    cluster.write_at(0, b"before").unwrap();
    let shared = std::sync::Arc::clone(&fake.shared);
    fake.script(move |_| {
        shared.incarnation.store(9, Ordering::Relaxed);
        Act::CloseAfter
    });
    let error = cluster.write_at(0, b"after!").unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.exit_code()), ("unknown", Outcome::Unknown, 2));
    assert!(error.to_string().contains("127.0.0.1:"), "{error}");
}

#[test]
fn what_a_stopping_server_left_undone_is_done_by_the_next_one() {
    let fake = Fake::start(2048);
    let cluster = fake.client();
    for before in 0..20 {
        fake.once(Act::Part);
        assert_eq!(cluster.fetch_add(0, 1).unwrap(), before, "done once, by whoever answered");
    }
    let mut count = 0;
    fake.script(move |_| {
        count += 1;
        if count % 5 == 3 { Act::Part } else { Act::Serve }
    });
    // Many requests are in flight at once, some answered and some not.
    let data: Vec<u8> = (0..8u32 << 20).map(|at| (at >> 9) as u8).collect();
    cluster.write_at(0, &data).unwrap();
    assert_eq!(cluster.read_vec(0, data.len() as u64).unwrap(), data);
}

/// The last word is about one connection: what an earlier one has done is not taken back by it.
#[test]
fn a_last_word_does_not_settle_what_was_sent_before() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    assert_eq!(cluster.fetch_add(0, 1).unwrap(), 0);
    let mut acts = [Act::CloseAfter, Act::Part].into_iter();
    fake.script(move |_| acts.next().unwrap_or(Act::Serve));
    let error = cluster.fetch_add(0, 1).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(cluster.fetch_add(0, 0).unwrap(), 2);
}

#[test]
fn an_idle_connection_notices_a_restart_before_it_sends() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    cluster.write_at(0, b"before").unwrap();
    fake.restart();
    // Longer than a connection counts as fresh; nothing happens that could be awaited.
    let idle_since = Instant::now();
    while idle_since.elapsed() < Duration::from_millis(150) {
        std::thread::yield_now();
    }
    cluster.write_at(0, b"after!").unwrap();
    assert_eq!(fake.shared.hellos.load(Ordering::Relaxed), 2);
}

#[test]
fn silence_is_a_timeout_for_reads_and_unknown_for_writes() {
    let fake = Fake::start(1);
    let mut options = fake.options();
    options.timeout = Duration::from_millis(100);
    let cluster = Cluster::with_options(options).unwrap();
    fake.script(|_| Act::Silence);
    let read = cluster.read_vec(0, 8).unwrap_err();
    assert_eq!((read.kind(), read.outcome(), read.exit_code()), ("timeout", Outcome::Fail, 124));
    let write = cluster.write_at(0, b"x").unwrap_err();
    assert_eq!((write.kind(), write.exit_code()), ("unknown", 2));
    fake.script(|_| Act::Serve);
    assert_eq!(cluster.read_vec(0, 1).unwrap(), b"x", "the connections that failed are not used again");
}

#[test]
fn refusals_keep_their_sort_and_their_connection() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    for (status, kind) in [
        (Status::Busy, "busy"),
        (Status::Restoring, "restoring"),
        (Status::Torn, "torn"),
        (Status::Denied, "denied"),
        (Status::ResultLost, "unknown"),
        (Status::Full, "full"),
    ] {
        fake.once(Act::Refuse(status));
        assert_eq!(cluster.write_at(0, b"x").unwrap_err().kind(), kind);
    }
    assert_eq!(fake.shared.hellos.load(Ordering::Relaxed), 1);
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    fake.once(Act::WrongId);
    assert_eq!(cluster.read_vec(0, 8).unwrap_err().kind(), "protocol");
    fake.once(Act::WrongId);
    assert_eq!(cluster.write_at(0, b"x").unwrap_err().kind(), "unknown", "it was sent, and may have been done");
    assert_eq!(cluster.read_vec(0, 1).unwrap(), b"x");
}

#[test]
fn a_restored_memory_fences_until_reconnect() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    let other = cluster.clone();
    cluster.write_at(0, b"old").unwrap();
    fake.shared.epoch.store(2, Ordering::Relaxed);
    let error = cluster.write_at(0, b"stale").unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.exit_code()), ("fenced", Outcome::Fail, 75));
    assert_eq!(other.read_vec(0, 3).unwrap_err().kind(), "fenced", "a clone is fenced too");
    cluster.reconnect();
    assert_eq!(other.read_vec(0, 3).unwrap(), b"old");
}

#[test]
fn a_restore_is_noticed_by_a_new_connection_too() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    cluster.write_at(0, b"old").unwrap();
    fake.shared.epoch.store(2, Ordering::Relaxed);
    fake.restart();
    assert_eq!(cluster.read_vec(0, 3).unwrap_err().kind(), "fenced");
}

/// Two servers of a block each, and their client.
fn two() -> (Fake, Fake, Cluster) {
    let (left, right) = (Fake::start(1), Fake::start(1));
    let addresses = [left.options().servers[0].clone(), right.options().servers[0].clone()];
    let mut options = Options::new("fake", Space::new(4096, 2).unwrap(), addresses);
    options.unix = false;
    (left, right, Cluster::with_options(options).unwrap())
}

/// At the next request of `fake`: a restore of both, and a program that starts over.
fn restore_at(fake: &Fake, both: [&Fake; 2], cluster: &Cluster, act: Act) {
    let (shared, cluster) = (both.map(|fake| std::sync::Arc::clone(&fake.shared)), cluster.clone());
    let mut first = true;
    fake.script(move |_| {
        if !std::mem::take(&mut first) {
            return Act::Serve;
        }
        shared.iter().for_each(|shared| shared.epoch.store(2, Ordering::Relaxed));
        cluster.reconnect();
        act
    });
}

#[test]
fn a_copy_does_not_carry_bytes_over_a_reconnect() {
    let (left, right, cluster) = two();
    cluster.write_at(0, b"old").unwrap();
    restore_at(&left, [&left, &right], &cluster, Act::Serve);
    let error = cluster.copy(0, 4096, 3).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), ("fenced", Outcome::Fail), "{error}");
    assert_eq!(cluster.read_vec(4096, 3).unwrap(), [0; 3]);
    restore_at(&left, [&left, &right], &cluster, Act::Serve);
    let mut found = Vec::new();
    let error = cluster.copy_to(0, 8192, &mut found, |_| {}).unwrap_err();
    assert_eq!(error.kind(), "fenced", "half of one memory and half of another: {error}");
}

#[test]
fn a_call_from_before_a_reconnect_says_nothing_of_the_time_after() {
    let (left, right, cluster) = two();
    cluster.write_at(0, b"old").unwrap();
    restore_at(&left, [&left, &right], &cluster, Act::Refuse(Status::Fenced));
    assert_eq!(cluster.write_at(0, b"stale").unwrap_err().kind(), "fenced");
    assert_eq!(cluster.read_vec(0, 3).unwrap(), b"old", "the program has started over already");
}

#[test]
fn a_new_server_is_not_trusted_at_the_end_of_a_restore() {
    let (left, right, cluster) = two();
    cluster.read_vec(4096, 3).unwrap();
    // The left one is open again under the new epoch; the right one will be the next.
    left.shared.epoch.store(2, Ordering::Relaxed);
    right.script(|_| Act::Refuse(Status::Restoring));
    let error = cluster.write_at(0, b"stale").unwrap_err();
    assert_eq!((error.kind(), error.outcome()), ("restoring", Outcome::Fail));
    right.script(|_| Act::Serve);
    right.shared.epoch.store(2, Ordering::Relaxed);
    assert_eq!(cluster.write_at(0, b"stale").unwrap_err().kind(), "fenced");
    cluster.reconnect();
    assert_eq!(cluster.read_vec(0, 5).unwrap(), [0; 5]);
}

#[test]
fn a_dead_server_is_named_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let alive = Fake::start(1);
    let space = Space::new(4096, 2).unwrap();
    let mut options = Options::new("fake", space, [alive.options().servers[0].clone(), address.clone()]);
    options.unix = false;
    let cluster = Cluster::with_options(options).unwrap();
    let error = cluster.write_at(4090, &[1; 12]).unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.exit_code()), ("unavailable", Outcome::Fail, 69));
    assert!(error.to_string().contains(&address), "{error}");
    assert_eq!(cluster.read_vec(4090, 6).unwrap(), [0; 6], "nothing was sent to the server that lives");
}

#[test]
fn a_server_that_never_greets_is_a_timeout() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let space = Space::new(4096, 1).unwrap();
    let mut options = Options::new("fake", space, [mute.local_addr().unwrap().to_string()]);
    (options.unix, options.connect_timeout) = (false, Duration::from_millis(50));
    let error = Cluster::with_options(options).unwrap().write_at(0, b"x").unwrap_err();
    assert!(matches!(error, Error::Timeout { server: 0, .. }), "{error}");
}

#[test]
fn a_call_waits_for_a_connection_no_longer_than_its_timeout() {
    let fake = Fake::start(1);
    let mut options = fake.options();
    (options.max_connections, options.timeout) = (1, Duration::from_millis(300));
    let cluster = Cluster::with_options(options).unwrap();
    fake.script(|_| Act::Silence);
    let kinds: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..2).map(|_| scope.spawn(|| cluster.read_vec(0, 1).unwrap_err().kind())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(kinds, ["timeout"; 2]);
}

#[test]
fn long_writes_survive_connections_that_break_again_and_again() {
    let fake = Fake::start(2048);
    let cluster = fake.client();
    // The session is known to the server once it has done something in it.
    cluster.write_at(0, &[1]).unwrap();
    let mut count = 0;
    fake.script(move |_| {
        count += 1;
        if count % 7 == 3 { Act::CloseAfter } else { Act::Serve }
    });
    let data: Vec<u8> = (0..8u32 << 20).map(|at| (at >> 9) as u8).collect();
    cluster.write_at(0, &data).unwrap();
    assert_eq!(cluster.read_vec(0, data.len() as u64).unwrap(), data);
}

#[test]
fn a_spanning_write_that_failed_in_part_is_unknown() {
    let fake = Fake::start(1024);
    let cluster = fake.client();
    let mut count = 0;
    fake.script(move |_| {
        count += 1;
        if count == 2 { Act::Refuse(Status::Busy) } else { Act::Serve }
    });
    let error = cluster.write_at(0, &[7; 4 << 20]).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(error.to_string().contains("by script"), "it names the piece that failed: {error}");
}

#[test]
fn no_item_of_a_refused_frame_becomes_a_success() {
    let fake = Fake::start(256);
    let cluster = fake.client();
    let mut count = 0;
    fake.script(move |_| {
        count += 1;
        if count == 2 { Act::Refuse(Status::Busy) } else { Act::Serve }
    });
    // One frame each: together they are longer than a frame may be.
    let data = vec![5; 200 << 10];
    let mut batch = cluster.batch();
    (0..18).for_each(|_| {
        batch.write(0, data.as_slice());
    });
    let results = batch.run();
    let per_frame = (1 << 20) / (200 << 10);
    assert!(results[..per_frame].iter().all(Result::is_ok), "answered before the refusal");
    assert_eq!(results[per_frame].as_ref().unwrap_err().kind(), "busy");
    let in_second = &results[per_frame..2 * per_frame];
    assert!(in_second.iter().all(|result| result.as_ref().is_err_and(|error| error.outcome() == Outcome::Fail)));
}

#[test]
fn an_item_whose_answer_cannot_be_read_is_not_without_effect() {
    let fake = Fake::start(512);
    let cluster = fake.client();
    let mut acts = [Act::Refuse(Status::Busy), Act::Short].into_iter();
    fake.script(move |_| acts.next().unwrap_or(Act::Serve));
    // One frame each: together they are longer than a frame may be.
    let data = vec![5; 200 << 10];
    let per_frame = (1 << 20) / data.len();
    let mut batch = cluster.batch();
    (0..2 * per_frame).for_each(|_| {
        batch.write(0, data.as_slice());
    });
    let results = batch.run();
    let outcomes = results[per_frame..].iter().map(|result| result.as_ref().unwrap_err().outcome());
    assert!(outcomes.eq([Outcome::Unknown; 5]), "the second frame was done: {:?}", results[per_frame]);
}

#[test]
fn a_batch_whose_answer_was_lost_is_done_once() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    fake.once(Act::Serve);
    cluster.fetch_add(8, 1).unwrap();
    fake.once(Act::CloseAfter);
    let mut batch = cluster.batch();
    batch.atomic(0, AtomicOp::Add, 1).read(0, 8);
    let outcomes: Vec<_> = batch.run().into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, [BatchOutcome::Previous(0), BatchOutcome::Bytes(1u64.to_le_bytes().to_vec())]);
}

#[test]
fn an_item_that_was_done_in_part_is_unknown() {
    let (left, right) = (Fake::start(1), Fake::start(1));
    let space = Space::new(4096, 2).unwrap();
    let addresses = [left.options().servers[0].clone(), right.options().servers[0].clone()];
    let mut options = Options::new("fake", space, addresses);
    options.unix = false;
    let cluster = Cluster::with_options(options).unwrap();
    right.once(Act::Refuse(Status::Busy));
    let mut batch = cluster.batch();
    batch.write(4090, b"both of them".as_slice()).write(0, b"left".as_slice());
    let results = batch.run();
    assert_eq!(results[0].as_ref().unwrap_err().outcome(), Outcome::Unknown);
    assert_eq!(results[1].as_ref().unwrap(), &BatchOutcome::Done);
}

#[test]
fn a_server_that_greets_and_hangs_up_does_not_hold_a_call_for_ever() {
    let fake = Fake::start(1);
    let mut options = fake.options();
    options.timeout = Duration::from_millis(300);
    let cluster = Cluster::with_options(options).unwrap();
    fake.script(|_| Act::CloseBefore);
    let read = cluster.read_vec(0, 8).unwrap_err();
    assert_eq!((read.kind(), read.outcome()), ("unavailable", Outcome::Fail));
    cluster.write_at(0, b"x").unwrap_err();
}

#[test]
fn a_call_from_before_a_restore_never_goes_on_after_reconnect() {
    let fake = Fake::start(1);
    let cluster = fake.client();
    cluster.write_at(0, b"old").unwrap();
    let (shared, other) = (std::sync::Arc::clone(&fake.shared), cluster.clone());
    let mut first = true;
    fake.script(move |_| {
        if !std::mem::take(&mut first) {
            return Act::Serve;
        }
        // While the write is under way: a restore, a program that starts over, a broken connection.
        shared.epoch.store(2, Ordering::Relaxed);
        other.reconnect();
        Act::CloseBefore
    });
    let error = cluster.write_at(0, b"stale").unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    cluster.reconnect();
    assert_eq!(cluster.read_vec(0, 5).unwrap(), b"old\0\0", "it was computed from the memory before the restore");
}

#[test]
fn a_copy_whose_reader_fails_midway_is_not_without_effect() {
    struct Torn(usize);
    impl std::io::Read for Torn {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = buffer.len().min(self.0);
            buffer[..count].fill(7);
            self.0 -= count;
            if count == 0 { Err(std::io::Error::other("torn")) } else { Ok(count) }
        }
    }
    let fake = Fake::start(2048);
    let cluster = fake.client();
    let error = cluster.copy_from(Torn(5 << 20), 0, 8 << 20, |_| {}).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert!(error.to_string().contains("torn"), "{error}");
    let error = cluster.copy_from(Torn(100), 0, 8 << 20, |_| {}).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), ("io", Outcome::Fail), "{error}");
}

#[test]
fn a_timeout_without_end_is_no_panic() {
    let fake = Fake::start(1);
    let mut options = fake.options();
    options.timeout = Duration::MAX;
    options.connect_timeout = Duration::MAX;
    assert!(Cluster::with_options(options).is_err_and(|error| error.kind() == "config"));
}
