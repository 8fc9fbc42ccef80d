//! Everything that reads and writes, against real servers and a plain vector as the model.

use std::io::{Read, Seek, SeekFrom, Write};

use mcomp_client::{AtomicOp, BatchOutcome, Cluster, Exchanged, Exchanged16, Outcome};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::real::Real;

const BLOCK: u64 = 4096;

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9).wrapping_add(seed) >> 7) as u8).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Write(u64, u64),
    Read(u64, u64),
    Fill(u64, u64, u8),
    Copy(u64, u64, u64),
    Checksum(u64, u64),
    Compare(u64, u64),
    Add(u64, u64),
    Vectors(Vec<(u64, u64)>),
    Batch(Vec<(u64, u64)>),
}

fn ops(size: u64) -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![0..64u64, 0..size];
    let addr = 0..size;
    let range = (addr.clone(), len).prop_map(move |(addr, len)| (addr, len.min(size - addr)));
    let many = prop::collection::vec((addr.clone(), 0..3000u64), 0..12)
        .prop_map(move |list| list.into_iter().map(|(addr, len)| (addr, len.min(size - addr))).collect::<Vec<_>>());
    let op = prop_oneof![
        range.clone().prop_map(|(addr, len)| Op::Write(addr, len)),
        range.clone().prop_map(|(addr, len)| Op::Read(addr, len)),
        (range.clone(), any::<u8>()).prop_map(|((addr, len), byte)| Op::Fill(addr, len, byte)),
        (range.clone(), addr.clone()).prop_map(move |((from, len), to)| Op::Copy(from, to, len.min(size - to))),
        range.clone().prop_map(|(addr, len)| Op::Checksum(addr, len)),
        range.prop_map(|(addr, len)| Op::Compare(addr, len)),
        (addr, any::<u64>()).prop_map(|(addr, delta)| Op::Add(addr / 8 * 8, delta)),
        many.clone().prop_map(Op::Vectors),
        many.prop_map(Op::Batch),
    ];
    prop::collection::vec(op, 1..25)
}

fn span(addr: u64, len: u64) -> std::ops::Range<usize> {
    addr as usize..(addr + len) as usize
}

fn apply(cluster: &Cluster, model: &mut [u8], op: &Op, seed: u64) {
    match *op {
        Op::Write(addr, len) => {
            let data = pattern(len as usize, seed);
            cluster.write_at(addr, &data).unwrap();
            model[span(addr, len)].copy_from_slice(&data);
        }
        Op::Read(addr, len) => assert_eq!(cluster.read_vec(addr, len).unwrap(), model[span(addr, len)]),
        Op::Fill(addr, len, byte) => {
            cluster.fill(addr, len, byte).unwrap();
            model[span(addr, len)].fill(byte);
        }
        Op::Copy(from, to, len) => {
            cluster.copy(from, to, len).unwrap();
            model.copy_within(span(from, len), to as usize);
        }
        Op::Checksum(addr, len) => {
            assert_eq!(cluster.checksum(addr, len).unwrap(), crc32fast::hash(&model[span(addr, len)]));
        }
        Op::Compare(addr, len) => {
            let mut data = model[span(addr, len)].to_vec();
            assert_eq!(cluster.compare(addr, &data).unwrap(), None);
            if let Some(at) = len.checked_sub(1).map(|last| seed % (last + 1)) {
                data[at as usize] ^= 1;
                assert_eq!(cluster.compare(addr, &data).unwrap(), Some(addr + at));
            }
        }
        Op::Add(addr, delta) => {
            let word = &mut model[span(addr, 8)];
            let before = u64::from_le_bytes((&*word).try_into().unwrap());
            assert_eq!(cluster.fetch_add(addr, delta).unwrap(), before);
            word.copy_from_slice(&before.wrapping_add(delta).to_le_bytes());
        }
        Op::Vectors(ref list) => vectors(cluster, model, list, seed),
        Op::Batch(ref list) => batch(cluster, model, list, seed),
    }
}

