//! Deaths: of servers by SIGKILL, and of connections at any byte.
//!
//! A killed server comes back with every acknowledged byte and says that it was taken over. A client
//! goes on across it, and is told "done" only for what was done: what it counted as done is at most
//! what the memory holds, and with what it could not know, at least.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcomp_client::{Cluster as Client, Error, Options, Outcome};
use rustix::process::Signal;

use crate::harness::{Cluster, Setup, length, seed, wait_until};

/// Connections break, and every add happens once.
mod links;

/// Servers killed again and again in the middle of everything.
mod torture;

/// Servers that are started over running ones, and take over from them.
mod handover;

/// Servers restarted again and again in good order, under load.
mod hot;

/// What is left in /dev/shm: who may take it over, and who may remove it.
mod segments;

const N: u32 = 3;
const K: u64 = 64 << 10;
const BLOCK: u64 = 4096;

/// Three servers full of noise.
fn full_of_noise() -> (Cluster, Vec<u8>) {
    let mut random = fastrand::Rng::with_seed(seed());
    let cluster = Setup::new(N, "64KiB").servers();
    let noise: Vec<u8> = (0..u64::from(N) * K).map(|_| random.u8(..)).collect();
    cluster.client().write_at(0, &noise).expect("the whole memory is written");
    (cluster, noise)
}

fn whole(client: &Client) -> Vec<u8> {
    client.read_vec(0, client.size()).expect("the whole memory is read")
}

fn incarnation(cluster: &Cluster, id: u32) -> u64 {
    cluster.client().status(id).expect("a status").incarnation
}

/// A client that comes through the Unix sockets or through TCP.
fn client(cluster: &Cluster, unix: bool) -> Client {
    Client::with_options(Options { unix, ..Options::from_config(&cluster.config()) }).expect("a client")
}

fn segment(cluster: &Cluster, id: u32) -> PathBuf {
    PathBuf::from(format!("/dev/shm/mcomp.{}.{id}", cluster.name))
}

#[test]
fn a_killed_server_comes_back_with_every_byte_and_says_so() {
    let (mut cluster, noise) = full_of_noise();
    for id in [0, 1, 2, 1] {
        let before = incarnation(&cluster, id);
        cluster.kill_server(id);
        let said = cluster.start_server_saying(id);
        assert!(said.contains("taken over"), "{said}");
        assert!(incarnation(&cluster, id) > before, "the incarnation grows");
        assert!(whole(&cluster.client()) == noise, "bytes were lost with server {id}");
    }
    (0..N).for_each(|id| cluster.kill_server(id));
    (0..N).for_each(|id| cluster.start_server(id));
    assert!(whole(&cluster.client()) == noise, "bytes were lost with all servers");
    let torn = cluster.client().statuses().into_iter().map(|status| status.expect("a status").counters.torn_blocks);
    assert_eq!(torn.sum::<u64>(), 0, "nobody was writing");
}

#[test]
fn a_stopped_server_keeps_its_segment() {
    let (mut cluster, noise) = full_of_noise();
    (0..N).for_each(|id| cluster.stop_server(id));
    assert!((0..N).all(|id| segment(&cluster, id).exists()), "SIGTERM leaves the memory");
    for id in 0..N {
        let said = cluster.start_server_saying(id);
        assert!(said.contains("taken over"), "{said}");
    }
    assert!(whole(&cluster.client()) == noise, "bytes were lost by a clean stop");
}

#[test]
fn an_idle_client_goes_on_after_a_restart() {
    let (mut cluster, noise) = full_of_noise();
    let clients = [client(&cluster, true), client(&cluster, false)];
    for (round, stop) in (0u64..).zip([Signal::KILL, Signal::TERM, Signal::KILL]) {
        for client in &clients {
            assert!(whole(client) == noise, "both are connected to every server");
        }
        let idle = Instant::now();
        for id in 0..N {
            match stop {
                Signal::KILL => cluster.kill_server(id),
                _ => cluster.stop_server(id),
            }
            cluster.start_server(id);
        }
        // A connection that was used an instant ago is trusted without a look at its socket.
        wait_until("the connections count as idle", || idle.elapsed() > Duration::from_millis(250));
        for (at, client) in (0..).zip(&clients) {
            let addr = K * round + 16 * at;
            client.write_at(addr, &noise[addr as usize..][..16]).expect("the first write after the restart");
            client.fetch_add(addr, 0).expect("the first atomic after the restart");
            assert!(whole(client) == noise, "the first read after the restart");
        }
    }
}

