//! Servers that are killed, restored, frozen, or answer with every refusal there is: the shell says
//! what came of each request, never more than it knows, and goes on.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{K, Shell, setup};
use crate::contract::fake::{Fake, Manner};
use crate::contract::servers::STATUSES;
use crate::harness::{Cluster, Setup, wait_until};

/// One request of every op that reaches server 1.
fn of_server_1() -> [Value; 8] {
    [
        json!({"op": "read", "addr": K, "len": 8}),
        json!({"op": "write", "addr": K, "text": "x"}),
        json!({"op": "fill", "addr": K, "len": 1, "byte": 1}),
        json!({"op": "copy", "from": K, "to": K + 64, "len": 1}),
        json!({"op": "checksum", "addr": K, "len": 8}),
        json!({"op": "cas", "addr": K, "old": 0, "new": 0}),
        json!({"op": "add", "addr": K, "delta": 0}),
        json!({"op": "swap", "addr": K, "new": 0}),
    ]
}

fn snapshot(cluster: &Cluster) -> String {
    let path = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a path");
    path.trim_end().to_owned()
}

#[test]
fn a_restore_in_between_is_told_once_and_the_next_request_meets_the_new_memory() {
    let cluster = setup().start();
    let mut shell = Shell::start(&cluster);
    shell.ok(json!({"op": "write", "addr": K, "text": "restored"}));
    let path = snapshot(&cluster);
    for request in of_server_1() {
        shell.ok(json!({"op": "write", "addr": K, "text": "later on"}));
        cluster.ok(&["restore", &path]);
        let said = shell.refused("fenced", request.clone());
        assert!(said.contains("restored since"), "{said}");
        let read = shell.ok(json!({"op": "read", "addr": K, "len": 8}));
        assert_eq!(read["data"], "cmVzdG9yZWQ=", "{request} has changed the restored memory");
        shell.ok(request);
    }
    // Who asks for nothing that could be wrong now is told nothing.
    cluster.ok(&["restore", &path]);
    shell.ok(json!({"op": "status"}));
    shell.ok(json!({"op": "snapshot"}));
    shell.refused("fenced", json!({"op": "add", "addr": K + 8, "delta": 1}));
    assert_eq!(shell.ok(json!({"op": "add", "addr": K + 8, "delta": 1}))["value"], 0);
    shell.end();
}

#[test]
fn a_shell_that_starts_before_the_servers_works_when_they_do() {
    let mut cluster = setup().prepare();
    let mut shell = Shell::start(&cluster);
    for request in of_server_1() {
        let said = shell.refused("unavailable", request);
        assert!(said.contains(&cluster.address(1)), "{said}");
    }
    let said = shell.refused("unavailable", json!({"op": "snapshot"}));
    assert!(said.contains(&cluster.snapshot_address(0)), "{said}");
    let states = shell.ok(json!({"op": "status"}))["servers"].as_array().expect("servers").clone();
    assert!(states.iter().all(|server| server["state"] == "unreachable"), "{states:?}");
    (0..2).for_each(|id| cluster.start_server(id));
    of_server_1().into_iter().for_each(|request| drop(shell.ok(request)));
    (0..2).for_each(|id| cluster.start_snapshotter(id));
    shell.ok(json!({"op": "snapshot"}));
    shell.end();
}

#[test]
fn a_killed_server_is_named_and_used_again_when_it_is_back() {
    let mut cluster = setup().servers();
    let mut shell = Shell::start(&cluster);
    shell.ok(json!({"op": "write", "addr": K - 2, "text": "kept"}));
    cluster.kill_server(1);
    // On this machine its bytes can be read for a moment more.
    let read = json!({"op": "read", "addr": K, "len": 1});
    wait_until("its end is known", || shell.ask(read.clone())["outcome"] != "ok");
    for request in of_server_1() {
        let answer = shell.ask(request.clone());
        let word = answer["kind"].as_str().expect("a refusal").to_owned();
        // A request that changes memory may have reached the server in its last moment.
        let expected = if word == "unknown" { "unknown" } else { "fail" };
        assert_eq!(answer["outcome"], expected, "{request} got {answer}");
        assert!(["unavailable", "unknown"].contains(&word.as_str()), "{request} got {answer}");
        assert!(answer["error"].as_str().expect("checked").contains(&cluster.address(1)), "{request} got {answer}");
    }
    assert_eq!(shell.ok(json!({"op": "read", "addr": K - 2, "len": 2}))["data"], "a2U=", "server 0 serves on");
    cluster.start_server(1);
    assert_eq!(shell.ok(json!({"op": "read", "addr": K - 2, "len": 4}))["data"], "a2VwdA==");
    of_server_1().into_iter().for_each(|request| drop(shell.ok(request)));
    shell.end();
}