fn vectors(cluster: &Cluster, model: &mut [u8], list: &[(u64, u64)], seed: u64) {
    let data: Vec<_> = list.iter().zip(seed..).map(|(&(_, len), seed)| pattern(len as usize, seed)).collect();
    let writes: Vec<_> = list.iter().zip(&data).map(|((addr, _), data)| (*addr, data.as_slice())).collect();
    cluster.write_vectored(&writes).unwrap();
    for (addr, data) in writes {
        model[span(addr, data.len() as u64)].copy_from_slice(data);
    }
    let mut buffers: Vec<_> = list.iter().map(|&(_, len)| vec![0; len as usize]).collect();
    let mut reads: Vec<_> = list.iter().zip(&mut buffers).map(|((addr, _), b)| (*addr, b.as_mut_slice())).collect();
    cluster.read_vectored(&mut reads).unwrap();
    for (addr, buffer) in reads {
        assert_eq!(*buffer, model[span(addr, buffer.len() as u64)]);
    }
}

/// A write and two reads of each range: they follow on the same servers, so they see the write.
fn batch(cluster: &Cluster, model: &mut [u8], list: &[(u64, u64)], seed: u64) {
    let mut buffers: Vec<_> = list.iter().map(|(_, len)| vec![0; *len as usize]).collect();
    let mut batch = cluster.batch();
    let (mut expected, mut written) = (Vec::new(), Vec::new());
    for ((&(addr, len), seed), buffer) in list.iter().zip(seed..).zip(&mut buffers) {
        let data = pattern(len as usize, seed);
        model[span(addr, len)].copy_from_slice(&data);
        batch.write(addr, data.clone()).read(addr, len).read_into(addr, buffer);
        expected.extend([BatchOutcome::Done, BatchOutcome::Bytes(data.clone()), BatchOutcome::Done]);
        written.push(data);
    }
    let outcomes: Vec<_> = batch.run().into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, expected);
    assert_eq!(buffers, written);
}

/// Runs `cases` random histories over one cluster; a failure prints the history.
fn histories(k: u64, n: u32, client: &str, cases: u32) {
    let real = Real::start(k, n, client);
    let cluster = real.client();
    let size = cluster.size();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let run = runner.run(&ops(size), |ops| {
        cluster.fill(0, size, 0).unwrap();
        let mut model = vec![0; size as usize];
        for (op, seed) in ops.iter().zip(1..) {
            apply(&cluster, &mut model, op, seed);
        }
        prop_assert_eq!(cluster.read_vec(0, size).unwrap(), model);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn small_servers_behave_like_a_vector_over_unix_sockets() {
    histories(BLOCK, 5, "", 60);
}

#[test]
fn larger_servers_behave_like_a_vector_over_tcp_with_checksums() {
    histories(BLOCK * 96, 3, "unix = false\nchecksum = \"on\"", 20);
}

#[test]
fn long_transfers_are_split_and_pipelined() {
    let real = Real::start(16 << 20, 3, "");
    let cluster = real.client();
    let data = pattern(40 << 20, 5);
    cluster.write_at(12345, &data).unwrap();
    assert_eq!(cluster.read_vec(12345, data.len() as u64).unwrap(), data);
    assert_eq!(cluster.checksum(12345, data.len() as u64).unwrap(), crc32fast::hash(&data));
    for chunk_len in [1000, 1 << 20, 9 << 20] {
        let mut whole = Vec::new();
        for chunk in cluster.chunks(12345, 10 << 20, chunk_len).unwrap() {
            let (addr, bytes) = chunk.unwrap();
            assert_eq!(addr, 12345 + whole.len() as u64);
            assert!(bytes.len() as u64 == chunk_len || whole.len() + bytes.len() == 10 << 20);
            whole.extend(bytes);
        }
        assert_eq!(whole, data[..10 << 20]);
    }
}

#[test]
fn files_go_in_and_out() {
    let real = Real::start(16 << 20, 2, "");
    let cluster = real.client();
    let data = pattern(20 << 20, 9);
    let mut last = 0;
    let room = cluster.size() - 77;
    let taken = cluster.copy_from(data.as_slice(), 77, room, |done| last = done).unwrap();
    assert_eq!((taken, last), (data.len() as u64, data.len() as u64), "the reader ended before the room did");
    assert_eq!(cluster.copy_from(data.as_slice(), 77, 10, |_| {}).unwrap(), 10);
    let mut out = Vec::new();
    assert_eq!(cluster.copy_to(77, taken, &mut out, |done| last = done).unwrap(), taken);
    assert_eq!((out == data, last), (true, taken));
    let error = cluster.copy_to(0, taken, &mut [0u8; 10][..], |_| {}).unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), ("io", 74));
}

#[test]
fn a_range_is_a_file() {
    let real = Real::start(BLOCK, 2, "");
    let cluster = real.client();
    let mut file = cluster.range(4000, 200).unwrap();
    file.write_all(&[7; 150]).unwrap();
    assert_eq!(file.write(&[8; 100]).unwrap(), 50, "the range ends");
    assert_eq!(file.write(&[8]).unwrap(), 0);
    assert_eq!(file.seek(SeekFrom::End(-60)).unwrap(), 140);
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).unwrap();
    assert_eq!(tail, [[7; 10].as_slice(), &[8; 50]].concat());
    assert!(file.seek(SeekFrom::Current(-1000)).is_err());
    file.seek(SeekFrom::Start(900)).unwrap();
    assert_eq!(file.read(&mut [0; 4]).unwrap(), 0);
    assert_eq!(cluster.read_vec(4200, 8).unwrap(), [0; 8], "nothing behind the range was touched");
}

