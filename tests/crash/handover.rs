//! Servers that are started over running ones.
//!
//! One that runs hands over to the next and ends well; one that cannot answer, or not in this way, is named and left
//! as it is.

use std::fs::File;
use std::io::Write;

use mcomp_net::{Connection, Endpoint, Inbox, Listener, Timeouts, Trust, error_frame, unix_name};
use mcomp_wire::{HEADER_LEN, Header, Kind, Role, Status, limits};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::segments::refused_start;
use super::{full_of_noise, incarnation, segment, whole};
use crate::harness::{Cluster, PATIENCE, wait_until};
use crate::raw::hello;

fn unix(cluster: &Cluster, id: u32) -> String {
    unix_name(&cluster.name, id, &cluster.address(id))
}

/// Starts a server that must be refused with exit code 75, and returns what it says.
fn refused(cluster: &Cluster, id: u32) -> String {
    let config = cluster.config_path().to_str().expect("a plain path");
    let output = refused_start(&["server", "--id", &id.to_string(), "--config", config]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}");
    said
}

#[test]
fn a_server_started_over_a_running_one_takes_over_from_it() {
    let (mut cluster, noise) = full_of_noise();
    let client = cluster.client();
    for id in [0, 2, 0] {
        let (first, before) = (cluster.server_pid(id), incarnation(&cluster, id));
        let said = cluster.succeed_server(id);
        assert!(said.contains("taken over"), "{said}");
        assert!(cluster.server_pid(id) != first && incarnation(&cluster, id) > before);
        let (log, successor) = (cluster.log("server", id), format!("successor={}", cluster.server_pid(id)));
        let told = log.lines().filter(|line| line.contains(&successor)).count();
        assert_eq!(told, 1, "one line says who takes over: {log}");
        assert!(whole(&client) == noise, "bytes were lost with server {id}");
    }
    cluster.stop_server(0);
    cluster.stop_server(1);
}

#[test]
fn a_frozen_server_is_named_and_left_as_it_is() {
    let (cluster, noise) = full_of_noise();
    let (pid, before) = (cluster.server_pid(1), incarnation(&cluster, 1));
    cluster.freeze_server(1);
    let said = refused(&cluster, 1);
    for part in [format!("process {pid}"), format!("`kill -CONT {pid}`"), segment(&cluster, 1).display().to_string()] {
        assert!(said.contains(&part), "{part:?} is not in {said}");
    }
    cluster.signal_server(1, Signal::CONT);
    assert!(whole(&cluster.remote_client()) == noise, "it serves as before");
    let status = cluster.client().status(1).expect("it serves as before");
    assert_eq!((status.pid, status.incarnation), (pid, before));
}

/// The request lies in its socket when it wakes up, and the one who asked has given up.
#[test]
fn a_server_that_was_frozen_does_not_stop_for_a_successor_that_has_left() {
    let (cluster, noise) = full_of_noise();
    let timeouts = Timeouts { connect: PATIENCE, request: PATIENCE };
    let open = || {
        Connection::open(
            &Endpoint::Unix(unix(&cluster, 0)),
            &hello(&cluster, 0, Role::Admin),
            timeouts,
            Trust::default(),
        )
    };
    let connections = || cluster.client().status(0).expect("it serves").connections;
    let alone = connections();
    let mut asking = open().expect("a connection");
    cluster.freeze_server(0);
    asking.start(Kind::Handover, &[]).expect("its socket takes it");
    drop(asking);
    cluster.signal_server(0, Signal::CONT);
    wait_until("it has seen to the connection", || connections() == alone);
    assert!(whole(&cluster.remote_client()) == noise, "it serves as before");
}

/// What another version of mcomp may answer to whoever wants its memory.
enum Manner {
    /// It speaks another version of the protocol.
    OtherVersion,
    /// It greets, and does not know the request.
    UnknownKind,
    /// It listens somewhere else.
    Nobody,
}

