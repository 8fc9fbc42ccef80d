//! Requests of the shell: from a line to a request that is ready to run, or a sentence about what is
//! wrong with it.
//!
//! A field that is missing, unknown or of another type is refused, so that a slip of the one who asks
//! never does something else than was meant.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use super::line::{LINE_LEN_MAX, Line};
use crate::exit::{Exit, Failure};

/// The most that one read may ask for.
pub(super) const READ_LEN_MAX: u64 = 16 << 20;

const OPS: &str = "read, write, fill, copy, checksum, cas, add, swap, status and snapshot";

/// Known to the contract, but not to this version.
const LATER: [&str; 7] = ["alloc", "free", "realloc", "renew", "release", "lock", "unlock"];

/// A request that is ready to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read(ReadFields),
    Write { addr: u64, data: Vec<u8> },
    Fill(FillFields),
    Copy(CopyFields),
    Checksum(ChecksumFields),
    Cas(CasFields),
    Add { addr: u64, delta: u64 },
    Swap(SwapFields),
    Status,
    Snapshot(SnapshotFields),
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadFields {
    pub(super) addr: u64,
    pub(super) len: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteFields {
    addr: u64,
    data: Option<String>,
    text: Option<String>,
    fence: Option<Value>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct FillFields {
    pub(super) addr: u64,
    pub(super) len: u64,
    pub(super) byte: u8,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct CopyFields {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) len: u64,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct ChecksumFields {
    pub(super) addr: u64,
    pub(super) len: u64,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct CasFields {
    pub(super) addr: u64,
    pub(super) old: u64,
    pub(super) new: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddFields {
    addr: u64,
    delta: Number,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct SwapFields {
    pub(super) addr: u64,
    pub(super) new: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusFields {}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotFields {
    #[serde(default)]
    pub(super) incremental: bool,
}

impl Request {
    /// The request's id, null when there is none, and the request or what is wrong with it.
    pub(super) fn parse(line: Line<'_>) -> (Value, Result<Request, Failure>) {
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::TooLong => {
                let text = format!("the line is longer than {LINE_LEN_MAX} bytes: split the request");
                return (Value::Null, Err(Failure::new(Exit::USAGE, "too_large", text)));
            }
        };
        let mut fields: Map<String, Value> = match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => {
                return (Value::Null, Err(Failure::usage("a request is a JSON object, such as {\"op\":\"status\"}")));
            }
            Err(error) => return (Value::Null, Err(Failure::usage(format!("the line is not JSON: {error}")))),
        };
        let id = fields.remove("id").unwrap_or(Value::Null);
        (id, Request::of_fields(fields))
    }

    fn of_fields(mut fields: Map<String, Value>) -> Result<Request, Failure> {
        let op = match fields.remove("op") {
            Some(Value::String(op)) => op,
            Some(other) => return Err(Failure::usage(format!("\"op\" is {other}, and must be one of {OPS}"))),
            None => return Err(Failure::usage(format!("\"op\" is missing: it must be one of {OPS}"))),
        };
        match op.as_str() {
            "read" => read_of(of(&op, fields)?),
            "write" => write_of(of(&op, fields)?),
            "fill" => of(&op, fields).map(Request::Fill),
            "copy" => of(&op, fields).map(Request::Copy),
            "checksum" => of(&op, fields).map(Request::Checksum),
            "cas" => of(&op, fields).map(Request::Cas),
            "add" => add_of(of(&op, fields)?),
            "swap" => of(&op, fields).map(Request::Swap),
            "status" => of(&op, fields).map(|StatusFields {}| Request::Status),
            "snapshot" => of(&op, fields).map(Request::Snapshot),
            later if LATER.contains(&later) => {
                Err(Failure::usage(format!("{later:?} is not supported by this version")))
            }
            _ => Err(Failure::usage(format!("{op:?} is no op: they are {OPS}"))),
        }
    }
}

fn of<T: DeserializeOwned>(op: &str, fields: Map<String, Value>) -> Result<T, Failure> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| Failure::usage(format!("{op}: {error}")))
}

fn read_of(fields: ReadFields) -> Result<Request, Failure> {
    if fields.len > READ_LEN_MAX {
        let text = format!("{} bytes are more than one read can give, at most {READ_LEN_MAX}", fields.len);
        return Err(Failure::new(Exit::USAGE, "too_large", text));
    }
    Ok(Request::Read(fields))
}

fn write_of(fields: WriteFields) -> Result<Request, Failure> {
    let WriteFields { addr, data, text, fence } = fields;
    if fence.is_some() {
        return Err(Failure::usage("\"fence\" is not supported by this version"));
    }
    let data = match (data, text) {
        (Some(data), None) => STANDARD.decode(data).map_err(|error| {
            Failure::usage(format!("\"data\" is not base64: {error}; write characters as \"text\""))
        })?,
        (None, Some(text)) => text.into_bytes(),
        _ => return Err(Failure::usage("a write has \"data\" in base64 or \"text\", one of them")),
    };
    Ok(Request::Write { addr, data })
}

fn add_of(AddFields { addr, delta }: AddFields) -> Result<Request, Failure> {
    let wrapped = delta.as_u64().or_else(|| delta.as_i64().map(i64::cast_unsigned));
    let delta =
        wrapped.ok_or_else(|| Failure::usage(format!("\"delta\" is {delta}, and must be an integer of 64 bits")))?;
    Ok(Request::Add { addr, delta })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(line: &str) -> (Value, Result<Request, Failure>) {
        Request::parse(Line::Whole(line.as_bytes()))
    }

    #[test]
    fn requests_are_understood() {
        for (line, request) in [
            (r#"{"op":"read","addr":1,"len":2}"#, Request::Read(ReadFields { addr: 1, len: 2 })),
            (r#"{"op":"write","addr":1,"text":"é"}"#, Request::Write { addr: 1, data: "é".into() }),
            (r#"{"op":"write","addr":1,"data":"AP8="}"#, Request::Write { addr: 1, data: vec![0, 255] }),
            (r#"{"op":"fill","addr":1,"len":2,"byte":255}"#, Request::Fill(FillFields { addr: 1, len: 2, byte: 255 })),
            (r#"{"op":"copy","from":1,"to":2,"len":3}"#, Request::Copy(CopyFields { from: 1, to: 2, len: 3 })),
            (r#"{"op":"checksum","addr":1,"len":2}"#, Request::Checksum(ChecksumFields { addr: 1, len: 2 })),
            (
                r#"{"op":"cas","addr":8,"old":0,"new":18446744073709551615}"#,
                Request::Cas(CasFields { addr: 8, old: 0, new: u64::MAX }),
            ),
            (r#"{"op":"add","addr":8,"delta":-1}"#, Request::Add { addr: 8, delta: u64::MAX }),
            (r#"{"op":"swap","addr":8,"new":1}"#, Request::Swap(SwapFields { addr: 8, new: 1 })),
            (r#" {"op":"status"} "#, Request::Status),
            (r#"{"op":"snapshot"}"#, Request::Snapshot(SnapshotFields { incremental: false })),
            (r#"{"op":"snapshot","incremental":true}"#, Request::Snapshot(SnapshotFields { incremental: true })),
        ] {
            assert_eq!(parse(line).1.unwrap(), request, "{line}");
        }
    }

    #[test]
    fn any_id_comes_back() {
        for (id, value) in
            [("7", json!(7)), ("\"a\"", json!("a")), ("[1,null]", json!([1, null])), ("null", json!(null))]
        {
            assert_eq!(parse(&format!("{{\"id\":{id},\"op\":\"status\"}}")).0, value);
        }
        let (id, refused) = parse(r#"{"id":7,"op":"frobnicate"}"#);
        assert_eq!(id, json!(7));
        assert!(refused.is_err());
        assert_eq!(parse(r#"{"op":"status"}"#).0, Value::Null);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            ("", "not JSON"),
            ("hello", "not JSON"),
            ("[1]", "JSON object"),
            ("{}", "\"op\" is missing"),
            (r#"{"op":5}"#, "\"op\" is 5"),
            (r#"{"op":"nope"}"#, "\"nope\" is no op"),
            (r#"{"op":"read","addr":0}"#, "missing field `len`"),
            (r#"{"op":"read","addr":0,"len":1,"extra":2}"#, "unknown field `extra`"),
            (r#"{"op":"read","addr":-1,"len":1}"#, "`-1`"),
            (r#"{"op":"read","addr":1.5,"len":1}"#, "`1.5`"),
            (r#"{"op":"read","addr":"0","len":1}"#, "string \"0\""),
            (r#"{"op":"read","addr":18446744073709551616,"len":1}"#, "expected u64"),
            (r#"{"op":"fill","addr":0,"len":1,"byte":256}"#, "`256`"),
            (r#"{"op":"add","addr":0,"delta":1.5}"#, "\"delta\" is 1.5"),
            (r#"{"op":"write","addr":0}"#, "one of them"),
            (r#"{"op":"write","addr":0,"text":"a","data":"AA=="}"#, "one of them"),
            (r#"{"op":"write","addr":0,"data":"!"}"#, "not base64"),
            (r#"{"op":"write","addr":0,"text":"a","fence":{"id":1,"number":2}}"#, "not supported by this version"),
            (r#"{"op":"lock","name":"x"}"#, "not supported by this version"),
            (r#"{"op":"status","verbose":true}"#, "unknown field `verbose`"),
        ] {
            let verdict = crate::exit::Verdict::of(&parse(line).1.unwrap_err().into());
            assert_eq!((verdict.kind, verdict.outcome()), ("usage", "fail"), "{line}");
            assert!(verdict.sentence.contains(part), "{line}: {}", verdict.sentence);
        }
    }

    #[test]
    fn what_is_too_large_has_its_own_word() {
        let read = format!(r#"{{"op":"read","addr":0,"len":{}}}"#, READ_LEN_MAX + 1);
        for (_, refused) in [parse(&read), Request::parse(Line::TooLong)] {
            assert_eq!(crate::exit::Verdict::of(&refused.unwrap_err().into()).kind, "too_large");
        }
    }
}
