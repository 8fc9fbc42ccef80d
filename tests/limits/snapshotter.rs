//! The few places of a snapshot process: nobody keeps one without saying what for, and no address has them all.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use mcomp_net::Endpoint;
use mcomp_net::auth::Keyring;
use mcomp_snapshot::{create, snapshotter_status};
use mcomp_wire::control::Hello;

use super::*;

fn address_of(cluster: &Cluster) -> Ipv4Addr {
    cluster.snapshot_address(0).split(':').next().expect("an address").parse().expect("of IPv4")
}

/// Waits until the process counts these refusals and no others: it does so when a peer is gone.
fn counts(cluster: &Cluster, expected: &[(&str, u64)]) {
    let expected: BTreeMap<String, u64> = expected.iter().map(|&(cause, count)| (cause.to_owned(), count)).collect();
    wait_until("each is counted once, under its cause", || {
        let rejected = snapshotter_status(&cluster.config(), 0).expect("a status").rejected;
        assert!(rejected.keys().all(|cause| expected.contains_key(cause)), "{rejected:?}");
        rejected == expected
    });
}

#[test]
fn a_snapshot_process_counts_refusals_by_cause() {
    let cluster = Setup::new(1, "1MiB").start();
    let endpoint = Endpoint::Tcp(cluster.snapshot_address(0));
    counts(&cluster, &[]);
    let client = hello(&cluster, 0, Role::Client);
    let mut peer = Peer::greeted(&endpoint, &client);
    assert_eq!(peer.ask(Kind::Read as u8, 2, &[]).status(), Status::UnknownKind);
    assert_eq!(peer.ask(Kind::SnapshotCollect as u8, 3, &[]).status(), Status::Denied);
    peer.send(&[0x5a; 64]);
    assert_eq!(peer.next().expect("a reason").status(), Status::Malformed);
    let mut rude = Peer::connect(&endpoint);
    assert_eq!(rude.ask(Kind::SnapshotStatus as u8, 1, &[]).status(), Status::Malformed);
    let elsewhere = Hello { n: 9, ..client };
    let refused = Peer::try_greeted(&endpoint, &elsewhere).expect_err("another cluster").expect("a reason");
    assert_eq!(refused.status(), Status::WrongCluster);
    let all = [("unknown_kind", 1), ("denied", 1), ("bad_frame", 1), ("malformed", 1), ("wrong_cluster", 1)];
    counts(&cluster, &all);
    let status: serde_json::Value = serde_json::from_slice(&cluster.ok(&["status", "--json"])).expect("JSON");
    assert_eq!(status["snapshotters"][0]["rejected"]["bad_frame"], 1, "{status}");
}

#[test]
fn a_snapshot_process_counts_who_has_no_key_of_its_secret() {
    let cluster = Setup::new(1, "1MiB").secret(&Keyring::random().expect("random numbers")).start();
    let endpoint = Endpoint::Tcp(cluster.snapshot_address(0));
    let open = hello(&cluster, 0, Role::Client);
    let refused = Peer::try_greeted(&endpoint, &open).expect_err("no proof").expect("a reason");
    assert_eq!(refused.status(), Status::Denied);
    let right = cluster.secret_path();
    let aside = right.with_extension("aside");
    std::fs::rename(&right, &aside).expect("the secret is moved aside");
    Keyring::random().expect("random numbers").store(&right, "", false).expect("another secret");
    let denied = snapshotter_status(&cluster.config(), 0).expect_err("another secret");
    assert_eq!(denied.kind(), "denied", "{denied}");
    std::fs::rename(&aside, &right).expect("the secret is back");
    counts(&cluster, &[("no_proof", 2)]);
}

#[test]
fn silent_peers_of_a_snapshot_process_are_closed() {
    let lines = "[limits]\nhandshake_timeout = \"300ms\"\nframe_timeout = \"300ms\"";
    let cluster = Setup::new(1, "1MiB").with(lines).start();
    let endpoint = Endpoint::Tcp(cluster.snapshot_address(0));
    let greeted = |role| Peer::greeted(&endpoint, &hello(&cluster, 0, role));
    // The master's, which waits for its cut.
    let mut node = greeted(Role::Node);
    let mut silent: Vec<Peer> = [Role::Client, Role::Admin].map(greeted).into();
    silent.push(Peer::connect(&endpoint));
    let mut begun = greeted(Role::Node);
    begun.send(b"M");
    silent.push(begun);
    let mut asked = greeted(Role::Client);
    assert_eq!(asked.ask(Kind::SnapshotStatus as u8, 2, &[]).status(), Status::Ok);
    silent.push(asked);
    for peer in &mut silent {
        assert!(peer.next().is_none(), "closed without a word");
    }
    assert_eq!(node.ask(Kind::SnapshotStatus as u8, 2, &[]).status(), Status::Ok, "it may be silent for longer");
    counts(&cluster, &[("request_timeout", 3), ("handshake_timeout", 1), ("frame_timeout", 1)]);
    create(&cluster.config(), false, &mut |_| {}).expect("a snapshot");
}

#[test]
fn one_address_has_half_of_the_places_of_a_snapshot_process() {
    let cluster = Setup::new(1, "1MiB").start();
    let endpoint = Endpoint::Tcp(cluster.snapshot_address(0));
    let greeting = hello(&cluster, 0, Role::Node);
    let held: Vec<Peer> = (0..32).map(|_| Peer::greeted(&endpoint, &greeting)).collect();
    let refused = Peer::try_greeted(&endpoint, &greeting).expect_err("more than its share").expect("a reason");
    let sentence = String::from_utf8_lossy(&refused.body);
    assert!(refused.status() == Status::Busy && sentence.contains("address 127.0.0.1 has all the 32"), "{sentence}");
    let mut other = Peer::connect_from(address_of(&cluster), &cluster.snapshot_address(0));
    other.shake_hands(&greeting).expect("another address");
    assert_eq!(other.ask(Kind::SnapshotStatus as u8, 2, &[]).status(), Status::Ok);
    drop(held);
    wait_until("who leaves makes room to ask", || snapshotter_status(&cluster.config(), 0).is_ok());
    let rejected = snapshotter_status(&cluster.config(), 0).expect("a status").rejected;
    assert!(rejected["max_connections_per_address"] >= 1, "{rejected:?}");
    wait_until("who leaves makes room", || Peer::try_greeted(&endpoint, &greeting).is_ok());
    create(&cluster.config(), false, &mut |_| {}).expect("a snapshot");
}
