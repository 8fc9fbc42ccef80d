//! Leases: memory with a time to live, used by the command line, the shell and the library.
//!
//! Nothing here waits for a time: a lease is given one so short that it ends while it is looked for, or so long that it
//! never does, and is shortened by renewing it.

use std::fs;
use std::time::{Duration, Instant};

use mcomp_client::meta::Allocate;
use mcomp_client::{Cluster as Client, Error, Status};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{number, refused, table, text, told};
use crate::harness::{Cluster, Setup, freeze, length, signal, wait_until};
use crate::shell::Shell;

/// Bytes that each server lends.
const K: u64 = 64 << 10;

fn cluster() -> Cluster {
    Setup::new(2, &K.to_string()).servers()
}

/// A new lease for an hour, and all that is known of it.
fn lease(cluster: &Cluster, size: u64) -> Value {
    told(cluster, 0, &["lease", &size.to_string(), "1h"])
}

/// Lets a lease run out.
fn run_out(cluster: &Cluster, id: &str) {
    cluster.ok(&["lease", "renew", id, "1ms"]);
    wait_until("the lease has run out", || told(cluster, 0, &["stat"])["leases"] == 0);
}

/// Waits until memory whose lease has run out can be used again.
fn until_quarantine_ends(client: &Client) {
    wait_until("the quarantine has ended", || client.space_report().expect("a report").quarantined == 0);
}

#[test]
fn a_lease_is_set_and_got_until_it_is_released() {
    let cluster = Setup::new(1, &(2 * K).to_string()).servers();
    let id = String::from_utf8(cluster.ok(&["lease", "64", "1h"])).expect("text");
    let id = id.trim();
    assert_eq!(cluster.ok(&["lease", "get", id]), [0; 64]);
    cluster.ok(&["lease", "set", id, "hello"]);
    assert!(cluster.ok(&["lease", "get", id]).starts_with(b"hello\0"));
    cluster.ok(&["lease", "set", id, &"x".repeat(64)]);
    let sentence = refused(&cluster, 64, "too_large", &["lease", "set", id, &"y".repeat(65)]);
    assert!(sentence.contains("65") && sentence.contains("64"), "{sentence}");
    assert_eq!(cluster.ok(&["lease", "get", id]), [b'x'; 64], "nothing of it was written");

    let listed = told(&cluster, 0, &["lease", "ls"]);
    assert_eq!((&listed["regions"][0]["lease"], &listed["regions"][0]["size"]), (&json!(id), &json!(64)));
    let hour = number(&listed["regions"][0], "remaining_ms");
    let renewed = told(&cluster, 0, &["lease", "renew", id, "2h"]);
    assert_eq!(number(&renewed, "remaining_ms"), 7_200_000);
    assert!(hour <= 3_600_000, "{listed}");

    assert_eq!(number(&told(&cluster, 0, &["lease", "release", id]), "size"), 64);
    for args in [&["get", id][..], &["set", id, "z"], &["renew", id, "5s"], &["release", id]] {
        let sentence = refused(&cluster, 75, "no_lease", &[&["lease"], args].concat());
        assert!(sentence.contains(id), "{sentence}");
    }
    cluster.ok(&["alloc", &(2 * K).to_string()]);
}

#[test]
fn the_shell_leases_renews_and_releases() {
    let cluster = cluster();
    let mut shell = Shell::start(&cluster);
    let region = shell.ok(json!({"op": "alloc", "size": 64, "lease_ms": 3_600_000}));
    let (addr, id) = (number(&region, "addr"), text(&region, "lease").to_owned());
    let fence = json!({"id": id, "number": number(&region, "fence")});
    shell.ok(json!({"op": "write", "addr": addr, "text": "fenced", "fence": fence}));
    let sentence = shell.refused("fenced", json!({"op": "write", "addr": addr, "text": "bare"}));
    assert!(sentence.contains(&id), "{sentence}");
    let renewed = shell.ok(json!({"op": "renew", "lease": id, "lease_ms": 7_200_000}));
    assert!(number(&renewed, "deadline_ms") >= 7_200_000, "{renewed}");
    assert!(cluster.ok(&["lease", "get", &id]).starts_with(b"fenced\0"), "whoever knows the id may read");
    shell.refused("fenced", json!({"op": "free", "addr": addr}));
    shell.ok(json!({"op": "release", "lease": id}));
    // The memory server may hear of it a little later than we do.
    let late = json!({"op": "write", "addr": addr, "text": "late", "fence": fence});
    wait_until("the server knows that the lease has ended", || shell.ask(late.clone())["outcome"] != "ok");
    shell.refused("fenced", late);
    shell.refused("no_lease", json!({"op": "renew", "lease": id, "lease_ms": 5}));
    shell.ok(json!({"op": "write", "addr": addr, "text": "free"}));
    shell.end();
}

