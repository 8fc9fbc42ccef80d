//! Every cause of a refusal has a name of its own in `status --json`, and is counted once under it.

use std::os::unix::fs::FileExt;

use mcomp_wire::control::{CutPrepare, CutSwitch, RestoreAbort, RestoreBegin};
use mcomp_wire::{AtomicOp, HEADER_LEN};
use uuid::Uuid;

use super::*;
use crate::full::private_mounts;
use crate::raw::frame;

const K: u64 = 1 << 20;

/// A server that refuses in many ways.
struct Case {
    cluster: Cluster,
}

impl Case {
    fn greeted(&self, role: Role) -> Peer {
        Peer::greeted(&tcp(&self.cluster, 0), &hello(&self.cluster, 0, role))
    }

    /// The word of the answer to a request of this role.
    fn ask(&self, role: Role, kind: Kind, body: &[u8]) -> &'static str {
        self.greeted(role).ask(kind as u8, 2, body).status().word()
    }

    fn data(&self, request: &Request<'_>) -> &'static str {
        self.ask(Role::Client, request.kind(), &body(request))
    }

    /// The word of the last answer before the connection is closed.
    fn last(&self, bytes: &[u8]) -> &'static str {
        let mut peer = self.greeted(Role::Client);
        peer.send(bytes);
        let answer = peer.next().expect("a reason");
        assert!(peer.next().is_none(), "closed");
        answer.status().word()
    }

    fn fenced(&self) -> &'static str {
        let mut peer = self.greeted(Role::Client);
        let read = body(&Request::Read { addr: 0, len: 8 });
        peer.send(&frame(Kind::Read as u8, 2, peer.epoch() + 7, &read));
        peer.next().expect("an answer").status().word()
    }

    fn result_lost(&self) -> &'static str {
        let session = Uuid::from_u128(7);
        let mut peer = Peer::greeted(
            &tcp(&self.cluster, 0),
            &mcomp_wire::control::Hello { session, ..hello(&self.cluster, 0, Role::Client) },
        );
        let write = body(&Request::Write { addr: 0, data: b"x" });
        assert_eq!(peer.ask(Kind::Write as u8, 9, &write).status(), Status::Ok);
        peer.ask(Kind::Write as u8, 8, &write).status().word()
    }

    /// Reads a block that is marked as half-written.
    fn torn(&self) -> &'static str {
        let path = format!("/dev/shm/mcomp.{}.0", self.cluster.name);
        let segment = fs::File::options().write(true).open(path).expect("the segment");
        let mark = |flags| segment.write_all_at(&[flags], 4096 + 3 * 64 + 56).expect("bit 0 of its flags");
        mark(1);
        let word = self.data(&Request::Read { addr: 3 * 4096, len: 8 });
        mark(0);
        word
    }

    fn beside_a_restore(&self, ask: impl Fn(&Self) -> &'static str) -> &'static str {
        let mut admin = self.greeted(Role::Admin);
        let restore = Uuid::from_u128(1);
        let begin = control::encode(&RestoreBegin { restore });
        assert_eq!(admin.ask(Kind::RestoreBegin as u8, 2, &begin).status(), Status::Ok);
        let word = ask(self);
        let abort = control::encode(&RestoreAbort { restore });
        assert_eq!(admin.ask(Kind::RestoreAbort as u8, 3, &abort).status(), Status::Ok);
        word
    }

    fn wrong_cluster(&self) -> &'static str {
        let other = mcomp_wire::control::Hello { n: 9, ..hello(&self.cluster, 0, Role::Client) };
        let refused = Peer::try_greeted(&tcp(&self.cluster, 0), &other).expect_err("another cluster");
        refused.expect("a reason").status().word()
    }
}

/// A header with one byte changed, its checksum mended or not.
fn header_with(at: usize, value: u8, mend: bool) -> Vec<u8> {
    let mut bytes = Header { kind: Kind::Status as u8, ..Header::default() }.emit();
    bytes[at] = value;
    if mend {
        let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    }
    bytes.to_vec()
}

/// The causes that an answer names. Those without an answer, and the ways to be busy, have tests of their own.
#[test]
fn every_status_is_counted_once_under_its_word() {
    type Ask = fn(&Case) -> &'static str;
    let causes: [(&str, Ask); 15] = [
        ("malformed", |case| case.ask(Role::Client, Kind::Read, &[0; 3])),
        ("out_of_range", |case| case.data(&Request::Read { addr: K - 4, len: 8 })),
        ("unaligned", |case| case.data(&Request::Atomic { addr: 1, op: AtomicOp::ALL[0], operand: 1, expected: 0 })),
        ("too_large", |case| case.data(&Request::Fill { addr: 0, len: limits::MAX_SPAN + 1, byte: 1 })),
        ("unknown_kind", |case| case.last(&frame(0xee, 2, 1, &[]))),
        ("fenced", Case::fenced),
        ("result_lost", Case::result_lost),
        ("torn", Case::torn),
        ("restoring", |case| case.beside_a_restore(|case| case.data(&Request::Write { addr: 0, data: b"x" }))),
        ("busy", |case| {
            let other = control::encode(&RestoreBegin { restore: Uuid::from_u128(2) });
            case.beside_a_restore(|case| case.ask(Role::Admin, Kind::RestoreBegin, &other))
        }),
        ("denied", |case| case.ask(Role::Client, Kind::CutPrepare, &control::encode(&CutPrepare { cut: Uuid::nil() }))),
        ("cut_lost", |case| {
            let switch = CutSwitch { cut: Uuid::from_u128(3), epoch: 9 };
            case.ask(Role::Node, Kind::CutSwitch, &control::encode(&switch))
        }),
        ("wrong_cluster", Case::wrong_cluster),
        ("version", |case| case.last(&header_with(4, 2, true))),
        ("checksum", |case| case.last(&header_with(HEADER_LEN - 1, 0xee, false))),
    ];
    let case = Case { cluster: Setup::new(1, "1MiB").servers() };
    let mut before = counted(&case.cluster);
    for (word, ask) in causes {
        assert_eq!(ask(&case), word);
        *before.entry(word.to_owned()).or_default() += 1;
        assert_eq!(counted(&case.cluster), before, "after {word}");
    }
    let answer = case.last(b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n");
    *before.entry("bad_frame".to_owned()).or_default() += 1;
    assert_eq!((answer, counted(&case.cluster)), ("malformed", before), "bytes that are no frame");
}

/// The memory of a snapshot cannot be had: /dev/shm, as the server sees it, holds the segment and little more.
#[test]
fn memory_that_cannot_be_had_is_counted() {
    let Some(way) = private_mounts() else { return };
    let mut cluster = Setup::new(1, "1MiB").prepare();
    let script = "mount -t tmpfs -o size=2m tmpfs /dev/shm && exec \"$@\"";
    cluster.start_server_under(&[&way[..], &["sh", "-c", script, "sh"]].concat(), 0);
    let case = Case { cluster };
    let prepare = control::encode(&CutPrepare { cut: Uuid::from_u128(1) });
    assert_eq!(case.ask(Role::Node, Kind::CutPrepare, &prepare), "full");
    assert_eq!(counted(&case.cluster), [("full".to_owned(), 1)].into());
}

/// What the command says that was refused.
fn counted(cluster: &Cluster) -> std::collections::BTreeMap<String, u64> {
    let status: serde_json::Value = serde_json::from_slice(&cluster.ok(&["status", "--json"])).expect("JSON");
    let rejected = &status["servers"][0]["counters"]["rejected"];
    serde_json::from_value(rejected.clone()).expect("numbers by cause")
}
