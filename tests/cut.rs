//! The cut is exact: no operation that is in a snapshot comes after one that is out.
//!
//! Chained writers make every mistake visible. Each owns a ring of blocks on one server and fills
//! block after block with its own count and with what it has seen of the others: by their
//! acknowledged writes, or by reading their memory. A snapshot in which someone has seen a count that
//! is not there, or that lacks a write before one it has, is wrong. Meanwhile snapshot processes are
//! killed and frozen at random, and writers must go on.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mcomp_client::Cluster as Client;
use mcomp_config::Config;
use mcomp_snapshot::file::{Chain, Contents};
use mcomp_wire::control::SnapshotCreated;
use rustix::process::Signal;

use crate::harness::{Cluster, Setup, length, seed, wait_until};

const SERVERS: usize = 3;
const BLOCK: usize = 4096;
/// Blocks of a writer's ring; the block after it holds its head.
const RING: u64 = 8;
const K: u64 = 16 * BLOCK as u64;

/// What the writers have been acknowledged.
#[derive(Default)]
struct Chain3 {
    acknowledged: [AtomicU64; SERVERS],
    stop: AtomicBool,
}

impl Chain3 {
    fn written(&self) -> u64 {
        self.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    /// Waits for so many more writes.
    fn wait_for(&self, writes: u64) {
        let until = self.written() + writes;
        wait_until("writers write", || self.written() >= until);
    }
}

fn address(server: usize, block: u64) -> u64 {
    server as u64 * K + block * BLOCK as u64
}

/// One writer: `(count, seen of 0, seen of 1, seen of 2)` over and over fills its next block.
fn write_chain(client: &Client, remote: &Client, me: usize, chain: &Chain3) {
    let mut block = vec![0; BLOCK];
    for count in 1.. {
        if chain.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut fields = [count, 0, 0, 0];
        for other in (0..SERVERS).filter(|&other| other != me) {
            fields[1 + other] = match count % 3 {
                // By word of mouth: the other has been told that its write is done.
                0 => chain.acknowledged[other].load(Ordering::SeqCst),
                // By the memory itself, as the server tells it or as its segment shows it: also what nobody
                // was told yet.
                1 => newest(remote, other),
                _ => newest(client, other),
            };
        }
        let bytes = fields.map(u64::to_le_bytes).concat();
        block.chunks_exact_mut(bytes.len()).for_each(|chunk| chunk.copy_from_slice(&bytes));
        client.write_at(address(me, count % RING), &block).expect("the ring is written");
        client.write_at(address(me, RING), &count.to_le_bytes()).expect("the head is written");
        chain.acknowledged[me].store(count, Ordering::SeqCst);
    }
}

/// The newest count in a writer's ring.
fn newest(client: &Client, of: usize) -> u64 {
    let mut counts = [[0; 8]; RING as usize];
    let mut ranges: Vec<(u64, &mut [u8])> =
        (0..).zip(&mut counts).map(|(block, count)| (address(of, block), &mut count[..])).collect();
    client.read_vectored(&mut ranges).expect("the ring is read");
    counts.into_iter().map(u64::from_le_bytes).max().expect("a ring has blocks")
}

fn image(path: &Path) -> Vec<u8> {
    let chain = Chain::open(path).expect("a published snapshot opens");
    let mut image = vec![0; SERVERS * K as usize];
    let mut runs = chain.runs();
    while let Some(run) = runs.next_run().expect("a published snapshot reads") {
        if let Contents::Data(bytes) = run.contents {
            image[run.address as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }
    image
}

/// What is wrong with a snapshot, if anything.
fn violation(image: &[u8]) -> Option<String> {
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes"));
    let mut newest = [0; SERVERS];
    let mut seen = [0; SERVERS];
    for (server, newest) in newest.iter_mut().enumerate() {
        for block in 0..RING {
            let at = address(server, block) as usize;
            let bytes = &image[at..at + BLOCK];
            if bytes.chunks_exact(32).any(|chunk| chunk != &bytes[..32]) {
                return Some(format!("block {block} of server {server} is mixed"));
            }
            *newest = word(at).max(*newest);
            (0..SERVERS).for_each(|other| seen[other] = seen[other].max(word(at + 8 + 8 * other)));
        }
    }
    for server in 0..SERVERS {
        let max = newest[server];
        for block in 0..RING {
            let found = word(address(server, block) as usize);
            // The last count up to the newest that falls on this block.
            let wanted = (0..RING).filter_map(|back| max.checked_sub(back)).find(|count| count % RING == block);
            if found != wanted.unwrap_or(0) {
                return Some(format!("server {server} has {found} in block {block} and {max} in another"));
            }
        }
        let head = word(address(server, RING) as usize);
        if head > max || head + 1 < max {
            return Some(format!("server {server} has head {head} and ring {max}"));
        }
        if seen[server] > max {
            return Some(format!("someone has seen {} of server {server}, which has {max}", seen[server]));
        }
    }
    None
}

fn create(config: &Config, incremental: bool) -> Result<SnapshotCreated, mcomp_snapshot::SnapshotError> {
    mcomp_snapshot::create(config, incremental, &mut |_| {})
}

/// Runs `body` while the writers write; the writers end with it, also when it panics.
fn beside_writers<T>(cluster: &mut Cluster, body: impl FnOnce(&mut Cluster, &Chain3) -> T) -> T {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let chain = Chain3::default();
    let (client, remote) = (cluster.client(), cluster.remote_client());
    std::thread::scope(|scope| {
        let _stop = Stop(&chain.stop);
        for me in 0..SERVERS {
            let (client, remote, chain) = (&client, &remote, &chain);
            scope.spawn(move || write_chain(client, remote, me, chain));
        }
        body(cluster, &chain)
    })
}

/// Counts a snapshot that is exact, or was given up; fails of one that is wrong.
fn judge(created: Result<SnapshotCreated, mcomp_snapshot::SnapshotError>, exact: &mut u64, failed: &mut u64) {
    match created {
        Ok(created) => {
            let wrong = violation(&image(Path::new(&created.path)));
            assert_eq!(wrong, None, "after {exact} exact cuts: {created:?}");
            *exact += 1;
        }
        Err(error) => {
            *failed += 1;
            assert!(*failed <= 100 + *exact, "most snapshots fail, lastly: {error}");
        }
    }
}

fn setup() -> Setup {
    Setup::new(SERVERS as u32, "64KiB").with("[snapshot]\nkeep = 2\ntime_limit = \"10s\"")
}

#[test]
fn every_cut_is_exact_while_snapshot_processes_are_killed_and_frozen() {
    let cuts = length("MCOMP_TEST_CUTS", 2_000);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut cluster = setup().env("MCOMP_STRETCH_SWITCH_US", "200").start();
    let config = cluster.config();
    let (exact, failed) = beside_writers(&mut cluster, |cluster, chain| {
        let (mut exact, mut failed) = (0, 0);
        while exact < cuts {
            let incremental = random.bool();
            let created = match random.u32(..40) {
                0 => killed_meanwhile(cluster, &config, &mut random, incremental, chain),
                1 => frozen_meanwhile(cluster, &config, &mut random, chain),
                _ => create(&config, incremental),
            };
            judge(created, &mut exact, &mut failed);
        }
        (exact, failed)
    });
    eprintln!("{exact} exact cuts, {failed} snapshots given up");
}

/// One replica is down at a time, and comes back with what it missed; processes are killed at random.
#[test]
fn every_cut_of_replicated_memory_is_exact_while_a_replica_is_down() {
    let cuts = length("MCOMP_TEST_REPLICATED_CUTS", 150);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut cluster = setup().replicated(3).env("MCOMP_STRETCH_SWITCH_US", "200").start();
    cluster.wait_until_whole();
    let config = cluster.config();
    let (exact, failed) = beside_writers(&mut cluster, |cluster, chain| {
        let (mut exact, mut failed, mut down) = (0, 0, None);
        while exact < cuts {
            match (random.u32(..12), down) {
                (0, None) => {
                    // The master's snapshot process says which servers it misses; its own server may be one of them.
                    let victim = random.u32(..SERVERS as u32);
                    cluster.kill_server(victim);
                    down = Some(victim);
                }
                (0..6, Some(victim)) => {
                    cluster.start_server(victim);
                    down = None;
                }
                _ => {}
            }
            let incremental = random.bool();
            let created = match random.u32(..20) {
                0 => killed_meanwhile(cluster, &config, &mut random, incremental, chain),
                _ => create(&config, incremental),
            };
            judge(created, &mut exact, &mut failed);
        }
        (exact, failed)
    });
    eprintln!("{exact} exact cuts, {failed} snapshots given up");
}

#[test]
fn a_cut_of_replicated_memory_that_holds_nothing_up_is_caught() {
    is_caught_in(setup().replicated(3), "colour-only", |_, _| {});
}

/// What was written while a server was down is missing in its copy, until somebody brings that up to date.
#[test]
fn a_replica_that_is_copied_as_it_stands_is_caught() {
    is_caught_in(setup().replicated(3), "unsettled", |cluster, chain| {
        cluster.kill_server(1);
        chain.wait_for(20);
        cluster.start_server(1);
    });
}

/// Makes a snapshot and kills one of its processes on the way; starts it again.
fn killed_meanwhile(
    cluster: &mut Cluster,
    config: &Config,
    random: &mut fastrand::Rng,
    incremental: bool,
    chain: &Chain3,
) -> Result<SnapshotCreated, mcomp_snapshot::SnapshotError> {
    let victim = random.u32(..SERVERS as u32);
    let writes = random.u64(..200);
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| create(config, incremental));
        chain.wait_for(writes);
        cluster.kill_snapshotter(victim);
        cluster.start_snapshotter(victim);
        creating.join().expect("the snapshot ends")
    })
}

