//! The battery that every malloc should stand, on memory that several servers lend: no block is another's, none is lost,
//! nothing grows, and every way to ask for what cannot be has its answer.

use std::collections::BTreeMap;
use std::fs;

use mcomp_client::meta::{Allocate, Region};
use mcomp_client::{Cluster as Client, Error, Session, Status};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{number, refused, told};
use crate::harness::{Cluster, Setup, length, seed};

/// Bytes of a page, the least that memory comes in above half of it.
const PAGE: u64 = 4096;

/// A block, and the bytes that it should have.
struct Block {
    region: Region,
    bytes: Vec<u8>,
}

fn allocate(session: &Session, size: u64) -> Result<Region, Error> {
    session.allocate(Allocate { size, ..Allocate::default() })
}

impl Block {
    /// A new block, which must read as zeros, with random bytes in it.
    fn new(session: &Session, size: u64, random: &mut fastrand::Rng) -> Block {
        let region = allocate(session, size).expect("there is room");
        assert!(region.size == size && region.capacity >= size, "{region:?}");
        let found = session.cluster().read_vec(region.addr, region.capacity).expect("it is read");
        assert!(found.iter().all(|byte| *byte == 0), "new memory is zero: {region:?}");
        let bytes: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
        session.cluster().write_at(region.addr, &bytes).expect("it is written");
        Block { region, bytes }
    }

    fn check(&self, client: &Client) {
        let found = client.read_vec(self.region.addr, self.region.size).expect("it is read");
        assert!(found == self.bytes, "{:?} has other bytes than were written", self.region);
    }

    /// Looks at the bytes a last time.
    fn free(self, session: &Session) {
        self.check(session.cluster());
        let freed = session.free(self.region.addr, Some(self.region.generation)).expect("it is there");
        assert_eq!(freed, self.region.size);
    }
}

/// No two of these share a byte, and the table has exactly them.
fn check_all(client: &Client, blocks: &[Block]) {
    let by_addr: BTreeMap<u64, &Region> = blocks.iter().map(|block| (block.region.addr, &block.region)).collect();
    assert_eq!(by_addr.len(), blocks.len(), "two blocks at one address");
    for (before, after) in by_addr.values().zip(by_addr.values().skip(1)) {
        assert!(before.addr + before.capacity <= after.addr, "{before:?} overlaps {after:?}");
    }
    let table = client.regions().expect("the table");
    assert!(
        table.iter().map(|region| (region.addr, region.generation, region.size)).eq(by_addr.values().map(|region| (
            region.addr,
            region.generation,
            region.size
        )))
    );
    blocks.iter().for_each(|block| block.check(client));
}

/// Runs this in so many threads with a session each; what all of them made.
fn in_parallel(
    cluster: &Cluster,
    threads: u64,
    work: impl Fn(&Session, fastrand::Rng) -> Vec<Block> + Sync,
) -> Vec<Block> {
    let seed = seed();
    std::thread::scope(|scope| {
        let (work, client) = (&work, cluster.client());
        let one = |thread: u64| {
            let session = client.session().expect("a session");
            scope.spawn(move || work(&session, fastrand::Rng::with_seed(seed.wrapping_add(thread))))
        };
        let threads: Vec<_> = (0..threads).map(one).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread that found nothing wrong")).collect()
    })
}

/// `mcomp stat` must find everything free, in one piece.
fn all_is_free(cluster: &Cluster) {
    let stat = told(cluster, 0, &["stat"]);
    for (field, value) in [("taken", 0), ("asked", 0), ("regions", 0), ("quarantined", 0)] {
        assert_eq!(number(&stat, field), value, "{stat}");
    }
    assert_eq!(stat["largest_free"], stat["size"], "{stat}");
}

#[test]
fn four_thousand_and_ninety_six_blocks_live_at_a_time() {
    let cluster = Setup::new(2, "2MiB").servers();
    let blocks = in_parallel(&cluster, 32, |session, mut random| {
        let mut any = || {
            let size = random.u64(1..1500);
            Block::new(session, size, &mut random)
        };
        (0..128).map(|_| any()).collect()
    });
    assert_eq!(blocks.len(), 4096);
    check_all(&cluster.client(), &blocks);
    let stat = told(&cluster, 0, &["stat"]);
    let asked: u64 = blocks.iter().map(|block| block.region.size).sum();
    assert_eq!((number(&stat, "regions"), number(&stat, "asked")), (4096, asked));
    let session = cluster.client().session().expect("a session");
    let mut threads: Vec<Vec<Block>> = (0..32).map(|_| Vec::new()).collect();
    blocks.into_iter().enumerate().for_each(|(number, block)| threads[number % 32].push(block));
    std::thread::scope(|scope| {
        for blocks in threads {
            let session = &session;
            scope.spawn(move || blocks.into_iter().for_each(|block| block.free(session)));
        }
    });
    all_is_free(&cluster);
}

