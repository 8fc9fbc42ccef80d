//! Caps, deadlines and budgets hold against peers that are too many, too slow or too greedy.
//!
//! Every test has a good client, or connections that were there before, which must not notice. Times
//! are never asserted: only what is answered, what is closed and what is counted.

mod buffers;
mod causes;
mod connections;
mod crowd;
mod deadlines;
mod exhaustion;
mod snapshotter;

use std::fs;
use std::time::Duration;

use mcomp_client::Cluster as Client;
use mcomp_wire::control::{self, ServerStatus};
use mcomp_wire::{Header, Kind, Request, Role, Status, limits};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::harness::{Cluster, Setup, wait_until};
use crate::raw::{Peer, body, hello, tcp};

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

/// How often something was refused for this cause.
fn rejected(status: &ServerStatus, cause: &str) -> u64 {
    status.counters.rejected.get(cause).copied().unwrap_or(0)
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