#[test]
fn a_lease_ends_on_time_without_traffic() {
    const TTL: Duration = Duration::from_millis(400);
    let cluster = cluster();
    let client = cluster.client();
    let session = client.session().expect("a session");
    let begun = Instant::now();
    let wish = Allocate { size: 100, lease_ms: Some(TTL.as_millis() as u64), ..Allocate::default() };
    let region = session.allocate(wish).expect("there is room");
    session.close().expect("it lived");
    // How far it is each server says from what it has, so nothing is said among them but what they say by themselves.
    // Whoever leads knows the session's end; the lease's end is the next entry.
    let applied = |id| client.consensus(id).expect("a report").applied;
    let done = applied(0).max(applied(1));
    wait_until("the servers have ended the lease by themselves", || applied(0) > done);
    let took = begun.elapsed();
    // The servers count whole milliseconds.
    assert!(took + Duration::from_millis(1) > TTL, "a lease of {TTL:?} ended after {took:?}");
    assert_eq!(client.regions().expect("the table"), []);
    wait_until("nothing guards its memory", || client.write_at(region.addr, b"anybody's").is_ok());
}

#[test]
fn a_full_pool_has_room_again_when_its_leases_have_ended() {
    let cluster = cluster();
    let whole = lease(&cluster, 2 * K);
    refused(&cluster, 73, "full", &["lease", "1", "5s"]);
    run_out(&cluster, text(&whole, "lease"));
    let client = cluster.client();
    until_quarantine_ends(&client);

    // Many pieces of all sizes, and one pool again when all of them have ended, in whatever order.
    let session = client.session().expect("a session");
    let wish = |size| Allocate { size, lease_ms: Some(3_600_000), ..Allocate::default() };
    let sizes = [1, 17, 300, 4096, 5000, 9000, 2048, 64];
    let pieces: Vec<_> = sizes.iter().cycle().map_while(|size| session.allocate(wish(*size)).ok()).collect();
    assert!(pieces.len() > 30, "{} pieces", pieces.len());
    for piece in &pieces {
        session.renew(piece.lease.as_ref().expect("it has one").id, 1).expect("it lives");
    }
    wait_until("all have ended", || client.space_report().expect("a report").leases == 0);
    until_quarantine_ends(&client);
    let report = client.space_report().expect("a report");
    assert_eq!((report.taken, report.largest_free), (0, 2 * K), "{report:?}");
    let whole = session.allocate(wish(2 * K)).expect("it is one piece");
    let found = client.read_vec(whole.addr, whole.size).expect("it is read");
    assert!(found.iter().all(|byte| *byte == 0), "what the ones before have written is gone");
}

#[test]
fn a_new_holder_sees_nothing_of_the_one_before() {
    let cluster = cluster();
    let client = cluster.client();
    let before = lease(&cluster, 2 * K);
    let secret = vec![0xA5; 2 * K as usize];
    let path = cluster.dir.path().join("secret");
    fs::write(&path, &secret).expect("a scratch file is written");
    cluster.ok(&["lease", "set", text(&before, "lease"), "--file", path.to_str().expect("text")]);
    assert!(client.read_vec(0, 2 * K).expect("it is read") == secret);
    run_out(&cluster, text(&before, "lease"));
    until_quarantine_ends(&client);
    let after = lease(&cluster, 2 * K);
    assert_eq!(after["addr"], before["addr"]);
    assert!(number(&after, "fence") > number(&before, "fence"));
    assert!(client.read_vec(0, 2 * K).expect("it is read").iter().all(|byte| *byte == 0));
}