#[test]
fn what_is_freed_is_used_again() {
    let cluster = Setup::new(1, "128KiB").servers();
    let session = cluster.client().session().expect("a session");
    let kept = allocate(&session, 100).expect("there is room");
    let before = told(&cluster, 0, &["stat"]);
    for round in 0..length("MCOMP_TEST_MALLOC", 100) {
        for size in [4096, 8193, 1] {
            let region = allocate(&session, size).expect("there is room");
            assert!(region.generation > kept.generation && region.addr != kept.addr, "round {round}: {region:?}");
            session.free(region.addr, Some(region.generation)).expect("it is there");
        }
    }
    let after = told(&cluster, 0, &["stat"]);
    for field in ["taken", "asked", "regions", "free", "largest_free"] {
        assert_eq!(after[field], before[field], "{field} before and after");
    }
}

#[test]
fn a_block_grows_byte_by_byte_and_shrinks_again() {
    const MOST: u64 = 1024;
    let cluster = Setup::new(1, "128KiB").servers();
    let session = cluster.client().session().expect("a session");
    let client = session.cluster();
    let neighbours = [100, 600].map(|size| Block::new(&session, size, &mut fastrand::Rng::with_seed(size)));
    let mut region = allocate(&session, 1).expect("there is room");
    let byte = |at: u64| (at % 251 + 1) as u8;
    for (size, again) in
        (2..=MOST).map(|size| (size, false)).chain((1..MOST).rev().map(|size| (size, false))).chain([(MOST, true)])
    {
        let before = region.size;
        let whole: Vec<u8> = (0..before).map(byte).collect();
        if size > before && !again {
            client.write_at(region.addr, &whole).expect("it is written");
        }
        region = session.resize(region.addr, size, None).expect("there is room");
        assert_eq!(region.size, size);
        let found = client.read_vec(region.addr, size).expect("it is read");
        let kept = before.min(size) as usize;
        assert!(found[..kept] == whole[..kept], "from {before} bytes to {size}: others than before");
        assert!(found[kept..].iter().all(|byte| *byte == 0), "from {before} bytes to {size}: new ones are no zeros");
    }
    neighbours.iter().for_each(|block| block.check(client));
    session.free(region.addr, None).expect("it is there");
    neighbours.into_iter().for_each(|block| block.free(&session));
    all_is_free(&cluster);
}

#[test]
fn every_other_block_is_freed_and_filled_again() {
    let cluster = Setup::new(1, "512KiB").servers();
    let session = cluster.client().session().expect("a session");
    let mut random = fastrand::Rng::with_seed(seed());
    // Whole pages, so that all of the memory is full and a hole is exactly as large as what was there.
    let pages = 512 * 1024 / PAGE;
    let mut blocks: Vec<Block> = (0..pages).map(|_| Block::new(&session, PAGE, &mut random)).collect();
    assert!(matches!(allocate(&session, 1), Err(Error::Agreed { status: Status::Full, .. })));
    let odd: Vec<Block> = (0..blocks.len() / 2).map(|at| blocks.remove(at + 1)).collect();
    blocks.into_iter().for_each(|block| block.free(&session));
    let two = allocate(&session, PAGE + 1).expect_err("no hole has two pages");
    assert!(matches!(two, Error::Agreed { status: Status::Full, .. }), "{two}");
    let mut all: Vec<Block> = (0..pages / 2).map(|_| Block::new(&session, PAGE, &mut random)).collect();
    all.extend(odd);
    check_all(session.cluster(), &all);
    all.into_iter().for_each(|block| block.free(&session));
    all_is_free(&cluster);
}

#[test]
fn many_threads_allocate_at_random() {
    let each = length("MCOMP_TEST_MALLOC", 24).min(256);
    // Two of three stay, and take 6 KiB on average: twice as much as all of them need.
    let cluster = Setup::new(2, &format!("{}KiB", 32 * 6 * each)).servers();
    let left = in_parallel(&cluster, 32, |session, mut random| {
        let mut blocks: Vec<Block> = Vec::new();
        for _ in 0..each {
            let size = if random.bool() { random.u64(1..200) } else { random.u64(1..20_000) };
            blocks.push(Block::new(session, size, &mut random));
            if random.u8(..3) == 0 {
                blocks.swap_remove(random.usize(..blocks.len())).free(session);
            }
        }
        blocks
    });
    check_all(&cluster.client(), &left);
    let session = cluster.client().session().expect("a session");
    left.into_iter().for_each(|block| block.free(&session));
    all_is_free(&cluster);
}

