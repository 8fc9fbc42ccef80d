//! Many writers on few blocks: a block is never seen half-written, and no count is lost.
//!
//! Half of the threads come through TCP and half through the Unix socket, so that both lead to the
//! same semaphores. Every write makes a whole block uniform; every read of a block must find it so.

use std::sync::atomic::{AtomicUsize, Ordering};

use mcomp_client::{Cluster as Client, Error, Options};

use crate::harness::{Cluster, Setup, length, seed};

const BLOCK: usize = 4096;
/// Hot blocks, all on the same server.
const BLOCKS: u64 = 4;
const WRITERS: usize = 32;
const READERS: usize = 6;

/// A client that comes through the Unix socket, or through TCP.
fn client(cluster: &Cluster, unix: bool) -> Client {
    let options = Options { unix, ..Options::from_config(&cluster.config()) };
    Client::with_options(options).expect("a client")
}

/// Makes one block uniform, by any of the requests that can.
fn write_block(client: &Client, random: &mut fastrand::Rng) -> Result<(), Error> {
    let (addr, byte) = (random.u64(..BLOCKS) * BLOCK as u64, random.u8(..));
    let bytes = [byte; BLOCK];
    match random.u32(..5) {
        0 | 1 => client.write_at(addr, &bytes),
        2 => client.fill(addr, BLOCK as u64, byte),
        3 => client.write_vectored(&[(addr, &bytes)]),
        _ => {
            let mut batch = client.batch();
            batch.write(addr, &bytes[..]);
            batch.run().into_iter().try_for_each(|outcome| outcome.map(drop))
        }
    }
}

/// Looks at one block or all of them, by any of the requests that can.
fn check_blocks(client: &Client, random: &mut fastrand::Rng, sums: &[u32]) {
    let block = random.u64(..BLOCKS) * BLOCK as u64;
    match random.u32(..4) {
        0 => {
            let sum = client.checksum(block, BLOCK as u64).expect("a checksum");
            assert!(sums.contains(&sum), "checksum {sum:#x} is not that of a uniform block");
        }
        1 => {
            let (mut first, mut second) = (vec![0; BLOCK], vec![0; BLOCK]);
            let mut ranges = [(block, &mut first[..]), ((BLOCKS - 1) * BLOCK as u64, &mut second[..])];
            client.read_vectored(&mut ranges).expect("a vectored read");
            check_uniform(&first);
            check_uniform(&second);
        }
        2 => check_uniform(&client.read_vec(block, BLOCK as u64).expect("a read")),
        _ => check_uniform(&client.read_vec(0, BLOCKS * BLOCK as u64).expect("a read of all")),
    }
}

fn check_uniform(bytes: &[u8]) {
    for block in bytes.chunks(BLOCK) {
        let other = block.iter().position(|byte| *byte != block[0]);
        let mixed = other.map(|at| format!("{:#x} up to byte {at}, then {:#x}", block[0], block[at]));
        assert_eq!(mixed, None, "a block is mixed");
    }
}

#[test]
fn no_block_is_ever_mixed() {
    let writes = length("MCOMP_TEST_UNIFORM_WRITES", 300);
    let seed = seed();
    let cluster = Setup::new(2, "64KiB").servers();
    let clients = [client(&cluster, true), client(&cluster, false)];
    let sums: Vec<u32> = (0..=u8::MAX).map(|byte| crc32fast::hash(&[byte; BLOCK])).collect();
    let (writing, looks) = (AtomicUsize::new(WRITERS), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..WRITERS + READERS {
            let (client, writing, looks, sums) = (&clients[thread % 2], &writing, &looks, &sums);
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(thread as u64));
            if thread < WRITERS {
                scope.spawn(move || {
                    let _done = Done(writing);
                    (0..writes).for_each(|_| write_block(client, &mut random).expect("a block is written"));
                });
            } else {
                scope.spawn(move || {
                    while writing.load(Ordering::Relaxed) > 0 {
                        check_blocks(client, &mut random, sums);
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
    });
    let looks = looks.load(Ordering::Relaxed);
    assert!(looks > 100, "only {looks} looks beside {writes} writes by each of {WRITERS} threads");
    let end = clients[0].read_vec(0, BLOCKS * BLOCK as u64).expect("the end is read");
    check_uniform(&end);
}

/// Counts a writer out, also when it panics: the readers must not wait for it.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn thirty_two_threads_count_on_one_word() {
    let adds = length("MCOMP_TEST_UNIFORM_ADDS", 400);
    let cluster = Setup::new(1, "16KiB").servers();
    let clients = [client(&cluster, true), client(&cluster, false)];
    let addr = 4096 - 8;
    let mut seen: Vec<u64> = std::thread::scope(|scope| {
        let count = |thread: usize| {
            let client = &clients[thread % 2];
            scope.spawn(move || (0..adds).map(|_| client.fetch_add(addr, 1).expect("an add")).collect::<Vec<u64>>())
        };
        let threads: Vec<_> = (0..WRITERS).map(count).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread that counts")).collect()
    });
    seen.sort_unstable();
    let total = adds * WRITERS as u64;
    assert!(seen.into_iter().eq(0..total), "every value was there before exactly one add");
    assert_eq!(clients[1].fetch_add(addr, 0).expect("a look"), total);
    assert_eq!(clients[0].read_vec(addr, 8).expect("a read"), total.to_le_bytes());
}
