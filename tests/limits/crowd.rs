//! A thousand peers that are slow and two hundred that never read, all at once: each is closed at its deadline
//! and counted under its cause, nobody else notices, and the memory that they took comes back.

use super::*;
use crate::raw::unix;

/// Peers of each kind: half of them dribble a handshake, the others a request.
const SLOW: usize = 500;
const DEAF: usize = 200;

/// A header that announces more than is ever sent, and a part of what it announces.
fn unfinished(kind: Kind, epoch: u64, announced: usize) -> Vec<u8> {
    let header = Header { kind: kind as u8, length: announced as u32, config_epoch: epoch, ..Header::default() };
    [&header.emit()[..], &vec![0; announced - 1]].concat()
}

/// Sends each open peer one byte more, again and again, until the server has closed all of them.
fn dribble(peers: &mut [Peer], bytes: &[u8]) {
    let mut sent = 0;
    wait_until("all that dribble are closed", || {
        let mut open = 0;
        for peer in peers.iter_mut().filter(|peer| !peer.is_closed()) {
            if let Some(byte) = bytes.get(sent) {
                peer.send(&[*byte]);
            }
            open += 1;
        }
        sent += 1;
        open == 0
    });
}

/// Asks for more than all buffers between the two can hold, and takes nothing.
fn ask_and_never_read(peer: &mut Peer) {
    let read = body(&Request::Read { addr: 0, len: 32 << 10 });
    for id in 2..130 {
        peer.request(Kind::Read as u8, id, &read);
    }
}

#[test]
fn a_crowd_of_slow_peers_is_closed_and_harms_nobody() {
    let places = raise_open_files() / 4;
    assert!(places > 400, "a limit of {places} x 4 open files is too low for any crowd");
    let share = |count: usize| (count as u64 * places.min(1_300) / 1_300) as usize;
    let (slow, deaf) = (share(SLOW), share(DEAF));
    let deadlines = "handshake_timeout = \"2s\"\nframe_timeout = \"2s\"\nwrite_timeout = \"2s\"";
    let cluster = Setup::new(1, "4MiB").with(&format!("[limits]\n{deadlines}")).servers();
    beside_good_client(&cluster, |client| {
        let before = (cluster.resident_bytes_of_server(0), client.status(0).expect("a status").connections);
        let mut deaf: Vec<Peer> =
            (0..deaf).map(|at| if at % 2 == 0 { greeted(&cluster) } else { near(&cluster) }).collect();
        deaf.iter_mut().for_each(|peer| {
            peer.take_little();
            ask_and_never_read(peer);
        });
        let mut requests: Vec<Peer> = (0..slow).map(|_| greeted(&cluster)).collect();
        let mut handshakes: Vec<Peer> = (0..slow).map(|_| Peer::connect(&tcp(&cluster, 0))).collect();
        let most = cluster.resident_bytes_of_server(0);
        let request = unfinished(Kind::Write, requests[0].epoch(), 64 << 10);
        let handshake = unfinished(Kind::Hello, 0, limits::MAX_HELLO);
        std::thread::scope(|scope| {
            scope.spawn(|| dribble(&mut requests, &request));
            scope.spawn(|| dribble(&mut handshakes, &handshake));
        });
        let expected = [("handshake_timeout", slow), ("frame_timeout", slow), ("write_timeout", deaf.len())];
        wait_until("all are counted, each under its cause", || {
            let status = client.status(0).expect("a status");
            expected.iter().all(|&(cause, count)| rejected(&status, cause) == count as u64)
        });
        wait_until("their places are free", || client.status(0).expect("a status").connections <= before.1);
        let after = cluster.resident_bytes_of_server(0);
        eprintln!("resident: {} KiB before, {} with the crowd, {} after", before.0 >> 10, most >> 10, after >> 10);
        assert!(after < before.0 + (64 << 20), "{} bytes before, {after} after", before.0);
        let status = client.status(0).expect("a status");
        assert_eq!(status.counters.rejected.len(), expected.len(), "{:?}", status.counters.rejected);
    });
}

/// A peer through the Unix socket.
fn near(cluster: &Cluster) -> Peer {
    Peer::greeted(&unix(cluster, 0), &hello(cluster, 0, Role::Client))
}
