//! Memory against a plain vector: whatever is asked, in any order, the answers are the vector's.
//!
//! One thread does random requests of every kind on clusters of random shapes, ranges outside the
//! space included. Then several threads do the same side by side, each on small fields of its own that
//! share blocks and lie across boundaries: each must find its own fields as it left them, whatever
//! the neighbours write.

use mcomp_client::{Cluster as Client, Options};

use crate::harness::{Cluster, Setup, length, seed};

use user::{Claim, User};

/// What each atomic should do.
mod rules;

/// Who asks, and what should be answered.
mod user;

const BLOCK: u64 = 4096;

/// A cluster of a random shape, and its size in bytes.
fn cluster(random: &mut fastrand::Rng) -> (Cluster, u64) {
    let (n, blocks) = (random.u32(1..=5), random.u64(1..=6));
    eprintln!("{n} servers of {blocks} blocks");
    let checksum = ["auto", "on", "off"][random.usize(..3)];
    let setup = Setup::new(n, &format!("{}KiB", 4 * blocks)).with(&format!("[client]\nchecksum = \"{checksum}\""));
    (setup.servers(), u64::from(n) * blocks * BLOCK)
}

/// A client that comes through the Unix sockets or through TCP.
fn client(cluster: &Cluster, unix: bool) -> Client {
    Client::with_options(Options { unix, ..Options::from_config(&cluster.config()) }).expect("a client")
}

#[test]
fn one_user_finds_what_a_vector_would_hold() {
    let shapes = length("MCOMP_TEST_MODEL_SHAPES", 12);
    let steps = length("MCOMP_TEST_MODEL_STEPS", 1_500);
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..shapes {
        let (cluster, size) = cluster(&mut random);
        let client = client(&cluster, random.bool());
        let mut user = User { client, model: vec![0; size as usize], fields: None, random: random.fork() };
        for step in 0..steps {
            user.step();
            if step % 64 == 0 {
                check_whole(&user.client, &user.model);
            }
        }
        check_whole(&user.client, &user.model);
    }
}

fn check_whole(client: &Client, model: &[u8]) {
    let found = client.read_vec(0, client.size()).expect("the whole memory is read");
    let differs = found.iter().zip(model).position(|(found, wanted)| found != wanted);
    assert_eq!(differs, None, "first wrong address");
}

/// Cuts the space into fields of 8 to 64 bytes, and deals them out. Everybody's first is a long one,
/// so that everybody has a place for each atomic.
fn deal(size: u64, users: usize, random: &mut fastrand::Rng) -> Vec<Vec<Claim>> {
    let mut hands = vec![Vec::new(); users];
    let (mut addr, mut dealt) = (random.u64(..8), 0);
    while addr < size {
        let (user, len) = if dealt < users { (dealt, 64) } else { (random.usize(..users), random.u64(8..=64)) };
        let len = len.min(size - addr);
        hands[user].push(Claim { addr, len });
        addr += len;
        dealt += 1;
    }
    hands
}

#[test]
fn neighbours_in_a_block_lose_no_write() {
    const USERS: usize = 8;
    let shapes = length("MCOMP_TEST_MODEL_SHARED_SHAPES", 4);
    let steps = length("MCOMP_TEST_MODEL_SHARED_STEPS", 1_500);
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..shapes {
        let (cluster, size) = cluster(&mut random);
        let clients = [client(&cluster, true), client(&cluster, false)];
        let hands = deal(size, USERS, &mut random);
        let mut merged = vec![0; size as usize];
        let of_user = |(index, fields): (usize, Vec<Claim>)| User {
            client: clients[index % 2].clone(),
            model: merged.clone(),
            fields: Some(fields),
            random: random.fork(),
        };
        let users: Vec<User> = hands.into_iter().enumerate().map(of_user).collect();
        for user in side_by_side(users, steps) {
            for &field in user.fields.iter().flatten() {
                merged[field.addr as usize..][..field.len as usize].copy_from_slice(user.own(field));
            }
        }
        check_whole(&clients[0], &merged);
    }
}

/// Each user does its steps in a thread of its own.
fn side_by_side(users: Vec<User>, steps: u64) -> Vec<User> {
    std::thread::scope(|scope| {
        let run = |mut user: User| {
            scope.spawn(move || {
                (0..steps).for_each(|_| user.step());
                user
            })
        };
        let threads: Vec<_> = users.into_iter().map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("a user finds its own fields")).collect()
    })
}
