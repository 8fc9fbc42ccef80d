//! Exactly one server leads, soon after the start, after the death of the one before and after a freeze; the page table
//! is the same whoever leads; without a majority nothing is said to be done.

use std::time::{Duration, Instant};

use mcomp_client::meta::Allocate;
use mcomp_client::{Cluster as Client, Options};
use rustix::process::Signal;

use super::{number, refused, table, told};
use crate::harness::{Cluster, Setup, length, wait_until};

/// Bytes that each server lends.
const K: u64 = 64 << 10;

/// How long it may take until somebody leads. It takes one to two seconds on an idle machine.
const LEADER_WITHIN: Duration = Duration::from_secs(5);

/// For how long it is looked whether it stays so: longer than it takes to elect another one.
pub(super) fn stays() -> Duration {
    Duration::from_millis(length("MCOMP_TEST_AGREED_STAYS_MS", 2000))
}

/// Who leads in which term, if all of these servers say the same, and it is one of them.
pub(super) fn leader_of(client: &Client, servers: &[u32]) -> Option<(u32, u64)> {
    let mut said = servers.iter().map(|id| client.consensus(*id).ok().map(|report| (report.leader, report.term)));
    let first = said.next()??;
    let leader = first.0.filter(|leader| servers.contains(leader))?;
    said.all(|said| said == Some(first)).then_some((leader, first.1))
}

/// Waits for the one leader of these servers.
pub(super) fn one_leader(client: &Client, servers: &[u32]) -> (u32, u64) {
    let deadline = Instant::now() + LEADER_WITHIN;
    loop {
        if let Some(leader) = leader_of(client, servers) {
            return leader;
        }
        assert!(Instant::now() < deadline, "servers {servers:?} have no leader within {LEADER_WITHIN:?}");
        std::thread::yield_now();
    }
}

/// Waits for the one leader of these servers, and sees that it remains.
pub(super) fn lasting_leader(client: &Client, servers: &[u32]) -> (u32, u64) {
    let leader = one_leader(client, servers);
    let begun = Instant::now();
    while begun.elapsed() < stays() {
        assert_eq!(leader_of(client, servers), Some(leader), "servers {servers:?}, after {:?}", begun.elapsed());
    }
    leader
}

/// Allocations of every kind; those under a lease outlast the test.
fn fill(cluster: &Cluster) {
    cluster.ok(&["alloc", "100", "--name", "small", "--meta", "owner=alice"]);
    cluster.ok(&["alloc", "70000", "--name", "large"]);
    cluster.ok(&["alloc", "5000", "--name", "leased", "--lease", "1h", "--shared"]);
    cluster.ok(&["lease", "64", "1h"]);
    cluster.ok(&["alloc", "9000"]);
    cluster.ok(&["free", "small"]);
    cluster.ok(&["realloc", "large", "80000"]);
    cluster.ok(&["write", "large", "kept"]);
}

/// Memory that was allocated is read and written while nobody leads.
fn uses_memory_until_there_is_a_leader(client: &Client, addr: u64, servers: &[u32]) -> (u32, u64) {
    let deadline = Instant::now() + LEADER_WITHIN;
    for turn in 0u64.. {
        client.write_at(addr, &turn.to_le_bytes()).expect("a living server is written to");
        assert_eq!(client.read_vec(addr, 8).expect("a living server is read from"), turn.to_le_bytes());
        if let Some(leader) = leader_of(client, servers) {
            return leader;
        }
        assert!(Instant::now() < deadline, "servers {servers:?} have no leader within {LEADER_WITHIN:?}");
    }
    unreachable!("it is looked for until the deadline")
}

