//! Locks, semaphores and barriers: one holder at a time, in order, under a fence that proves it.

use std::process::Stdio;
use std::time::Duration;

use mcomp_client::{Error, Status};

use super::{number, refused, told};
use crate::harness::{Cluster, MCOMP, PATIENCE, Setup, wait_until};

fn cluster() -> Cluster {
    Setup::new(3, "64KiB").servers()
}

/// `mcomp lock NAME` around a script of the shell, in which `$MCOMP` is the command and its configuration is known.
fn locked(cluster: &Cluster, flags: &[&str], script: &str) -> std::process::Command {
    let mut command = cluster.command(&[&["lock"], flags].concat());
    command.env("MCOMP", MCOMP).env("MCOMP_CONFIG", cluster.config_path()).args(["--", "sh", "-euc", script]);
    command
}

fn is_locked<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Agreed { status: Status::Locked, .. }))
}

#[test]
fn a_counter_without_atomics_counts_under_a_lock() {
    const ROUNDS: u32 = 6;
    let cluster = cluster();
    cluster.ok(&["alloc", "4", "--name", "counter"]);
    cluster.ok(&["write", "counter", "1000"]);
    let add = r#"n=$("$MCOMP" read counter 4); "$MCOMP" write counter $((n + 1))"#;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let output = locked(&cluster, &["counter"], add).output().expect("mcomp runs");
                    assert!(output.status.success(), "{output:?}");
                }
            });
        }
    });
    assert_eq!(cluster.ok(&["read", "counter", "4"]), (1000 + 3 * ROUNDS).to_string().as_bytes());
    assert_eq!(cluster.client().locks().expect("the locks"), [], "all were given back");
}

#[test]
fn a_lock_is_waited_for_and_handed_on() {
    let cluster = cluster();
    let client = cluster.client();
    let session = client.session().expect("a session");
    let lock = session.lock("door", Duration::ZERO).expect("it is free");
    let output = locked(&cluster, &["door", "--timeout", "100ms"], "exit 7").output().expect("mcomp runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let sentence = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(sentence.contains("\"door\" was not free in time"), "{sentence}");

    let mut waits = locked(&cluster, &["door"], "exit 7").stderr(Stdio::null()).spawn().expect("mcomp starts");
    let waiting = || client.locks().expect("the locks").iter().any(|lock| lock.waiting == 1);
    wait_until("it waits", waiting);
    assert_eq!(waits.try_wait().expect("a child can be waited for"), None);
    lock.unlock().expect("it was held");
    assert_eq!(waits.wait().expect("a child can be waited for").code(), Some(7), "its command's code is its own");
    assert_eq!(client.locks().expect("the locks"), []);
}

#[test]
fn a_command_writes_with_the_fence_of_its_lock() {
    let cluster = cluster();
    let script = r#""$MCOMP" write 100 inside; echo "$MCOMP_FENCE""#;
    let output = locked(&cluster, &["door"], script).output().expect("mcomp runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cluster.ok(&["read", "100", "6"]), b"inside");
    let fence = String::from_utf8(output.stdout).expect("text");
    let fence = fence.trim();
    let (id, number_of_it) = fence.split_once(':').expect("an id and a number");
    let output = locked(&cluster, &["door"], script).output().expect("mcomp runs");
    let next = String::from_utf8(output.stdout).expect("text");
    let (next_id, next_number) = next.trim().split_once(':').expect("an id and a number");
    assert_eq!(id, next_id);
    let parsed = |number: &str| number.parse::<u64>().expect("a number");
    assert!(parsed(next_number) > parsed(number_of_it), "{next} after {fence}");

    // The next one has written there, so the fence of the one before proves nothing any more, whoever shows it and how.
    let sentence = refused(&cluster, 75, "fenced", &["write", "100", "behind", "--fence", fence]);
    assert!(sentence.contains("holds no more"), "{sentence}");
    // Nor does it read: what it would see is another holder's by now.
    for args in [
        &["fill", "100", "1", "9"][..],
        &["add", "104", "1"],
        &["swap", "104", "1"],
        &["copy", "0", "100", "1"],
        &["read", "100", "6"],
    ] {
        let output = cluster.command(args).env("MCOMP_FENCE", fence).output().expect("mcomp runs");
        assert_eq!(output.status.code(), Some(75), "mcomp {args:?}: {output:?}");
    }
    // It is a lock's, so it opens no memory that is under a lease.
    let lease = told(&cluster, 0, &["alloc", "64", "--lease", "1h"]);
    let at = number(&lease, "addr").to_string();
    let script = format!(r#""$MCOMP" write {at} inside"#);
    let output = locked(&cluster, &["door"], &script).output().expect("mcomp runs");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert_eq!(cluster.ok(&["read", "100", "8"]), b"inside\0\0");
}

#[test]
fn a_semaphore_has_its_permits_and_a_lock_one() {
    let cluster = cluster();
    let client = cluster.client();
    let mut sessions: Vec<_> = (0..3).map(|_| client.session().expect("a session")).collect();
    let first = sessions[0].acquire("pool", 2, Duration::ZERO).expect("a permit");
    let second = sessions[1].acquire("pool", 2, Duration::ZERO).expect("another permit");
    assert!(second.fence().number > first.fence().number);
    assert!(is_locked(sessions[2].acquire("pool", 2, Duration::ZERO)));
    assert!(is_locked(sessions[2].acquire("pool", 2, Duration::from_millis(20))));
    let other = sessions[2].acquire("pool", 3, Duration::ZERO).expect_err("it has two permits");
    assert!(matches!(other, Error::Agreed { status: Status::Invalid, .. }), "{other}");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| sessions[2].acquire("pool", 2, PATIENCE).expect("it becomes free").fence());
        wait_until("it waits", || client.locks().expect("the locks")[0].waiting == 1);
        drop(first);
        assert!(waits.join().expect("it got one").number > second.fence().number);
    });
    client.fenced(second.fence()).write_at(0, b"permitted").expect("the second is held");
    drop(second);
    assert_eq!(client.locks().expect("the locks"), []);
    // A session that ends gives back what it holds, also when nobody said so.
    let forgotten = sessions[0].lock("door", Duration::ZERO).expect("it is free");
    let fence = forgotten.fence();
    std::mem::forget(forgotten);
    sessions.remove(0).close().expect("it lived");
    let next = sessions[0].lock("door", Duration::ZERO).expect("it was given back");
    client.fenced(next.fence()).write_at(0, b"next").expect("it is held");
    let late = client.fenced(fence).write_at(0, b"late").expect_err("the lock is gone");
    assert_eq!((late.kind(), late.exit_code()), ("fenced", 75));
}

#[test]
fn a_barrier_opens_when_all_have_come() {
    let cluster = cluster();
    let client = cluster.client();
    let sessions: Vec<_> = (0..3).map(|_| client.session().expect("a session")).collect();
    let mut last = 0;
    for _ in 0..5 {
        let rounds: Vec<u64> = std::thread::scope(|scope| {
            let come = |session| scope.spawn(move || mcomp_client::Session::barrier(session, "start", 3, PATIENCE));
            let all: Vec<_> = sessions.iter().map(come).collect();
            all.into_iter().map(|one| one.join().expect("no panic").expect("all came")).collect()
        });
        assert!(rounds.iter().all(|round| *round == rounds[0]) && rounds[0] > last, "{rounds:?} after {last}");
        last = rounds[0];
    }
    assert!(is_locked(sessions[0].barrier("start", 3, Duration::from_millis(20))), "the others did not come");
    assert_eq!(client.locks().expect("the locks"), [], "who gave up does not stand there any more");
}
