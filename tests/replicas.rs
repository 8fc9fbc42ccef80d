//! Replicated memory: whichever minority of servers is dead, frozen, cut off or comes back empty, what clients are told
//! is what one memory could have told them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mcomp_client::{Cluster as Client, Options, Outcome};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Cluster, PATIENCE, Setup, length, seed};

/// Servers that are added.
mod grows;

/// What clients saw, and whether one register could have told them that.
mod history;

/// Servers that are replaced by others.
mod moves;

/// Harm done to servers and their network.
mod plague;

use plague::{Plague, beside_plague};

const BLOCK: u64 = 4096;
const K: &str = "64KiB";
const SERVERS: u32 = 3;

fn setup() -> Setup {
    Setup::new(SERVERS, K).replicated(3)
}

#[test]
fn reads_and_writes_go_on_while_each_server_is_dead_frozen_or_empty() {
    let mut cluster = setup().servers();
    let client = cluster.client();
    let end = client.size();
    let data: Vec<u8> = (0..end).map(|at| (at / 7) as u8).collect();
    client.write_at(0, &data).expect("three of three");
    for victim in 0..SERVERS {
        cluster.kill_server(victim);
        assert_eq!(client.read_vec(0, end).expect("two of three"), data, "without server {victim}");
        let addr = u64::from(victim) * (end / 3);
        client.write_at(addr + 5, b"while it was dead").expect("two of three");
        cluster.start_server(victim);
        cluster.wait_until_whole();
        assert_eq!(client.read_vec(addr + 5, 17).expect("three of three"), b"while it was dead");
        cluster.freeze_server(victim);
        client.write_at(addr + 5, b"while it was cold").expect("two of three");
        assert_eq!(
            client.fetch_add(addr + BLOCK, 0).expect("two of three") & 0xff,
            u64::from(data[(addr + BLOCK) as usize])
        );
        cluster.signal_server(victim, Signal::CONT);
        assert_eq!(client.read_vec(addr + 5, 17).expect("three of three"), b"while it was cold");
        lose_memory(&mut cluster, victim);
        cluster.wait_until_whole();
        // Three came at first, and every loss makes another one.
        let listed = cluster.ok(&["member", "ls", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&listed).expect("JSON");
        let member = &listed["members"][victim as usize];
        assert_eq!((&member["incarnation"], &member["state"]), (&json!(4 + victim), &json!("serving")), "{listed}");
        assert_eq!((&member["lost_memory"], &listed["epoch"]), (&json!(true), &json!(4 + victim)), "{listed}");
        client.write_at(addr + 5, &data[addr as usize + 5..][..17]).expect("three of three");
    }
    assert_eq!(client.read_vec(0, end).expect("all of it went through all of them"), data);
}

/// Kills a server and starts it without its memory.
fn lose_memory(cluster: &mut Cluster, victim: u32) {
    cluster.kill_server(victim);
    std::fs::remove_file(cluster.segment_path(victim)).expect("its memory is there");
    cluster.start_server(victim);
}

/// Another process takes each server over, with its memory: it has copies of more than the server's own k bytes.
#[test]
fn servers_hand_over_to_their_successors_with_all_copies() {
    let mut cluster = setup().servers();
    cluster.wait_until_whole();
    let client = cluster.client();
    let data: Vec<u8> = (0..client.size()).map(|at| (at / 7) as u8).collect();
    client.write_at(0, &data).expect("three of three");
    for id in 0..SERVERS {
        let said = cluster.succeed_server(id);
        assert!(said.contains("taken over"), "{said}");
        cluster.wait_until_whole();
        assert_eq!(client.read_vec(0, client.size()).expect("three of three"), data);
    }
}

/// Requests name the epoch of the last restore, and who comes with new memory has not seen that.
#[test]
fn who_lost_its_memory_after_a_restore_serves_those_who_connected_before_and_since() {
    let mut cluster = setup().start();
    cluster.wait_until_whole();
    cluster.client().write_at(0, b"kept").expect("three of three");
    let path = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a path");
    cluster.ok(&["restore", path.trim()]);
    let before = cluster.client();
    assert_eq!(before.read_vec(0, 4).expect("three of three"), b"kept");
    for victim in 0..SERVERS {
        lose_memory(&mut cluster, victim);
        let since = cluster.client();
        cluster.wait_until_whole();
        cluster.kill_server((victim + 1) % SERVERS);
        for client in [&before, &since] {
            for home in 0..SERVERS {
                let addr = u64::from(home) * (client.size() / 3);
                client.write_at(addr + 8, &[victim as u8; 8]).expect("two of three");
                assert_eq!(client.read_vec(addr + 8, 8).expect("two of three"), [victim as u8; 8]);
            }
            assert_eq!(client.read_vec(0, 4).expect("two of three"), b"kept");
        }
        cluster.start_server((victim + 1) % SERVERS);
        cluster.wait_until_whole();
    }
}

#[test]
fn without_a_majority_nothing_is_done_and_it_heals_by_itself() {
    let mut cluster = setup().servers();
    let client = cluster.client();
    client.write_at(0, b"before").expect("three of three");
    cluster.kill_server(1);
    cluster.freeze_server(2);
    for outcome in
        [client.write_at(0, b"lonely"), client.read_vec(0, 6).map(drop), client.fetch_add(BLOCK, 1).map(drop)]
    {
        let error = outcome.expect_err("one of three is no majority");
        assert!(matches!(error.outcome(), Outcome::Fail | Outcome::Unknown), "{error}");
    }
    cluster.exits(69, &["--timeout", "1s", "read", "0", "6"]);
    cluster.signal_server(2, Signal::CONT);
    // What was not known to be done is done now, or not at all.
    let found = client.read_vec(0, 6).expect("two of three");
    assert!(found == b"before" || found == b"lonely", "{found:?}");
    assert!(client.fetch_add(BLOCK, 0).expect("two of three") <= 1);
    cluster.start_server(1);
    cluster.wait_until_whole();
}

#[test]
fn a_majority_that_lost_its_memory_serves_nothing_until_a_purge() {
    let mut cluster = setup().servers();
    cluster.client().write_at(0, b"gone").expect("three of three");
    lose_memory(&mut cluster, 0);
    // It is filled by the others; two at a time would have been too many.
    cluster.wait_until_whole();
    for victim in [1, 2] {
        cluster.kill_server(victim);
        std::fs::remove_file(cluster.segment_path(victim)).expect("its memory is there");
    }
    cluster.start_server(1);
    cluster.start_server(2);
    let read = cluster.run(&["--timeout", "1s", "read", "0", "4"]);
    assert_ne!(read.status.code(), Some(0), "two of three lost it: {read:?}");
}

#[test]
fn every_answer_could_be_that_of_one_memory() {
    let most = length("MCOMP_TEST_HISTORY", 10_000);
    let seed = seed();
    let mut cluster = setup().breakable().servers();
    let books = history::record(&mut cluster, most, seed);
    for (block, book) in books.iter().enumerate() {
        book.check().unwrap_or_else(|wrong| panic!("block {block}, seed {seed}: {wrong}"));
    }
}

/// A server that was frozen does not know yet that a lock has passed on, and finds a write of its former holder that it
/// was sent before.
#[test]
fn a_late_write_under_a_lock_that_has_passed_on_changes_nothing() {
    let cluster = setup().servers();
    cluster.wait_until_whole();
    let client = cluster.client();
    // So little time that it asks nobody but the home.
    let mut hasty = Options::from_config(&cluster.config());
    hasty.timeout = Duration::from_millis(300);
    let hasty = Client::with_options(hasty).expect("a client");
    for home in 0..SERVERS {
        let addr = u64::from(home) * (client.size() / 3);
        let session = client.session().expect("most servers are there");
        let lock = session.lock("late", PATIENCE).expect("it is free");
        let late = hasty.fenced(lock.fence());
        late.write_at(addr, b"first holder").expect("the lock is held");
        cluster.freeze_server(home);
        let error = late.write_at(addr, b"too late....").expect_err("its home does not answer");
        assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
        lock.unlock().expect("two of three");
        let next = client.session().expect("two of three");
        let lock = next.lock("late", PATIENCE).expect("it is free again");
        let holder = client.fenced(lock.fence());
        holder.write_at(addr, b"next holder.").expect("two of three");
        cluster.signal_server(home, Signal::CONT);
        for _ in 0..100 {
            assert_eq!(holder.read_vec(addr, 12).expect("three of three"), b"next holder.");
        }
        lock.unlock().expect("three of three");
    }
}

/// The count is at least what was acknowledged, at most that and what is not known, and nobody was told the same twice.
#[test]
fn every_add_happens_once_while_servers_die() {
    let most = length("MCOMP_TEST_REPLICATED_ADDS", 3_000);
    let seed = seed();
    let mut cluster = setup().servers();
    let clients: Vec<Client> = (0..4).map(|_| cluster.client()).collect();
    let (ok, unknown) = (AtomicU64::new(0), AtomicU64::new(0));
    let told = Mutex::new(Vec::new());
    let done = AtomicU64::new(0);
    let work = |adder: usize, stop: &AtomicBool| {
        let mut own = Vec::new();
        while !stop.load(Relaxed) {
            match clients[adder % clients.len()].fetch_add(8, 1) {
                Ok(before) => own.push(before),
                Err(error) if error.outcome() == Outcome::Unknown => drop(unknown.fetch_add(1, Relaxed)),
                Err(_) => {}
            }
            done.fetch_add(1, Relaxed);
        }
        ok.fetch_add(own.len() as u64, Relaxed);
        told.lock().expect("nobody panicked").extend(own);
    };
    let plagues = beside_plague(&mut cluster, 32, &work, &|| done.load(Relaxed), most, seed, &[Plague::Kill]);
    let client = cluster.client();
    let found = client.fetch_add(8, 0).expect("all is well again");
    let (ok, unknown) = (ok.load(Relaxed), unknown.load(Relaxed));
    eprintln!("{ok} adds, {unknown} of unknown outcome, {plagues:?}");
    assert!((ok..=ok + unknown).contains(&found), "{ok} done, {unknown} unknown, {found} there");
    let mut told = told.into_inner().expect("nobody panicked");
    told.sort_unstable();
    let twice = told.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "two were told the same");
    assert!(plagues.kills > 0);
}

