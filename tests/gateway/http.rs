//! Whatever is wrong with a request, it is told or closed, and harms nobody else.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::{Gateway, Talk, connect};
use crate::harness::{Setup, seed, wait_until};

/// The status of an answer to these bytes, and that it is the last one of the connection.
fn refused(gateway: &Gateway, bytes: &[u8]) -> String {
    let answer = gateway.exchange(bytes);
    let status = answer.strip_prefix("HTTP/1.1 ").map(|rest| rest[..3].to_owned());
    assert_eq!(answer.matches("content-length: ").count(), 1, "one answer, and the end: {answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    status.expect("a status")
}

#[test]
fn requests_that_are_wrong_are_told_so() {
    let cluster = Setup::new(1, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &["--max-body", "4KiB"]);
    let request = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    for (bytes, status) in [
        (b"GET /status HTTP/1.1\r\n\r\n".to_vec(), "400"),
        (b"MCMP\x01\x03\x00\x00".repeat(9), "400"),
        (request("PUT /v1/memory/0", "Content-Length: 1\r\nContent-Length: 2\r\n").into(), "400"),
        (request("PUT /v1/memory/0", "Transfer-Encoding: chunked\r\n").into(), "411"),
        (request(&format!("GET /{}", "x".repeat(10_000)), "").into(), "431"),
        (request("GET /status", &"a: b\r\n".repeat(200)).into(), "431"),
        (request("PUT /v1/memory/0", "Content-Length: 4097\r\nExpect: 100-continue\r\n").into(), "413"),
        (request("PUT /v1/memory/0", "Content-Length: 18446744073709551615\r\n").into(), "413"),
        (request("PUT /nowhere", "Content-Length: 4\r\n").into(), "404"),
        (request("PUT /v1/memory/0", "Content-Length: 4\r\nExpect: gold\r\n").into(), "417"),
        (b"GET /status HTTP/1.0\r\n\r\n".to_vec(), "200"),
        (request("GET /status", "Connection: close\r\n").into(), "200"),
    ] {
        assert_eq!(refused(&gateway, &bytes), status, "{}", bytes.escape_ascii());
    }
    // What is wrong and was read whole costs nobody the connection.
    let mut talk = gateway.talk();
    talk.ask("GET", "/", "", b"").assert_problem(404, "not_found");
    let said = talk.ask("DELETE", "/v1/memory/0", "", b"");
    said.assert_problem(405, "usage");
    assert_eq!(said.field("allow"), Some("GET, PUT, PATCH, HEAD"));
    talk.ask("GET", "/status", "X-Y: z\r\n", b"ignored").json();
    talk.send(request("PUT /v1/memory/0", "").as_bytes());
    talk.hear(false).assert_problem(411, "usage");
    talk.send(b"GET /status HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    talk.hear(false).assert_problem(421, "denied");
    assert_eq!(talk.ask("PUT", "/v1/memory/0", "", &[1; 4096]).status, 204);
    let described = talk.ask("GET", "/openapi.json", "", b"");
    assert_eq!(described.field("content-type"), Some("application/json"));
    assert_eq!(described.json()["openapi"], "3.1.0");
}

#[test]
fn requests_come_in_any_pieces_and_one_after_the_other() {
    let cluster = Setup::new(1, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &[]);
    let mut talk = gateway.talk();
    let put = |len: usize| format!("PUT /v1/memory/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n");
    let get = "GET /v1/memory/0 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-4\r\n\r\n";
    talk.send(format!("{}hello{get}{}", put(5), put(5)).as_bytes());
    assert_eq!(talk.hear(false).status, 204);
    assert_eq!(talk.hear(false).body, b"hello");
    talk.send(b"wor");
    talk.send(b"ld");
    assert_eq!(talk.hear(false).status, 204);
    for byte in get.as_bytes() {
        talk.send(&[*byte]);
    }
    assert_eq!(talk.hear(false).body, b"world");
    talk.send(put(5).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").as_bytes());
    assert_eq!(talk.hear(false).status, 100);
    talk.send(b"later");
    assert_eq!(talk.hear(false).status, 204);
}

#[test]
fn who_is_slow_or_silent_is_cut_off() {
    let cluster =
        Setup::new(1, "64KiB").with("[limits]\nhandshake_timeout = \"100ms\"\nframe_timeout = \"100ms\"").servers();
    let gateway = Gateway::start(&cluster, &["--idle-timeout", "100ms"]);
    let begun = |bytes: &[u8]| -> Talk {
        let mut talk = gateway.talk();
        talk.send(bytes);
        talk
    };
    let silent = begun(b"");
    let half_a_head = begun(b"GET /status HTTP/1.1\r\nHost:");
    let half_a_body = begun(b"PUT /v1/memory/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf");
    let mut idle = gateway.talk();
    assert_eq!(idle.ask("GET", "/read/0", "", b"").status, 200);
    for talk in [silent, half_a_head, half_a_body, idle] {
        talk.assert_ended();
    }
    assert_eq!(cluster.ok(&["read", "0", "4"]), [0; 4], "half a body is not written");
}

#[test]
fn who_comes_too_late_is_told() {
    let cluster = Setup::new(1, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &["--max-connections", "2"]);
    let mut inside: Vec<Talk> = (0..2).map(|_| gateway.talk()).collect();
    for talk in &mut inside {
        assert_eq!(talk.ask("GET", "/read/0", "", b"").status, 200);
    }
    let mut outside = gateway.talk();
    let said = outside.hear(false);
    said.assert_problem(503, "busy");
    assert_eq!(said.field("retry-after"), Some("1"));
    outside.assert_ended();
    inside.pop();
    wait_until("a place is free", || gateway.exchange(b"GET /read/0 HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

#[test]
fn any_bytes_at_all_are_answered_or_dropped() {
    let cluster = Setup::new(1, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &[]);
    let mut random = fastrand::Rng::with_seed(seed());
    let valid = "GET /v1/memory/60KiB HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-15\r\nIf-Match: \"a\"\r\n\
                 Content-Length: 5\r\nConnection: keep-alive\r\n\r\nhello";
    for _ in 0..300 {
        let mut bytes = valid.as_bytes().to_vec();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, random.u8(..)),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.splice(at..at, valid.bytes()).for_each(drop),
            }
        }
        let mut stream = connect(&gateway.address);
        // It may have been refused before its end.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "no end: {bytes:?}");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{bytes:?}");
    }
    assert_eq!(gateway.get("/read/0").status, 200);
}
