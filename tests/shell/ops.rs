//! Every op, its fields and its answers, and the bytes, numbers and ids in them.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{K, Shell, setup};
use crate::harness::{Setup, seed};

/// Fields of one server in a status.
const OF_SERVER: &str = "id address state pid incarnation config_epoch cut_epoch uptime_ms k bytes_used connections \
                         max_connections counters";

#[test]
fn every_op_answers_with_the_fields_of_the_table_and_no_others() {
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    let crc32 = crc32fast::hash(b"hexxhello!");
    // Most lie across the border between the servers.
    for (request, answer) in [
        (json!({"op": "write", "addr": K - 2, "text": "hello"}), json!({})),
        (json!({"op": "write", "addr": K + 3, "data": "IQ=="}), json!({})),
        (json!({"op": "read", "addr": K - 2, "len": 6}), json!({"data": "aGVsbG8h"})),
        (json!({"op": "copy", "from": K - 2, "to": K - 6, "len": 4}), json!({})),
        (json!({"op": "fill", "addr": K - 4, "len": 2, "byte": 0x78}), json!({})),
        (json!({"op": "write", "addr": K - 2, "text": "hello"}), json!({})),
        (json!({"op": "checksum", "addr": K - 6, "len": 10}), json!({"crc32": crc32})),
        (json!({"op": "cas", "addr": K + 8, "old": 0, "new": 7}), json!({"swapped": true, "value": 0})),
        (json!({"op": "cas", "addr": K + 8, "old": 0, "new": 9}), json!({"swapped": false, "value": 7})),
        (json!({"op": "add", "addr": K + 8, "delta": 5}), json!({"value": 7})),
        (json!({"op": "add", "addr": K + 8, "delta": -12}), json!({"value": 12})),
        (json!({"op": "swap", "addr": K + 8, "new": 1}), json!({"value": 0})),
        (json!({"op": "read", "addr": K + 8, "len": 0}), json!({"data": ""})),
        (json!({"op": "checksum", "addr": 2 * K, "len": 0}), json!({"crc32": 0})),
    ] {
        let mut expected = answer;
        expected["outcome"] = json!("ok");
        assert_eq!(shell.ask(request.clone()), expected, "{request}");
    }
    shell.end();
    let log = std::fs::read_to_string(cluster.dir.path().join("shell.log")).expect("a log");
    assert_eq!(log, "", "what goes well is no message");
}

