//! Requests of the shell: from a line to a request that is ready to run, or a sentence about what is
//! wrong with it.
//!
//! A field that is missing, unknown or of another type is refused, so that a slip of the one who asks
//! never does something else than was meant.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcomp_wire::meta::Fence;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fields::{Fields, shown};
use super::line::{LINE_LEN_MAX, Line};
use crate::exit::{Exit, Failure};

/// The most that one read may ask for.
pub(super) const READ_LEN_MAX: u64 = 16 << 20;

const OPS: &str = "read, write, fill, copy, checksum, cas, add, swap, status, snapshot, alloc, free, realloc, renew, release, \
                   lock and unlock";

const NO_OBJECT: &str = "a request is a JSON object, such as {\"op\":\"status\"}";

/// The mark that some editors put at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A request that is ready to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read { addr: u64, len: u64 },
    Write { addr: u64, data: Vec<u8>, fence: Option<Fence> },
    Fill { addr: u64, len: u64, byte: u8 },
    Copy { from: u64, to: u64, len: u64 },
    Checksum { addr: u64, len: u64 },
    Cas { addr: u64, old: u64, new: u64 },
    Add { addr: u64, delta: u64 },
    Swap { addr: u64, new: u64 },
    Status,
    Snapshot { incremental: bool },
    Alloc { size: u64, name: Option<String>, lease_ms: Option<u64> },
    Free { addr: u64 },
    Realloc { addr: u64, size: u64 },
    Renew { lease: Uuid, lease_ms: u64 },
    Release { lease: Uuid },
    Lock { name: String, wait_ms: u64 },
    Unlock { name: String },
}

/// The request's id as it was written, null when there is none.
pub(super) type Id = Box<RawValue>;

impl Request {
    /// The id, and the request or what is wrong with it.
    pub(super) fn parse(line: Line<'_>) -> (Id, Result<Request, Failure>) {
        let no_id = || RawValue::NULL.to_owned();
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::TooLong => {
                let text = format!("the line is longer than {LINE_LEN_MAX} bytes: split the request");
                return (no_id(), Err(Failure::new(Exit::USAGE, "too_large", text)));
            }
        };
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(mut fields)) => {
                let id = fields.remove("id").map_or_else(no_id, |id| id_of(bytes, &id));
                (id, Request::of_fields(fields))
            }
            Ok(_) => (no_id(), Err(Failure::usage(NO_OBJECT))),
            Err(error) => (no_id(), Err(no_json(bytes, &error))),
        }
    }

    fn of_fields(mut fields: Map<String, Value>) -> Result<Request, Failure> {
        let op = match fields.remove("op") {
            Some(Value::String(op)) => op,
            Some(other) => {
                return Err(Failure::usage(format!("\"op\" is {}, and must be one of {OPS}", shown(&other))));
            }
            None => return Err(Failure::usage(format!("\"op\" is missing: it must be one of {OPS}"))),
        };
        let mut fields = Fields::new(op.clone(), fields);
        let request = Request::of_op(&op, &mut fields)?;
        fields.end()?;
        request.checked()
    }

    fn of_op(op: &str, fields: &mut Fields) -> Result<Request, Failure> {
        Ok(match op {
            "read" => Request::Read { addr: fields.number("addr")?, len: fields.number("len")? },
            "write" => write_of(fields)?,
            "fill" => {
                Request::Fill { addr: fields.number("addr")?, len: fields.number("len")?, byte: fields.byte("byte")? }
            }
            "copy" => {
                Request::Copy { from: fields.number("from")?, to: fields.number("to")?, len: fields.number("len")? }
            }
            "checksum" => Request::Checksum { addr: fields.number("addr")?, len: fields.number("len")? },
            "cas" => {
                Request::Cas { addr: fields.number("addr")?, old: fields.number("old")?, new: fields.number("new")? }
            }
            "add" => Request::Add { addr: fields.number("addr")?, delta: fields.delta("delta")? },
            "swap" => Request::Swap { addr: fields.number("addr")?, new: fields.number("new")? },
            "status" => Request::Status,
            "snapshot" => Request::Snapshot { incremental: fields.flag("incremental")? },
            "alloc" => Request::Alloc {
                size: fields.number("size")?,
                name: fields.optional_text("name")?,
                lease_ms: fields.optional_number("lease_ms")?,
            },
            "free" => Request::Free { addr: fields.number("addr")? },
            "realloc" => Request::Realloc { addr: fields.number("addr")?, size: fields.number("size")? },
            "renew" => Request::Renew { lease: fields.uuid("lease")?, lease_ms: fields.number("lease_ms")? },
            "release" => Request::Release { lease: fields.uuid("lease")? },
            "lock" => Request::Lock {
                name: fields.required_text("name")?,
                wait_ms: fields.optional_number("wait_ms")?.unwrap_or(0),
            },
            "unlock" => Request::Unlock { name: fields.required_text("name")? },
            _ => return Err(Failure::usage(format!("{} is no op: they are {OPS}", shown(&Value::from(op))))),
        })
    }

    fn checked(self) -> Result<Request, Failure> {
        match self {
            Request::Read { len, .. } if len > READ_LEN_MAX => {
                let text = format!("{len} bytes are more than one read can give, at most {READ_LEN_MAX}");
                Err(Failure::new(Exit::USAGE, "too_large", text))
            }
            request => Ok(request),
        }
    }
}