#[test]
fn a_dead_server_never_says_done() {
    let (mut cluster, noise) = full_of_noise();
    let (used, unused) = (client(&cluster, false), client(&cluster, true));
    assert!(whole(&used) == noise, "one client is connected when it happens");
    cluster.kill_server(1);
    let short = Options { timeout: Duration::from_secs(1), ..Options::from_config(&cluster.config()) };
    let hasty = Client::with_options(short).expect("a client");
    for (what, client) in [("used", used), ("unused", unused), ("hasty", hasty)] {
        for (request, error) in changes(&client, K) {
            let expected = ["unavailable", "unknown", "timeout"];
            assert!(expected.contains(&error.kind()), "{what} {request}: {error}");
            assert!(error.to_string().contains("server 1"), "{what} {request}: {error}");
        }
        // It spans a live server too, and is found out before anything is sent there.
        let error = client.write_at(K - 8, &[0xEE; 16]).expect_err("half of it leads to a dead server");
        assert_eq!(error.outcome(), Outcome::Fail, "{what}: {error}");
        assert_eq!(client.read_vec(0, K).expect("the others serve on"), &noise[..K as usize]);
    }
    let started = ["write 65536 x", "read 65536 1", "fill 60000 70000 1", "add 65536 1", "status"];
    for line in started {
        let output = cluster.exits(69, &line.split_whitespace().collect::<Vec<_>>());
        assert!(!output.stderr.is_empty() || line == "status", "mcomp {line} says why");
    }
    cluster.start_server(1);
    assert!(whole(&cluster.client()) == noise, "what was never done has changed memory");
}

/// The errors of requests that would change the block at `addr`, whose server is dead.
fn changes(client: &Client, addr: u64) -> Vec<(&'static str, Error)> {
    let mut batch = client.batch();
    batch.fill(addr, 8, 0xEE);
    let of_batch = batch.run().remove(0).expect_err("a batch");
    vec![
        ("add", client.fetch_add(addr, 1).expect_err("an add")),
        ("swap", client.swap(addr, 0xEE).expect_err("a swap")),
        ("write", client.write_at(addr, &[0xEE]).expect_err("a write")),
        ("fill", client.fill(addr, BLOCK, 0xEE).expect_err("a fill")),
        ("copy", client.copy(addr, addr + 8, 8).expect_err("a copy")),
        ("write_vectored", client.write_vectored(&[(addr, &[0xEE])]).expect_err("a vectored write")),
        ("batch", of_batch),
    ]
}

#[test]
fn a_frozen_server_is_not_waited_for_longer_than_the_timeout() {
    let (cluster, noise) = full_of_noise();
    let hasty = |unix| {
        let config = cluster.config();
        let options =
            Options { unix, segment: false, timeout: Duration::from_secs(1), ..Options::from_config(&config) };
        Client::with_options(options).expect("a client")
    };
    let clients = [hasty(true), hasty(false)];
    for client in &clients {
        assert_eq!(client.fetch_add(K, 0).expect("it is connected"), word(&noise[K as usize..]));
    }
    let beside = cluster.client();
    beside.fetch_add(K, 0).expect("it is connected");
    cluster.freeze_server(1);
    for client in &clients {
        let error = client.fetch_add(K, 1).expect_err("an add that reached a frozen server");
        assert_eq!((error.kind(), error.exit_code()), ("unknown", 2), "{error}");
        let error = client.read_vec(K, 8).expect_err("a read of a frozen server");
        assert_eq!((error.kind(), error.outcome()), ("timeout", Outcome::Fail), "{error}");
        assert!(client.read_vec(0, K).expect("the others serve on") == noise[..K as usize]);
    }
    let found = beside.read_vec(K, 8).expect("its segment is there");
    assert!(found == noise[K as usize..][..8], "a reader of the segment does not need the server to be awake");
    for line in ["read 65536 8 --timeout 300ms", "write 65536 x --timeout 300ms"] {
        cluster.exits(124, &line.split_whitespace().collect::<Vec<_>>());
    }
    cluster.signal_server(1, Signal::CONT);
    // Both adds lie in sockets that the server reads when it wakes up, in its own time.
    let done = || cluster.client().fetch_add(K, 0).expect("it is awake").wrapping_sub(word(&noise[K as usize..]));
    assert!(done() <= clients.len() as u64, "more was done than was asked for");
    for client in &clients {
        client.fetch_add(K, 0).expect("the clients go on");
    }
    let rest = cluster.client().read_vec(K + 8, K - 8).expect("it is awake");
    assert!(rest == noise[K as usize + 8..2 * K as usize], "only one word was asked for");
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

/// What came of many adds.
#[derive(Default)]
struct Tally {
    ok: AtomicU64,
    unknown: AtomicU64,
    stop: AtomicBool,
}

/// Raised also when the one who should raise it panics, because others wait for it.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_killed_under_adds_has_all_that_were_acknowledged() {
    const ADDERS: usize = 6;
    let rounds = length("MCOMP_TEST_KILLS", 12);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut cluster = Setup::new(1, "64KiB").servers();
    let clients = [client(&cluster, true), client(&cluster, false)];
    let mut unknown = 0;
    for round in 0..rounds {
        let addr = round % (K / BLOCK) * BLOCK;
        cluster.client().fill(addr, BLOCK, 0).expect("the counter is zero");
        let tally = Tally::default();
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&tally.stop);
            for adder in 0..ADDERS {
                let (client, tally) = (&clients[adder % 2], &tally);
                scope.spawn(move || add_until_stopped(client, addr, tally));
            }
            let enough = random.u64(20..400);
            wait_until("the adders are at work", || tally.ok.load(Ordering::Relaxed) >= enough);
            cluster.kill_server(0);
            cluster.start_server(0);
        });
        let (ok, lost) = (tally.ok.load(Ordering::Relaxed), tally.unknown.load(Ordering::Relaxed));
        unknown += lost;
        let found = cluster.client().fetch_add(addr, 0).expect("the counter is whole");
        assert!((ok..=ok + lost).contains(&found), "{ok} done, {lost} unknown, {found} there");
    }
    eprintln!("{rounds} kills, {unknown} adds of unknown outcome");
}

