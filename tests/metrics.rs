//! What a monitor is told: real servers asked over plain sockets, with requests written by hand.

/// The list in docs/metrics.md, held against what is exported.
mod document;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use rustix::process::Signal;

use crate::harness::{Cluster, PATIENCE, Setup, seed, wait_until};

/// A cluster whose servers answer monitors.
fn watched(setup: Setup) -> Cluster {
    let cluster = setup.prepare();
    let mut text = fs::read_to_string(cluster.config_path()).expect("mcomp.cfg");
    for id in 0..cluster.n {
        let snapshot = format!("snapshot = \"{}\"\n", cluster.snapshot_address(id));
        assert!(text.contains(&snapshot), "{text}");
        text = text.replace(&snapshot, &format!("{snapshot}http = \"{}\"\n", http(&cluster, id)));
    }
    fs::write(cluster.config_path(), text).expect("mcomp.cfg is written");
    cluster
}

/// Where server `id` answers.
fn http(cluster: &Cluster, id: u32) -> String {
    let address = cluster.address(id);
    let (ip, _) = address.rsplit_once(':').expect("a port");
    format!("{ip}:{}", 7601 + id)
}

/// All that is answered to these bytes.
fn exchange(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the end");
    answer
}

/// The status line, the head and the body of an answer.
fn asked(address: &str, method: &str, path: &str) -> (String, String, String) {
    let answer = exchange(address, format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let (status, fields) = head.split_once("\r\n").expect("a status line");
    (status.to_owned(), fields.to_owned(), body.to_owned())
}

/// The metrics of a server: each sample by its name with labels.
fn samples(address: &str) -> BTreeMap<String, f64> {
    let (status, _, body) = asked(address, "GET", "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}

#[test]
fn what_is_done_is_counted() {
    let mut cluster = watched(Setup::new(1, "64KiB"));
    cluster.start_server(0);
    cluster.start_snapshotter(0);
    let address = http(&cluster, 0);
    let before = samples(&address);
    assert!(before.iter().filter(|(name, _)| name.starts_with("mcomp_ops_total")).all(|(_, count)| *count == 0.0));
    cluster.ok(&["write", "0", "hello"]);
    cluster.ok(&["read", "0", "3", "--remote"]);
    cluster.ok(&["add", "8", "1"]);
    cluster.ok(&["snapshot", "create"]);
    // No frame begins like this.
    let refused = exchange_raw(&cluster.address(0), &[0xff; 64]);
    assert!(!refused.is_empty(), "it is told why");
    let client = cluster.remote_client();
    client.write_at(100, b"open").expect("it is served");
    let count = |kind: &str| samples(&address)[&format!("mcomp_request_duration_seconds_count{{kind=\"{kind}\"}}")];
    // An answer is there before it is known how long it took, and a client before its connection is gone.
    wait_until("the last answer is counted", || count("write") == 2.0 && count("read") == 1.0);
    wait_until("the others have left", || samples(&address)["mcomp_connections"] == 1.0);
    let after = samples(&address);
    let info = format!("mcomp_build_info{{version=\"0.1.0\",cluster=\"{}\",server=\"0\"}}", cluster.name);
    for (name, value) in [
        (info.as_str(), 1.0),
        ("mcomp_ready", 1.0),
        ("mcomp_memory_bytes", 65536.0),
        ("mcomp_memory_used_bytes", 4096.0),
        ("mcomp_memory_blocks", 16.0),
        ("mcomp_connections", 1.0),
        ("mcomp_ops_total{kind=\"write\"}", 2.0),
        ("mcomp_ops_total{kind=\"read\"}", 1.0),
        ("mcomp_ops_total{kind=\"atomic\"}", 1.0),
        ("mcomp_data_bytes_total{direction=\"written\"}", 17.0),
        ("mcomp_rejected_total{cause=\"bad_frame\"}", 1.0),
        ("mcomp_rejected_total{cause=\"max_connections\"}", 0.0),
        ("mcomp_snapshots_total{outcome=\"ok\"}", 1.0),
        ("mcomp_snapshots_total{outcome=\"aborted\"}", 0.0),
        ("mcomp_cut_hold_seconds_count", 1.0),
        ("mcomp_request_duration_seconds_count{kind=\"write\"}", 2.0),
        ("mcomp_request_duration_seconds_bucket{le=\"+Inf\",kind=\"write\"}", 2.0),
        ("mcomp_request_duration_seconds_count{kind=\"read\"}", 1.0),
        ("mcomp_request_duration_seconds_count{kind=\"fill\"}", 0.0),
    ] {
        assert_eq!(after.get(name), Some(&value), "{name}\n{after:#?}");
    }
    assert!(after["mcomp_request_duration_seconds_sum{kind=\"write\"}"] > 0.0);
    assert!(after["mcomp_cut_epoch"] > before["mcomp_cut_epoch"]);
    assert!(after["mcomp_start_time_seconds"] > 1.7e9, "since 1970, not since the boot");
}

/// Whatever a server of the protocol says to these bytes.
fn exchange_raw(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("it reads");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn paths_and_methods_have_their_answers() {
    let mut cluster = watched(Setup::new(1, "64KiB"));
    cluster.start_server(0);
    let address = http(&cluster, 0);
    for (method, path, code) in [
        ("GET", "/healthz", "200 OK"),
        ("GET", "/readyz", "200 OK"),
        ("GET", "/readyz?verbose=1", "200 OK"),
        ("GET", "/", "404 Not Found"),
        ("GET", "/metrics/", "404 Not Found"),
        ("GET", "/../metrics", "404 Not Found"),
        ("POST", "/metrics", "405 Method Not Allowed"),
        ("DELETE", "/", "405 Method Not Allowed"),
    ] {
        let (status, head, body) = asked(&address, method, path);
        assert_eq!(status, format!("HTTP/1.1 {code}"), "{method} {path}");
        assert!(
            head.contains("connection: close") && head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        assert_eq!(head.contains("allow: GET, HEAD"), code.starts_with("405"), "{head}");
        assert!(body.ends_with('\n'), "{body:?}");
        let (status, head, none) = asked(&address, "HEAD", path);
        if method == "GET" {
            assert_eq!((status, none.as_str()), (format!("HTTP/1.1 {code}"), ""), "HEAD {path}");
            assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        }
    }
    for (request, code) in [
        (b"GET /healthz HTTP/1.1\r\n\r\n".to_vec(), "400"),
        (vec![0; 100], "400"),
        (b"MCMP\x01\x03\x00\x00".repeat(9), "400"),
        ([b"GET /", &[b'x'; 10_000][..], b" HTTP/1.1\r\n\r\n"].concat(), "431"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)).into_bytes(), "431"),
        (b"GET /healthz HTTP/1.0\r\n\r\n".to_vec(), "200"),
        // A body is not read, and does not cost the answer.
        ([&b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"[..], &[b'y'; 50_000]].concat(), "200"),
    ] {
        let answer = exchange(&address, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
    }
}

#[test]
fn any_bytes_at_all_are_answered_or_dropped() {
    let mut cluster = watched(Setup::new(1, "64KiB"));
    cluster.start_server(0);
    let address = http(&cluster, 0);
    let mut random = fastrand::Rng::with_seed(seed());
    let valid = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n");
    for _ in 0..500 {
        let mut bytes = valid.clone().into_bytes();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, random.u8(..)),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.splice(at..at, valid.bytes()).for_each(drop),
            }
        }
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // It may have been refused before its end.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "no end: {bytes:?}");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{bytes:?}");
    }
    assert_eq!(asked(&address, "GET", "/healthz").0, "HTTP/1.1 200 OK");
    cluster.ok(&["read", "0", "1"]);
}

#[test]
fn who_is_silent_or_leaves_does_not_keep_others_from_asking() {
    let mut cluster = watched(Setup::new(1, "64KiB").with("[limits]\nhandshake_timeout = \"100ms\""));
    cluster.start_server(0);
    let address = http(&cluster, 0);
    for _ in 0..20 {
        drop(TcpStream::connect(&address).expect("it listens"));
    }
    let mut silent: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(&address).expect("it listens")).collect();
    let mut begun = TcpStream::connect(&address).expect("it listens");
    begun.write_all(b"GET /metrics HTTP/1.1\r\nHost:").expect("it reads");
    assert_eq!(asked(&address, "GET", "/healthz").0, "HTTP/1.1 200 OK");
    for stream in silent.iter_mut().chain([&mut begun]) {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut none = Vec::new();
        // It is closed, or reset; it is not answered.
        let _ = stream.read_to_end(&mut none);
        assert_eq!(none, b"", "a request that never ends has no answer");
    }
    let threads = fs::read_dir(format!("/proc/{}/task", cluster.server_pid(0))).expect("it lives");
    let names = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("comm")).unwrap_or_default());
    let mut ours: Vec<String> = names.filter(|name| name.starts_with("http")).collect();
    ours.sort();
    assert_eq!(ours, ["http-0\n", "http-1\n", "http-2\n", "http-3\n"]);
}