/// Makes a snapshot and freezes one of its processes on the way, until every writer has been
/// acknowledged many more writes: none of them waits for it.
fn frozen_meanwhile(
    cluster: &Cluster,
    config: &Config,
    random: &mut fastrand::Rng,
    chain: &Chain3,
) -> Result<SnapshotCreated, mcomp_snapshot::SnapshotError> {
    let victim = random.u32(..SERVERS as u32);
    let writes = random.u64(..200);
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| create(config, false));
        chain.wait_for(writes);
        cluster.signal_snapshotter(victim, Signal::STOP);
        for acknowledged in &chain.acknowledged {
            let before = acknowledged.load(Ordering::SeqCst);
            wait_until("writers go on beside a frozen snapshot process", || {
                acknowledged.load(Ordering::SeqCst) >= before + 50
            });
        }
        cluster.signal_snapshotter(victim, Signal::CONT);
        creating.join().expect("the snapshot ends")
    })
}

/// The wrong versions must be caught, or the test above proves nothing.
fn is_caught(mutant: &str) {
    is_caught_in(setup(), mutant, |_, _| {});
}

/// The same in a cluster of another kind, with something done before each cut.
fn is_caught_in(setup: Setup, mutant: &str, mut before: impl FnMut(&mut Cluster, &Chain3)) {
    let mut cluster = setup.env("MCOMP_MUTANT", mutant).env("MCOMP_STRETCH_SWITCH_US", "2000").start();
    cluster.wait_until_whole();
    let config = cluster.config();
    let found = beside_writers(&mut cluster, |cluster, chain| {
        (0..2_000).find_map(|_| {
            before(cluster, chain);
            let created = create(&config, false).ok()?;
            violation(&image(Path::new(&created.path)))
        })
    });
    let found = found.unwrap_or_else(|| panic!("{mutant} went unnoticed in 2,000 cuts"));
    eprintln!("{mutant}: {found}");
}

#[test]
fn a_cut_that_copies_live_blocks_is_caught() {
    is_caught("naive-copy");
}

#[test]
fn a_cut_that_does_not_hold_answers_is_caught() {
    is_caught("colour-only");
}

/// The mistake is the client's here, so the test runs again as a process that makes it.
#[test]
fn a_reader_of_the_segment_that_ignores_the_hold_is_caught() {
    const ASKED: &str = "MCOMP_MUTANT";
    let is_asked = std::env::var_os(ASKED).is_some();
    if is_asked {
        return is_caught("none");
    }
    let this = std::env::current_exe().expect("the path of the test");
    let name = "cut::a_reader_of_the_segment_that_ignores_the_hold_is_caught";
    let ran = Command::new(this).args(["--exact", name, "--nocapture"]).env(ASKED, "held-read").output();
    let ran = ran.expect("the test runs again");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && told.contains("someone has seen"), "{ran:?}");
}