#[test]
fn a_holder_that_was_frozen_past_its_time_changes_nothing() {
    let cluster = cluster();
    let client = cluster.client();
    let mut holder = Shell::start(&cluster);
    let region = holder.ok(json!({"op": "alloc", "size": 2 * K, "lease_ms": 3_600_000}));
    let id = text(&region, "lease").to_owned();
    let fence = json!({"id": id, "number": number(&region, "fence")});
    holder.ok(json!({"op": "write", "addr": K - 3, "text": "before", "fence": fence}));
    holder.ok(json!({"op": "renew", "lease": id, "lease_ms": 300}));
    freeze(holder.pid());
    // It is in the middle of its work: what it is about to do reaches it in its sleep.
    let write = json!({"op": "write", "addr": K - 3, "text": "too late", "fence": fence, "id": 1});
    holder.send(format!("{write}\n").as_bytes());

    wait_until("the lease has run out", || client.regions().expect("the table").is_empty());
    until_quarantine_ends(&client);
    let next = lease(&cluster, 2 * K);
    assert_eq!(next["addr"], region["addr"]);
    cluster.ok(&["lease", "set", text(&next, "lease"), &"n".repeat(100)]);
    let show = format!("{}:{}", text(&next, "lease"), number(&next, "fence"));
    cluster.ok(&["write", &(K - 3).to_string(), "after!", "--fence", &show]);

    signal(holder.pid(), Signal::CONT);
    let answer = holder.answer();
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!("fenced")), "{answer}");
    holder.refused("fenced", json!({"op": "write", "addr": 0, "text": "late", "fence": fence}));
    holder.refused("fenced", json!({"op": "write", "addr": 0, "text": "late"}));
    holder.refused("no_lease", json!({"op": "release", "lease": id}));
    holder.end();
    let old = format!("{id}:{}", number(&region, "fence"));
    refused(&cluster, 75, "fenced", &["write", "0", "late", "--fence", &old]);
    assert_eq!(cluster.ok(&["read", &(K - 3).to_string(), "6"]), b"after!");
    assert_eq!(cluster.ok(&["lease", "get", text(&next, "lease")])[..100], [b'n'; 100]);
}

#[test]
fn only_shared_leases_are_written_without_their_fence() {
    let cluster = cluster();
    let own = told(&cluster, 0, &["alloc", "4096", "--lease", "1h", "--name", "own"]);
    told(&cluster, 0, &["alloc", "4096", "--lease", "1h", "--shared", "--name", "shared"]);
    cluster.ok(&["alloc", "4096", "--name", "free"]);
    let at = number(&own, "addr");
    for args in [
        &["write", "own", "x"][..],
        &["fill", "own+4095", "1", "7"],
        &["copy", "free", "own", "1"],
        &["add", "own", "1"],
        &["swap", "own", "1"],
        &["cas", "own", "0", "1"],
    ] {
        let sentence = refused(&cluster, 75, "fenced", args);
        assert!(sentence.contains(text(&own, "lease")) && sentence.contains(&at.to_string()), "{sentence}");
    }
    refused(&cluster, 75, "fenced", &["free", "own"]);
    assert_eq!(cluster.ok(&["read", "own", "4096"]), [0; 4096], "reads are free, and nothing was written");
    cluster.ok(&["write", "shared", "x"]);
    cluster.ok(&["write", "free", "x"]);
    let fence = format!("{}:{}", text(&own, "lease"), number(&own, "fence"));
    cluster.ok(&["write", "own", "x", "--fence", &fence]);
    let lease = text(&own, "lease");
    refused(
        &cluster,
        75,
        "fenced",
        &["write", "own", "y", "--fence", &format!("{lease}:{}", number(&own, "fence") - 1)],
    );
    assert_eq!(cluster.ok(&["read", "own", "1"]), b"x");
}

#[test]
fn connections_leave_no_descriptor_behind() {
    let cluster = cluster();
    let idle = cluster.client().session().expect("a session");
    let descriptors = |id| fs::read_dir(format!("/proc/{}/fd", cluster.server_pid(id))).expect("it lives").count();
    let one = |number: u64| {
        let client = if number.is_multiple_of(2) { cluster.client() } else { cluster.remote_client() };
        assert_eq!(client.region_at(number % (2 * K)).expect("an answer"), None);
        client.write_at(number % (2 * K - 8), b"passing").expect("it is written");
        if number.is_multiple_of(16) {
            client.session().and_then(|session| session.close()).expect("a session begins and ends");
        }
    };
    one(0);
    one(1);
    wait_until("the first ones have gone", || told(&cluster, 0, &["stat"])["sessions"] == 1);
    let before = [descriptors(0), descriptors(1)];
    (0..length("MCOMP_TEST_AGREED_CONNECTIONS", 1000)).for_each(one);
    wait_until("there are as many descriptors as before", || {
        // The client that asks the servers is one of those that come and go.
        descriptors(0) <= before[0] && descriptors(1) <= before[1]
    });
    assert!(!idle.is_lost(), "who did nothing was forgotten");
    assert!(matches!(idle.release(uuid::Uuid::nil()), Err(Error::Agreed { status: Status::NoLease, .. })));
    assert_eq!(table(&cluster), [] as [Value; 0]);
}
