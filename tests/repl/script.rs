//! Lines from a pipe or a file.

use std::io::Write;
use std::process::{Output, Stdio};

use super::{owners, repl, setup};
use crate::harness::Cluster;

fn follow(cluster: &Cluster, script: impl AsRef<[u8]>, flags: &[&str]) -> Output {
    let mut command = repl(cluster);
    command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("mcomp starts");
    // One that has ended takes no more, which is its right.
    let _ = child.stdin.take().expect("piped").write_all(script.as_ref());
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn a_script_has_no_prompt_and_one_session() {
    let cluster = setup().servers();
    let script = "m 64 --name a\nm 64\n# a comment\n\nw a 5 hello\nr a 5\nls --json\nr a 2";
    let output = follow(&cluster, script, &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!((lines.len(), lines[2], lines[4]), (5, "hello", "he"), "{lines:?}");
    let owners_then = owners(lines[3].as_bytes());
    assert!(owners_then.len() == 2 && owners_then[0] == owners_then[1] && owners_then[0].is_string(), "{lines:?}");
    let owners_now = owners(&cluster.ok(&["ls", "--json"]));
    assert!(owners_now.iter().all(serde_json::Value::is_null), "the session has ended in good order: {owners_now:?}");
    cluster.ok(&["gc", "--yes"]);
    assert_eq!(owners(&cluster.ok(&["ls", "--json"])).len(), 2, "so nobody may take what it left for garbage");
}

#[test]
fn the_exit_code_is_that_of_the_first_line_that_failed() {
    let cluster = setup().servers();
    for (script, code, stdout) in [
        ("", 0, ""),
        ("exit\nfrobnicate\n", 0, ""),
        ("frobnicate\nm 1TiB\nr 0 1\n", 64, "\\x00\n"),
        ("m 1TiB\nfrobnicate\n", 73, ""),
        ("cas 0 1 2\nadd 0 0\nup\n", 1, "0\n0\n"),
        ("w 0 5 'x\nexit\nm 1TiB\n", 64, ""),
    ] {
        let output = follow(&cluster, script, &[]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), stdout), "{script}: {output:?}");
    }
    let output = follow(&cluster, b"w 0 3 \xff\xfe\nr 0 1\n", &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(64), "\\x00\n"), "{output:?}");
    assert!(text(&output.stderr).contains("not UTF-8"), "{output:?}");
}

#[test]
fn a_line_that_reads_stdin_gets_what_follows_it() {
    let cluster = setup().servers();
    let output = follow(&cluster, "write 0 -\nr 0 3\n", &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""), "{output:?}");
    assert_eq!(cluster.ok(&["read", "0", "8"]), b"r 0 3\n\0\0");
}

#[test]
fn json_is_for_all_lines() {
    let cluster = setup().servers();
    let output = follow(&cluster, "w 0 2 ok\nr 0 2\nd net\nr\nd 131056\n", &["--json"]);
    let answers: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 5, "{answers:?}");
    assert_eq!(answers[1]["data"], "b2s=");
    assert_eq!(answers[2]["servers"][1]["state"], "serving");
    assert_eq!((&answers[3]["kind"], &answers[3]["outcome"]), (&"usage".into(), &"fail".into()));
    assert_eq!(answers[4]["len"], 16);
}

#[test]
fn a_configuration_that_is_wrong_ends_it_before_the_first_line() {
    let cluster = setup().prepare();
    std::fs::write(cluster.config_path(), "[cluster]").expect("written");
    let output = follow(&cluster, "h\n", &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(78), ""), "{output:?}");
}
