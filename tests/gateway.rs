//! The HTTP door as its users meet it: real gateways before real servers, asked over plain sockets with requests
//! written by hand.

/// Requests that are wrong, slow, too many or too long, and connections.
mod http;

/// The bytes of the memory, with ranges and conditions.
mod memory;

/// Registers, and many who write one.
mod registers;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use mcomp_net::auth::Keyring;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Setup, signal, wait_until};

/// A running gateway. It is killed when it is dropped.
struct Gateway {
    child: Child,
    address: String,
}

impl Gateway {
    /// Starts one on a free port. Called from the thread of the test: a child dies with the thread that started it.
    fn start(cluster: &Cluster, flags: &[&str]) -> Gateway {
        let (ip, parent) = (ip(cluster), std::process::id().to_string());
        let listen = format!("{ip}:0");
        let args = [&["gateway", "--json", "--listen", &listen, "--die-with", &parent], flags].concat();
        let mut child = cluster.command(&args).stdout(Stdio::piped()).spawn().expect("mcomp starts");
        let mut ready = String::new();
        let read = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready);
        let said: Option<Value> = read.ok().and_then(|_| serde_json::from_str(&ready).ok());
        let Some(address) = said.as_ref().and_then(|said| said["address"].as_str()) else {
            let _ = child.kill();
            panic!("the gateway did not start: {:?} {ready:?}", child.wait());
        };
        Gateway { address: address.to_owned(), child }
    }

    fn talk(&self) -> Talk {
        Talk::to(&self.address)
    }

    /// One request on a connection of its own.
    fn ask(&self, method: &str, path: &str, fields: &str, body: &[u8]) -> Said {
        self.talk().ask(method, path, fields, body)
    }

    fn get(&self, path: &str) -> Said {
        self.ask("GET", path, "", b"")
    }

    /// Writes a register, and hears its tag.
    fn write(&self, number: u64, value: &str) -> u64 {
        self.talk().write(number, value)
    }

    /// All that is answered to these bytes, up to the end of the connection.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = connect(&self.address);
        // It may be refused before its end.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Tells it to end; its exit code.
    fn end(&mut self) -> Option<i32> {
        signal(self.child.id(), Signal::TERM);
        let mut code = None;
        wait_until("the gateway ends", || {
            code = self.child.try_wait().expect("a child can be waited for");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Debug)]
struct Said {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// That it is a problem of this status and word, as RFC 9457 has it.
    fn assert_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        let expected = (status.into(), kind.into(), format!("urn:mcomp:problem:{kind}").into());
        assert_eq!((&problem["status"], &problem["kind"], &problem["type"]), (&expected.0, &expected.1, &expected.2));
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem}");
        assert_eq!(problem["outcome"], "fail", "{problem}");
    }
}

/// A connection that is kept.
struct Talk {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Talk {
    fn to(address: &str) -> Talk {
        Talk { stream: BufReader::new(connect(address)), address: address.to_owned() }
    }

    fn ask(&mut self, method: &str, path: &str, fields: &str, body: &[u8]) -> Said {
        let (address, len) = (&self.address, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len}\r\n{fields}\r\n");
        self.send(&[head.as_bytes(), body].concat());
        self.hear(method == "HEAD")
    }

    fn write(&mut self, number: u64, value: &str) -> u64 {
        let body = serde_json::json!({"addr": number, "value": value}).to_string();
        let said = self.ask("POST", "/write", "Content-Type: application/json\r\n", body.as_bytes());
        assert_eq!(said.status, 200, "{said:?}");
        said.json()["tag"].as_u64().expect("a tag")
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("it reads");
    }

    /// The next answer.
    fn hear(&mut self, head_only: bool) -> Said {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut head).expect("an answer"), 0, "it ends after {head:?}");
        }
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok()).expect("a status");
        let mut said = Said { status, head, body: Vec::new() };
        let len = said.field("content-length").map_or(0, |len| len.parse().expect("a length"));
        if !head_only {
            said.body.resize(len, 0);
            self.stream.read_exact(&mut said.body).expect("the body");
        }
        said
    }

    /// That nothing more comes: the other side has closed it.
    fn assert_ended(mut self) {
        let mut rest = Vec::new();
        let ended = self.stream.read_to_end(&mut rest);
        let is_late = matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!is_late && rest.is_empty(), "{ended:?} {rest:?}");
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn ip(cluster: &Cluster) -> String {
    cluster.address(0).split(':').next().expect("an address").to_owned()
}

#[test]
fn it_goes_on_without_a_server_and_with_the_next_one() {
    let mut cluster = Setup::new(2, "64KiB").servers();
    // A read of this machine notices a death a moment later; see ARCHITECTURE.md.
    let gateway = Gateway::start(&cluster, &["--remote", "--timeout", "2s"]);
    let mut talk = gateway.talk();
    assert_eq!(talk.write(0, "kept"), 1);
    cluster.kill_server(0);
    let said = talk.ask("GET", "/read/0", "", b"");
    said.assert_problem(503, "unavailable");
    assert_eq!(said.field("retry-after"), Some("1"));
    assert_eq!(talk.ask("GET", "/read/16", "", b"").status, 200, "the other server's memory is there");
    let status = talk.ask("GET", "/status", "", b"").json();
    assert_eq!((&status["outcome"], &status["cluster"]), (&"ok".into(), &cluster.name.as_str().into()));
    assert_eq!(status["servers"][0]["state"], "unreachable");
    assert_eq!(status["servers"][1]["state"], "serving");
    cluster.start_server(0);
    wait_until("the server is found again", || talk.ask("GET", "/read/0", "", b"").status == 200);
    assert_eq!(talk.ask("GET", "/read/0", "", b"").json(), serde_json::json!({"tag": 1, "value": "kept"}));
}

