//! Control requests: by whom, in which shape, in which order, and with numbers at their ends.

use super::bodies::words;
use super::*;

/// The id of a cut, restore or session that nobody else has.
pub(super) fn some_id() -> Uuid {
    Uuid::from_bytes([7; 16])
}

/// A cut that is not in progress anywhere, and everything that can be asked about it.
pub(super) fn control_requests() -> Vec<(Kind, Role, Vec<u8>)> {
    let cut = some_id();
    vec![
        (Kind::CutPrepare, Role::Node, control::encode(&CutPrepare { cut })),
        (Kind::CutSwitch, Role::Node, control::encode(&CutSwitch { cut, epoch: 9 })),
        (Kind::CutRelease, Role::Node, control::encode(&CutRelease { cut })),
        (Kind::CutEnd, Role::Node, control::encode(&CutEnd { cut, failure: Some("no reason".into()) })),
        (Kind::RestoreBegin, Role::Admin, control::encode(&RestoreBegin { restore: cut })),
        (Kind::RestoreEnd, Role::Admin, control::encode(&RestoreEnd { restore: cut, config_epoch: 99 })),
        (Kind::RestoreAbort, Role::Admin, control::encode(&RestoreAbort { restore: cut })),
    ]
}

#[test]
fn control_requests_need_their_role_and_their_shape() {
    unharmed(servers(), |cluster| {
        for (kind, needed, whole) in control_requests() {
            for &role in Role::ALL.iter().filter(|&&role| role != needed) {
                let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, role));
                assert_eq!(peer.ask(kind as u8, 2, &whole).status(), Status::Denied, "{kind} by {role}");
                assert_eq!(peer.ask(Kind::Read as u8, 3, &words(&[0, 8])).status(), Status::Ok, "{kind} by {role}");
            }
            let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, needed));
            let mut wrong: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
            wrong.push([&whole[..], &[0]].concat());
            wrong.push(vec![0xff; 64]);
            for (id, body) in (2..).zip(wrong) {
                let answer = peer.ask(kind as u8, id, &body);
                assert_eq!(answer.status(), Status::Malformed, "{kind} {body:02x?}: {answer:?}");
            }
            let answer = peer.ask(kind as u8, 1000, &vec![0; limits::MAX_CONTROL + 1]);
            assert_eq!(answer.status(), Status::TooLarge, "{kind}: {answer:?}");
        }
    });
}

#[test]
fn control_requests_out_of_order_are_refused() {
    unharmed(servers(), |cluster| {
        for (kind, role, body) in control_requests() {
            if matches!(kind, Kind::CutPrepare | Kind::RestoreBegin) {
                continue;
            }
            let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, role));
            let answer = peer.ask(kind as u8, 2, &body);
            let refused = if role == Role::Node { Status::CutLost } else { Status::Malformed };
            assert_eq!(answer.status(), refused, "{kind}: {answer:?}");
        }
    });
}

#[test]
fn a_kind_that_is_not_served_here_is_refused() {
    unharmed(servers(), |cluster| {
        let foreign = [Kind::Error, Kind::Hello, Kind::SnapshotCreate, Kind::SnapshotCollect, Kind::SnapshotStatus];
        for role in [Role::Client, Role::Node, Role::Admin] {
            let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, role));
            for kind in foreign.into_iter().chain([Kind::SnapshotProgress, Kind::SnapshotChunk]) {
                let answer = peer.ask(kind as u8, 2, &[0; 32]);
                assert_eq!(answer.status(), Status::UnknownKind, "{kind}: {answer:?}");
            }
            peer.request(0xee, 3, &[]);
            let answer = peer.next().expect("a reason");
            assert_eq!((answer.header.kind, answer.status()), (0xee, Status::UnknownKind));
            assert!(peer.next().is_none(), "closed after an unknown number");
        }
    });
}

#[test]
fn an_epoch_at_the_end_of_all_numbers_does_not_end_the_snapshots() {
    unharmed(Setup::new(2, "64KiB").start(), |cluster| {
        let mut peer = Peer::greeted(&tcp(cluster, 0), &hello(cluster, 0, Role::Node));
        let cut = some_id();
        let prepare = CutPrepare { cut };
        assert_eq!(peer.ask(Kind::CutPrepare as u8, 2, &control::encode(&prepare)).status(), Status::Ok);
        for epoch in [u64::MAX, u64::MAX >> 1, 1 << 40] {
            let answer = peer.ask(Kind::CutSwitch as u8, 3, &control::encode(&CutSwitch { cut, epoch }));
            assert_eq!(answer.status(), Status::CutLost, "{answer:?}");
        }
        drop(peer);
        create(&cluster.config(), false, &mut |_| {}).expect("the next snapshot works");
    });
}

#[test]
fn an_epoch_at_the_end_of_all_numbers_does_not_end_the_restores() {
    let cluster = Setup::new(2, "64KiB").start();
    cluster.client().write_at(0, b"kept").expect("a write");
    let path = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a plain path");
    let mut peer = Peer::greeted(&tcp(&cluster, 0), &hello(&cluster, 0, Role::Admin));
    let restore = some_id();
    let begin = control::encode(&RestoreBegin { restore });
    assert_eq!(peer.ask(Kind::RestoreBegin as u8, 2, &begin).status(), Status::Ok);
    for config_epoch in [u64::MAX, 1 << 40, 0] {
        let end = control::encode(&RestoreEnd { restore, config_epoch });
        let answer = peer.ask(Kind::RestoreEnd as u8, 3, &end);
        assert_eq!(answer.status(), Status::Malformed, "{answer:?}");
    }
    let write = body(&Request::Write { addr: 0, data: b"half" });
    assert_eq!(peer.ask(Kind::Write as u8, 4, &write).status(), Status::Ok);
    drop(peer);
    // The memory stays closed until a restore goes through, and one does.
    cluster.exits(75, &["read", "0", "4"]);
    cluster.ok(&["restore", path.trim()]);
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"kept");
}
