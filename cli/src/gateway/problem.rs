//! Why a request is not done, as `application/problem+json` (RFC 9457), and the status that goes with each word.
//!
//! Promises: an error has the same word, outcome and sentence here as on the command line and in the shell, and the
//! outcome is "unknown" whenever memory may have changed.

use serde::Serialize;

use super::answer::{Answer, line_of, phrase};
use super::head::{HEAD_BYTES_MAX, Unfit};
use crate::exit::{Exit, Failure, Verdict};

const CONTENT_TYPE: &str = "application/problem+json";

/// Seconds after which a request that met a busy or missing server is worth another try.
const RETRY_AFTER_S: u32 = 1;

/// What is wrong with a request, or with what it met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) detail: String,
    /// Whether memory may have changed.
    unknown: bool,
    /// Whether the memory was restored since the last request.
    is_restored: bool,
    fields: Vec<(&'static str, String)>,
}

/// As it is written.
#[derive(Serialize)]
struct Written<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    outcome: &'a str,
    kind: &'a str,
}

impl Problem {
    /// A problem of the request: certainly nothing happened.
    pub(super) fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, detail: detail.into(), unknown: false, is_restored: false, fields: Vec::new() }
    }

    /// The request is wrong.
    pub(super) fn usage(detail: impl Into<String>) -> Problem {
        Problem::new(400, "usage", detail)
    }

    /// The same problem with a field of the answer.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Problem {
        self.fields.push((name, value.into()));
        self
    }

    /// Why a head is not looked at.
    pub(super) fn of_unfit(unfit: Unfit) -> Problem {
        match unfit {
            Unfit::Malformed(why) => Problem::usage(why),
            Unfit::TooLong => {
                Problem::new(431, "too_large", format!("the head of a request has at most {HEAD_BYTES_MAX} bytes"))
            }
            Unfit::NoLength => Problem::new(411, "usage", "a body is sent whole, with its Content-Length"),
            Unfit::Expectation => Problem::new(417, "usage", "only 100-continue can be expected"),
        }
    }

    /// A body that is longer than the gateway takes.
    pub(super) fn body_too_large(len: u64, most: u64) -> Problem {
        Problem::new(413, "too_large", format!("a body of {len} bytes is more than this gateway takes, at most {most}"))
    }

    /// What the command would say of an error.
    fn of_verdict(verdict: Verdict) -> Problem {
        let Verdict { kind, unknown, sentence, .. } = verdict;
        let status = if unknown { 504 } else { status_of(kind) };
        let problem = Problem { status, kind, detail: sentence, unknown, is_restored: false, fields: Vec::new() };
        if status == 503 { problem.with("retry-after", RETRY_AFTER_S.to_string()) } else { problem }
    }

    /// Whether the memory is another one now than the gateway has known.
    pub(super) fn is_of_a_restore(&self) -> bool {
        self.is_restored
    }

    /// As an answer.
    pub(super) fn answer(&self) -> Answer {
        let written = Written {
            r#type: format!("urn:mcomp:problem:{}", self.kind),
            title: phrase(self.status),
            status: self.status,
            detail: &self.detail,
            outcome: if self.unknown { "unknown" } else { "fail" },
            kind: self.kind,
        };
        let answer = Answer::new(self.status, CONTENT_TYPE, line_of(&written));
        self.fields.iter().fold(answer, |answer, (name, value)| answer.with(name, value.clone()))
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Problem {
        let is_restored =
            error.chain().any(|cause| matches!(cause.downcast_ref(), Some(mcomp_client::Error::Fenced { .. })));
        Problem { is_restored, ..Problem::of_verdict(Verdict::of(&error)) }
    }
}

impl From<mcomp_client::Error> for Problem {
    fn from(error: mcomp_client::Error) -> Problem {
        anyhow::Error::from(error).into()
    }
}

/// A sentence about a single value of the request.
impl From<String> for Problem {
    fn from(sentence: String) -> Problem {
        anyhow::Error::from(Failure::new(Exit::USAGE, "usage", sentence)).into()
    }
}

/// The status of an error that certainly had no effect, by its word.
fn status_of(kind: &str) -> u16 {
    match kind {
        "usage" | "out_of_range" | "unaligned" => 400,
        "not_found" => 404,
        "fenced" | "no_lease" | "locked" | "exists" | "not_a_register" => 409,
        "too_large" => 413,
        "unavailable" | "busy" | "restoring" | "full" | "stopping" | "no_session" => 503,
        "timeout" => 504,
        // What is damaged, or refused to the gateway itself, is not for the one who asks to mend.
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use mcomp_client::Error;
    use serde_json::{Value, json};

    use super::*;

    fn server() -> (u32, String, String) {
        (1, "127.0.0.1:7402".into(), "it is gone".into())
    }

    fn of(error: Error) -> (u16, Value, bool) {
        let answer = Problem::from(error).answer();
        let bytes = String::from_utf8(answer.bytes(false, true)).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap(), bytes.contains("\r\nretry-after: 1\r\n"))
    }

    #[test]
    fn a_problem_says_what_the_command_would() {
        let (status, body, _) = of(Error::OutOfRange { addr: 9, len: 1, size: 9 });
        assert_eq!(status, 400);
        assert_eq!(
            body,
            json!({
                "type": "urn:mcomp:problem:out_of_range", "title": "Bad Request", "status": 400,
                "detail": "address 9 + 1 bytes is outside the address space of 9 bytes (0..9)",
                "outcome": "fail", "kind": "out_of_range"
            })
        );
    }

    #[test]
    fn what_may_have_happened_is_told_from_what_did_not() {
        let ((server, address, reason), message) = (server(), String::from("why"));
        let after = std::time::Duration::from_secs(1);
        let told = |error: Error| {
            let (status, body, retry) = of(error);
            (status, body["outcome"].as_str().unwrap().to_owned(), retry)
        };
        let at = || address.clone();
        for (error, status, outcome, retry) in [
            (Error::Unavailable { server, address: at(), reason: reason.clone() }, 503, "fail", true),
            (Error::Busy { server, address: at(), message: message.clone() }, 503, "fail", true),
            (Error::Restoring { server, address: at(), message: message.clone() }, 503, "fail", true),
            (Error::Timeout { server, address: at(), after }, 504, "fail", false),
            (Error::Unknown { server, address: at(), reason }, 504, "unknown", false),
            (Error::Fenced { server, address: at() }, 409, "fail", false),
            (Error::Reconnected, 409, "fail", false),
            (Error::TooLarge { len: 2, max: 1 }, 413, "fail", false),
            (Error::Torn { server, address: at(), message: message.clone() }, 500, "fail", false),
            (Error::Denied { server, address, message }, 500, "fail", false),
        ] {
            assert_eq!(told(error.clone()), (status, outcome.to_owned(), retry), "{error:?}");
        }
    }
}