fn write_of(fields: &mut Fields) -> Result<Request, Failure> {
    let addr = fields.number("addr")?;
    let (data, text) = (fields.text("data")?, fields.text("text")?);
    let fence = fields.fence("fence")?;
    let data = match (data, text) {
        (Some(data), None) => STANDARD.decode(data).map_err(|error| {
            Failure::usage(format!("write: \"data\" is not base64: {error}; write characters as \"text\""))
        })?,
        (None, Some(text)) => text.into_bytes(),
        _ => return Err(Failure::usage("a write has \"data\" in base64 or \"text\", one of them")),
    };
    Ok(Request::Write { addr, data, fence })
}

/// The id of a line, to the letter: a number that no 64 bits hold would come back as another one. Only carriage
/// returns between its parts are left out, because some readers would find two lines in the answer.
fn id_of(line: &[u8], id: &Value) -> Id {
    #[derive(Deserialize)]
    struct Written {
        id: Box<RawValue>,
    }
    let is_exact = id.is_null() || id.is_string() || id.is_u64() || id.is_i64();
    let written = if is_exact { None } else { serde_json::from_slice(line).ok() };
    let written = match written {
        Some(Written { id }) if id.get().contains('\r') => RawValue::from_string(id.get().replace('\r', "")),
        Some(Written { id }) => Ok(id),
        None => to_raw_value(id),
    };
    written.expect("what was parsed can be written")
}

