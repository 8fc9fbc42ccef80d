//! Deadlines, the last word of a server that stops, and its successor: under TLS nothing of it changes.

use mcomp_net::tls::Tls;
use mcomp_net::{CallError, Connection, Timeouts, Trust};
use mcomp_wire::{Kind, Request, Role, Status, limits};

use super::*;
use crate::harness::wait_until;
use crate::raw::{body, frame, hello, tcp};

/// A connection under TLS that says what it is told to say.
fn greeted(cluster: &Cluster) -> Connection {
    let config = cluster.config();
    let files = config.tls().expect("it is configured");
    let tls = Tls::load(&files.ca, &files.cert, &files.key).expect("its certificates");
    let trust = Trust { keyring: None, tls: Some(&tls) };
    let timeouts = Timeouts { connect: PATIENCE, request: PATIENCE };
    Connection::open(&tcp(cluster, 0), &hello(cluster, 0, Role::Client), timeouts, trust).expect("it is let in")
}

#[test]
fn slow_peers_are_cut_off_at_their_deadlines() {
    let lines = "[limits]\nhandshake_timeout = \"300ms\"\nframe_timeout = \"300ms\"\nwrite_timeout = \"300ms\"";
    let cluster = with_tls(Setup::new(1, "4MiB").with(lines).with(SECURITY), None);
    // One that says nothing, one that begins a record, one a frame, and one that takes no answer.
    let mute = TcpStream::connect(cluster.address(0)).expect("a server");
    let mut begun = TcpStream::connect(cluster.address(0)).expect("a server");
    begun.write_all(&[0x16, 3, 1, 2, 0]).expect("it is taken");
    wait_until("both are counted", || rejected(&cluster, "handshake_timeout") == 2);
    drop((mute, begun));
    let mut half = greeted(&cluster);
    half.send_frames(&frame(Kind::Read as u8, 9, 0, &[0; 16])[..20]).expect("it is taken");
    wait_until("half a frame is counted", || rejected(&cluster, "frame_timeout") == 1);
    let mut deaf = greeted(&cluster);
    let read = body(&Request::Read { addr: 0, len: limits::MAX_PAYLOAD as u64 });
    let epoch = deaf.greeting().welcome.config_epoch;
    for id in 9..73 {
        deaf.send_frames(&frame(Kind::Read as u8, id, epoch, &read)).expect("it is taken");
    }
    wait_until("a deaf one is counted", || rejected(&cluster, "write_timeout") == 1);
    assert_eq!(rejected(&cluster, "bad_tls"), 0);
}

#[test]
fn a_server_that_stops_says_its_last_word_and_its_successor_goes_on() {
    let mut cluster = with_tls(Setup::new(1, K).with(SECURITY), None);
    let client = Client::with_options(Options { timeout: PATIENCE, ..far(&cluster) }).expect("a client");
    assert_eq!(client.fetch_add(8, 1).expect("an add"), 0);
    let mut heard = greeted(&cluster);
    assert!(cluster.succeed_server(0).contains("taken over"));
    // Without the last word an add whose server went away would be of unknown outcome.
    let Err(CallError::Refused { status, .. }) = heard.next_answer() else { panic!("no last word") };
    assert_eq!(status, Status::Stopping);
    assert_eq!(client.fetch_add(8, 1).expect("an add"), 1);
    cluster.stop_server(0);
    cluster.start_server(0);
    assert_eq!(client.fetch_add(8, 1).expect("an add"), 2);
    cluster.kill_server(0);
    cluster.start_server(0);
    assert_eq!(client.read_vec(8, 1).expect("a read"), [3]);
    assert_eq!(rejected(&cluster, "bad_tls"), 0);
}

#[test]
fn a_frozen_server_holds_nobody_longer_than_the_timeout() {
    let cluster = with_tls(Setup::new(1, K).with(SECURITY), None);
    let brief = Duration::from_millis(200);
    let hasty = |cluster: &Cluster| {
        Client::with_options(Options { timeout: brief, connect_timeout: brief, ..far(cluster) }).expect("a client")
    };
    let known = hasty(&cluster);
    known.write_at(0, b"x").expect("it serves");
    cluster.freeze_server(0);
    // On a connection that is there, and on one whose handshake is not answered.
    for client in [known, hasty(&cluster)] {
        let error = client.read_vec(0, 1).unwrap_err();
        assert!(["timeout", "unavailable"].contains(&error.kind()), "{error}");
    }
}
