//! The few places of a snapshot process: nobody keeps one without saying what for, and no address has them all.

use std::net::Ipv4Addr;

use mcomp_net::Endpoint;
use mcomp_snapshot::create;

use super::*;

fn address_of(cluster: &Cluster) -> Ipv4Addr {
    cluster.snapshot_address(0).split(':').next().expect("an address").parse().expect("of IPv4")
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
    wait_until("who leaves makes room", || Peer::try_greeted(&endpoint, &greeting).is_ok());
    create(&cluster.config(), false, &mut |_| {}).expect("a snapshot");
}
