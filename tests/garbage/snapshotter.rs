//! A snapshot process takes garbage as well as a server.

use super::spoiled::{Target, When};
use super::*;

/// A collect of a cut that never was, of the segment that is there.
fn collect_of(cluster: &Cluster, level: i32) -> SnapshotCollect {
    let segment = cluster.client().dedicated(0).expect("a connection").welcome().segment;
    SnapshotCollect { cut: segment, epoch: 77, segment, since: 0, level, home: 0 }
}

#[test]
fn a_snapshot_process_takes_garbage_as_well() {
    let mut random = fastrand::Rng::with_seed(seed());
    unharmed(Setup::new(2, "64KiB").start(), |cluster| {
        let endpoint = Endpoint::Tcp(cluster.snapshot_address(0));
        let greeted = |role| Peer::greeted(&endpoint, &hello(cluster, 0, role));
        for (what, bytes, _) in broken_headers() {
            for mut peer in [Peer::connect(&endpoint), greeted(Role::Admin)] {
                peer.send(&bytes);
                let answers = peer.finish();
                assert!(answers.iter().all(|answer| answer.status() != Status::Ok), "{what}: {answers:?}");
            }
        }
        for &kind in Kind::ALL.iter().filter(|&&kind| kind != Kind::Hello) {
            let mut peer = Peer::connect(&endpoint);
            peer.request(kind as u8, 1, &[]);
            assert_eq!(peer.next().expect("a reason").status(), Status::Malformed, "{kind} before the handshake");
            assert!(peer.next().is_none());
        }
        let other = Hello { n: 9, ..hello(cluster, 0, Role::Admin) };
        let refused = Peer::try_greeted(&endpoint, &other).expect_err("another mcomp.cfg").expect("a reason");
        assert_eq!(refused.status(), Status::WrongCluster);
        is_served_by_role_only(cluster, &greeted);
        let count = length("MCOMP_TEST_MUTATIONS", 2_000) / 2;
        let endpoints = std::slice::from_ref(&endpoint);
        let target = Target { endpoints, hello: hello(cluster, 0, Role::Client), keyring: None };
        for when in [When::BeforeHandshake, When::AfterHandshake] {
            eprintln!("{when:?}: {:?}", target.attack(&mut random, when, count));
        }
        let config = cluster.config();
        assert_eq!(snapshotter_status(&config, 0).expect("it answers").pid, cluster.snapshotter_pid(0));
        create(&config, false, &mut |_| {}).expect("the next snapshot works");
    });
}

fn is_served_by_role_only(cluster: &Cluster, greeted: &dyn Fn(Role) -> Peer) {
    let collect = control::encode(&collect_of(cluster, 1));
    let requests = [
        (Kind::SnapshotCollect, Role::Node, collect),
        (Kind::SnapshotCreate, Role::Admin, control::encode(&SnapshotCreate { incremental: false })),
    ];
    for (kind, needed, whole) in requests {
        for &role in Role::ALL.iter().filter(|&&role| role != needed) {
            assert_eq!(greeted(role).ask(kind as u8, 2, &whole).status(), Status::Denied, "{kind} by {role}");
        }
        let mut peer = greeted(needed);
        for (id, len) in (2..).zip(0..whole.len()) {
            let answer = peer.ask(kind as u8, id, &whole[..len]);
            assert_eq!(answer.status(), Status::Malformed, "{len} bytes of {kind}: {answer:?}");
        }
    }
    // The right segment, but no such cut; and a level that no compressor has.
    for level in [1, 1000, i32::MIN, i32::MAX] {
        let mut peer = greeted(Role::Node);
        let answer = peer.ask(Kind::SnapshotCollect as u8, 2, &control::encode(&collect_of(cluster, level)));
        assert_eq!(answer.status(), Status::CutLost, "{answer:?}");
    }
    for kind in [Kind::Read, Kind::Write, Kind::CutPrepare, Kind::RestoreBegin, Kind::Status] {
        let answer = greeted(Role::Client).ask(kind as u8, 2, &[0; 32]);
        assert_eq!(answer.status(), Status::UnknownKind, "{kind}: {answer:?}");
    }
}
