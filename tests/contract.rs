//! The command line is a contract: every exit code is produced on purpose, with the word, the
//! outcome and the sentence that go with it, for people and in JSON alike.
//!
//! Left out is 70, a bug of the command itself: there is no way to make one. The same code for a bug
//! on a server's side is met through a server that claims one.

/// A server that answers as the test tells it to.
pub(crate) mod fake;

/// What commands print and where; flags, numbers, help and completion.
mod output;

/// The codes that this machine decides on.
mod refused;

/// The codes that come from servers, and from their silence.
pub(crate) mod servers;

/// Flags, variables, the file and defaults: which of them wins, and slips in their names.
mod variables;

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Cluster, PATIENCE, Setup};

fn setup() -> Setup {
    Setup::new(2, "64KiB")
}

/// One line of JSON that has an outcome.
fn parsed(stdout: &[u8]) -> Value {
    let text = std::str::from_utf8(stdout).expect("JSON is UTF-8");
    let line = text.strip_suffix('\n').unwrap_or_else(|| panic!("no newline at the end of {text:?}"));
    assert!(!line.contains('\n'), "more than one line: {text}");
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(matches!(value["outcome"].as_str(), Some("ok" | "fail" | "unknown")), "no outcome: {value}");
    value
}

/// Runs a command that must fail, for people and for machines: no data, this code, this word, and the
/// same sentence in both. Returns the sentence.
fn fails(cluster: &Cluster, code: i32, kind: &str, args: &[&str]) -> String {
    let output = cluster.exits(code, args);
    assert!(output.stdout.is_empty(), "mcomp {args:?} prints data and fails: {output:?}");
    let told = String::from_utf8(output.stderr).expect("messages are UTF-8");
    let told = told.lines().next().and_then(|line| line.strip_prefix("mcomp: ")).unwrap_or_else(|| panic!("{told:?}"));
    let output = cluster.exits(code, &[&["--json"], args].concat());
    let answer = parsed(&output.stdout);
    let outcome = if code == 2 { "unknown" } else { "fail" };
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!(outcome), &json!(kind)), "mcomp {args:?}: {answer}");
    let sentence = answer["error"].as_str().expect("a sentence");
    assert!(sentence.len() > 10 && !sentence.contains('\n'), "mcomp {args:?}: {sentence:?}");
    let shape = |text: &str| -> String { text.chars().filter(|c| !c.is_ascii_digit()).collect() };
    assert_eq!(shape(told), shape(sentence), "people and machines are told the same");
    sentence.to_owned()
}

/// Runs a command with this input.
fn with_input(cluster: &Cluster, args: &[&str], input: &[u8]) -> Output {
    let mut child = piped(cluster.command(args));
    // A command that refuses its input may leave before it has read all of it.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("mcomp ends")
}

fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mcomp starts")
}

/// A server that should not start, and is killed if it does.
fn refused_server(cluster: &Cluster, code: i32, kind: &str, args: &[&str]) -> String {
    let mut child = piped(cluster.command(&[&["--json"], args].concat()));
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child can be waited for").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::yield_now();
    }
    let output = child.wait_with_output().expect("its last words");
    assert_eq!(output.status.code(), Some(code), "mcomp {args:?}: {output:?}");
    let answer = parsed(&output.stdout);
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!(kind)), "mcomp {args:?}: {answer}");
    answer["error"].as_str().expect("a sentence").to_owned()
}

/// The path of a new snapshot.
fn snapshot(cluster: &Cluster) -> String {
    let created = parsed(&cluster.ok(&["snapshot", "create", "--json"]));
    created["path"].as_str().expect("a path").to_owned()
}

#[test]
fn codes_0_and_1_tell_yes_from_no() {
    let cluster = setup().start();
    let file = cluster.dir.path().join("file");
    fs::write(&file, "hello").expect("a file");
    let file = file.to_str().expect("a plain path");
    assert!(cluster.ok(&["write", "65533", "hello"]).is_empty());
    assert!(cluster.ok(&["compare", "65533", file]).is_empty());
    assert_eq!(cluster.exits(1, &["compare", "65534", file]).stdout, b"65534\n");
    assert_eq!(cluster.ok(&["cas", "8", "0", "7"]), b"0\n");
    assert_eq!(cluster.exits(1, &["cas", "8", "0", "9"]).stdout, b"7\n");
    let lost = parsed(&cluster.exits(1, &["cas", "8", "0", "9", "--json"]).stdout);
    assert_eq!(lost, json!({"outcome": "ok", "swapped": false, "value": 7}));
    let differs = parsed(&cluster.exits(1, &["compare", "65534", file, "--json"]).stdout);
    assert_eq!(differs, json!({"outcome": "ok", "equal": false, "first_difference": 65534}));
    // Before there is a snapshot folder, and when there is one.
    for round in 0..2 {
        for args in [&["show"][..], &["verify"], &["export", "-o", "/dev/null"]] {
            for name in ["missing.mcs", "./missing.mcs", "/missing/missing.mcs"] {
                let args = [&["snapshot", args[0], name], &args[1..]].concat();
                let said = fails(&cluster, 1, "not_found", &args);
                assert!(said.contains(name), "round {round}: {said}");
                assert_eq!(said.contains("`mcomp snapshot ls`"), !name.contains('/'), "another folder: {said}");
            }
        }
        fails(&cluster, 1, "not_found", &["restore", "missing.mcs"]);
        snapshot(&cluster);
    }
}
