//! Any bytes at all on a socket get an error frame or a clean close, and harm nobody else.
//!
//! Each test attacks a server (or a snapshot process) while a good client goes on working. The memory
//! has three parts: a playground that valid requests may change, one block of the good client, and the
//! rest, whose bytes must be the same before and after. Nothing may hang, and no process may die.

mod bodies;
mod orders;
mod snapshotter;
mod spoiled;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mcomp_client::Cluster as Client;
use mcomp_net::Endpoint;
use mcomp_snapshot::{create, snapshotter_status};
use mcomp_wire::control::{
    self, CutEnd, CutPrepare, CutRelease, CutSwitch, Hello, RestoreAbort, RestoreBegin, RestoreEnd,
};
use mcomp_wire::control::{SnapshotCollect, SnapshotCreate, features};
use mcomp_wire::{AtomicOp, HEADER_LEN, Header, Kind, Ranges, Request, Role, Status, flags, limits};
use uuid::Uuid;

use crate::harness::{Cluster, Setup, length, seed, wait_until};
use crate::raw::{Peer, body, frame, hello, tcp, unix};

const K: u64 = 64 << 10;
/// Valid requests stay below this address.
const PLAYGROUND: u64 = 16 << 10;
/// The block of the good client, on server 0.
const GOOD: u64 = K - 4096;
/// The part of server 0 that nobody may change.
const GUARD: std::ops::Range<u64> = PLAYGROUND..GOOD;

/// Runs `attack` on a cluster of two beside a good client, and checks that nobody was harmed.
fn unharmed(mut cluster: Cluster, attack: impl FnOnce(&mut Cluster)) {
    let client = cluster.client();
    let noise: Vec<u8> = (0..client.size()).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
    client.write_at(0, &noise).expect("the memory is filled");
    let guarded = |client: &Client| {
        let image = client.read_vec(0, client.size()).expect("the memory is read");
        (image[GUARD.start as usize..GUARD.end as usize].to_vec(), image[K as usize..].to_vec())
    };
    let before = (guarded(&client), starts(&client));
    beside_good_client(&client, || attack(&mut cluster));
    let after = (guarded(&client), starts(&client));
    assert!(before == after, "guarded memory changed, or a server was started again");
}

/// What changes when a server starts again, or is restored.
fn starts(client: &Client) -> Vec<(u32, u64, u64)> {
    let status = client.statuses().into_iter().map(|status| status.expect("every server answers"));
    status.map(|status| (status.pid, status.incarnation, status.config_epoch)).collect()
}

/// Says that what goes on beside an attack may end, also when the attack has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `body` while a client writes and reads its own block and never sees a failure.
fn beside_good_client(client: &Client, body: impl FnOnce()) {
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let stop_at_end = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let block = [rounds.load(Ordering::Relaxed) as u8; 4096];
                client.write_at(GOOD, &block).expect("a good client writes");
                assert!(client.read_vec(GOOD, 4096).expect("a good client reads") == block);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        wait_until("the good client works", || rounds.load(Ordering::Relaxed) > 0);
        body();
        let before = rounds.load(Ordering::Relaxed);
        wait_until("the good client works afterwards", || rounds.load(Ordering::Relaxed) > before + 1);
        drop(stop_at_end);
    });
}

fn servers() -> Cluster {
    Setup::new(2, "64KiB").servers()
}

/// The header of a frame of `body` bytes, changed by `change`, its checksum mended.
fn header_with(kind: Kind, body: usize, change: impl FnOnce(&mut [u8; HEADER_LEN])) -> Vec<u8> {
    let mut bytes = Header { kind: kind as u8, length: body as u32, ..Header::default() }.emit();
    change(&mut bytes);
    mend_header(&mut bytes);
    bytes.to_vec()
}