/// Eight clients, each with its own sixteen bytes of one block: nobody's write undoes another's.
#[test]
fn no_field_loses_its_owners_last_write() {
    let most = length("MCOMP_TEST_FIELDS", 2_000);
    let seed = seed();
    let mut cluster = setup().breakable().servers();
    let clients: Vec<Client> = (0..8).map(|_| cluster.client()).collect();
    let done = AtomicU64::new(0);
    let work = |owner: usize, stop: &AtomicBool| {
        let addr = 2 * BLOCK + owner as u64 * 16;
        let client = &clients[owner];
        let mut last = 0_u64;
        for count in 1.. {
            if stop.load(Relaxed) {
                break;
            }
            let bytes = [count, !count].map(u64::to_le_bytes).concat();
            match client.write_at(addr, &bytes) {
                Ok(()) => last = count,
                Err(error) if error.outcome() == Outcome::Unknown => {}
                Err(_) => continue,
            }
            if let Ok(found) = client.read_vec(addr, 16) {
                let word = |at: usize| u64::from_le_bytes(found[at..at + 8].try_into().expect("eight bytes"));
                assert_eq!(word(0), !word(8), "half of a write, seed {seed}");
                assert!(
                    (last..=count).contains(&word(0)),
                    "{} where {last}..={count} was written, seed {seed}",
                    word(0)
                );
            }
            done.fetch_add(1, Relaxed);
        }
    };
    let all = [Plague::Kill, Plague::Freeze, Plague::Cut, Plague::Lose];
    let plagues = beside_plague(&mut cluster, 8, &work, &|| done.load(Relaxed), most, seed, &all);
    eprintln!("{plagues:?}");
}