#[test]
fn a_monitor_finds_the_next_server_where_the_last_one_was() {
    let mut cluster = watched(Setup::new(2, "64KiB"));
    (0..2).for_each(|id| cluster.start_server(id));
    let address = http(&cluster, 1);
    let first = samples(&address)["mcomp_incarnation"];
    cluster.succeed_server(1);
    let second = samples(&address)["mcomp_incarnation"];
    assert!(second > first, "another server answers now");
    cluster.kill_server(1);
    cluster.start_server(1);
    assert!(samples(&address)["mcomp_incarnation"] > second);
    // A silent monitor does not hold the end up, and the address is free after it.
    let silent = TcpStream::connect(&address).expect("it listens");
    cluster.stop_server(1);
    drop(TcpListener::bind(&address).expect("the address is free"));
    drop(silent);
    assert_eq!(asked(&http(&cluster, 0), "GET", "/readyz").0, "HTTP/1.1 200 OK", "others go on");
}

/// Whoever takes over is the only one left: it serves the memory whatever else it cannot have.
#[test]
fn a_take_over_does_not_fail_for_a_monitor() {
    let mut cluster = Setup::new(1, "64KiB").prepare();
    cluster.start_server(0);
    cluster.ok(&["write", "0", "kept"]);
    let (plain, address) = (fs::read_to_string(cluster.config_path()).expect("mcomp.cfg"), http(&cluster, 0));
    let _stranger = TcpListener::bind(&address).expect("the test's own address is free");
    fs::write(cluster.config_path(), format!("{plain}http = \"{address}\"\n")).expect("mcomp.cfg is written");
    cluster.succeed_server(0);
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"kept");
    let log = cluster.log("server", 0);
    assert!(log.contains("nobody answers monitors") && log.contains(&address), "{log}");
}

