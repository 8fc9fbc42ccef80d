//! `mcomp shell`: every line in gets one answer out, in order, with the request's id, whatever the
//! line is and whatever becomes of the servers, until the input ends.
//!
//! Every answer of every test here is checked for its shape: one JSON object a line, an id, an
//! outcome, and a word and a sentence when it is an error. Left out is what the memory does: other
//! tests know that, and here the fields of the answers are enough.

/// Servers that are killed, restored, frozen, or answer with every refusal there is.
mod faults;

/// Every op, its fields and its answers, and the bytes, numbers and ids in them.
mod ops;

/// Lines that are no requests, and requests that are wrong.
mod refusals;

use std::fs::File;
use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::Receiver;

use serde_json::{Map, Value, json};

use crate::harness::{Cluster, PATIENCE, Setup, lines_of, wait_until};

/// Bytes that each server lends.
const K: u64 = 64 << 10;

fn setup() -> Setup {
    Setup::new(2, "64KiB")
}

/// A shell of real lines. It is killed when it is dropped, and ends with its input when this process
/// is killed.
#[derive(Debug)]
pub(crate) struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Each line of stdout, with its newline.
    lines: Receiver<String>,
}

impl Shell {
    pub(crate) fn start(cluster: &Cluster) -> Shell {
        Shell::start_with(cluster, &[])
    }

    pub(crate) fn start_with(cluster: &Cluster, flags: &[&str]) -> Shell {
        let mut command = cluster.command(&[&["shell"], flags].concat());
        let log = File::create(cluster.dir.path().join("shell.log")).expect("a log");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("mcomp starts");
        let lines = lines_of(child.stdout.take().expect("piped"));
        let stdin = child.stdin.take();
        Shell { child, stdin, lines }
    }

    /// The pid of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("the input has not ended");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the shell reads on");
    }

    /// The next answer as it is, without its newline.
    fn line(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE).expect("an answer");
        line.strip_suffix('\n').expect("an answer ends its line").to_owned()
    }

    /// The next answer.
    pub(crate) fn answer(&self) -> Value {
        checked(&self.line())
    }

    /// Sends one line and takes its answer.
    fn say(&mut self, line: impl AsRef<[u8]>) -> Value {
        self.send(&[line.as_ref(), b"\n"].concat());
        self.answer()
    }

    /// Asks with an id that no other request has, and returns the answer without it.
    pub(crate) fn ask(&mut self, mut request: Value) -> Value {
        let id = json!(fastrand::u64(..));
        request["id"] = id.clone();
        let mut answer = self.say(request.to_string());
        let found = answer.as_object_mut().expect("checked").remove("id");
        assert_eq!(found, Some(id), "{request} got {answer}");
        answer
    }

    /// Asks what must be refused with this word, and returns the sentence.
    pub(crate) fn refused(&mut self, kind: &str, request: Value) -> String {
        let answer = self.ask(request.clone());
        assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!(kind)), "{request} got {answer}");
        answer["error"].as_str().expect("checked").to_owned()
    }

    /// Asks what must go well.
    pub(crate) fn ok(&mut self, request: Value) -> Value {
        let answer = self.ask(request.clone());
        assert_eq!(answer["outcome"], "ok", "{request} got {answer}");
        answer
    }

    /// Ends the input; every answer has been taken, and it ends well.
    pub(crate) fn end(mut self) {
        self.stdin = None;
        let left: Vec<String> = self.lines.iter().collect();
        assert!(left.is_empty(), "more answers than lines: {left:?}");
        let mut status = None;
        wait_until("the shell ends with its input", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0), "the shell ends well");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer of the shape that all have.
fn checked(line: &str) -> Value {
    let answer: Map<String, Value> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(answer.contains_key("id"), "no id: {line}");
    let is_error = match answer["outcome"].as_str() {
        Some("ok") => false,
        Some("fail" | "unknown") => true,
        _ => panic!("no outcome: {line}"),
    };
    assert_eq!((answer.contains_key("kind"), answer.contains_key("error")), (is_error, is_error), "{line}");
    if is_error {
        let word = answer["kind"].as_str().expect("a word");
        assert!(!word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
        let sentence = answer["error"].as_str().expect("a sentence");
        assert!(sentence.len() > 10 && sentence.len() < 1000 && !sentence.contains('\n'), "{line}");
        assert_eq!(answer.len(), 4, "an error says nothing else: {line}");
    }
    Value::Object(answer)
}
