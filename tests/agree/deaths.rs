//! What programs leave behind: locks go with their holder, memory stays until somebody frees it, and whoever was frozen
//! for longer than his session lived changes nothing under his lock.
//!
//! All of them die in one test, because a session of the command line is kept for ten seconds.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{number, refused, table, told};
use crate::harness::{Cluster, MCOMP, PATIENCE, Setup, freeze, signal, wait_until};
use crate::shell::Shell;

/// `mcomp lock NAME` around a script, which runs when it has been made.
struct Holder(Child);

impl Holder {
    fn start(cluster: &Cluster, name: &str, script: &str) -> Holder {
        let mut command = cluster.command(&["lock", name]);
        command.env("MCOMP", MCOMP).env("MCOMP_CONFIG", cluster.config_path());
        command.args(["--", "sh", "-uc", &format!("echo held; {script}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = Holder(command.spawn().expect("mcomp starts"));
        let mut line = String::new();
        BufReader::new(holder.0.stdout.take().expect("piped")).read_line(&mut line).expect("the script runs");
        assert_eq!(line, "held\n");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The script reads a line, and goes on to its end without us.
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_ends_a_session_does_not_wait_for_its_next_sign_of_life() {
    let cluster = Setup::new(1, "64KiB").servers();
    let client = cluster.client();
    let (done, ended) = channel();
    // It shows a sign of life every twenty minutes.
    std::thread::spawn(move || {
        for _ in 0..100 {
            let session = client.session_of(Duration::from_secs(3600)).expect("a session");
            session.close().expect("it lived");
        }
        done.send(())
    });
    ended.recv_timeout(PATIENCE).expect("a session that is ended ends");
}

fn owner(regions: &[Value], addr: u64) -> &Value {
    let region = regions.iter().find(|region| region["addr"] == addr);
    &region.unwrap_or_else(|| panic!("nothing is allocated at {addr}: {regions:?}"))["owner"]
}

#[test]
fn the_dead_leave_memory_and_no_locks() {
    let cluster = Setup::new(3, "64KiB").servers();
    let client = cluster.client();
    let report = cluster.dir.path().join("late.txt");
    let mut killed = Holder::start(&cluster, "of-the-killed", "read line");
    let late = r#"read line; "$MCOMP" write 0 late --json > late.json; echo $? > late.txt"#;
    let mut frozen = Holder::start(&cluster, "of-the-frozen", late);
    let mut dead = Shell::start(&cluster);
    let alloc = |shell: &mut Shell, request: Value| number(&shell.ok(request), "addr");
    let orphan = alloc(&mut dead, json!({"op": "alloc", "size": 5000, "name": "orphan"}));
    let leased = alloc(&mut dead, json!({"op": "alloc", "size": 100, "lease_ms": 3_600_000}));
    dead.ok(json!({"op": "lock", "name": "of-the-shell"}));
    let mut orderly = Shell::start(&cluster);
    let kept = alloc(&mut orderly, json!({"op": "alloc", "size": 100}));
    orderly.ok(json!({"op": "lock", "name": "of-the-orderly"}));
    orderly.end();

    killed.0.kill().expect("it ran");
    killed.0.wait().expect("it is dead");
    freeze(frozen.0.id());
    drop(dead);
    // Their sessions live: nobody has been told of the deaths.
    let holders: Vec<String> = client.locks().expect("the locks").into_iter().map(|lock| lock.name).collect();
    assert_eq!(holders, ["of-the-frozen", "of-the-killed", "of-the-shell"]);
    assert_eq!(told(&cluster, 0, &["gc", "--dry-run"])["regions"], json!([]));
    for name in ["of-the-frozen", "of-the-killed", "of-the-shell"] {
        // The next one waits for as long as it takes.
        let mut command = cluster.command(&["lock", name]);
        command.env("MCOMP", MCOMP).env("MCOMP_CONFIG", cluster.config_path());
        let output = command.args(["--", "sh", "-euc", r#""$MCOMP" write 0 next; exit 3"#]).output();
        let output = output.expect("mcomp runs");
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    }

    // Its holder is frozen still, and it does what it was about to do.
    frozen.0.stdin.as_mut().expect("piped").write_all(b"go on\n").expect("it listens");
    wait_until("it has tried", || fs::read_to_string(&report).is_ok_and(|report| report.ends_with('\n')));
    assert_eq!(fs::read_to_string(&report).expect("it is there"), "75\n");
    let said: Value = serde_json::from_slice(&fs::read(cluster.dir.path().join("late.json")).expect("it is there"))
        .expect("one line of JSON");
    assert_eq!(said["kind"], "fenced", "{said}");
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"next");
    signal(frozen.0.id(), Signal::CONT);
    let code = frozen.0.wait().expect("it ends").code();
    assert_eq!(code, Some(0), "its command's code, though the lock was lost");

    wait_until("the shell's session has run out", || *owner(&table(&cluster), orphan) == "died");
    let before = table(&cluster);
    assert_eq!((owner(&before, leased), owner(&before, kept)), (&json!("died"), &Value::Null));
    let left = told(&cluster, 0, &["gc", "--dry-run"]);
    assert_eq!(left["regions"].as_array().expect("a list").len(), 1, "{left}");
    assert_eq!(left["regions"][0]["name"], "orphan", "what is under a lease ends by itself");
    assert_eq!(table(&cluster), before, "nothing was freed yet");
    assert_eq!(told(&cluster, 0, &["gc", "--yes"]), json!({"outcome": "ok", "regions": 1, "bytes": 5000}));
    let after = table(&cluster);
    assert_eq!((after.len(), owner(&after, kept)), (2, &Value::Null), "{after:?}");
    refused(&cluster, 1, "not_found", &["stat", "orphan"]);
    cluster.ok(&["free", &kept.to_string()]);
}