#[test]
fn atomics_do_what_they_say() {
    let real = Real::start(BLOCK, 2, "");
    let cluster = real.client();
    let at = BLOCK + 16;
    assert_eq!(cluster.swap(at, 12).unwrap(), 0);
    assert_eq!(cluster.fetch_add(at, u64::MAX).unwrap(), 12);
    assert_eq!(cluster.fetch_and(at, 6).unwrap(), 11);
    assert_eq!(cluster.fetch_or(at, 9).unwrap(), 2);
    assert_eq!(cluster.fetch_xor(at, 1).unwrap(), 11);
    assert_eq!(cluster.fetch_min(at, 4).unwrap(), 10);
    assert_eq!(cluster.fetch_max(at, 40).unwrap(), 4);
    assert_eq!(cluster.compare_exchange(at, 1, 2).unwrap(), Exchanged { swapped: false, previous: 40 });
    assert_eq!(cluster.compare_exchange(at, 40, 2).unwrap(), Exchanged { swapped: true, previous: 40 });
    let pair = Exchanged16 { swapped: true, previous: 2 };
    assert_eq!(cluster.compare_exchange_16(at, 2, u128::MAX).unwrap(), pair);
    assert_eq!(cluster.compare_exchange(at + 4, 0, 1).unwrap_err().kind(), "unaligned");
    assert_eq!(cluster.compare_exchange_16(at + 8, 0, 1).unwrap_err().kind(), "unaligned");
    assert_eq!(cluster.fetch_add(2 * BLOCK, 1).unwrap_err().exit_code(), 64);
}

#[test]
fn items_of_a_batch_are_independent() {
    let real = Real::start(BLOCK, 2, "");
    let cluster = real.client();
    let mut batch = cluster.batch();
    batch.write(BLOCK - 2, b"over".as_slice()).read(2 * BLOCK, 1).atomic(8, AtomicOp::Add, 5).atomic(
        9,
        AtomicOp::Add,
        5,
    );
    batch.compare_exchange(8, 5, 6).compare_exchange_16(16, 0, 1).fill(100, BLOCK, 3).read(BLOCK - 2, 4);
    let outcomes = batch.run();
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map_err(|error| error.kind())).collect();
    assert_eq!(kinds[0], Ok(&BatchOutcome::Done));
    assert_eq!(kinds[1], Err("out_of_range"));
    assert_eq!(kinds[2], Ok(&BatchOutcome::Previous(0)));
    assert_eq!(kinds[3], Err("unaligned"));
    assert_eq!(kinds[4], Ok(&BatchOutcome::Exchanged(Exchanged { swapped: true, previous: 5 })));
    assert_eq!(kinds[5], Ok(&BatchOutcome::Exchanged16(Exchanged16 { swapped: true, previous: 0 })));
    assert_eq!(kinds[7], Ok(&BatchOutcome::Bytes(vec![3; 4])));
    let mut large = cluster.batch();
    for at in 0..10_000 {
        large.write(at % 1000, vec![1; 1000]).atomic(BLOCK + at / 8 * 8 % BLOCK, AtomicOp::Add, 1);
    }
    assert!(large.run().iter().all(Result::is_ok), "more than one frame holds");
}

