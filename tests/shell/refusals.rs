//! Lines that are no requests, and requests that are wrong: each gets one answer that says what is
//! wrong, changes nothing, and the shell goes on.

use serde_json::{Value, json};

use super::{K, Shell, setup};

/// The longest line that the shell takes.
const LINE_LEN_MAX: usize = 32 << 20;

/// A good request of every op, with all its fields.
fn good() -> Vec<Value> {
    vec![
        json!({"op": "read", "addr": 0, "len": 1}),
        json!({"op": "write", "addr": 0, "text": "x"}),
        json!({"op": "write", "addr": 0, "data": "eA=="}),
        json!({"op": "fill", "addr": 0, "len": 1, "byte": 1}),
        json!({"op": "copy", "from": 0, "to": 8, "len": 1}),
        json!({"op": "checksum", "addr": 0, "len": 1}),
        json!({"op": "cas", "addr": 0, "old": 0, "new": 1}),
        json!({"op": "add", "addr": 0, "delta": 1}),
        json!({"op": "swap", "addr": 0, "new": 1}),
        json!({"op": "status"}),
        json!({"op": "snapshot", "incremental": true}),
    ]
}

/// The fields of a request that say what is to be done.
fn fields(request: &Value) -> Vec<String> {
    request.as_object().expect("a request").keys().filter(|key| *key != "op").cloned().collect()
}

/// The shell goes on after a line, and nothing has changed.
fn goes_on(shell: &mut Shell, after: &str) {
    let answer = shell.ok(json!({"op": "checksum", "addr": 0, "len": 2 * K}));
    let untouched = crc32fast::hash(&vec![0; 2 * K as usize]);
    assert_eq!(answer["crc32"], untouched, "{after} has changed memory");
}

#[test]
fn lines_that_are_no_requests_are_answered() {
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    let deep = "[".repeat(100_000);
    let deep_id = format!("{{\"op\":\"status\",\"id\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    for line in [
        &b""[..],
        b" \t",
        b"\r",
        b"hello",
        b"\0",
        b"\0\0\0\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf{\"op\":\"status\"}",
        b"{\"op\":\"status\"}\0",
        b"{\"op\":\"status\"} {\"op\":\"status\"}",
        b"{\"op\":\"status\",}",
        b"{'op':'status'}",
        b"{\"op\":\"write\",\"addr\":0,\"text\":\"\xff\"}",
        b"{\"op\":\"write\",\"addr\":0,\"text\":\"\0\"}",
        b"{\"op\":\"write\",\"addr\":0,\"text\":\"\\ud800\"}",
        b"{\"op\":\"write\",\"addr\":0,\"text\":\"x",
        b"{\"op\":\"write\",\"addr\":1e400,\"text\":\"x\"}",
        b"{\"op\":\"write\",\"addr\":NaN,\"text\":\"x\"}",
        b"[1]",
        b"5",
        b"null",
        b"\"status\"",
        b"[{\"op\":\"status\"}]",
        deep.as_bytes(),
        deep_id.as_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        let answer = shell.say(line);
        assert_eq!((&answer["id"], &answer["outcome"]), (&Value::Null, &json!("fail")), "{shown:?} got {answer}");
        assert_eq!(answer["kind"], "usage", "{shown:?} got {answer}");
        let said = answer["error"].as_str().expect("a sentence");
        assert!(said.contains("not JSON") || said.contains("JSON object"), "{shown:?} got {answer}");
        assert_eq!(said.contains("line is empty"), line.trim_ascii().is_empty(), "{shown:?} got {answer}");
        assert_eq!(said.contains("byte order mark"), line.starts_with(b"\xef\xbb\xbf"), "{shown:?} got {answer}");
        goes_on(&mut shell, &shown);
    }
    shell.end();
}

#[test]
fn a_request_needs_an_op_that_there_is() {
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    for request in [
        json!({}),
        json!({"addr": 0, "len": 1}),
        json!({"op": null}),
        json!({"op": 5}),
        json!({"op": ["read"]}),
        json!({"op": ""}),
        json!({"op": "READ", "addr": 0, "len": 1}),
        json!({"op": "read ", "addr": 0, "len": 1}),
        json!({"op": "nope\n\u{0}\u{1b}[31m"}),
    ] {
        let said = shell.refused("usage", request.clone());
        assert!(said.contains("checksum") && said.contains("snapshot"), "{request}: the ops are not named: {said}");
        goes_on(&mut shell, &request.to_string());
    }
    shell.end();
}

#[test]
fn a_field_that_is_missing_unknown_or_of_another_type_is_refused() {
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    for request in good() {
        let op = request["op"].as_str().expect("an op").to_owned();
        for field in fields(&request) {
            let without = {
                let mut without = request.clone();
                without.as_object_mut().expect("a request").remove(&field);
                without
            };
            if field != "incremental" {
                shell.refused("usage", without.clone());
            }
            for wrong in wrong_values(&field) {
                let mut bent = without.clone();
                bent[&field] = wrong;
                let said = shell.refused("usage", bent.clone());
                let named = format!("\"{field}\" is ");
                assert!(said.starts_with(&format!("{op}: ")) && said.contains(&named), "{bent}: {said}");
            }
        }
        for extra in ["extra", "Addr", "", "lenght", "outcome"] {
            let mut bent = request.clone();
            bent[extra] = json!(1);
            let said = shell.refused("usage", bent.clone());
            assert!(said.contains(&op) && said.contains(extra), "{bent}: {said}");
        }
        goes_on(&mut shell, &request.to_string());
    }
    let both = json!({"op": "write", "addr": 0, "text": "x", "data": "eA=="});
    assert!(shell.refused("usage", both).contains("one of them"), "which one is meant?");
    goes_on(&mut shell, "both");
    shell.end();
}