/// A server of another kind on the Unix socket of server 0; it serves one connection.
fn other_server(listener: &Listener, manner: &Manner) {
    let mut stream = listener.accept().expect("somebody asks");
    let mut inbox = Inbox::new(limits::MAX_BODY);
    loop {
        let Some(frame) = inbox.take().expect("frames") else {
            match inbox.fill(&mut stream) {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let mut answer = Vec::new();
        let header = frame.header;
        match (manner, frame.kind()) {
            (Manner::UnknownKind, Some(Kind::Hello)) => greet(header, &mut answer),
            (Manner::UnknownKind, _) => {
                error_frame(&mut answer, header.kind, header.request_id, Status::UnknownKind, "no such request");
            }
            _ => {
                error_frame(&mut answer, Kind::Error as u8, 0, Status::Version, "this is version 2");
                answer[4] += 1;
                let crc = crc32fast::hash(&answer[..HEADER_LEN - 4]);
                answer[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
            }
        }
        // Who has heard enough may be gone.
        let _ = stream.write_all(&answer);
    }
}

fn greet(header: Header, out: &mut Vec<u8>) {
    let welcome = mcomp_wire::control::Welcome {
        server: 0,
        block_size: 4096,
        config_epoch: 1,
        incarnation: 1,
        segment: uuid::Uuid::nil(),
        features: 0,
        resumed: false,
        auth: Vec::new(),
    };
    let at = mcomp_net::begin_frame(out);
    out.extend(mcomp_wire::control::encode(&welcome));
    mcomp_net::finish_frame(out, at, Header { flags: mcomp_wire::flags::ANSWER, ..header }, false);
}

#[test]
fn a_server_of_another_version_is_named_and_left_as_it_is() {
    let (mut cluster, noise) = full_of_noise();
    let pid = cluster.server_pid(0);
    cluster.kill_server(0);
    let file = File::open(segment(&cluster, 0)).expect("it is left");
    for (manner, part) in [
        (Manner::OtherVersion, "it is of another version"),
        (Manner::UnknownKind, "it is of a version that cannot"),
        (Manner::Nobody, "does not answer"),
    ] {
        // This process stands in for one that serves the segment: it has the lock, and the header names it.
        wait_until("the kernel has taken the killed server down", || {
            flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        });
        let said = match manner {
            Manner::Nobody => refused(&cluster, 0),
            manner => std::thread::scope(|scope| {
                let listener = Listener::bind(&Endpoint::Unix(unix(&cluster, 0))).expect("the name is free");
                let serving = scope.spawn(move || other_server(&listener, &manner));
                let said = refused(&cluster, 0);
                serving.join().expect("the other server");
                said
            }),
        };
        assert!(said.contains(part) && said.contains(&format!("`kill {pid}`")), "{said}");
        flock(&file, FlockOperation::Unlock).expect("it is ours");
    }
    cluster.start_server(0);
    assert!(whole(&cluster.client()) == noise, "the refused starts have changed something");
}

#[test]
fn an_address_of_another_machine_stops_nobody() {
    let (cluster, noise) = full_of_noise();
    let text = std::fs::read_to_string(cluster.config_path()).expect("mcomp.cfg is read");
    // A network for documentation: no machine has an address of it.
    let elsewhere = text.replacen(&cluster.address(0), "192.0.2.1:7401", 1);
    let path = cluster.dir.path().join("elsewhere.cfg");
    std::fs::write(&path, elsewhere).expect("another configuration");
    let output = refused_start(&["server", "--id", "0", "--config", path.to_str().expect("a plain path")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(78) && said.contains("192.0.2.1:7401"), "{said}");
    let other_shape = text.replace("\"64KiB\"", "\"128KiB\"");
    std::fs::write(&path, other_shape).expect("another configuration");
    let output = refused_start(&["server", "--id", "0", "--config", path.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(whole(&cluster.remote_client()) == noise, "it serves on");
}