/// Why a line is not JSON, in the words of the one who sent it.
fn no_json(line: &[u8], error: &serde_json::Error) -> Failure {
    Failure::usage(if line.trim_ascii().is_empty() {
        format!("the line is empty, and every line is answered: {NO_OBJECT}")
    } else if line.starts_with(BYTE_ORDER_MARK) {
        "the line begins with a byte order mark (BOM), so it is not JSON: save the input as UTF-8 without one"
            .to_owned()
    } else {
        format!("the line is not JSON: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> (String, Result<Request, Failure>) {
        let (id, request) = Request::parse(Line::Whole(line.as_bytes()));
        (id.get().to_owned(), request)
    }

    #[test]
    fn requests_are_understood() {
        for (line, request) in [
            (r#"{"op":"read","addr":1,"len":2}"#, Request::Read { addr: 1, len: 2 }),
            (r#"{"op":"write","addr":1,"text":"é"}"#, Request::Write { addr: 1, data: "é".into(), fence: None }),
            (r#"{"op":"write","addr":1,"data":"AP8="}"#, Request::Write { addr: 1, data: vec![0, 255], fence: None }),
            (r#"{"op":"fill","addr":1,"len":2,"byte":255}"#, Request::Fill { addr: 1, len: 2, byte: 255 }),
            (r#"{"op":"copy","from":1,"to":2,"len":3}"#, Request::Copy { from: 1, to: 2, len: 3 }),
            (r#"{"op":"checksum","addr":1,"len":2}"#, Request::Checksum { addr: 1, len: 2 }),
            (
                r#"{"op":"cas","addr":8,"old":0,"new":18446744073709551615}"#,
                Request::Cas { addr: 8, old: 0, new: u64::MAX },
            ),
            (r#"{"op":"add","addr":8,"delta":-1}"#, Request::Add { addr: 8, delta: u64::MAX }),
            (r#"{"op":"swap","addr":8,"new":1}"#, Request::Swap { addr: 8, new: 1 }),
            (r#" {"op":"status"} "#, Request::Status),
            (r#"{"op":"alloc","size":5}"#, Request::Alloc { size: 5, name: None, lease_ms: None }),
            (
                r#"{"op":"alloc","size":5,"name":"n","lease_ms":7}"#,
                Request::Alloc { size: 5, name: Some("n".into()), lease_ms: Some(7) },
            ),
            (r#"{"op":"free","addr":5}"#, Request::Free { addr: 5 }),
            (r#"{"op":"lock","name":"n"}"#, Request::Lock { name: "n".into(), wait_ms: 0 }),
            (
                r#"{"op":"write","addr":1,"text":"a","fence":{"id":"00000000-0000-0000-0000-000000000009","number":2}}"#,
                Request::Write {
                    addr: 1,
                    data: b"a".to_vec(),
                    fence: Some(Fence { id: Uuid::from_u128(9), number: 2 }),
                },
            ),
            (r#"{"op":"snapshot"}"#, Request::Snapshot { incremental: false }),
            (r#"{"op":"snapshot","incremental":true}"#, Request::Snapshot { incremental: true }),
        ] {
            assert_eq!(parse(line).1.unwrap(), request, "{line}");
        }
    }

    #[test]
    fn any_id_comes_back() {
        for id in [
            "7",
            "\"a\"",
            "[1,null]",
            "[18446744073709551616]",
            "null",
            "18446744073709551615",
            "18446744073709551616",
            "1.50",
            "-0.0",
            "1e3",
        ] {
            assert_eq!(parse(&format!("{{\"id\":{id},\"op\":\"status\"}}")).0, id);
        }
        // Python's text mode, for one, takes a carriage return for the end of a line.
        assert_eq!(parse("{\"id\":[1.50,\r2],\"op\":\"status\"}").0, "[1.50,2]");
        let (id, refused) = parse(r#"{"id":7,"op":"frobnicate"}"#);
        assert_eq!(id, "7");
        assert!(refused.is_err());
        assert_eq!(parse(r#"{"op":"status"}"#).0, "null");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            ("", "the line is empty"),
            (" \t\r", "the line is empty"),
            ("\u{feff}{}", "byte order mark"),
            ("hello", "not JSON"),
            ("[1]", "JSON object"),
            ("{}", "\"op\" is missing"),
            (r#"{"op":5}"#, "\"op\" is 5"),
            (r#"{"op":"nope"}"#, "\"nope\" is no op"),
            (r#"{"op":"read","addr":0}"#, "read: \"len\" is missing"),
            (r#"{"op":"read","addr":0,"len":1,"extra":2}"#, "read: \"extra\" is no field of it: they are addr, len"),
            (r#"{"op":"read","addr":-1,"len":1}"#, "read: \"addr\" is -1, and must be an integer"),
            (r#"{"op":"read","addr":1.5,"len":1}"#, "\"addr\" is 1.5"),
            (r#"{"op":"read","addr":"0","len":1}"#, "read: \"addr\" is \"0\", and must be an integer"),
            (
                r#"{"op":"read","addr":18446744073709551616,"len":1}"#,
                "must be an integer from 0 to 18446744073709551615",
            ),
            (r#"{"op":"fill","addr":0,"len":1,"byte":256}"#, "\"byte\" is 256, and must be"),
            (r#"{"op":"add","addr":0,"delta":1.5}"#, "\"delta\" is 1.5"),
            (r#"{"op":"write","addr":0}"#, "one of them"),
            (r#"{"op":"write","addr":0,"text":"a","data":"AA=="}"#, "one of them"),
            (r#"{"op":"write","addr":0,"data":"!"}"#, "not base64"),
            (r#"{"op":"write","addr":0,"text":"a","fence":{"id":1,"number":2}}"#, "\"fence\" is"),
            (r#"{"op":"write","addr":0,"text":"a","fence":{"id":"x"}}"#, "\"fence\" is"),
            (r#"{"op":"lock"}"#, "lock: \"name\" is missing"),
            (r#"{"op":"renew","lease":"x","lease_ms":5}"#, "renew: \"lease\" is \"x\", and must be the id of a lease"),
            (r#"{"op":"status","verbose":true}"#, "\"verbose\" is no field of it: it has none"),
        ] {
            let verdict = crate::exit::Verdict::of(&parse(line).1.unwrap_err().into());
            assert_eq!((verdict.kind, verdict.outcome()), ("usage", "fail"), "{line}");
            assert!(verdict.sentence.contains(part), "{line}: {}", verdict.sentence);
        }
    }

    #[test]
    fn what_is_too_large_has_its_own_word() {
        let read = format!(r#"{{"op":"read","addr":0,"len":{}}}"#, READ_LEN_MAX + 1);
        for refused in [parse(&read).1, Request::parse(Line::TooLong).1] {
            assert_eq!(crate::exit::Verdict::of(&refused.unwrap_err().into()).kind, "too_large");
        }
    }
}