#[test]
fn numbers_keep_all_64_bits() {
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    let max = "18446744073709551615";
    for (fields, answer) in [
        (format!(r#""op":"swap","new":{max}"#), r#""value":0"#.to_owned()),
        (format!(r#""op":"swap","new":{max}"#), format!(r#""value":{max}"#)),
        (format!(r#""op":"cas","old":{max},"new":{max}"#), format!(r#""swapped":true,"value":{max}"#)),
        (format!(r#""op":"add","delta":{max}"#), format!(r#""value":{max}"#)),
        // Now it is 2^64 - 2. The smallest number there is takes half of all away.
        (r#""op":"add","delta":-9223372036854775808"#.into(), r#""value":18446744073709551614"#.into()),
        // More than a floating-point number can tell from its neighbours.
        (r#""op":"swap","new":9007199254740993"#.into(), r#""value":9223372036854775806"#.into()),
        (r#""op":"swap","new":0"#.into(), r#""value":9007199254740993"#.into()),
    ] {
        shell.send(format!("{{\"id\":{max},\"addr\":8,{fields}}}\n").as_bytes());
        assert_eq!(shell.line(), format!(r#"{{"id":{max},"outcome":"ok",{answer}}}"#), "{fields}");
    }
    shell.end();
}

#[test]
fn bytes_survive_base64_and_text_is_utf_8() {
    let mut random = fastrand::Rng::with_seed(seed());
    let cluster = Setup::new(2, "4MiB").servers();
    let client = cluster.client();
    let mut shell = Shell::start(&cluster);
    let lens = (0..70).chain([4096, 65_537, (1 << 20) + 1, 5 << 20]);
    for len in lens {
        let mut bytes = vec![0; len];
        random.fill(&mut bytes);
        let addr = random.u64(..client.size() - len as u64);
        shell.ok(json!({"op": "write", "addr": addr, "data": STANDARD.encode(&bytes)}));
        assert!(client.read_vec(addr, len as u64).expect("a read") == bytes, "{len} bytes at {addr}");
        let read = shell.ok(json!({"op": "read", "addr": addr, "len": len}));
        assert!(read["data"] == STANDARD.encode(&bytes), "{len} bytes at {addr}");
    }
    for text in ["", "a", "é", "\u{1F600}", "a\nb\r\n\t\"\\\u{0}\u{7f}\u{2028}", "\u{FFFD}"] {
        shell.ok(json!({"op": "write", "addr": 100, "text": text}));
        assert_eq!(client.read_vec(100, text.len() as u64).expect("a read"), text.as_bytes());
    }
    shell.say(r#"{"op":"write","addr":0,"text":"\u0041\ud83d\ude00"}"#);
    assert_eq!(client.read_vec(0, 5).expect("a read"), "A\u{1F600}".as_bytes());
    shell.end();
}

#[test]
fn any_id_comes_back_as_it_was() {
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    for id in [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "-9223372036854775808",
        "18446744073709551615",
        "\"\"",
        "\"7\"",
        r#""a\nb\"\\""#,
        "[]",
        "[1,null,[2]]",
        "{}",
        r#"{"op":"read","id":{"id":1}}"#,
        "\"\u{1F600}\"",
    ] {
        for request in [r#""op":"read","addr":0,"len":1"#, r#""op":"read","addr":0"#, r#""op":"frobnicate""#] {
            let sent: Value = serde_json::from_str(id).expect("JSON");
            let answer = shell.say(format!("{{{request},\"id\":{id}}}"));
            assert_eq!(answer["id"], sent, "{answer}");
            let answer = shell.say(format!("{{\"id\":{id},{request}}}"));
            assert_eq!(answer["id"], sent, "{answer}");
        }
    }
    // Numbers that 64 bits do not hold come back to the letter, as everything does.
    for id in ["18446744073709551616", "-9223372036854775809", "[18446744073709551616]", "1.50", "-0.0", "1e3"] {
        shell.send(format!("{{\"op\":\"read\",\"addr\":0,\"id\":{id}}}\n").as_bytes());
        let line = shell.line();
        assert!(line.starts_with(&format!("{{\"id\":{id},\"outcome\":\"fail\"")), "{line}");
    }
    assert_eq!(shell.say(r#"{"op":"read","addr":0,"len":1}"#)["id"], Value::Null);
    shell.end();
}

#[test]
fn answers_come_in_order_however_many_lines_are_ahead() {
    const LINES: u64 = 3_000;
    let mut random = fastrand::Rng::with_seed(seed());
    let cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    let mut input = Vec::new();
    let mut bad = BTreeSet::new();
    for id in 0..LINES {
        let line = match random.u32(..4) {
            0 => format!(r#"{{"op":"add","addr":{},"id":{id}}}"#, 8 * random.u64(..K / 8)),
            _ => format!(r#"{{"id":{id},"op":"add","addr":{},"delta":1}}"#, 8 * random.u64(..2 * K / 8)),
        };
        if !line.contains("delta") {
            bad.insert(id);
        }
        input.extend_from_slice(line.as_bytes());
        // Some lines end as on another system; the last one has no end.
        let end: &[u8] = if random.bool() { b"\n" } else { b"\r\n" };
        input.extend_from_slice(if id + 1 < LINES { end } else { b"" });
    }
    let mut stdin = shell.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut stdin, &input).expect("the shell reads on"));
        for id in 0..LINES {
            let answer = shell.answer();
            let outcome = if bad.contains(&id) { "fail" } else { "ok" };
            assert_eq!((&answer["id"], &answer["outcome"]), (&json!(id), &json!(outcome)), "{answer}");
        }
    });
    shell.end();
    let bytes = cluster.client().read_vec(0, 2 * K).expect("a read");
    let sum: u64 = bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).sum();
    assert_eq!(sum, LINES - bad.len() as u64, "every good line was done once");
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_status_is_that_of_the_command_also_when_a_server_is_down() {
    let mut cluster = setup().start();
    let mut shell = Shell::start(&cluster);
    for _ in 0..3 {
        shell.ok(json!({"op": "add", "addr": K, "delta": 1}));
    }
    let status = shell.ok(json!({"op": "status"}));
    let by_command: Value = serde_json::from_slice(&cluster.ok(&["status", "--json"])).expect("JSON");
    assert_eq!(keys(&status), keys(&by_command));
    assert_eq!(status["cluster"], json!(cluster.name));
    assert_eq!((&status["k"], &status["n"], &status["replicas"]), (&json!(K), &json!(2), &json!(1)));
    for id in 0..2 {
        let server = &status["servers"][id as usize];
        assert_eq!(keys(server), OF_SERVER.split_whitespace().collect(), "{server}");
        assert_eq!(keys(server), keys(&by_command["servers"][id as usize]));
        assert_eq!((&server["id"], &server["state"]), (&json!(id), &json!("serving")), "{server}");
        assert_eq!((&server["address"], &server["k"]), (&json!(cluster.address(id)), &json!(K)), "{server}");
        assert_eq!(server["pid"], json!(cluster.server_pid(id)));
        let counters = "bytes ops rejected repaired_blocks snapshot torn_blocks";
        assert_eq!(keys(&server["counters"]), counters.split_whitespace().collect(), "{server}");
        let snapshotter = &status["snapshotters"][id as usize];
        assert_eq!(snapshotter["master"], json!(id == 0), "{snapshotter}");
        assert_eq!(keys(snapshotter), keys(&by_command["snapshotters"][id as usize]));
    }
    assert_eq!(status["servers"][1]["counters"]["ops"]["atomic"], 3, "{status}");
    assert_eq!((&status["servers"][0]["bytes_used"], &status["servers"][1]["bytes_used"]), (&json!(0), &json!(4096)));

    cluster.kill_server(1);
    let status = shell.ok(json!({"op": "status"}));
    assert_eq!(status["servers"][0]["state"], "serving", "{status}");
    let down = &status["servers"][1];
    assert_eq!((&down["state"], &down["kind"]), (&json!("unreachable"), &json!("unavailable")), "{down}");
    assert_eq!((&down["id"], &down["address"]), (&json!(1), &json!(cluster.address(1))), "{down}");
    shell.end();
}

#[test]
fn a_snapshot_holds_the_instant_between_two_lines() {
    let cluster = setup().start();
    let mut shell = Shell::start(&cluster);
    shell.ok(json!({"op": "write", "addr": K - 3, "text": "before"}));
    let created = shell.ok(json!({"op": "snapshot"}));
    shell.ok(json!({"op": "write", "addr": K - 3, "text": "after!"}));
    assert_eq!(keys(&created), "bytes cut hold_us outcome path".split_whitespace().collect(), "{created}");
    assert!(created["hold_us"].is_u64() && created["bytes"].is_u64(), "{created}");
    let path = created["path"].as_str().expect("a path");
    assert!(Path::new(path).starts_with(cluster.snapshot_dir()), "{path}");
    let shown: Value = serde_json::from_slice(&cluster.ok(&["snapshot", "show", path, "--json"])).expect("JSON");
    assert_eq!((&shown["cut"], &shown["bytes"], &shown["full"]), (&created["cut"], &created["bytes"], &json!(true)));
    let image = cluster.dir.path().join("image");
    cluster.ok(&["snapshot", "export", path, "-o", image.to_str().expect("a plain path")]);
    assert_eq!(&std::fs::read(&image).expect("an image")[K as usize - 3..][..6], b"before");
    let next = shell.ok(json!({"op": "snapshot", "incremental": true}));
    let path = next["path"].as_str().expect("a path");
    let shown: Value = serde_json::from_slice(&cluster.ok(&["snapshot", "show", path, "--json"])).expect("JSON");
    assert_eq!((&shown["full"], &shown["parent"]), (&json!(false), &created["cut"]), "{shown}");
    shell.end();
}