fn mend_header(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
    bytes[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
}

/// Headers after which there is no frame boundary any more, and the status that says why.
fn broken_headers() -> Vec<(&'static str, Vec<u8>, Status)> {
    let plain = |change: fn(&mut [u8; HEADER_LEN])| header_with(Kind::Status, 0, change);
    let mut bad_crc = plain(|_| {});
    bad_crc[HEADER_LEN - 1] ^= 1;
    vec![
        (
            "a request of another protocol",
            b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n".to_vec(),
            Status::Malformed,
        ),
        ("zeros", vec![0; 4096], Status::Malformed),
        ("ones", vec![0xff; 4096], Status::Malformed),
        ("a wrong magic", plain(|bytes| bytes[0] = b'm'), Status::Malformed),
        ("version 0", plain(|bytes| bytes[4] = 0), Status::Version),
        ("version 2", plain(|bytes| bytes[4] = 2), Status::Version),
        ("a bad header checksum", bad_crc, Status::Checksum),
        ("an unknown flag", plain(|bytes| bytes[7] = 0x80), Status::Malformed),
        ("the flag of an answer", plain(|bytes| bytes[6] = 1), Status::Malformed),
        ("the flag of an unfinished answer", plain(|bytes| bytes[6] = 4), Status::Malformed),
        ("a status", plain(|bytes| bytes[36] = 1), Status::Malformed),
        ("a reserved field", plain(|bytes| bytes[38] = 1), Status::Malformed),
        ("the longest length", plain(|bytes| bytes[32..36].fill(0xff)), Status::TooLarge),
        ("a length just too long", header_with(Kind::Write, limits::MAX_BODY + 1, |_| {}), Status::TooLarge),
    ]
}

#[test]
fn what_is_no_frame_is_answered_with_the_reason_and_closed() {
    unharmed(servers(), |cluster| {
        for endpoint in [tcp(cluster, 0), unix(cluster, 0)] {
            for (what, bytes, status) in broken_headers() {
                let greeted = || Peer::greeted(&endpoint, &hello(cluster, 0, Role::Client));
                for mut peer in [Peer::connect(&endpoint), greeted()] {
                    peer.send(&bytes);
                    // It is not we who close first: the server does.
                    let answer = peer.next().unwrap_or_else(|| panic!("{what}: closed without a reason"));
                    assert_eq!(
                        (answer.header.kind, answer.status()),
                        (Kind::Error as u8, status),
                        "{what}: {answer:?}"
                    );
                    assert!(!answer.body.is_empty() && std::str::from_utf8(&answer.body).is_ok(), "{what}: {answer:?}");
                    assert!(peer.next().is_none(), "{what}: closed after the reason");
                }
            }
        }
    });
}

#[test]
fn before_the_handshake_nothing_else_is_taken() {
    unharmed(servers(), |cluster| {
        let long_hello = Hello { auth: vec![0; limits::MAX_HELLO], ..hello(cluster, 0, Role::Client) };
        let mut cases = vec![
            ("a body that is too long", header_with(Kind::Hello, limits::MAX_HELLO + 1, |_| {}), Status::TooLarge),
            ("a long handshake", frame(Kind::Hello as u8, 1, 0, &control::encode(&long_hello)), Status::TooLarge),
            ("an unknown kind", frame(0xee, 1, 0, &[]), Status::Malformed),
        ];
        for &kind in Kind::ALL.iter().filter(|&&kind| kind != Kind::Hello) {
            cases.push((kind.word(), frame(kind as u8, 1, 0, &[0; 16]), Status::Malformed));
        }
        let good = control::encode(&hello(cluster, 0, Role::Client));
        for len in 0..good.len() {
            cases.push(("a handshake cut short", frame(Kind::Hello as u8, 1, 0, &good[..len]), Status::Malformed));
        }
        cases.push(("trailing", frame(Kind::Hello as u8, 1, 0, &[&good[..], &[0]].concat()), Status::Malformed));
        for (what, bytes, status) in cases {
            let mut peer = Peer::connect(&tcp(cluster, 0));
            peer.send(&bytes);
            let answer = peer.next().unwrap_or_else(|| panic!("{what}: closed without a reason"));
            assert_eq!(answer.status(), status, "{what}: {answer:?}");
            assert!(peer.next().is_none(), "{what}");
        }
    });
}

#[test]
fn a_handshake_that_means_someone_else_is_refused_with_both_values() {
    unharmed(servers(), |cluster| {
        let good = hello(cluster, 0, Role::Client);
        let wrong: Vec<(&str, Hello)> = vec![
            ("elsewhere", Hello { cluster: "elsewhere".into(), ..good.clone() }),
            ("\"\"", Hello { cluster: String::new(), ..good.clone() }),
            ("1", Hello { server: 1, ..good.clone() }),
            ("4294967295", Hello { server: u32::MAX, ..good.clone() }),
            ("131072", Hello { k: 2 * K, ..good.clone() }),
            ("18446744073709551615", Hello { k: u64::MAX, ..good.clone() }),
            ("3", Hello { n: 3, ..good.clone() }),
        ];
        for (value, hello) in wrong {
            let refused = Peer::try_greeted(&tcp(cluster, 0), &hello).expect_err("another mcomp.cfg");
            let answer = refused.expect("a reason");
            assert_eq!(answer.status(), Status::WrongCluster, "{answer:?}");
            assert!(String::from_utf8_lossy(&answer.body).contains(value), "{value}: {answer:?}");
        }
        Peer::greeted(&tcp(cluster, 0), &good);
    });
}