#[test]
fn all_of_it_and_exact_fits() {
    // Two servers of 117 pages: the old test of a heap of 234, which is split into 200 and 34.
    let cluster = Setup::new(2, "468KiB").servers();
    let pages = |count: u64| (count * PAGE).to_string();
    let all = told(&cluster, 0, &["alloc", &pages(234)]);
    assert_eq!((number(&all, "addr"), number(&all, "capacity")), (0, 234 * PAGE));
    let sentence = refused(&cluster, 73, "full", &["alloc", "1"]);
    assert!(sentence.contains('0'), "how much is free: {sentence}");
    cluster.ok(&["free", "0"]);
    all_is_free(&cluster);

    let first = told(&cluster, 0, &["alloc", &pages(200), "--name", "first"]);
    assert_eq!(number(&first, "addr"), 0, "it lies on both servers");
    let sentence = refused(&cluster, 73, "full", &["alloc", &(34 * PAGE + 1).to_string()]);
    assert!(sentence.contains(&pages(34)), "how much there is: {sentence}");
    let second = told(&cluster, 0, &["alloc", &pages(34), "--name", "second"]);
    assert_eq!(number(&second, "addr"), 200 * PAGE);
    refused(&cluster, 73, "full", &["alloc", "1"]);
    cluster.ok(&["write", "first+819190", "0123456789"]);
    cluster.ok(&["write", "second", "abcdefghij"]);
    assert_eq!(cluster.ok(&["read", &(200 * PAGE - 10).to_string(), "20"]), b"0123456789abcdefghij");
    cluster.ok(&["free", "first"]);
    cluster.ok(&["free", "second"]);
    all_is_free(&cluster);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let cluster = Setup::new(1, "128KiB").servers();
    let region = told(&cluster, 0, &["alloc", "300", "--name", "one"]);
    let (addr, generation) = (number(&region, "addr").to_string(), number(&region, "generation"));
    let says = |code: i32, kind: &str, args: &[&str], part: &str| {
        let sentence = refused(&cluster, code, kind, args);
        assert!(sentence.contains(part), "mcomp {args:?}: {sentence}");
    };
    says(64, "usage", &["alloc", "0"], "0 bytes");
    says(73, "full", &["alloc", "128KiB"], "131072");
    says(73, "full", &["alloc", "131073"], "131073");
    says(1, "exists", &["alloc", "1", "--name", "one"], "\"one\"");
    says(64, "usage", &["free", &(addr.parse::<u64>().unwrap() + 16).to_string()], &format!("allocation at {addr}"));
    says(1, "not_found", &["free", "65536"], "nothing is allocated at 65536");
    says(64, "out_of_range", &["free", "131072"], "131072 bytes");
    says(64, "usage", &["free", "one+16"], "whole");
    says(1, "not_found", &["stat", "two"], "mcomp ls");
    says(1, "not_found", &["realloc", "65536", "5"], "65536");
    says(64, "usage", &["realloc", "one", "0"], "0 bytes");
    says(64, "out_of_range", &["read", "one", "301"], "300");
    says(64, "out_of_range", &["write", "one+299", "ab"], "1");

    cluster.ok(&["free", &addr, "--generation", &generation.to_string()]);
    says(1, "not_found", &["free", &addr], "nothing is allocated");
    let next = told(&cluster, 0, &["alloc", "300"]);
    assert_eq!((&next["addr"], number(&next, "generation") > generation), (&region["addr"], true));
    says(75, "fenced", &["free", &addr, "--generation", &generation.to_string()], &format!("not {generation}"));
    cluster.ok(&["free", &addr]);
    all_is_free(&cluster);
}

#[test]
fn a_file_over_two_servers_comes_back() {
    let cluster = Setup::new(2, "64KiB").servers();
    let mut random = fastrand::Rng::with_seed(seed());
    let bytes: Vec<u8> = (0..100_001).map(|_| random.u8(..)).collect();
    let (put, got) = (cluster.dir.path().join("in.bin"), cluster.dir.path().join("out.bin"));
    fs::write(&put, &bytes).expect("a scratch file is written");
    let region = told(&cluster, 0, &["alloc", "100001", "--name", "file"]);
    assert_eq!((&region["addr"], &region["size"]), (&json!(0), &json!(100_001)));
    cluster.ok(&["write", "file", "--file", put.to_str().expect("text")]);
    cluster.ok(&["read", "file", "100001", "-o", got.to_str().expect("text")]);
    let hash = |path| Sha256::digest(fs::read(path).expect("a file"));
    assert_eq!(hash(put), hash(got));
    let report = cluster.client().space_report().expect("a report");
    assert!(report.servers.iter().all(|(free, _)| *free < 64 << 10), "it lies on both: {report:?}");
}