fn add_until_stopped(client: &Client, addr: u64, tally: &Tally) {
    while !tally.stop.load(Ordering::Relaxed) {
        match client.fetch_add(addr, 1) {
            Ok(_) => tally.ok.fetch_add(1, Ordering::Relaxed),
            Err(error) if error.outcome() == Outcome::Unknown => tally.unknown.fetch_add(1, Ordering::Relaxed),
            Err(_) => 0,
        };
    }
}

/// What one writer has tried, and what it was told is done.
#[derive(Default)]
struct Written {
    done: AtomicU64,
    tried: AtomicU64,
}

#[test]
fn a_server_killed_under_writes_shows_no_mixed_block() {
    const WRITERS: u64 = 4;
    let rounds = length("MCOMP_TEST_KILLS", 12);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut cluster = Setup::new(1, "64KiB").servers();
    let clients = [client(&cluster, true), client(&cluster, false)];
    for round in 1..=rounds {
        let written: Vec<Written> = (0..WRITERS).map(|_| Written::default()).collect();
        cluster.client().fill(0, K, 0).expect("the memory is zero");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stopping = StopAtEnd(&stop);
            for (writer, written) in (0..).zip(&written) {
                let (client, stop) = (&clients[writer as usize % 2], &stop);
                scope.spawn(move || write_until_stopped(client, writer, written, stop));
            }
            let enough = random.u64(1..200);
            let is_enough = |written: &Written| written.done.load(Ordering::Relaxed) >= enough;
            wait_until("the writers are at work", || written.iter().any(is_enough));
            cluster.kill_server(0);
            // A write that was not sent yet goes on trying, and may be done by the next server.
            drop(stopping);
            cluster.start_server(0);
        });
        (0..).zip(&written).for_each(|(writer, written)| check_written(&cluster, writer, written));
        let status = cluster.client().status(0).expect("a status");
        assert_eq!(status.counters.torn_blocks, 0, "round {round}");
    }
}

/// Fills four blocks of its own with one count after the other, in one write each, until one fails.
fn write_until_stopped(client: &Client, writer: u64, written: &Written, stop: &AtomicBool) {
    for count in 1u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        written.tried.store(count, Ordering::Relaxed);
        let bytes = count.to_le_bytes().repeat(4 * BLOCK as usize / 8);
        if client.write_at(writer * 4 * BLOCK, &bytes).is_err() {
            return;
        }
        written.done.store(count, Ordering::Relaxed);
    }
}

/// Each block holds what was acknowledged last or what was being written, whole.
fn check_written(cluster: &Cluster, writer: u64, written: &Written) {
    let (done, tried) = (written.done.load(Ordering::Relaxed), written.tried.load(Ordering::Relaxed));
    let bytes = cluster.client().read_vec(4 * writer * BLOCK, 4 * BLOCK).expect("whole blocks");
    for (block, bytes) in bytes.chunks(BLOCK as usize).enumerate() {
        let held = [done, tried].iter().any(|count| bytes.chunks(8).all(|word| word == count.to_le_bytes()));
        let found: Vec<&[u8]> = vec![&bytes[..8], &bytes[bytes.len() - 8..]];
        assert!(held, "block {block} of writer {writer}: {done} done, {tried} tried, first and last word {found:?}");
    }
}