/// Killed at random, also in the middle of a copy: what was accepted is whole after a restart, with its ballot.
#[test]
fn a_replica_that_is_killed_in_a_copy_has_all_or_nothing_of_it() {
    let most = length("MCOMP_TEST_REPLICATED_COPIES", 400);
    let seed = seed();
    let mut cluster = setup().env("MCOMP_STRETCH_COPY_US", "300").servers();
    let clients: Vec<Client> = (0..4).map(|_| cluster.client()).collect();
    let done = AtomicU64::new(0);
    let work = |writer: usize, stop: &AtomicBool| {
        let client = &clients[writer];
        for count in 0..=u8::MAX {
            if stop.load(Relaxed) {
                break;
            }
            let addr = (u64::from(count) % 3) * BLOCK;
            let _ = client.write_at(addr, &[count; BLOCK as usize]);
            if let Ok(found) = client.read_vec(addr, BLOCK) {
                assert!(found.iter().all(|byte| *byte == found[0]), "a mixed block, seed {seed}");
            }
            done.fetch_add(1, Relaxed);
        }
        while !stop.load(Relaxed) {
            let _ = client.write_at(0, &[writer as u8; BLOCK as usize]);
            done.fetch_add(1, Relaxed);
        }
    };
    let plagues = beside_plague(&mut cluster, 4, &work, &|| done.load(Relaxed), most, seed, &[Plague::Kill]);
    let repaired: u64 =
        cluster.client().statuses().into_iter().flatten().map(|status| status.counters.repaired_blocks).sum();
    eprintln!("{plagues:?}, {repaired} blocks finished by the last servers");
    assert!(plagues.kills > 0);
}
