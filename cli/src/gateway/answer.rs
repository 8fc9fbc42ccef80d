//! An answer: its status, its fields and its body, and how they go on the wire.

use serde::Serialize;

/// The type of bytes that mean nothing to the gateway.
pub(super) const OCTETS: &str = "application/octet-stream";
/// The type of JSON.
pub(super) const JSON: &str = "application/json";

/// What is said to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    fields: Vec<(&'static str, String)>,
}

impl Answer {
    /// An answer with a body.
    pub(super) fn new(status: u16, content_type: &str, body: Vec<u8>) -> Answer {
        Answer { status, body, fields: vec![("content-type", content_type.to_owned())] }
    }

    /// An answer that says all with its status.
    pub(super) fn empty(status: u16) -> Answer {
        Answer { status, body: Vec::new(), fields: Vec::new() }
    }

    /// Done, with JSON.
    pub(super) fn json(value: &impl Serialize) -> Answer {
        Answer::new(200, JSON, line_of(value))
    }

    /// The same answer with one more field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }

    /// The bytes that are sent. To HEAD, all but the body; and whoever keeps the connection is not told that it ends.
    pub(super) fn bytes(&self, head_only: bool, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // These two have no body by definition, and no length of one.
        if !matches!(self.status, 204 | 304) {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        if !keep_alive {
            head.push_str("connection: close\r\n");
        }
        // Memory changes under whoever keeps a copy, and a browser must not guess what it is.
        head.push_str("cache-control: no-store\r\nx-content-type-options: nosniff\r\n\r\n");
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// A line of JSON.
pub(super) fn line_of(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("what has text for keys can be written as JSON");
    bytes.push(b'\n');
    bytes
}

/// What HTTP calls a status.
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: &Answer, head_only: bool, keep_alive: bool) -> String {
        String::from_utf8(answer.bytes(head_only, keep_alive)).unwrap()
    }

    #[test]
    fn an_answer_says_its_length_and_whether_it_is_the_last() {
        let answer = Answer::new(206, OCTETS, b"hello".to_vec()).with("etag", "\"x\"");
        let head = "HTTP/1.1 206 Partial Content\r\ncontent-type: application/octet-stream\r\netag: \"x\"\r\n\
                    content-length: 5\r\n";
        let end = "cache-control: no-store\r\nx-content-type-options: nosniff\r\n\r\n";
        assert_eq!(text(&answer, false, true), format!("{head}{end}hello"));
        assert_eq!(text(&answer, true, true), format!("{head}{end}"));
        assert_eq!(text(&answer, true, false), format!("{head}connection: close\r\n{end}"));
        assert_eq!(text(&Answer::empty(204), false, true), format!("HTTP/1.1 204 No Content\r\n{end}"));
    }
}