#[test]
fn nothing_is_sent_for_ranges_outside() {
    let cluster = Real::start(BLOCK, 1, "").client();
    // The servers are gone: whatever answers, does so without them.
    assert_eq!(cluster.write_at(BLOCK - 1, b"xy").unwrap_err().kind(), "out_of_range");
    assert_eq!(cluster.read_vec(u64::MAX, 2).unwrap_err().kind(), "out_of_range");
    assert_eq!(cluster.read_vec(0, u64::MAX).unwrap_err().kind(), "out_of_range");
    cluster.write_at(BLOCK, b"").unwrap();
    cluster.copy(0, BLOCK, 0).unwrap();
    assert_eq!(cluster.checksum(5, 0).unwrap(), 0);
    let dead = cluster.write_at(0, b"x").unwrap_err();
    assert_eq!((dead.kind(), dead.outcome()), ("unavailable", Outcome::Fail));
}

#[test]
fn many_threads_share_few_connections() {
    let real = Real::start(BLOCK, 3, "max_connections = 2");
    let cluster = real.client();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let cluster = cluster.clone();
            scope.spawn(move || {
                for round in 0..100 {
                    cluster.fetch_add(0, 1).unwrap();
                    // All three servers at once: borrowing in order excludes a deadlock.
                    cluster.write_at(BLOCK - 8, &vec![thread as u8; BLOCK as usize + 16]).unwrap();
                    cluster.fetch_add(2 * BLOCK + 64, round).unwrap();
                }
            });
        }
    });
    assert_eq!(cluster.fetch_add(0, 0).unwrap(), 800);
    assert_eq!(cluster.fetch_add(2 * BLOCK + 64, 0).unwrap(), 8 * 4950);
}

#[test]
fn a_restarted_server_is_found_again() {
    let mut real = Real::start(BLOCK, 2, "");
    let cluster = real.client();
    cluster.write_at(BLOCK - 4, b"12345678").unwrap();
    real.stop_one(1);
    assert_eq!(cluster.read_vec(BLOCK - 4, 4).unwrap(), b"1234", "the other server's memory stays reachable");
    let statuses = cluster.statuses();
    assert_eq!((statuses[0].is_ok(), statuses[1].as_ref().unwrap_err().kind()), (true, "unavailable"));
    real.start_one(1);
    assert_eq!(cluster.read_vec(BLOCK - 4, 8).unwrap(), b"12345678");
    let status = cluster.status(1).unwrap();
    assert_eq!((status.id, status.k, status.state.as_str()), (1, BLOCK, "serving"));
    assert!(cluster.status(2).is_err());
}

#[test]
fn a_dedicated_connection_keeps_its_order() {
    let real = Real::start(1 << 20, 2, "");
    let cluster = real.client();
    let mut dedicated = cluster.dedicated(1).unwrap();
    let base = 1 << 20;
    assert_eq!(dedicated.write(base - 1, b"xy").unwrap_err().exit_code(), 64);
    let data = pattern(1 << 20, 3);
    for _ in 0..20 {
        dedicated.fill(base, 1 << 20, 9).unwrap();
        dedicated.write(base, &data).unwrap();
    }
    let status: mcomp_client::ServerStatus = dedicated.call(mcomp_client::Kind::Status, &()).unwrap();
    assert_eq!((status.id, status.incarnation), (1, dedicated.welcome().incarnation));
    assert_eq!(cluster.read_vec(base, 1 << 20).unwrap(), data, "the call came after the writes were done");
    dedicated.finish().unwrap();
}

#[test]
fn threads_that_look_before_they_sleep_find_the_same() {
    for client in ["unix = true", "unix = false"] {
        let spin = format!("{client}\nsegment = false\n[spin]\nserver = \"50us\"\nclient = \"50us\"");
        let real = Real::start(16 * BLOCK, 2, &spin);
        let cluster = real.client();
        let bytes = pattern(32 * BLOCK as usize, 3);
        cluster.write_at(0, &bytes).unwrap();
        assert!(cluster.read_vec(0, 32 * BLOCK).unwrap() == bytes);
        (0..100).for_each(|count| {
            assert_eq!(cluster.fetch_add(8, 0).unwrap(), cluster.fetch_add(8, 0).unwrap(), "{count}")
        });
    }
}