/// Answers of each outcome.
#[derive(Debug, Default)]
struct Tally {
    ok: u64,
    fail: u64,
    unknown: u64,
}

impl Tally {
    fn count(&mut self, answer: &Value) {
        match answer["outcome"].as_str().expect("checked") {
            "ok" => self.ok += 1,
            "fail" => self.fail += 1,
            _ => self.unknown += 1,
        }
    }
}

#[test]
fn what_the_shell_calls_done_is_done_across_kills() {
    const ADDS: u64 = 2_000;
    let mut cluster = setup().servers();
    let mut tally = Tally::default();
    for round in 0..3 {
        let mut shell = Shell::start(&cluster);
        let mut stdin = shell.stdin.take().expect("piped");
        let line = format!("{{\"op\":\"add\",\"addr\":{K},\"delta\":1}}\n");
        std::thread::scope(|scope| {
            // It fills the pipe and waits there, so that requests are under way at every moment.
            scope.spawn(move || {
                (0..ADDS).for_each(|_| std::io::Write::write_all(&mut stdin, line.as_bytes()).expect("it reads on"));
            });
            for answer in 0..ADDS {
                tally.count(&shell.answer());
                if answer == 300 {
                    cluster.kill_server(1);
                    cluster.start_server(1);
                }
            }
        });
        shell.end();
        let found = cluster.client().fetch_add(K, 0).expect("a read");
        assert!((tally.ok..=tally.ok + tally.unknown).contains(&found), "round {round}: {found} of {tally:?}");
    }
    assert!(tally.ok > 2 * 300, "{tally:?}");
    eprintln!("{tally:?}");
}

#[test]
fn a_frozen_server_is_a_timeout_or_an_unknown_outcome() {
    let cluster = setup().servers();
    let mut shell = Shell::start_with(&cluster, &["--timeout", "300ms"]);
    shell.ok(json!({"op": "add", "addr": K, "delta": 1}));
    cluster.freeze_server(1);
    let answer = shell.ask(json!({"op": "add", "addr": K, "delta": 1}));
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("unknown"), &json!("unknown")), "{answer}");
    assert!(answer["error"].as_str().expect("checked").contains(&cluster.address(1)), "{answer}");
    // A read would do without the server here: this is the machine that has its memory.
    for request in [json!({"op": "checksum", "addr": K, "len": 1}), json!({"op": "write", "addr": K + 64, "text": "x"})]
    {
        let said = shell.refused("timeout", request);
        assert!(said.contains(&cluster.address(1)) && said.contains("300ms"), "{said}");
    }
    shell.ok(json!({"op": "write", "addr": 0, "text": "server 0 serves on"}));
    let status = shell.ok(json!({"op": "status"}));
    assert_eq!(status["servers"][1]["kind"], "timeout", "{status}");
    cluster.signal_server(1, Signal::CONT);
    let mut value = json!(null);
    // It wakes up in its own time, and the add of unknown outcome lies in its socket.
    wait_until("the server is used again", || {
        let answer = shell.ask(json!({"op": "add", "addr": K, "delta": 0}));
        value = answer["value"].clone();
        answer["outcome"] == "ok"
    });
    assert!([json!(1), json!(2)].contains(&value), "{value} from two adds");
    shell.end();
}

#[test]
fn every_status_of_the_protocol_has_the_word_that_the_commands_have() {
    let cluster = Setup::new(1, "64KiB").prepare();
    let answers = |manner: Manner| {
        let _fake = Fake::listen(cluster.address(0), manner);
        let mut shell = Shell::start_with(&cluster, &["--timeout", "1s"]);
        let answer = shell.ask(json!({"op": "write", "addr": 0, "text": "x"}));
        shell.end();
        (answer["outcome"].clone(), answer["kind"].clone())
    };
    for (status, code, kind) in STATUSES {
        let outcome = if code == 2 { "unknown" } else { "fail" };
        assert_eq!(answers(Manner::AtRequest(status)), (json!(outcome), json!(kind)), "{status}");
    }
    assert_eq!(answers(Manner::Bytes(vec![b'x'; 4096])), (json!("fail"), json!("protocol")));
}

#[test]
fn a_reader_that_leaves_ends_the_shell_quietly() {
    let cluster = setup().servers();
    let mut command = cluster.command(&["shell"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("mcomp starts");
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("piped");
    // It may leave before it has read all of them.
    let _ = std::io::Write::write_all(&mut stdin, &b"{\"op\":\"status\"}\n".repeat(10));
    drop(stdin);
    let output = child.wait_with_output().expect("mcomp ends");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}
