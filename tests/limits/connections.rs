//! The caps on connections: in all, for one address, and as many as there can be open files.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::harness::{lines_of, under};
use crate::raw::unix;

#[test]
fn a_thousand_connections_are_served_at_the_same_time() {
    // On each side a connection takes one descriptor; other tests of this process need some at the same time.
    let count = (raise_open_files() / 4).min(1_000);
    if count < 1_000 {
        eprintln!("the limit of open files allows {count} connections, not 1,000");
    }
    let cluster = Setup::new(1, "1MiB").servers();
    let mut peers: Vec<Peer> = (0..count).map(|_| greeted(&cluster)).collect();
    // All requests are under way before the first answer is taken.
    for (number, peer) in (0..).zip(&mut peers) {
        let data = [number as u8; 512];
        peer.request(Kind::Write as u8, 1, &body(&Request::Write { addr: number * 512, data: &data }));
        peer.request(Kind::Read as u8, 2, &body(&Request::Read { addr: number * 512, len: 512 }));
    }
    for (number, peer) in (0u64..).zip(&mut peers) {
        let (written, read) = (peer.next().expect("an answer"), peer.next().expect("an answer"));
        assert_eq!((written.status(), read.status()), (Status::Ok, Status::Ok), "connection {number}");
        assert!(read.body == [number as u8; 512], "connection {number}");
    }
    let status = status_over(&mut peers[0]);
    assert!(status.connections >= count, "{} connections of {count}", status.connections);
    assert!(status.counters.rejected.is_empty(), "{:?}", status.counters.rejected);
    drop(peers);
    let client = cluster.client();
    wait_until("all have left", || client.status(0).expect("a status").connections <= 2);
}

#[test]
fn beyond_the_cap_a_connection_is_told_busy_and_the_others_go_on() {
    const CAP: u64 = 20;
    const FLOOD: u64 = 100;
    let cluster = Setup::new(1, "1MiB").with("[limits]\nmax_connections = 20").servers();
    let mut inside: Vec<Peer> = (0..CAP).map(|_| greeted(&cluster)).collect();
    let mut outside: Vec<Peer> = (0..FLOOD).map(|_| Peer::connect(&tcp(&cluster, 0))).collect();
    for (number, peer) in (0..).zip(&mut inside) {
        works(peer, number * 4096, number);
    }
    for peer in &mut outside {
        let answer = peer.next().expect("a reason");
        assert_eq!(answer.status(), Status::Busy, "{answer:?}");
        assert!(String::from_utf8_lossy(&answer.body).contains("20"), "{answer:?}");
        assert!(peer.next().is_none(), "closed");
    }
    let status = status_over(&mut inside[0]);
    assert_eq!((status.connections, rejected(&status, "max_connections")), (CAP, FLOOD));
    inside.truncate(CAP as usize - 5);
    let mut admitted = Vec::new();
    wait_until("five new ones are admitted", || {
        admitted.extend(Peer::try_greeted(&tcp(&cluster, 0), &hello(&cluster, 0, Role::Client)).ok());
        admitted.len() == 5
    });
    inside.append(&mut admitted);
    for (number, peer) in (0..).zip(&mut inside) {
        works(peer, number * 4096, 1000 + number);
    }
    let extra = Peer::try_greeted(&tcp(&cluster, 0), &hello(&cluster, 0, Role::Client)).expect_err("full again");
    assert_eq!(extra.expect("a reason").status(), Status::Busy);
}