/// Values that a field cannot have.
fn wrong_values(field: &str) -> Vec<Value> {
    let mut wrong = vec![json!(null), json!([]), json!({}), json!(1.5), json!(-1), json!(1e19)];
    wrong.push(serde_json::from_str("18446744073709551616").expect("a number"));
    match field {
        "delta" => {
            // It may be negative.
            wrong.remove(4);
            wrong.extend([json!("1"), json!(true), json!(-1e19)]);
        }
        "text" => wrong.push(json!(true)),
        "data" => {
            let no_base64 = ["!", "e", "eA", "eA=", "eA===", "eB==", "e A==", "eA==\n", "_-==", "é"];
            wrong.extend(no_base64.map(Value::from));
        }
        "incremental" => wrong.extend([json!(0), json!("true")]),
        "byte" => wrong.extend([json!(256), json!("x"), json!(false)]),
        _ => wrong.extend([json!("0"), json!("0x0"), json!(true)]),
    }
    wrong
}

#[test]
fn what_lies_outside_or_between_has_its_word() {
    let cluster = setup().prepare();
    let mut shell = Shell::start(&cluster);
    let end = 2 * K;
    // None of these needs a server.
    for request in [
        json!({"op": "read", "addr": end, "len": 1}),
        json!({"op": "read", "addr": u64::MAX, "len": 16_777_216}),
        json!({"op": "write", "addr": end - 1, "text": "ab"}),
        json!({"op": "fill", "addr": 0, "len": u64::MAX, "byte": 0}),
        json!({"op": "copy", "from": end - 1, "to": 0, "len": 2}),
        json!({"op": "copy", "from": 0, "to": end - 1, "len": 2}),
        json!({"op": "checksum", "addr": u64::MAX, "len": u64::MAX}),
        json!({"op": "cas", "addr": end, "old": 0, "new": 0}),
        json!({"op": "add", "addr": u64::MAX - 7, "delta": 0}),
        json!({"op": "swap", "addr": end, "new": 0}),
    ] {
        let said = shell.refused("out_of_range", request.clone());
        assert!(said.contains(&end.to_string()), "{request}: {said}");
    }
    for (op, more) in [("cas", json!({"old": 0, "new": 0})), ("add", json!({"delta": 0})), ("swap", json!({"new": 0}))]
    {
        let mut request = json!({"op": op, "addr": 12});
        request.as_object_mut().expect("a request").extend(more.as_object().expect("fields").clone());
        assert!(shell.refused("unaligned", request).contains("multiple of 8"));
    }
    let large = json!({"op": "read", "addr": 0, "len": 16_777_217});
    assert!(shell.refused("too_large", large).contains("16777216"), "the most is not named");
    shell.end();
}

#[test]
fn what_nobody_has_is_told_from_slips() {
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    let nobody = "00000000-0000-0000-0000-000000000007";
    for (kind, request) in [
        ("usage", json!({"op": "alloc", "size": 0})),
        ("usage", json!({"op": "alloc", "size": 1, "name": "not a name"})),
        ("usage", json!({"op": "alloc", "size": 1, "lease_ms": 0})),
        ("full", json!({"op": "alloc", "size": 1u64 << 50})),
        ("not_found", json!({"op": "free", "addr": 0})),
        ("out_of_range", json!({"op": "free", "addr": u64::MAX})),
        ("not_found", json!({"op": "realloc", "addr": 0, "size": 2})),
        ("usage", json!({"op": "renew", "lease": 1, "lease_ms": 1000})),
        ("no_lease", json!({"op": "renew", "lease": nobody, "lease_ms": 1000})),
        ("no_lease", json!({"op": "release", "lease": nobody})),
        ("not_found", json!({"op": "unlock", "name": "x"})),
        ("fenced", json!({"op": "write", "addr": 0, "text": "x", "fence": {"id": "x", "number": 0}})),
        ("usage", json!({"op": "write", "addr": 0, "text": "x", "fence": {"id": "x"}})),
    ] {
        shell.refused(kind, request.clone());
        goes_on(&mut shell, &request.to_string());
    }
    shell.end();
}

#[test]
fn a_line_that_is_too_long_is_skipped_whole() {
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    let request = br#"{"id":1,"op":"write","addr":0,"text":"x"}"#;
    let padded = |len: usize| [&request[..], &vec![b' '; len - request.len()]].concat();
    // It would be a good request, and what is in it must not be taken for one.
    let inside = [&padded(LINE_LEN_MAX + 1), &request[..]].concat();
    for line in [padded(LINE_LEN_MAX + 1), vec![b'x'; 2 * LINE_LEN_MAX], vec![0; LINE_LEN_MAX + 1], inside] {
        let answer = shell.say(&line);
        assert_eq!((&answer["id"], &answer["kind"]), (&Value::Null, &json!("too_large")), "{answer}");
        assert!(answer["error"].as_str().expect("a sentence").contains(&LINE_LEN_MAX.to_string()), "{answer}");
        goes_on(&mut shell, "a long line");
    }
    let answer = shell.say(padded(LINE_LEN_MAX));
    assert_eq!(answer, json!({"id": 1, "outcome": "ok"}), "the longest line is a good one");
    shell.end();
}
