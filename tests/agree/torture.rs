//! Clients and servers that are killed, frozen and cut off at random, while the clients allocate, free, renew and lock.
//!
//! Each client is a real `mcomp shell`. What it was told goes into a book, and the book must be possible: no two owners
//! of one address at one time, no number given out twice, no lock with two holders, every byte as its owner wrote it,
//! everything that was acknowledged there. In the end all clients die, and nothing may be left of them.
//!
//! What is said about times is what is certain: a lease or a session lives from when it was asked for, by a clock that
//! goes no faster than the cluster's.

/// What was said, and whether it is possible.
mod book;

/// What a client does and expects.
mod client;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mcomp_client::Lock;
use rustix::process::Signal;

use self::book::Book;
use self::client::{Client, Mine, last_lock};
use super::told;
use crate::harness::{Cluster, Network, PATIENCE, Rule, Setup, length, seed, wait_until};

const SERVERS: u32 = 3;
const K: u64 = 128 << 10;
const CLIENTS: u64 = 8;

/// What all threads share.
struct Torture<'a> {
    /// Taken to start a process, to kill or freeze one, or to cut it off.
    cluster: &'a Mutex<Cluster>,
    book: Mutex<Book>,
    /// Operations that have ended, whatever came of them.
    done: AtomicU64,
    acknowledged: AtomicU64,
    most: u64,
}

/// How often servers were killed, frozen and cut off.
#[derive(Debug, Default)]
struct Plagues {
    kills: u64,
    freezes: u64,
    cuts: u64,
}

/// Does servers and their network harm until the clients have done enough.
fn plague(torture: &Torture<'_>, random: &mut fastrand::Rng) -> Plagues {
    let progress = || torture.done.load(Relaxed).min(torture.most);
    let wait_for = |operations: u64| {
        let enough = (progress() + operations).min(torture.most);
        wait_until("clients are at work", || progress() >= enough);
    };
    let cluster = || torture.cluster.lock().expect("it is whole");
    let mut plagues = Plagues::default();
    while progress() < torture.most {
        wait_for(random.u64(20..80));
        let victim = random.u32(..SERVERS);
        match random.u8(..3) {
            0 => {
                cluster().kill_server(victim);
                wait_for(random.u64(..10));
                cluster().start_server(victim);
                plagues.kills += 1;
            }
            1 => {
                cluster().freeze_server(victim);
                wait_for(random.u64(..10));
                cluster().signal_server(victim, Signal::CONT);
                plagues.freezes += 1;
            }
            _ => {
                cut_off(cluster().network(), victim, random);
                // Long enough for another one to lead, now and then.
                wait_for(random.u64(..40));
                cluster().network().heal();
                plagues.cuts += 1;
            }
        }
    }
    plagues
}

/// Has the network do something to what a server says, or hears, or both.
fn cut_off(network: &Network, victim: u32, random: &mut fastrand::Rng) {
    let delay = Duration::from_millis(random.u64(1..500));
    let rule = [Rule::Hold, Rule::Lose, Rule::Refuse, Rule::Delay(delay)][random.usize(..4)];
    let (speaks, hears) = [(true, true), (true, false), (false, true)][random.usize(..3)];
    for other in (0..SERVERS).filter(|other| *other != victim) {
        if speaks {
            network.rule(victim, other, rule);
        }
        if hears {
            network.rule(other, victim, rule);
        }
    }
}

/// Lets clients and servers suffer. What the clients were told, and what they still have.
fn suffer(cluster: &Mutex<Cluster>, most: u64) -> (Book, Vec<Mine>) {
    let mut random = fastrand::Rng::with_seed(seed());
    let (done, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    let torture = Torture { cluster, book: Mutex::default(), done, acknowledged, most };
    let mut left = Vec::new();
    std::thread::scope(|scope| {
        let torture = &torture;
        let mut client = |number| Client::new(torture, number, random.fork());
        let clients: Vec<_> = (0..CLIENTS).map(&mut client).collect();
        let clients: Vec<_> = clients.into_iter().map(|client| scope.spawn(|| client.run())).collect();
        let plagues = plague(torture, &mut random);
        let mine = clients.into_iter().flat_map(|client| client.join().expect("a client that found nothing wrong"));
        left.extend(mine);
        let acknowledged = torture.acknowledged.load(Relaxed);
        eprintln!("{most} operations, {acknowledged} acknowledged; {plagues:?}");
        assert!(acknowledged * 4 > most, "most operations came to nothing, which proves little");
    });
    (torture.book.into_inner().expect("nobody found anything wrong"), left)
}

#[test]
fn nobody_steps_on_anybodys_memory_whoever_dies() {
    let cluster = Mutex::new(Setup::new(SERVERS, &K.to_string()).breakable().servers());
    let (book, left) = suffer(&cluster, length("MCOMP_TEST_AGREED_OPS", 300));
    book.check();
    let cluster = cluster.into_inner().expect("it is whole");
    let client = cluster.client();
    let table = client.regions().expect("the table");
    for mine in left.iter().filter(|mine| mine.lease.is_none()) {
        let found = table.iter().find(|region| region.generation == mine.generation);
        let found = found.map(|region| (region.addr, region.size));
        assert_eq!(found, Some((mine.addr, mine.size)), "generation {} was acknowledged", mine.generation);
    }
    // The clients are dead, and their sessions and leases run out.
    let session = client.session().expect("a session");
    for number in 0..CLIENTS {
        session.lock(&last_lock(number), PATIENCE).and_then(Lock::unlock).expect("the dead hold no lock");
    }
    session.close().expect("it lived");
    let ran_out = || client.space_report().is_ok_and(|report| (report.sessions, report.leases) == (0, 0));
    wait_until("all sessions and leases have run out", ran_out);
    assert_eq!(client.locks().expect("the locks"), []);
    told(&cluster, 0, &["gc", "--yes"]);
    assert_eq!(client.regions().expect("the table"), [], "nothing is left of the dead");
    wait_until("the quarantine has ended", || client.space_report().is_ok_and(|report| report.quarantined == 0));
    let report = client.space_report().expect("a report");
    assert_eq!((report.taken, report.largest_free), (0, report.size), "{report:?}");
}
