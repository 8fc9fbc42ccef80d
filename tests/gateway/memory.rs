//! `/v1/memory`.

use super::{Gateway, Said};
use crate::harness::{Cluster, Setup};

fn started() -> (Cluster, Gateway) {
    let cluster = Setup::new(2, "2MiB").servers();
    let gateway = Gateway::start(&cluster, &[]);
    (cluster, gateway)
}

fn etag(said: &Said) -> String {
    said.field("etag").unwrap_or_else(|| panic!("no etag: {said:?}")).to_owned()
}

#[test]
fn bytes_are_put_and_got_at_addresses_and_names() {
    let (cluster, gateway) = started();
    let addr = String::from_utf8(cluster.ok(&["alloc", "64KiB", "--name", "results"])).expect("text");
    let addr: u64 = addr.trim().parse().expect("an address");
    let bytes: Vec<u8> = (0..64 << 10).map(|at| (at % 251) as u8).collect();
    let put = gateway.ask("PUT", "/v1/memory/results", "", &bytes);
    assert_eq!((put.status, put.body.len(), put.field("content-length")), (204, 0, None), "{put:?}");
    let got = gateway.get("/v1/memory/results");
    assert_eq!((got.status, &got.body), (200, &bytes));
    assert_eq!((etag(&got), got.field("accept-ranges")), (etag(&put), Some("bytes")));
    for (place, range, content_range, from, len) in [
        ("results", "bytes=0-0", "bytes 0-0/65536", 0, 1),
        ("results", "bytes=4090-4105", "bytes 4090-4105/65536", 4090, 16),
        ("results", "bytes=-6", "bytes 65530-65535/65536", 65530, 6),
        ("results", "bytes=65530-99999", "bytes 65530-65535/65536", 65530, 6),
        ("results+4096", "bytes=1-3", "bytes 1-3/61440", 4097, 3),
        ("results%5B64:128%5D", "bytes=60-", "bytes 60-63/64", 124, 4),
    ] {
        let got = gateway.ask("GET", &format!("/v1/memory/{place}"), &format!("Range: {range}\r\n"), b"");
        assert_eq!((got.status, got.field("content-range")), (206, Some(content_range)), "{place} {range}");
        assert_eq!(got.body, bytes[from..from + len], "{place} {range}");
    }
    let head = gateway.ask("HEAD", "/v1/memory/results", "", b"");
    assert_eq!((head.status, head.field("content-length"), etag(&head)), (200, Some("65536"), etag(&put)));
    let head = gateway.ask("HEAD", "/v1/memory/results", "Range: bytes=0-1\r\n", b"");
    assert_eq!((head.status, head.field("content-length")), (200, Some("65536")), "HEAD has no range");
    let at = |addr: u64| format!("/v1/memory/{addr:#x}");
    assert_eq!(gateway.ask("GET", &at(addr + 7), "Range: bytes=0-99\r\n", b"").body, bytes[7..107]);
    let patched = gateway.ask("PATCH", "/v1/memory/results+10", "Content-Range: bytes 5-9/*\r\n", b"hello");
    assert_eq!(patched.status, 204, "{patched:?}");
    assert_eq!(gateway.ask("GET", &at(addr), "Range: bytes=15-19\r\n", b"").body, b"hello");
    // Across two servers, and as much as goes at once.
    let large = vec![7; 1 << 20];
    assert_eq!(gateway.ask("PUT", "/v1/memory/1536KiB", "", &large).status, 204);
    assert_eq!(gateway.ask("GET", "/v1/memory/1536KiB", "Range: bytes=0-1048575\r\n", b"").body, large);
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let (cluster, gateway) = started();
    cluster.ok(&["alloc", "4KiB", "--name", "small"]);
    cluster.ok(&["alloc", "2MiB", "--name", "large"]);
    for (place, range, status, kind) in [
        ("0", "", 400, "usage"),
        ("0", "Range: rows=0-1\r\n", 400, "usage"),
        ("0", "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n", 400, "usage"),
        ("0", "Range: bytes=5-4\r\n", 416, "out_of_range"),
        ("0", "Range: bytes=0-1,4-5\r\n", 416, "out_of_range"),
        ("4194304", "Range: bytes=0-0\r\n", 416, "out_of_range"),
        ("4194305", "Range: bytes=0-0\r\n", 400, "out_of_range"),
        ("0", "Range: bytes=0-1048576\r\n", 416, "too_large"),
        ("large", "", 400, "too_large"),
        ("small", "Range: bytes=4096-\r\n", 416, "out_of_range"),
        ("small+4097", "", 400, "out_of_range"),
        ("nothing", "", 404, "not_found"),
        ("small+", "", 400, "usage"),
        ("1.5", "Range: bytes=0-0\r\n", 400, "usage"),
    ] {
        let said = gateway.ask("GET", &format!("/v1/memory/{place}"), range, b"");
        said.assert_problem(status, kind);
    }
    let said = gateway.ask("GET", "/v1/memory/small", "Range: bytes=4096-\r\n", b"");
    assert_eq!(said.field("content-range"), Some("bytes */4096"));
    for (method, place, fields, body, status, kind) in [
        ("PUT", "small+4095", "", &b"two"[..], 400, "out_of_range"),
        ("PUT", "small%5B0:2%5D", "", b"three", 400, "out_of_range"),
        ("PUT", "4194303", "", b"two", 400, "out_of_range"),
        ("PUT", "small", "Content-Range: bytes 0-2/*\r\n", b"two", 400, "usage"),
        ("PATCH", "small", "", b"two", 400, "usage"),
        ("PATCH", "small", "Content-Range: bytes 0-3/*\r\n", b"two", 400, "usage"),
        ("PATCH", "small", "Content-Range: bytes 4095-4097/*\r\n", b"two", 400, "out_of_range"),
        ("PATCH", "small", "Content-Range: bytes 2-0/*\r\n", b"two", 400, "usage"),
        ("POST", "small", "", b"two", 405, "usage"),
    ] {
        gateway.ask(method, &format!("/v1/memory/{place}"), fields, body).assert_problem(status, kind);
    }
    assert_eq!(gateway.get("/v1/memory/small").body, [0; 4096]);
}

