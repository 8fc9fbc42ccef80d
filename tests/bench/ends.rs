//! How a bench ends when it cannot go on: refused, without a cluster, with errors, by a signal.

use std::io::Read;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{bench, counted, parsed, remote, runs, sum};
use crate::harness::{Cluster, Setup, wait_until};

#[test]
fn what_cannot_be_measured_is_refused() {
    let cluster = Setup::new(1, "64KiB").with("[client]\nsegment = false").servers();
    let quick = ["bench", "--json", "--count", "1", "--warm-up", "0s"];
    for (args, code, kind, part) in [
        (&["--at", "65536"][..], 64, "usage", "--len"),
        (&["--at", "65537"], 64, "out_of_range", "65537"),
        (&["--at", "1", "--len", "64KiB"], 64, "out_of_range", "65536"),
        (&["--size", "128KiB"], 64, "usage", "128 KiB"),
        (&["--size", "0"], 64, "usage", "0 B"),
        (&["--size", "64KiB", "--depth", "20000"], 64, "too_large", "20000"),
        (&["--depth", "0"], 64, "usage", "--depth"),
        (&["--reads", "0", "--at", "0", "--len", "8", "--local"], 64, "usage", "--local"),
        (&["--local", "--depth", "1,2"], 64, "usage", "--depth 2"),
        (&["--local"], 64, "usage", "client.segment"),
    ] {
        let answer = parsed(&cluster.exits(code, &[&quick[..], args].concat()));
        assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!(kind)), "{args:?}: {answer}");
        assert!(answer["error"].as_str().expect("a sentence").contains(part), "{args:?}: {answer}");
    }
}

#[test]
fn without_a_cluster_it_says_who_does_not_answer() {
    let cluster = Setup::new(2, "64KiB").prepare();
    let answer = parsed(&cluster.exits(69, &["bench", "--json"]));
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!("unavailable")), "{answer}");
    assert!(answer["error"].as_str().expect("a sentence").contains(&cluster.address(0)), "{answer}");
    assert!(cluster.exits(69, &["bench"]).stdout.is_empty());
}

#[test]
fn errors_are_counted_by_kind() {
    let mut cluster = remote().servers();
    cluster.kill_server(1);
    let args = ["--count", "64", "--warm-up", "0s", "--size", "8", "--depth", "1,8", "--connections", "1"];
    let report = bench(&cluster, &args);
    let paths: Vec<_> = report["paths"].as_array().expect("paths").iter().map(|path| &path["reads"]).collect();
    assert_eq!(paths, ["unix", "none"], "{report}");
    for run in runs(&report) {
        let (done, failed) = (run["operations"].as_u64().expect("a number"), run["errors"].as_u64().expect("a number"));
        assert!(done + failed == 64 && done > 0 && failed > 0, "{run}");
        let kinds = run["errors_by_kind"].as_array().expect("kinds");
        assert_eq!((kinds.len(), &kinds[0]["kind"], &kinds[0]["count"]), (1, &json!("unavailable"), &json!(failed)));
        assert!(kinds[0]["first"].as_str().expect("a sentence").contains(&cluster.address(1)), "{run}");
    }
    let text = String::from_utf8(cluster.ok(&[&["bench"], &args[..]].concat())).expect("UTF-8");
    assert!(
        text.contains("path: unix to server 0 and none to server 1; ") && text.contains(" x unavailable: server 1"),
        "{text}"
    );
}

#[test]
fn when_nothing_succeeds_the_first_error_decides() {
    let mut cluster = remote().servers();
    cluster.kill_server(1);
    // Each request needs both servers.
    let args = ["bench", "--size", "128KiB", "--count", "9", "--warm-up", "0s", "--depth", "1,4", "--connections", "2"];
    let answer = parsed(&cluster.exits(69, &[&args[..], &["--json"]].concat()));
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!("unavailable")), "{answer}");
    assert!(answer["error"].as_str().expect("a sentence").contains(&cluster.address(1)), "{answer}");
    assert_eq!((sum(&answer, "operations"), sum(&answer, "errors")), (0, 18));
    assert!(runs(&answer).iter().all(|run| run["latency"].is_null()), "{answer}");
    let output = cluster.exits(69, &args);
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(told.starts_with("mcomp: server 1 at "), "{told}");
    assert!(String::from_utf8(output.stdout).expect("UTF-8").contains("18 x unavailable"));
    // A write that reached one of them may have had its effect.
    let writes = ["--reads", "0", "--at", "0", "--len", "128KiB", "--json"];
    let answer = parsed(&cluster.run(&[&args[..], &writes].concat()));
    assert!(matches!(answer["outcome"].as_str(), Some("fail" | "unknown")), "{answer}");
}

/// A bench in the background, killed when it is dropped.
struct Running(Child);

impl Running {
    fn start(cluster: &Cluster, args: &[&str]) -> Running {
        let mut command = cluster.command(&[&["bench"], args].concat());
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mcomp starts"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("a child can be signalled");
    }

    /// Its exit code and its stdout, when it has ended.
    fn end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        wait_until("the bench ends", || {
            status = self.0.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        let mut text = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut text).expect("UTF-8");
        (status.and_then(|status| status.code()), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_signal_keeps_what_was_measured() {
    let cluster = remote().servers();
    let client = cluster.client();
    let args = ["--json", "--time", "1h", "--warm-up", "0s", "--size", "8", "--connections", "2"];
    for (round, signal) in [Signal::INT, Signal::TERM].into_iter().enumerate() {
        let before = counted(&client, "read");
        let running = Running::start(&cluster, &args);
        wait_until("it has read", || counted(&client, "read") > before + 100);
        running.signal(signal);
        let (code, text) = running.end();
        assert_eq!(code, Some(0), "round {round}: {text}");
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!((&report["interrupted"], runs(&report).len()), (&json!(true), 1), "{report}");
        let run = &runs(&report)[0];
        assert_eq!(run["complete"], false, "{run}");
        assert!(run["operations"].as_u64() > Some(50) && run["latency"]["p50_us"].is_f64(), "{run}");
        assert_eq!(run["operations"].as_u64(), Some(counted(&client, "read") - before), "none is lost");
    }
}

#[test]
fn a_second_signal_does_not_wait_for_an_answer() {
    let cluster = Setup::new(1, "64KiB").with("[client]\nsegment = false").servers();
    let client = cluster.client();
    let running = Running::start(&cluster, &["--time", "1h", "--timeout", "1h", "--warm-up", "0s", "--depth", "1"]);
    wait_until("it has read", || counted(&client, "read") > 0);
    cluster.freeze_server(0);
    // Two different ones: of two that are alike the system may deliver one.
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    assert_eq!(running.end(), (None, String::new()), "it ends by the signal");
}