fn survives_its_leader(n: u32) {
    let mut cluster = Setup::new(n, &K.to_string()).servers();
    let client = cluster.client();
    let all: Vec<u32> = (0..n).collect();
    let (first, first_term) = lasting_leader(&client, &all);
    fill(&cluster);
    let before = table(&cluster);
    assert_eq!(before.len(), 4, "{before:?}");

    cluster.kill_server(first);
    let left: Vec<u32> = all.iter().copied().filter(|id| *id != first).collect();
    let on_living = u64::from(left[left.len() - 1]) * K + K / 2;
    let (second, second_term) = uses_memory_until_there_is_a_leader(&client, on_living, &left);
    assert!(second != first && second_term > first_term, "{second} in {second_term}, {first} in {first_term}");
    assert_eq!(table(&cluster), before, "after the death of leader {first}");
    assert_eq!(lasting_leader(&client, &left), (second, second_term));

    cluster.start_server(first);
    wait_until("the dead one follows", || leader_of(&client, &all) == Some((second, second_term)));
    assert_eq!(table(&cluster), before);

    all.iter().for_each(|id| cluster.kill_server(*id));
    all.iter().for_each(|id| cluster.start_server(*id));
    one_leader(&client, &all);
    assert_eq!(table(&cluster), before, "after all servers were killed");
    assert_eq!(cluster.ok(&["read", "large", "4"]), b"kept");
}

#[test]
fn five_servers_have_one_leader_and_another_one_when_it_is_killed() {
    survives_its_leader(5);
}

#[test]
fn four_servers_have_one_leader_and_another_one_when_it_is_killed() {
    survives_its_leader(4);
}

#[test]
fn a_majority_serves_and_a_minority_says_so() {
    let cluster = Setup::new(5, &K.to_string()).servers();
    let client = cluster.client();
    let all: Vec<u32> = (0..5).collect();
    let (leader, _) = one_leader(&client, &all);
    // The leader and the server that clients ask first, then another one.
    let mut sleepers = vec![leader, if leader == 0 { 1 } else { 0 }];
    sleepers.extend(all.iter().copied().find(|id| !sleepers.contains(id)));
    let awake: Vec<u32> = all.iter().copied().filter(|id| !sleepers.contains(id)).collect();
    // All memory is taken but that of a server that goes on, so that new memory does not need one that is frozen.
    for _ in &all {
        cluster.ok(&["alloc", &K.to_string()]);
    }
    cluster.ok(&["free", &(u64::from(awake[1]) * K).to_string()]);
    let mut options = Options::from_config(&cluster.config());
    options.timeout = Duration::from_secs(1);
    let session = Client::with_options(options).and_then(|client| client.session()).expect("a session");

    sleepers[..2].iter().for_each(|id| cluster.freeze_server(*id));
    let three: Vec<u32> = all.iter().copied().filter(|id| !sleepers[..2].contains(id)).collect();
    let (second, _) = one_leader(&client, &three);
    assert!(!sleepers[..2].contains(&second), "{second} is frozen, as is {leader}");
    let region = told(&cluster, 0, &["alloc", "100", "--name", "among-three", "--timeout", "2s"]);
    assert_eq!(number(&region, "addr"), u64::from(awake[1]) * K);
    let before = table(&cluster);
    assert_eq!(before.len(), 5, "{before:?}");

    cluster.freeze_server(sleepers[2]);
    for args in [&["alloc", "10"][..], &["free", "among-three"], &["ls"]] {
        let output = cluster.run(&[args, &["--timeout", "500ms"]].concat());
        assert!(matches!(output.status.code(), Some(2 | 69 | 124)), "mcomp {args:?} without a majority: {output:?}");
    }
    let error = session.allocate(Allocate { size: 10, name: Some("doubtful".into()), ..Allocate::default() });
    let error = error.expect_err("nobody can have agreed");
    assert_eq!(error.kind(), "unknown", "{error}");

    sleepers.iter().for_each(|id| cluster.signal_server(*id, Signal::CONT));
    one_leader(&client, &all);
    let mut after = table(&cluster);
    // What nobody could be told of may have been done, but once.
    after.retain(|region| region["name"] != "doubtful");
    assert_eq!(after, before);
    cluster.ok(&["free", "among-three"]);
    refused(&cluster, 1, "not_found", &["free", "among-three"]);
}
