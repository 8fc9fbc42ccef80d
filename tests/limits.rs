//! Caps, deadlines and budgets hold against peers that are too many, too slow or too greedy.
//!
//! Every test has a good client, or connections that were there before, which must not notice. Times
//! are never asserted: only what is answered, what is closed and what is counted.

use std::fs;
use std::time::Duration;

use mcomp_client::Cluster as Client;
use mcomp_wire::control::{self, ServerStatus};
use mcomp_wire::{Header, Kind, Request, Role, Status, limits};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::harness::{Cluster, Setup, wait_until};
use crate::raw::{Peer, body, hello, tcp};

/// Between two bytes of a peer that trickles, and for one look whether it was cut off.
const TRICKLE: Duration = Duration::from_millis(20);

/// Lets this process, and what it starts from now on, open as many files as it may.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to the maximum");
    limit.maximum.unwrap_or(u64::MAX)
}

fn greeted(cluster: &Cluster) -> Peer {
    Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, Role::Client))
}

/// Writes a number and reads it back on a connection that must work.
fn works(peer: &mut Peer, addr: u64, number: u64) {
    let data = number.to_le_bytes();
    assert_eq!(
        peer.ask(Kind::Write as u8, 2 * number, &body(&Request::Write { addr, data: &data })).status(),
        Status::Ok
    );
    let answer = peer.ask(Kind::Read as u8, 2 * number + 1, &body(&Request::Read { addr, len: 8 }));
    assert_eq!((answer.status(), answer.body), (Status::Ok, data.to_vec()));
}

/// What the server says about itself, on a connection that is there already.
fn status_over(peer: &mut Peer) -> ServerStatus {
    let answer = peer.ask(Kind::Status as u8, 0, &[]);
    control::decode(&answer.body).expect("a status")
}

fn rejected(status: &ServerStatus, cause: &str) -> u64 {
    status.counters.rejected.get(cause).copied().unwrap_or(0)
}

/// Sends bytes slowly until the server ends the connection; false when all were taken.
fn is_cut_off_while_trickling(peer: &mut Peer, bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| {
        peer.send(&[*byte]);
        peer.is_closed_within(TRICKLE)
    })
}

#[test]
fn a_thousand_connections_are_served_at_the_same_time() {
    // On each side a connection takes up to four descriptors; other tests of this process need some too.
    let count = (raise_open_files() / 8).min(1_000);
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

/// A server with short deadlines.
fn hasty() -> Cluster {
    let lines = "[limits]\nhandshake_timeout = \"300ms\"\nframe_timeout = \"300ms\"\nwrite_timeout = \"300ms\"";
    Setup::new(1, "4MiB").with(lines).servers()
}

/// Runs `body` between operations of a good client and of an idle connection, all of which succeed.
fn beside_good_client(cluster: &Cluster, body: impl FnOnce(&Client) + Send) {
    let client = cluster.client();
    let mut idle = greeted(cluster);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| body(&client));
        for round in 0u64.. {
            let data = [round as u8; 4096];
            client.write_at(4096, &data).expect("a good client writes");
            assert!(client.read_vec(4096, 4096).expect("a good client reads") == data);
            if slow.is_finished() {
                break;
            }
        }
        slow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    // It has said nothing for longer than any deadline.
    works(&mut idle, 0, 7);
}

#[test]
fn a_handshake_that_trickles_is_cut_off() {
    let cluster = hasty();
    beside_good_client(&cluster, |client| {
        let hello = control::encode(&hello(&cluster, 0, Role::Client));
        let bytes = crate::raw::frame(Kind::Hello as u8, 1, 0, &hello);
        let mut slow = Peer::connect(&tcp(&cluster, 0));
        let mut silent = Peer::connect(&tcp(&cluster, 0));
        // The body never comes whole, however long it takes.
        let cut_off = is_cut_off_while_trickling(&mut slow, &bytes[..bytes.len() - 1]);
        assert!(cut_off || slow.next().is_none(), "a handshake is not waited for for ever");
        assert!(silent.next().is_none(), "one that says nothing is closed");
        wait_until("both are counted", || rejected(&client.status(0).expect("a status"), "handshake_timeout") == 2);
    });
}

#[test]
fn a_frame_that_trickles_is_cut_off() {
    let cluster = hasty();
    beside_good_client(&cluster, |client| {
        let write = body(&Request::Write { addr: 8192, data: &[1; 4096] });
        let mut slow = greeted(&cluster);
        let bytes = crate::raw::frame(Kind::Write as u8, 2, slow.epoch(), &write);
        assert!(is_cut_off_while_trickling(&mut slow, &bytes), "all bytes were taken");
        // One that stops in the middle of a header, and one in the middle of a body.
        for stop in [20, 1000] {
            let mut stuck = greeted(&cluster);
            stuck.send(&bytes[..stop]);
            assert!(stuck.next().is_none(), "a frame that stops after {stop} bytes");
        }
        wait_until("all are counted", || rejected(&client.status(0).expect("a status"), "frame_timeout") == 3);
        assert!(client.read_vec(8192, 4096).expect("the memory is read").iter().all(|&byte| byte == 0));
    });
}