#[test]
fn a_change_is_made_only_of_what_is_meant() {
    let (_cluster, gateway) = started();
    for (addr, len, how) in
        [(64, 8, "atomic"), (128, 16, "atomic"), (131, 5, "atomic"), (200, 16, "checked"), (4000, 300, "checked")]
    {
        let (path, first) = (format!("/v1/memory/{addr}"), vec![b'a'; len]);
        let range = format!("Range: bytes=0-{}\r\n", len - 1);
        assert_eq!(gateway.ask("PUT", &path, "", &first).status, 204);
        let got = gateway.ask("GET", &path, &range, b"");
        let tag = etag(&got);
        let same = gateway.ask("GET", &path, &format!("{range}If-None-Match: {tag}\r\n"), b"");
        assert_eq!((same.status, same.body.len()), (304, 0));
        let second = vec![b'b'; len];
        let meant = format!("If-Match: \"other\", {tag}\r\n");
        let put = gateway.ask("PUT", &path, &meant, &second);
        assert_eq!((put.status, put.field("mcomp-if-match")), (204, Some(how)), "{addr} {put:?}");
        // The same again: it is another one now.
        let lost = gateway.ask("PUT", &path, &meant, &vec![b'c'; len]);
        lost.assert_problem(412, "precondition");
        assert_eq!(etag(&lost), etag(&put));
        let fields = format!("Content-Range: bytes 0-{}/*\r\nIf-Match: {tag}\r\n", len - 1);
        gateway.ask("PATCH", &path, &fields, &vec![b'c'; len]).assert_problem(412, "precondition");
        gateway.ask("PUT", &path, "If-None-Match: *\r\n", &vec![b'c'; len]).assert_problem(412, "precondition");
        gateway.ask("GET", &path, &format!("{range}If-Match: {tag}\r\n"), b"").assert_problem(412, "precondition");
        assert_eq!(gateway.ask("GET", &path, &range, b"").body, second);
    }
}

/// Two counters in one word of 16 bytes, each raised by many who go by its ETag: none of them is lost, and neither
/// disturbs the other.
#[test]
fn conditions_on_a_word_are_exact() {
    const RAISES: u64 = 25;
    let (cluster, gateway) = started();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let mut talk = gateway.talk();
            let path = format!("/v1/memory/{}", 64 + 8 * (thread % 2));
            scope.spawn(move || {
                let mut raised = 0;
                while raised < RAISES {
                    let got = talk.ask("GET", &path, "Range: bytes=0-7\r\n", b"");
                    let value = u64::from_le_bytes(got.body[..].try_into().expect("8 bytes"));
                    let meant = format!("If-Match: {}\r\n", etag(&got));
                    match talk.ask("PUT", &path, &meant, &(value + 1).to_le_bytes()).status {
                        204 => raised += 1,
                        status => assert_eq!(status, 412),
                    }
                }
            });
        }
    });
    let client = cluster.client();
    let counts = [64, 72].map(|addr| client.fetch_add(addr, 0).expect("a count"));
    assert_eq!(counts, [3 * RAISES, 3 * RAISES]);
}

#[test]
fn memory_under_a_lease_is_not_written_without_it() {
    let (cluster, gateway) = started();
    let lease = String::from_utf8(cluster.ok(&["lease", "4KiB", "1h"])).expect("an id");
    let listed: serde_json::Value = serde_json::from_slice(&cluster.ok(&["ls", "--json"])).expect("JSON");
    let addr = listed["regions"][0]["addr"].as_u64().expect("an address");
    let said = gateway.ask("PUT", &format!("/v1/memory/{addr}"), "", b"not mine");
    said.assert_problem(409, "fenced");
    cluster.ok(&["lease", "release", lease.trim()]);
}
