//! Lines of `mcomp shell`.
//!
//! The command is a program and no library, so its parser is built from its sources: to make a library of the
//! command for this one caller would cost it more than three paths cost here.

#[path = "../../cli/src/shell/fields.rs"]
mod fields;
#[path = "../../cli/src/shell/line.rs"]
mod line;
#[path = "../../cli/src/shell/request.rs"]
mod request;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Seed;
use crate::exit::{Exit, Failure};
use line::{LINE_LEN_MAX, Line, Lines};
use request::{READ_LEN_MAX, Request};

/// Input of the shell: each line is answered, with an id that is JSON and does not break the line; a request that
/// is understood means the same when it is written out again; one that is not is told so in a sentence.
pub fn shell_line(data: &[u8]) {
    let expected = data.strip_suffix(b"\n").unwrap_or(data).split(|byte| *byte == b'\n');
    let mut lines = Lines::new(data);
    for text in expected.filter(|_| !data.is_empty()) {
        let line = lines.next().expect("a slice is read without errors").expect("a line");
        assert_eq!(line, Line::Whole(text));
        check_line(text);
    }
    assert_eq!(lines.next().expect("a slice is read without errors"), None);
}

fn check_line(text: &[u8]) {
    let (id, request) = Request::parse(Line::Whole(text));
    assert!(serde_json::from_str::<Value>(id.get()).is_ok(), "{id}");
    assert!(!id.get().contains(['\n', '\r']), "the id {:?} breaks the line of the answer", id.get());
    match request {
        Ok(request) => {
            let written = written(&request);
            let (_, again) = Request::parse(Line::Whole(&written));
            assert_eq!(again.expect("what was understood can be written"), request);
        }
        Err(Failure { exit: Exit::Usage, kind, text }) => {
            assert!(matches!(kind, "usage" | "too_large") && !text.is_empty(), "{kind}: {text}");
        }
    }
}

/// A request as a line.
fn written(request: &Request) -> Vec<u8> {
    let value = match request {
        Request::Read { addr, len } => {
            assert!(*len <= READ_LEN_MAX);
            json!({"op": "read", "addr": addr, "len": len})
        }
        Request::Write { addr, data, fence } => {
            assert!(data.len() <= LINE_LEN_MAX);
            let fence = fence.map(|fence| json!({"id": fence.id, "number": fence.number}));
            json!({"op": "write", "addr": addr, "data": STANDARD.encode(data), "fence": fence})
        }
        Request::Fill { addr, len, byte } => json!({"op": "fill", "addr": addr, "len": len, "byte": byte}),
        Request::Copy { from, to, len } => json!({"op": "copy", "from": from, "to": to, "len": len}),
        Request::Checksum { addr, len } => json!({"op": "checksum", "addr": addr, "len": len}),
        Request::Cas { addr, old, new } => json!({"op": "cas", "addr": addr, "old": old, "new": new}),
        Request::Add { addr, delta } => json!({"op": "add", "addr": addr, "delta": delta}),
        Request::Swap { addr, new } => json!({"op": "swap", "addr": addr, "new": new}),
        Request::Status => json!({"op": "status"}),
        Request::Snapshot { incremental } => json!({"op": "snapshot", "incremental": incremental}),
        Request::Alloc { size, name, lease_ms } => {
            json!({"op": "alloc", "size": size, "name": name, "lease_ms": lease_ms})
        }
        Request::Free { addr } => json!({"op": "free", "addr": addr}),
        Request::Realloc { addr, size } => json!({"op": "realloc", "addr": addr, "size": size}),
        Request::Renew { lease, lease_ms } => json!({"op": "renew", "lease": lease, "lease_ms": lease_ms}),
        Request::Release { lease } => json!({"op": "release", "lease": lease}),
        Request::Lock { name, wait_ms } => json!({"op": "lock", "name": name, "wait_ms": wait_ms}),
        Request::Unlock { name } => json!({"op": "unlock", "name": name}),
    };
    value.to_string().into_bytes()
}

/// The seeds of [`shell_line`].
pub fn shell_line_seeds() -> Vec<Seed> {
    let lines = [
        ("read", r#"{"id":1,"op":"read","addr":4096,"len":8}"#.to_owned()),
        ("write_text", r#"{"id":"a","op":"write","addr":1,"text":"\u00e9\n"}"#.to_owned()),
        ("write_data", r#"{"op":"write","addr":1,"data":"AP8=","fence":null}"#.to_owned()),
        ("fill", r#"{"id":null,"op":"fill","addr":1,"len":2,"byte":255}"#.to_owned()),
        ("copy", r#"{"id":[1,{"x":1.5}],"op":"copy","from":1,"to":2,"len":3}"#.to_owned()),
        ("checksum", r#"{"op":"checksum","addr":1,"len":2}"#.to_owned()),
        ("cas", r#"{"op":"cas","addr":8,"old":0,"new":18446744073709551615}"#.to_owned()),
        ("add", r#"{"id":18446744073709551616,"op":"add","addr":8,"delta":-1}"#.to_owned()),
        ("swap", r#"{"id":1e3,"op":"swap","addr":8,"new":1}"#.to_owned()),
        ("snapshot", r#"{"op":"snapshot","incremental":true}"#.to_owned()),
        ("two_lines", "{\"op\":\"status\"}\n\n{\"op\":\"lock\",\"name\":\"x\"}\n".to_owned()),
        ("no_op", r#"{"id":7,"op":"frobnicate"}"#.to_owned()),
        ("byte_order_mark", "\u{feff}{}".to_owned()),
        ("nested", "[".repeat(500)),
        ("id_in_lines", "{\"id\":[1.5,\r2],\"op\":\"status\"}".to_owned()),
    ];
    lines.map(|(name, line)| (name, line.into_bytes())).to_vec()
}
