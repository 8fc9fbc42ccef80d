//! Peers that are slow, one by one and a thousand at once: each is cut off at its deadline, and counted.

use mcomp_net::Endpoint;
use mcomp_net::auth::Keyring;

use super::*;

/// Between two bytes of a peer that trickles, and for one look whether it was cut off.
const TRICKLE: Duration = Duration::from_millis(20);

/// Sends bytes slowly until the server ends the connection; false when all were taken.
fn is_cut_off_while_trickling(peer: &mut Peer, bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| {
        peer.send(&[*byte]);
        peer.is_closed_within(TRICKLE)
    })
}

#[test]
fn a_handshake_that_trickles_is_cut_off() {
    let cluster = hasty();
    beside_good_client(&cluster, |client| {
        let hello = control::encode(&hello(&cluster, 0, Role::Client));
        let bytes = crate::raw::frame(Kind::Hello as u8, 1, 0, &hello);
        let mut slow = Peer::connect(&tcp(&cluster, 0));
        let mut silent = Peer::connect(&tcp(&cluster, 0));
        // The body never comes whole, however long it takes.
        let cut_off = is_cut_off_while_trickling(&mut slow, &bytes[..bytes.len() - 1]);
        assert!(cut_off || slow.next().is_none(), "a handshake is not waited for for ever");
        assert!(silent.next().is_none(), "one that says nothing is closed");
        wait_until("both are counted", || rejected(&client.status(0).expect("a status"), "handshake_timeout") == 2);
    });
}

/// Where there is a secret, the handshake has two frames from each side, and one deadline for all of them: who has been
/// asked for a proof has proved nothing yet.
#[test]
fn a_proof_is_not_waited_for_for_ever() {
    let lines = "[limits]\nhandshake_timeout = \"300ms\"";
    let cluster = Setup::new(1, "1MiB").with(lines).secret(&Keyring::random().unwrap()).start();
    let said = control::Hello { auth: vec![5; 32], ..hello(&cluster, 0, Role::Node) };
    let greeting = crate::raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&said));
    let prove = crate::raw::frame(Kind::Prove as u8, 2, 0, &[0; 40]);
    for endpoint in [tcp(&cluster, 0), Endpoint::Tcp(cluster.snapshot_address(0))] {
        let [mut silent, mut slow] = [(); 2].map(|()| {
            let mut peer = Peer::connect(&endpoint);
            peer.send(&greeting);
            let asked = peer.next().expect("a challenge");
            assert_eq!(asked.header.kind, Kind::Challenge as u8, "{asked:?}");
            peer
        });
        let cut_off = is_cut_off_while_trickling(&mut slow, &prove[..prove.len() - 1]);
        assert!(cut_off || slow.next().is_none(), "{endpoint} waits for a proof that trickles");
        assert!(silent.next().is_none(), "{endpoint} waits for a proof that does not come");
    }
    let client = cluster.client();
    wait_until("both are counted", || rejected(&client.status(0).expect("a status"), "handshake_timeout") == 2);
}

#[test]
fn a_frame_that_trickles_is_cut_off() {
    let cluster = hasty();
    beside_good_client(&cluster, |client| {
        let write = body(&Request::Write { addr: 8192, data: &[1; 4096] });
        let mut slow = greeted(&cluster);
        let bytes = crate::raw::frame(Kind::Write as u8, 2, slow.epoch(), &write);
        assert!(is_cut_off_while_trickling(&mut slow, &bytes), "all bytes were taken");
        // One that stops in the middle of a header, and one in the middle of a body.
        for stop in [20, 1000] {
            let mut stuck = greeted(&cluster);
            stuck.send(&bytes[..stop]);
            assert!(stuck.next().is_none(), "a frame that stops after {stop} bytes");
        }
        wait_until("all are counted", || rejected(&client.status(0).expect("a status"), "frame_timeout") == 3);
        assert!(client.read_vec(8192, 4096).expect("the memory is read").iter().all(|&byte| byte == 0));
    });
}

#[test]
fn a_client_that_does_not_take_its_answers_is_cut_off() {
    let cluster = hasty();
    beside_good_client(&cluster, |client| {
        let read = body(&Request::Read { addr: 0, len: limits::MAX_PAYLOAD as u64 });
        let mut deaf = greeted(&cluster);
        for id in 2..66 {
            deaf.request(Kind::Read as u8, id, &read);
        }
        wait_until("it is counted", || rejected(&client.status(0).expect("a status"), "write_timeout") == 1);
        // What was on its way still arrives, and it is less than was asked for.
        let answers = std::iter::from_fn(|| deaf.next()).count();
        assert!(answers < 64, "{answers} answers of 64");
    });
}