#[test]
fn a_frozen_server_is_not_healthy() {
    let mut cluster = watched(Setup::new(1, "64KiB"));
    cluster.start_server(0);
    let address = http(&cluster, 0);
    cluster.freeze_server(0);
    // The kernel takes the connection, and nobody answers.
    let mut stream = TcpStream::connect(&address).expect("the kernel listens");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").expect("the kernel takes it");
    stream.set_nonblocking(true).expect("an option");
    assert_eq!(stream.read(&mut [0]).expect_err("no answer").kind(), std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("an option");
    cluster.signal_server(0, Signal::CONT);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let _ = stream.shutdown(Shutdown::Both);
}

#[test]
fn what_others_reach_needs_a_secret_and_nothing_is_answered_by_default() {
    let cluster = Setup::new(1, "64KiB").with("http = \"192.0.2.1:9400\"").prepare();
    let output = cluster.exits(78, &["server", "--id", "0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("192.0.2.1:9400") && said.contains("not a loopback address"), "{said}");
    let mut cluster = watched(Setup::new(1, "64KiB"));
    let _stranger = TcpListener::bind(http(&cluster, 0)).expect("the test's own address is free");
    let output = cluster.exits(75, &["server", "--id", "0"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(&http(&cluster, 0)), "{output:?}");
    let found = String::from_utf8(cluster.exits(1, &["doctor", "--quiet"]).stdout).expect("text");
    assert!(found.lines().any(|line| line.contains("fail") && line.contains(&http(&cluster, 0))), "{found}");
    let text = fs::read_to_string(cluster.config_path()).expect("mcomp.cfg");
    let plain: String = text.lines().filter(|line| !line.starts_with("http")).map(|line| format!("{line}\n")).collect();
    fs::write(cluster.config_path(), plain).expect("mcomp.cfg is written");
    cluster.start_server(0);
    let tasks = || fs::read_dir(format!("/proc/{}/task", cluster.server_pid(0))).expect("it lives").flatten();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    wait_until("its threads have names", || tasks().map(name).any(|name| name.starts_with("accept-tcp")));
    assert!(!tasks().map(name).any(|name| name.starts_with("http")), "nobody waits for monitors");
}