#[test]
fn a_client_library_at_the_cap_reports_busy_and_not_a_broken_server() {
    let cluster = Setup::new(1, "1MiB").with("[limits]\nmax_connections = 1").servers();
    let mut only = greeted(&cluster);
    let output = cluster.exits(75, &["write", "0", "x", "--timeout", "500ms"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("connections"), "{message}");
    works(&mut only, 0, 1);
    drop(only);
    wait_until("there is room", || cluster.run(&["write", "0", "x"]).status.success());
}

#[test]
fn a_low_soft_limit_of_open_files_does_not_lower_the_cap() {
    raise_open_files();
    let mut cluster = Setup::new(1, "1MiB").prepare();
    cluster.start_server_under(&["sh", "-c", "ulimit -S -n 64 && exec \"$@\"", "sh"], 0);
    let mut peers: Vec<Peer> = (0..100).map(|_| greeted(&cluster)).collect();
    for (number, peer) in (0..).zip(&mut peers) {
        works(peer, number * 4096, number);
    }
}

#[test]
fn one_address_leaves_places_for_the_others() {
    const SHARE: usize = 5;
    let lines = "[limits]\nmax_connections = 20\nmax_connections_per_address = 5";
    let cluster = Setup::new(1, "1MiB").with(lines).servers();
    let greeting = hello(&cluster, 0, Role::Client);
    let other: Ipv4Addr = cluster.address(0).split(':').next().expect("an address").parse().expect("of IPv4");
    let connect: [&dyn Fn() -> Peer; 3] =
        [&|| Peer::connect(&tcp(&cluster, 0)), &|| Peer::connect_from(other, &cluster.address(0)), &|| {
            Peer::connect(&unix(&cluster, 0))
        }];
    let names = ["address 127.0.0.1 ".to_owned(), format!("address {other} "), "user ".to_owned()];
    let mut inside = Vec::new();
    for (connect, name) in connect.iter().zip(&names) {
        let mut share: Vec<Peer> = (0..SHARE).map(|_| connect()).collect();
        for peer in &mut share {
            peer.shake_hands(&greeting).expect("its share");
        }
        let refused = connect().shake_hands(&greeting).expect_err("more than its share").expect("a reason");
        let sentence = String::from_utf8_lossy(&refused.body);
        assert_eq!(refused.status(), Status::Busy);
        let limit = "all the 5 connections that limits.max_connections_per_address allows";
        assert!(sentence.contains(limit) && sentence.contains(name.as_str()), "{sentence}");
        inside.push(share);
    }
    let status = status_over(&mut inside[0][0]);
    assert_eq!((status.connections, status.max_connections), (3 * SHARE as u64, 20));
    assert_eq!(rejected(&status, "max_connections_per_address"), 3, "{:?}", status.counters.rejected);
    for (number, peer) in (0..).zip(inside.iter_mut().flatten()) {
        works(peer, number * 4096, number);
    }
    inside[1].pop();
    let mut late = None;
    wait_until("one that left makes room for another of the same address", || {
        let mut peer = connect[1]();
        late = peer.shake_hands(&greeting).is_ok().then_some(peer);
        late.is_some()
    });
    works(late.as_mut().expect("admitted"), 0, 99);
}

/// A process in a namespace of processes, which ends with the test.
struct Contained(Child);

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server in a container that shares the network of its machine: the kernel tells it the user of a peer from outside,
/// and no process.
#[test]
fn a_peer_whose_process_has_no_number_here_is_served() {
    let end_with_us = ["setpriv", "--pdeathsig", "KILL", "unshare", "--kill-child"];
    let ways = ["-pf", "-Urpf"].map(|way| [&end_with_us[..], &[way]].concat());
    let can = |way: &&Vec<&str>| under(way, Command::new("true")).status().is_ok_and(|status| status.success());
    let Some(way) = ways.iter().find(can) else {
        eprintln!("no namespaces of processes on this machine: nothing to look at");
        return;
    };
    let cluster = Setup::new(1, "1MiB").prepare();
    let mut server = under(way, cluster.command(&["server", "--id", "0"]));
    let mut server = Contained(server.stdout(Stdio::piped()).spawn().expect("mcomp starts"));
    let ready = lines_of(server.0.stdout.take().expect("piped")).recv().expect("a line");
    assert!(ready.contains("ready"), "{ready}");
    let mut peer = Peer::greeted(&unix(&cluster, 0), &hello(&cluster, 0, Role::Client));
    works(&mut peer, 0, 7);
}

#[test]
fn a_server_that_may_open_few_files_says_how_many_connections_it_has() {
    const FLOOD: usize = 60;
    let mut cluster = Setup::new(1, "1MiB").prepare();
    cluster.start_server_under(&["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"], 0);
    let mut peers: Vec<_> =
        (0..FLOOD).map(|_| Peer::try_greeted(&tcp(&cluster, 0), &hello(&cluster, 0, Role::Client))).collect();
    let refused = peers.iter().filter_map(|peer| peer.as_ref().err()).count();
    let first = peers[0].as_mut().expect("the first one finds a place");
    let status = status_over(first);
    let most = status.max_connections;
    assert!(most < 64 && status.connections == most, "{status:?}");
    assert_eq!((FLOOD - refused, rejected(&status, "max_connections")), (most as usize, refused as u64));
    let reason = peers.iter().find_map(|peer| peer.as_ref().err()).expect("one is refused").clone().expect("a reason");
    let sentence = String::from_utf8_lossy(&reason.body);
    assert!(reason.status() == Status::Busy && sentence.contains("open files"), "{sentence}");
    for part in ["max_connections is 4096", "may open 64 files", &format!("enough for {most} connections"), "ulimit -n"]
    {
        assert!(cluster.log("server", 0).contains(part), "{part:?} in {}", cluster.log("server", 0));
    }
    for (number, peer) in (0..).zip(peers.iter_mut().flatten()) {
        works(peer, number * 4096, number);
    }
}
