//! Reads that do not ask the server: when they are chosen, when they are left, and that nobody learns
//! from them what the server would not have said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mcomp_client::{Cluster, Kind, Options, Outcome, Role};
use mcomp_shm::Reader;
use mcomp_wire::control::{CutEnd, CutPrepare, CutPrepared, CutRelease, CutReleased, CutSwitch};
use mcomp_wire::control::{RestoreBegin, RestoreEnd};
use uuid::Uuid;

use crate::real::Real;

const K: u64 = 16 << 10;

/// How many requests of a kind the server has done.
fn done(cluster: &Cluster, kind: &str) -> u64 {
    cluster.status(0).unwrap().counters.ops.get(kind).copied().unwrap_or(0)
}

fn wait_until(what: &str, mut event: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !event() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

fn in_role(real: &Real, role: Role) -> Cluster {
    let mut options = Options::from_config(&real.config);
    options.role = role;
    Cluster::with_options(options).unwrap()
}

#[test]
fn a_server_of_this_machine_is_not_asked_for_bytes() {
    let real = Real::start(K, 2, "");
    let cluster = real.client();
    assert!(!cluster.is_local(0).unwrap(), "nobody has said yet which segment it is");
    let bytes: Vec<u8> = (0..2 * K).map(|at| (at / 7) as u8).collect();
    cluster.write_at(0, &bytes).unwrap();
    assert!(cluster.is_local(0).unwrap() && cluster.is_local(1).unwrap());
    assert!(!cluster.is_local(2).is_ok_and(|is| is), "there is no server 2");
    for (addr, len) in [(0, 1), (5, 8), (4090, 12), (K - 3, 6), (0, 2 * K), (2 * K, 0)] {
        assert!(cluster.read_vec(addr, len).unwrap() == bytes[addr as usize..(addr + len) as usize], "{addr} {len}");
    }
    let (mut head, mut tail) = ([0; 16], [0; 100]);
    cluster.read_vectored(&mut [(8, &mut head), (K - 50, &mut tail)]).unwrap();
    assert!(head == bytes[8..24] && tail == bytes[K as usize - 50..][..100]);
    assert_eq!((done(&cluster, "read"), done(&cluster, "readv")), (0, 0));
    assert_eq!(cluster.read_vec(2 * K - 1, 2).unwrap_err().kind(), "out_of_range");
}

#[test]
fn it_can_be_switched_off() {
    let real = Real::start(K, 1, "segment = false");
    let cluster = real.client();
    cluster.write_at(0, b"x").unwrap();
    assert_eq!(cluster.read_vec(0, 1).unwrap(), b"x");
    assert!(!cluster.is_local(0).unwrap());
    assert_eq!(done(&cluster, "read"), 1);
}

#[test]
fn the_memory_of_a_server_that_has_ended_is_left_and_found_again() {
    let mut real = Real::start(K, 1, "timeout = \"300ms\"");
    let cluster = real.client();
    cluster.write_at(0, b"kept").unwrap();
    assert_eq!(cluster.read_vec(0, 4).unwrap(), b"kept");
    assert!(cluster.is_local(0).unwrap());
    real.stop_one(0);
    wait_until("the client notices", || cluster.read_vec(0, 4).is_err_and(|error| error.kind() == "unavailable"));
    real.start_one(0);
    assert_eq!(cluster.read_vec(0, 4).unwrap(), b"kept");
    assert!(cluster.is_local(0).unwrap());
}

#[test]
fn a_segment_that_was_purged_and_replaced_is_never_read_again() {
    let mut real = Real::start(K, 1, "");
    let cluster = real.client();
    cluster.write_at(0, b"old").unwrap();
    assert_eq!(cluster.read_vec(0, 3).unwrap(), b"old");
    real.stop_one(0);
    mcomp_shm::purge(real.config.name()).unwrap();
    real.start_one(0);
    assert_eq!(cluster.read_vec(0, 3).unwrap(), [0; 3], "new memory is zeros");
    assert!(cluster.is_local(0).unwrap());
    cluster.write_at(0, b"new").unwrap();
    assert_eq!(cluster.read_vec(0, 3).unwrap(), b"new");
}

#[test]
fn a_restore_fences_readers_of_the_segment_too() {
    let real = Real::start(K, 1, "");
    let cluster = real.client();
    cluster.write_at(0, b"old").unwrap();
    assert_eq!(cluster.read_vec(0, 3).unwrap(), b"old");
    let mut admin = in_role(&real, Role::Admin).dedicated(0).unwrap();
    let restore = Uuid::new_v4();
    admin.call::<_, ()>(Kind::RestoreBegin, &RestoreBegin { restore }).unwrap();
    admin.write(0, b"half").unwrap();
    admin.finish().unwrap();
    assert_eq!(cluster.read_vec(0, 3).unwrap_err().kind(), "restoring");
    let config_epoch = admin.welcome().config_epoch + 1;
    admin.call::<_, ()>(Kind::RestoreEnd, &RestoreEnd { restore, config_epoch }).unwrap();
    for _ in 0..3 {
        assert_eq!(cluster.read_vec(0, 3).unwrap_err().kind(), "fenced");
    }
    cluster.reconnect();
    assert_eq!(cluster.read_vec(0, 4).unwrap(), b"half");
    assert_eq!(cluster.read_vec(0, 4).unwrap(), b"half");
    assert!(cluster.is_local(0).unwrap());
}

/// One restore of all servers, under the epoch after the largest.
fn restore(real: &Real, n: u32) {
    let admin = in_role(real, Role::Admin);
    let mut servers: Vec<_> = (0..n).map(|server| admin.dedicated(server).unwrap()).collect();
    let config_epoch = servers.iter().map(|server| server.welcome().config_epoch).max().unwrap() + 1;
    let restore = Uuid::new_v4();
    for server in &mut servers {
        server.call::<_, ()>(Kind::RestoreBegin, &RestoreBegin { restore }).unwrap();
    }
    for server in &mut servers {
        server.call::<_, ()>(Kind::RestoreEnd, &RestoreEnd { restore, config_epoch }).unwrap();
    }
}

#[test]
fn a_restore_fences_also_at_a_server_that_was_not_talked_to_before() {
    for segment in ["segment = true", "segment = false"] {
        let real = Real::start(K, 3, segment);
        let cluster = real.client();
        cluster.read_vec(K, 8).unwrap();
        restore(&real, 3);
        let error = cluster.write_at(0, b"from before").unwrap_err();
        assert_eq!((error.kind(), error.outcome()), ("fenced", Outcome::Fail), "{segment}");
        assert_eq!(cluster.read_vec(2 * K, 8).unwrap_err().kind(), "fenced", "{segment}");
        cluster.reconnect();
        assert_eq!(cluster.read_vec(0, 11).unwrap(), [0; 11], "{segment}");
    }
}

#[test]
fn a_server_with_new_memory_is_no_reason_to_refuse_the_others() {
    let mut real = Real::start(K, 2, "");
    restore(&real, 2);
    real.stop_one(1);
    std::fs::remove_file(format!("/dev/shm/mcomp.{}.1", real.config.name())).unwrap();
    real.start_one(1);
    for order in [[0, 1], [1, 0]] {
        let cluster = real.client();
        for server in order {
            cluster.write_at(server * K, b"x").unwrap();
        }
        assert_eq!(cluster.read_vec(K - 1, 2).unwrap(), b"\0x", "{order:?}");
    }
}

#[test]
fn nobody_reads_during_a_held_cut_what_was_written_after_it() {
    let real = Real::start(K, 1, "[snapshot]\nhold_max = \"10s\"");
    let (reader, writer) = (real.client(), real.client());
    writer.write_at(0, b"before").unwrap();
    assert_eq!(reader.read_vec(0, 6).unwrap(), b"before");
    assert_eq!(reader.read_vec(0, 6).unwrap(), b"before");
    assert!(reader.is_local(0).unwrap());
    let reads = done(&reader, "read");

    let mut master = in_role(&real, Role::Node).dedicated(0).unwrap();
    let cut = Uuid::new_v4();
    let prepared: CutPrepared = master.call(Kind::CutPrepare, &CutPrepare { cut }).unwrap();
    let epoch = prepared.epoch + 1;
    master.call::<_, ()>(Kind::CutSwitch, &CutSwitch { cut, epoch }).unwrap();

    let has_read = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_at(0, b"after!").unwrap());
        let raw = Reader::open(real.config.name(), 0).unwrap();
        let mut bytes = [0; 6];
        wait_until("the write is in memory", || {
            raw.read_into(raw.span(0, 6).unwrap(), &mut bytes).is_ok() && &bytes == b"after!"
        });
        let read = scope.spawn(|| {
            let found = reader.read_vec(0, 6).unwrap();
            has_read.store(true, Ordering::SeqCst);
            found
        });
        let status = real.client();
        wait_until("the read is at the server", || has_read.load(Ordering::SeqCst) || done(&status, "read") > reads);
        assert!(!has_read.load(Ordering::SeqCst), "a read was answered while answers were held");
        let released: CutReleased = master.call(Kind::CutRelease, &CutRelease { cut }).unwrap();
        assert!(released.held_us > 0);
        assert_eq!(read.join().unwrap(), b"after!");
    });
    master.call::<_, ()>(Kind::CutEnd, &CutEnd { cut, failure: None }).unwrap();
    assert_eq!(reader.read_vec(0, 6).unwrap(), b"after!");
    assert!(reader.is_local(0).unwrap(), "a held cut is no reason to leave for good");
}

#[test]
fn a_dead_servers_client_is_told_so_at_its_first_call() {
    let mut real = Real::start(K, 1, "");
    real.client().write_at(0, b"x").unwrap();
    real.stop_one(0);
    let error = real.client().read_vec(0, 1).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), ("unavailable", Outcome::Fail));
}
