//! Codes that come from servers, and from their silence: an outcome that is not known (2), nobody
//! there (69), try again (75), somebody else (76), no answer in time (124), and every status that a
//! server may answer with.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mcomp_wire::{HEADER_LEN, Role, Status};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::fake::{Fake, Manner};
use super::{fails, parsed, piped, refused_server, setup};
use crate::harness::{Setup, mcomp, wait_until};
use crate::raw::{Peer, hello, tcp};

/// What a server may say to a request, with the exit code and the word that become of it.
pub(crate) const STATUSES: [(Status, i32, &str); 18] = [
    (Status::Malformed, 76, "protocol"),
    (Status::UnknownKind, 76, "protocol"),
    (Status::Version, 76, "protocol"),
    (Status::WrongCluster, 76, "wrong_cluster"),
    (Status::Busy, 75, "busy"),
    (Status::Fenced, 75, "fenced"),
    (Status::Restoring, 75, "restoring"),
    (Status::CutLost, 75, "cut_lost"),
    (Status::Torn, 65, "torn"),
    (Status::Checksum, 65, "checksum"),
    (Status::BadData, 65, "bad_data"),
    (Status::Denied, 77, "denied"),
    (Status::Full, 73, "full"),
    (Status::Unavailable, 69, "unavailable"),
    (Status::Stopping, 69, "unavailable"),
    (Status::LocalIo, 74, "local_io"),
    (Status::ResultLost, 2, "unknown"),
    (Status::Internal, 70, "internal"),
];

#[test]
fn code_69_names_the_process_that_does_not_answer() {
    let mut cluster = setup().servers();
    let (down, master) = (cluster.address(1), cluster.snapshot_address(0));
    let said = fails(&cluster, 69, "unavailable", &["snapshot", "create"]);
    assert!(said.contains(&master), "{said}");
    cluster.kill_server(1);
    for args in [&["read", "65536", "1"][..], &["write", "65535", "ab"], &["fill", "0", "128KiB", "0"]] {
        let output = cluster.run(args);
        // What went to the living server makes the outcome of the whole unknown.
        assert!(matches!(output.status.code(), Some(69 | 2)), "mcomp {args:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&down), "mcomp {args:?}: {output:?}");
    }
    for args in [&["read", "65536", "1"][..], &["write", "65536", "x"], &["cas", "65536", "0", "1"]] {
        let said = fails(&cluster, 69, "unavailable", args);
        assert!(said.contains(&down), "{said}");
    }
    let told = cluster.exits(69, &["read", "65536", "1"]);
    let way_out = "start it with `mcomp up`, or alone with `mcomp server --id 1`";
    assert!(
        String::from_utf8_lossy(&told.stderr).lines().nth(1).is_some_and(|line| line.contains(way_out)),
        "{told:?}"
    );
    let status = cluster.exits(69, &["status"]);
    let table = String::from_utf8(status.stdout).expect("a table");
    assert!(table.contains("serving") && table.contains("unreachable"), "{table}");
    let status = parsed(&cluster.exits(69, &["status", "--json"]).stdout);
    assert_eq!(status["servers"][0]["state"], "serving", "{status}");
    assert_eq!(status["servers"][1]["kind"], "unavailable", "{status}");
}

#[test]
fn code_75_is_for_what_may_work_later() {
    let mut cluster = setup().with("[limits]\nmax_connections = 1").start();
    for (args, kind) in
        [(&["server", "--no-takeover", "--id", "0"][..], "busy"), (&["snapshotter", "--id", "0"], "listen")]
    {
        refused_server(&cluster, 75, kind, args);
    }
    let said = cluster.exits(75, &["purge", "--json"]);
    let answer = parsed(&said.stdout);
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!("busy")), "{answer}");
    assert_eq!((answer["removed"].as_array(), answer["refused"][1]["id"].as_u64()), (Some(&vec![]), Some(1)));
    assert!(answer["error"].as_str().expect("a sentence").contains(&cluster.server_pid(0).to_string()), "{answer}");

    // The one connection that there may be is ours.
    let client = cluster.client();
    client.write_at(0, b"mine").expect("a write");
    let held = Peer::greeted(&tcp(&cluster, 1), &hello(&cluster, 1, Role::Client));
    let said = fails(&cluster, 75, "busy", &["read", "65536", "1", "--timeout", "500ms"]);
    assert!(said.contains(&cluster.address(1)), "{said}");
    drop((held, client));
    wait_until("the connection is free again", || cluster.run(&["read", "65536", "1"]).status.success());
    cluster.stop_server(0);
    cluster.stop_server(1);
    let purged = parsed(&cluster.ok(&["purge", "--json"]));
    assert_eq!(purged["removed"].as_array().map(Vec::len), Some(2), "{purged}");
}

#[test]
fn code_76_is_for_those_who_are_somebody_else() {
    let cluster = setup().servers();
    let text = fs::read_to_string(cluster.config_path()).expect("mcomp.cfg");
    let other = cluster.dir.path().join("other.cfg");
    for (from, to) in [(cluster.name.as_str(), "another"), ("k = \"64KiB\"", "k = \"128KiB\"")] {
        fs::write(&other, text.replace(from, to)).expect("another mcomp.cfg");
        let config = other.to_str().expect("a plain path");
        let output = mcomp(&["read", "0", "1", "--json", "--config", config]).output().expect("mcomp runs");
        let answer = parsed(&output.stdout);
        assert_eq!((output.status.code(), &answer["kind"]), (Some(76), &json!("wrong_cluster")), "{answer}");
    }
    let http = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".repeat(4);
    for manner in [Manner::Bytes(http), Manner::Bytes(other_version()), Manner::AtHandshake(Status::Version)] {
        let cluster = Setup::new(1, "64KiB").prepare();
        let _fake = Fake::listen(cluster.address(0), manner.clone());
        for args in [&["read", "0", "1"][..], &["write", "0", "x"], &["cas", "0", "0", "1"]] {
            let said = fails(&cluster, 76, "protocol", args);
            assert!(said.contains(&cluster.address(0)), "{manner:?}: {said}");
        }
        let status = parsed(&cluster.exits(69, &["status", "--json"]).stdout);
        assert_eq!(status["servers"][0]["kind"], "protocol", "{manner:?}: {status}");
    }
}

