//! `/read`, `/registers` and `/write`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{Gateway, Said};
use crate::harness::{Setup, length};

/// The longest text of a register.
const TEXT_LEN_MAX: usize = 1268;

#[test]
fn what_is_written_is_read() {
    let cluster = Setup::new(2, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &[]);
    let read = |path: &str| gateway.get(path).json();
    assert_eq!(read("/read/7"), json!({"tag": 0, "value": "nil"}));
    assert_eq!(gateway.write(7, "hello"), 1);
    assert_eq!(gateway.write(7, ""), 2);
    assert_eq!(read("/registers/7"), json!({"tag": 2, "value": ""}));
    let long = "é".repeat(TEXT_LEN_MAX / 2);
    assert_eq!(gateway.write(7, &long), 3);
    assert_eq!(gateway.write(31, "the last one, on the other server"), 1);
    // Nothing of it is in the gateway.
    let another = Gateway::start(&cluster, &["--remote"]);
    assert_eq!(another.get("/read/0x7").json(), json!({"tag": 3, "value": long}));
    assert_eq!(another.write(7, "nil"), 4);
    assert_eq!(read("/registers/7"), json!({"tag": 4, "value": "nil"}));
    let head = gateway.ask("HEAD", "/read/7", "", b"");
    let length = gateway.get("/read/7").body.len().to_string();
    assert_eq!((head.status, head.field("content-length")), (200, Some(length.as_str())));
}

#[test]
fn what_is_no_write_changes_nothing() {
    let cluster = Setup::new(1, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &[]);
    assert_eq!(gateway.write(7, "kept"), 1);
    let post = |content_type: &str, body: &str| -> Said {
        gateway.ask("POST", "/write", &format!("Content-Type: {content_type}\r\n"), body.as_bytes())
    };
    let too_long = json!({"addr": 7, "value": "x".repeat(TEXT_LEN_MAX + 1)}).to_string();
    for (body, status, kind) in [
        ("", 400, "usage"),
        ("hello", 400, "usage"),
        (r#"{"addr":7}"#, 400, "usage"),
        (r#"{"addr":7,"value":5}"#, 400, "usage"),
        (r#"{"addr":"7","value":""}"#, 400, "usage"),
        (r#"{"addr":-7,"value":""}"#, 400, "usage"),
        (r#"{"addr":7,"value":"","tag":9}"#, 400, "usage"),
        (r#"{"addr":16,"value":""}"#, 400, "out_of_range"),
        (r#"{"addr":18446744073709551615,"value":""}"#, 400, "out_of_range"),
        (too_long.as_str(), 413, "too_large"),
    ] {
        post("application/json; charset=utf-8", body).assert_problem(status, kind);
    }
    // What a page of somebody else can have a browser send.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        post(content_type, r#"{"addr":7,"value":"theirs"}"#).assert_problem(415, "usage");
    }
    for path in ["/read/16", "/registers/18446744073709551615"] {
        gateway.get(path).assert_problem(400, "out_of_range");
    }
    for path in ["/read/seven", "/read/-1", "/read/18446744073709551616", "/read/%37x"] {
        gateway.get(path).assert_problem(400, "usage");
    }
    assert_eq!(gateway.get("/read/%37").json(), json!({"tag": 1, "value": "kept"}));
}

#[test]
fn a_block_of_something_else_is_left_alone() {
    let cluster = Setup::new(1, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &[]);
    cluster.ok(&["write", "4096", "not a register, but a sentence"]);
    gateway.get("/read/1").assert_problem(409, "not_a_register");
    let body = br#"{"addr":1,"value":"mine"}"#;
    let said = gateway.ask("POST", "/write", "Content-Type: application/json\r\n", body);
    said.assert_problem(409, "not_a_register");
    assert_eq!(cluster.ok(&["read", "4096", "14"]), b"not a register");
    cluster.ok(&["fill", "4096", "4096", "0"]);
    assert_eq!(gateway.write(1, "mine"), 1);
}

/// Two gateways, and many writers of one register, while others read it.
#[test]
fn every_write_has_a_tag_of_its_own_and_every_tag_its_value() {
    const WRITERS: usize = 8;
    const READERS: usize = 3;
    let writes = length("MCOMP_TEST_GATEWAY_WRITES", 40) as usize;
    let cluster = Setup::new(1, "64KiB").servers();
    let gateways = [Gateway::start(&cluster, &[]), Gateway::start(&cluster, &["--remote"])];
    let writing = AtomicUsize::new(WRITERS);
    let (written, seen) = std::thread::scope(|scope| {
        let write = |writer: usize| {
            let (mut talk, writing) = (gateways[writer % 2].talk(), &writing);
            scope.spawn(move || {
                let _done = Done(writing);
                let text = |number: usize| format!("{writer}.{number} {}", "x".repeat(number * 7 % 300));
                (0..writes).map(|number| (talk.write(5, &text(number)), text(number))).collect::<Vec<_>>()
            })
        };
        let read = |reader: usize| {
            let (mut talk, writing) = (gateways[reader % 2].talk(), &writing);
            scope.spawn(move || {
                let mut seen = Vec::new();
                while writing.load(Ordering::Relaxed) > 0 {
                    let said = talk.ask("GET", "/read/5", "", b"").json();
                    seen.push((said["tag"].as_u64().expect("a tag"), said["value"].as_str().expect("text").to_owned()));
                }
                seen
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let readers: Vec<_> = (0..READERS).map(read).collect();
        let written: Vec<Vec<_>> = writers.into_iter().map(|one| one.join().expect("a writer")).collect();
        (written, readers.into_iter().map(|one| one.join().expect("a reader")).collect::<Vec<_>>())
    });
    for own in &written {
        assert!(own.is_sorted_by(|(before, _), (after, _)| before < after), "the tags of one writer grow");
    }
    let by_tag: BTreeMap<u64, String> = written.into_iter().flatten().collect();
    assert!(by_tag.keys().copied().eq(1..=(WRITERS * writes) as u64), "each tag was given once: {:?}", by_tag.keys());
    assert!(seen.iter().map(Vec::len).sum::<usize>() > WRITERS, "there were readers");
    for own in &seen {
        assert!(own.is_sorted_by(|(before, _), (after, _)| before <= after), "nobody reads back in time");
        for (tag, text) in own.iter().filter(|(tag, _)| *tag > 0) {
            assert_eq!(by_tag.get(tag), Some(text), "the value of tag {tag}");
        }
    }
}

/// Counts a writer out, also when it panics: the readers must not wait for it.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A claim that nobody follows up is what a gateway leaves that was killed in the middle of a write.
#[test]
fn a_writer_that_died_is_passed() {
    let cluster = Setup::new(1, "64KiB").servers();
    let gateway = Gateway::start(&cluster, &[]);
    assert_eq!(gateway.write(3, "before"), 1);
    let client = cluster.client();
    let head = client.read_vec(3 * 4096, 16).expect("the head");
    let head = u128::from_le_bytes(head.try_into().expect("16 bytes"));
    let claimed = client.compare_exchange_16(3 * 4096, head, head + (1 << 64)).expect("a claim");
    assert!(claimed.swapped, "nobody else writes");
    assert_eq!(gateway.get("/read/3").json(), json!({"tag": 1, "value": "before"}));
    assert_eq!(gateway.write(3, "after"), 2);
    let late = client.compare_exchange_16(3 * 4096, head + (1 << 64), head + (2 << 64) + 1).expect("its publication");
    assert!(!late.swapped, "it comes too late");
    assert_eq!(gateway.get("/read/3").json(), json!({"tag": 2, "value": "after"}));
}