/// Registers and conditions are compare-and-swaps of replicated blocks then, and no server is needed for itself.
#[test]
fn one_of_three_replicas_is_not_missed() {
    let mut cluster = Setup::new(3, "64KiB").env("MCOMP_CLUSTER_REPLICAS", "3").servers();
    let gateway = Gateway::start(&cluster, &[]);
    let mut talk = gateway.talk();
    let read = |talk: &mut Talk| talk.ask("GET", "/read/0", "", b"").json();
    wait_until("the replicas serve", || talk.ask("GET", "/read/0", "", b"").status == 200);
    assert_eq!(talk.write(0, "of three"), 1);
    cluster.kill_server(0);
    assert_eq!(read(&mut talk), serde_json::json!({"tag": 1, "value": "of three"}));
    assert_eq!(talk.write(0, "of two"), 2);
    assert_eq!(read(&mut talk), serde_json::json!({"tag": 2, "value": "of two"}));
    cluster.kill_server(1);
    assert_ne!(talk.ask("GET", "/read/0", "", b"").status, 200, "one is no majority");
}

#[test]
fn what_nobody_knows_is_told_as_that() {
    let cluster = Setup::new(1, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &["--remote", "--timeout", "300ms"]);
    let mut talk = gateway.talk();
    assert_eq!(talk.ask("PUT", "/v1/memory/0", "", b"before").status, 204);
    cluster.freeze_server(0);
    let said = talk.ask("PUT", "/v1/memory/0", "", b"after ");
    let problem = said.json();
    assert_eq!((said.status, &problem["kind"], &problem["outcome"]), (504, &"unknown".into(), &"unknown".into()));
    talk.ask("GET", "/v1/memory/0", "Range: bytes=0-5\r\n", b"").assert_problem(504, "timeout");
    cluster.signal_server(0, Signal::CONT);
    wait_until("the server is found again", || talk.ask("GET", "/read/1", "", b"").status == 200);
    // It had been sent, so it is done by now or never.
    let bytes = talk.ask("GET", "/v1/memory/0", "Range: bytes=0-5\r\n", b"").body;
    assert!(bytes == b"before" || bytes == b"after ", "{bytes:?}");
}

#[test]
fn a_restore_is_told_once() {
    let cluster = Setup::new(1, "64KiB").start();
    let gateway = Gateway::start(&cluster, &[]);
    let mut talk = gateway.talk();
    talk.write(0, "before");
    let path = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a path");
    talk.write(0, "after");
    cluster.ok(&["restore", path.trim()]);
    talk.ask("GET", "/read/0", "", b"").assert_problem(409, "fenced");
    assert_eq!(talk.ask("GET", "/read/0", "", b"").json(), serde_json::json!({"tag": 1, "value": "before"}));
}

#[test]
fn a_signal_ends_it_well() {
    let cluster = Setup::new(1, "64KiB").servers();
    let mut gateway = Gateway::start(&cluster, &[]);
    let (mut kept, mut silent) = (gateway.talk(), gateway.talk());
    assert_eq!(kept.ask("GET", "/read/0", "", b"").status, 200);
    silent.send(b"GET /read/0 HTTP/1.1\r\nHost:");
    assert_eq!(gateway.end(), Some(0));
    kept.assert_ended();
    silent.assert_ended();
    drop(std::net::TcpListener::bind(&gateway.address).expect("the address is free"));
}

#[test]
fn strangers_are_not_let_in() {
    let refused = |cluster: &Cluster, args: &[&str]| {
        let output = cluster.exits(78, &[&["gateway"], args].concat());
        String::from_utf8(output.stderr).expect("text")
    };
    let cluster = Setup::new(1, "64KiB").prepare();
    let said = refused(&cluster, &["--listen", "0.0.0.0:0"]);
    assert!(said.contains("0.0.0.0:0") && said.contains("`mcomp secret create`"), "{said}");

    let keyring = Keyring::random().expect("keys");
    let cluster = Setup::new(1, "64KiB").secret(&keyring).servers();
    let said = refused(&cluster, &["--listen", "0.0.0.0:0"]);
    assert!(said.contains("--token-file"), "{said}");
    let file = cluster.dir.path().join("token");
    let token = file.to_str().expect("a plain path");
    std::fs::write(&file, "short\n").expect("a file");
    let said = refused(&cluster, &["--listen", "127.0.0.1:0", "--token-file", token]);
    assert!(said.contains("at least 16 characters"), "{said}");
    std::fs::write(&file, "a-word-of-some-length\n").expect("a file");
    let gateway = Gateway::start(&cluster, &["--token-file", token]);
    let said = gateway.get("/read/0");
    said.assert_problem(401, "denied");
    assert_eq!(said.field("www-authenticate"), Some("Bearer"));
    let said = gateway.ask("GET", "/read/0", "Authorization: Bearer a-word-of-some-length\r\n", b"");
    assert_eq!(said.json(), serde_json::json!({"tag": 0, "value": "nil"}));
}

#[test]
fn an_address_in_use_is_told() {
    let cluster = Setup::new(1, "64KiB").prepare();
    let gateway = Gateway::start(&cluster, &[]);
    let output = cluster.exits(75, &["gateway", "--listen", &gateway.address]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(&gateway.address));
}