/// The header of an answer, as the next version of the protocol may have it.
fn other_version() -> Vec<u8> {
    let mut bytes = mcomp_wire::Header { kind: 1, flags: 1, request_id: 1, ..Default::default() }.emit();
    bytes[4] = mcomp_wire::VERSION + 1;
    let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
    bytes[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes.to_vec()
}

#[test]
fn code_124_is_for_those_who_never_answered() {
    let cluster = Setup::new(1, "64KiB").servers();
    cluster.freeze_server(0);
    for args in [&["read", "0", "1"][..], &["write", "0", "x"], &["cas", "0", "0", "1"]] {
        let args = [&["--timeout", "300ms"], args].concat();
        let said = fails(&cluster, 124, "timeout", &args);
        assert!(said.contains(&cluster.address(0)) && said.contains("300ms"), "{said}");
    }
    let status = parsed(&cluster.exits(69, &["status", "--json", "--timeout", "300ms"]).stdout);
    assert_eq!(status["servers"][0]["kind"], "timeout", "{status}");
    cluster.signal_server(0, Signal::CONT);
    assert_eq!(cluster.ok(&["read", "0", "1"]), [0], "what timed out before it was sent had no effect");
    assert_eq!(cluster.ok(&["read", "0", "8"]), [0; 8]);
}

#[test]
fn a_full_backlog_times_out_too() {
    let cluster = Setup::new(1, "64KiB").prepare();
    let address: SocketAddr = cluster.address(0).parse().expect("an address");
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&listener, &address).expect("the test's own address is free");
    listen(&listener, 0).expect("it listens");
    let mut waiting = Vec::new();
    // The kernel drops the first connection that finds no place: nobody accepts any.
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    let said = fails(&cluster, 124, "timeout", &["read", "0", "1", "--timeout", "300ms"]);
    assert!(said.contains(&cluster.address(0)), "{said}");
}

/// The request is sent and may have been done: the code that a script must never take for a failure.
#[test]
fn code_2_is_for_a_request_whose_answer_never_came() {
    const PART: usize = 4 << 20;
    let cluster = Setup::new(1, "8MiB").servers();
    let client = cluster.client();
    for json in [false, true] {
        let mut args = vec!["write", "0", "-", "--timeout", "1s"];
        args.extend(json.then_some("--json"));
        let mut child = piped(cluster.command(&args));
        let mut stdin = child.stdin.take().expect("piped");
        let byte = 1 + u8::from(json);
        stdin.write_all(&vec![byte; PART]).expect("the first part");
        let last_byte = || client.read_vec(PART as u64 - 1, 1).expect("a read");
        wait_until("the first part is in memory", || last_byte() == [byte]);
        cluster.freeze_server(0);
        stdin.write_all(&[9; 100]).expect("the second part");
        drop(stdin);
        let output = child.wait_with_output().expect("mcomp ends");
        cluster.signal_server(0, Signal::CONT);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("mcomp: ") && said.contains("unknown"), "{said}");
        if json {
            let answer = parsed(&output.stdout);
            assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("unknown"), &json!("unknown")), "{answer}");
        }
    }
}

/// Ctrl-C tells how far a write came.
#[test]
fn code_2_is_also_for_a_write_that_is_interrupted() {
    const PART: usize = 4 << 20;
    let cluster = Setup::new(1, "8MiB").servers();
    let client = cluster.client();
    let mut child = piped(cluster.command(&["write", "0", "-", "--json"]));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&vec![7; PART]).expect("the first part");
    wait_until("the first part is in memory", || client.read_vec(PART as u64 - 1, 1).expect("a read") == [7]);
    kill_process(Pid::from_child(&child), Signal::INT).expect("it waits for more");
    let output = child.wait_with_output().expect("mcomp ends");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let answer = parsed(&output.stdout);
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("unknown"), &json!("interrupted")), "{answer}");
    let said = answer["error"].as_str().expect("a sentence");
    assert!(said.starts_with("the write was interrupted: "), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
}

/// What a server may say, and what becomes of it.
#[test]
fn every_status_of_the_protocol_has_its_code_and_its_word() {
    let cluster = Setup::new(1, "64KiB").prepare();
    for (status, code, kind) in STATUSES {
        let _fake = Fake::listen(cluster.address(0), Manner::AtRequest(status));
        let said = fails(&cluster, code, kind, &["write", "0", "x", "--timeout", "1s"]);
        assert!(said.contains(&cluster.address(0)), "{status}: {said}");
    }
    for (status, code, kind) in [(Status::Denied, 77, "denied"), (Status::WrongCluster, 76, "wrong_cluster")] {
        let _fake = Fake::listen(cluster.address(0), Manner::AtHandshake(status));
        fails(&cluster, code, kind, &["write", "0", "x", "--timeout", "1s"]);
    }
}
