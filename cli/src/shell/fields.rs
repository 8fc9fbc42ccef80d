//! The fields of a request: each is taken by name as the type that its op needs, and none may be left
//! over. What is wrong is named with its field and its value.

use mcomp_wire::meta::{Fence, lock_id};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::exit::Failure;

/// The longest value that a refusal repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// The fields of one request that have not been taken yet.
#[derive(Debug)]
pub(super) struct Fields {
    op: String,
    left: Map<String, Value>,
    /// The names that were asked for.
    known: Vec<&'static str>,
}

impl Fields {
    /// All fields of a request but `op` and the id.
    pub(super) fn new(op: String, fields: Map<String, Value>) -> Fields {
        Fields { op, left: fields, known: Vec::new() }
    }

    /// An integer of 64 bits without a sign.
    pub(super) fn number(&mut self, name: &'static str) -> Result<u64, Failure> {
        let value = self.required(name)?;
        value.as_u64().ok_or_else(|| self.wrong(name, &value, "an integer from 0 to 18446744073709551615"))
    }

    /// An integer of 64 bits with or without a sign; a negative one is what it is modulo 2^64.
    pub(super) fn delta(&mut self, name: &'static str) -> Result<u64, Failure> {
        let value = self.required(name)?;
        let wrapped = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
        wrapped.ok_or_else(|| self.wrong(name, &value, "an integer of 64 bits"))
    }

    /// An integer from 0 to 255.
    pub(super) fn byte(&mut self, name: &'static str) -> Result<u8, Failure> {
        let value = self.required(name)?;
        let byte = value.as_u64().and_then(|number| u8::try_from(number).ok());
        byte.ok_or_else(|| self.wrong(name, &value, "an integer from 0 to 255"))
    }

    /// An integer of 64 bits without a sign, if there is one.
    pub(super) fn optional_number(&mut self, name: &'static str) -> Result<Option<u64>, Failure> {
        match self.take(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => {
                let wrong = || self.wrong(name, &value, "an integer from 0 to 18446744073709551615");
                value.as_u64().map(Some).ok_or_else(wrong)
            }
        }
    }

    /// A string, if there is one that is not null.
    pub(super) fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, Failure> {
        match self.take(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, &other, "a string")),
        }
    }

    /// A string.
    pub(super) fn required_text(&mut self, name: &'static str) -> Result<String, Failure> {
        self.text(name)?.ok_or_else(|| Failure::usage(format!("{}: \"{name}\" is missing", self.op)))
    }

    /// The id of a lease.
    pub(super) fn uuid(&mut self, name: &'static str) -> Result<Uuid, Failure> {
        let value = self.required(name)?;
        let id = value.as_str().and_then(|text| text.parse().ok());
        id.ok_or_else(|| self.wrong(name, &value, "the id of a lease"))
    }

    /// What a write shows, if anything: the id of a lease, or the name of a lock, and the number.
    pub(super) fn fence(&mut self, name: &'static str) -> Result<Option<Fence>, Failure> {
        let Some(value) = self.take(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let parsed = value.as_object().filter(|fields| fields.len() == 2).and_then(|fields| {
            let id = fields.get("id")?.as_str()?;
            Some(Fence { id: id.parse().unwrap_or_else(|_| lock_id(id)), number: fields.get("number")?.as_u64()? })
        });
        let form = "{\"id\": the id of a lease or the name of a lock, \"number\": its fence}";
        parsed.map(Some).ok_or_else(|| self.wrong(name, &value, form))
    }

    /// A string, if there is one.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, &other, "a string")),
        }
    }

    /// Yes or no; no when it is left out.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Failure> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(yes)) => Ok(yes),
            Some(other) => Err(self.wrong(name, &other, "true or false")),
        }
    }

    /// Whatever it is, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name)
    }

    /// Refuses what nobody asked for.
    pub(super) fn end(self) -> Result<(), Failure> {
        let Fields { op, left, known } = self;
        let Some(name) = left.keys().next() else { return Ok(()) };
        let name = shown(&Value::from(name.as_str()));
        Err(Failure::usage(match known.is_empty() {
            true => format!("{op}: {name} is no field of it: it has none"),
            false => format!("{op}: {name} is no field of it: they are {}", known.join(", ")),
        }))
    }

    fn required(&mut self, name: &'static str) -> Result<Value, Failure> {
        self.take(name).ok_or_else(|| Failure::usage(format!("{}: \"{name}\" is missing", self.op)))
    }

    fn wrong(&self, name: &str, value: &Value, form: &str) -> Failure {
        Failure::usage(format!("{}: \"{name}\" is {}, and must be {form}", self.op, shown(value)))
    }
}

/// A value as JSON, the beginning of it if it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