#[test]
fn a_client_that_does_not_take_its_answers_is_cut_off() {
    let cluster = hasty();
    beside_good_client(&cluster, |client| {
        let read = body(&Request::Read { addr: 0, len: limits::MAX_PAYLOAD as u64 });
        let mut deaf = greeted(&cluster);
        for id in 2..66 {
            deaf.request(Kind::Read as u8, id, &read);
        }
        wait_until("it is counted", || rejected(&client.status(0).expect("a status"), "write_timeout") == 1);
        // What was on its way still arrives, and it is less than was asked for.
        let answers = std::iter::from_fn(|| deaf.next()).count();
        assert!(answers < 64, "{answers} answers of 64");
    });
}

/// Bytes of memory that a process has touched, its mappings included.
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn announced_bodies_cost_no_more_than_the_budget() {
    const PEERS: usize = 200;
    const BUDGET: u64 = 8 << 20;
    raise_open_files();
    let cluster = Setup::new(1, "1MiB").with("[limits]\nbuffer_budget = \"8MiB\"").servers();
    let mut good = greeted(&cluster);
    works(&mut good, 0, 1);
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| greeted(&cluster)).collect();
    let before = resident_bytes(cluster.server_pid(0));
    let announced = Header { kind: Kind::Write as u8, length: limits::MAX_BODY as u32, ..Header::default() }.emit();
    // A header and half of the body: what was announced would be 235 MB.
    let half = vec![0; limits::MAX_BODY / 2];
    for peer in &mut peers {
        peer.send(&announced);
        peer.send(&half);
    }
    let refused = PEERS - BUDGET as usize / limits::MAX_BODY - 1;
    wait_until("those beyond the budget are refused", || {
        rejected(&status_over(&mut good), "buffer_budget") >= refused as u64
    });
    let grown = resident_bytes(cluster.server_pid(0)).saturating_sub(before);
    assert!(grown < BUDGET + (64 << 20), "{grown} bytes more, with a budget of {BUDGET}");
    // Small requests need no budget.
    works(&mut good, 0, 2);
    drop(peers);
    let large = body(&Request::Write { addr: 0, data: &vec![3; limits::MAX_PAYLOAD] });
    let mut id = 100;
    wait_until("the budget comes back", || {
        id += 1;
        let mut peer = greeted(&cluster);
        peer.request(Kind::Write as u8, id, &large);
        peer.next().is_some_and(|answer| answer.status() == Status::Ok)
    });
}

/// Ticks of processor time that a process has used.
fn processor_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name, which may hold spaces, ends with the last parenthesis; time is in fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_server_without_descriptors_says_so_and_does_not_spin() {
    const FLOOD: usize = 100;
    let cluster = Setup::new(1, "1MiB").servers();
    let mut inside: Vec<Peer> = (0..4).map(|_| greeted(&cluster)).collect();
    limit_open_files(&cluster, 40);
    let ticks = processor_ticks(cluster.server_pid(0));
    let greeting = hello(&cluster, 0, Role::Client);
    let mut refused = 0;
    let mut admitted = Vec::new();
    for _ in 0..FLOOD {
        match Peer::try_greeted(&tcp(&cluster, 0), &greeting) {
            Ok(peer) => admitted.push(peer),
            Err(answer) => {
                assert!(answer.is_none_or(|answer| answer.status() == Status::Busy));
                refused += 1;
            }
        }
    }
    assert!(refused > FLOOD / 2 && admitted.len() < 40, "{refused} refused, {} admitted", admitted.len());
    for (number, peer) in (0..).zip(inside.iter_mut().chain(&mut admitted)) {
        works(peer, number * 4096, number);
    }
    let spent = processor_ticks(cluster.server_pid(0)) - ticks;
    eprintln!("{} admitted, {refused} refused, {spent} ticks of processor time", admitted.len());
    assert!(rejected(&status_over(&mut inside[0]), "open_files") > 0);
    drop(admitted);
    let mut late = None;
    wait_until("a new one is admitted", || {
        late = Peer::try_greeted(&tcp(&cluster, 0), &greeting).ok();
        late.is_some()
    });
    works(&mut late.expect("admitted"), 0, 99);
    works(&mut inside[0], 4096, 100);
}

/// Takes descriptors from a server that runs.
fn limit_open_files(cluster: &Cluster, most: u64) {
    let pid = Pid::from_raw(cluster.server_pid(0).cast_signed());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum }).expect("our own child");
}
