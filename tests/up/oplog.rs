//! The log of operations: `--op-log` of a server, and `[trace] op_log` of a whole cluster, write one
//! line for each request of the data path, the refused ones included.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::Signal;

use super::{NOBODY, Up, processes, setup};
use crate::harness::{Cluster, wait_until};

/// One line: `<seconds since 1970> conn=… op=… addr=… len=… status=… us=…`.
type Fields = BTreeMap<String, String>;

fn parsed(line: &str) -> Fields {
    let mut words = line.split(' ');
    let time = words.next().expect("a time");
    let (seconds, micros) = time.split_once('.').unwrap_or_else(|| panic!("no time in {line}"));
    assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds > 1_600_000_000), "{line}");
    assert!(micros.len() == 6 && micros.parse::<u32>().is_ok(), "{line}");
    let fields: Vec<(&str, &str)> = words.map(|word| word.split_once('=').expect("name=value")).collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["conn", "op", "addr", "len", "status", "us"], "{line}");
    for number in ["conn", "len", "us"] {
        let (_, value) = fields.iter().find(|(name, _)| *name == number).expect("it is there");
        assert!(value.parse::<u64>().is_ok(), "{number} in {line}");
    }
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What a log says of each operation: its name, address, length and status.
fn told(text: &str) -> Vec<String> {
    assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text}");
    let short = |fields: Fields| ["op", "addr", "len", "status"].map(|name| fields[name].clone()).join(" ");
    text.lines().map(parsed).map(short).collect()
}

/// One operation of each kind that the command line has, at server 0.
fn operate(cluster: &Cluster) {
    for line in ["write 0 hello", "read 0 5", "fill 64 100 1", "copy 0 128 5", "add 8 1", "cas 8 1 2", "swap 8 0"] {
        cluster.ok(&line.split(' ').collect::<Vec<_>>());
    }
}

/// What `operate` leaves in a log. The address of a copy is where it goes to.
const OPERATED: [&str; 7] = [
    "write 0 5 ok",
    "read 0 5 ok",
    "fill 64 100 ok",
    "copy 128 5 ok",
    "atomic 8 8 ok",
    "atomic 8 8 ok",
    "atomic 8 8 ok",
];

#[test]
fn a_cluster_logs_every_operation_of_each_server() {
    let cluster = setup().with("[trace]\nop_log = \"logs/ops\"").prepare();
    let folder = cluster.dir.path().join("logs");
    fs::create_dir(&folder).expect("a folder");
    for round in 1..=2 {
        let (up, _) = Up::start(&cluster);
        operate(&cluster);
        cluster.ok(&["read", "65535", "2"]);
        up.signal(Signal::TERM);
        assert_eq!(up.ended().code(), Some(0));
        assert_eq!(processes(cluster.dir.path()), NOBODY);
        let log = |id: u32| told(&fs::read_to_string(folder.join(format!("ops.{id}"))).expect("a log"));
        let one_round = [&OPERATED[..], &["read 65535 1 ok"]].concat();
        assert_eq!(log(0), one_round.repeat(round), "an older log is gone on with");
        assert_eq!(log(1), vec!["read 65536 1 ok"; round]);
    }
}

#[test]
fn a_server_logs_to_the_file_that_the_flag_names() {
    let mut cluster = setup().prepare();
    let log = cluster.dir.path().join("by-flag");
    let flag = format!("exec \"$@\" --op-log {}", log.display());
    cluster.start_server_under(&["sh", "-c", &flag, "sh"], 0);
    operate(&cluster);
    // It is readable while the server runs, soon after each operation.
    let text = || fs::read_to_string(&log).expect("a log");
    wait_until("the log is written", || text().lines().count() == OPERATED.len());
    assert_eq!(told(&text()), OPERATED);
    cluster.stop_server(0);
    assert_eq!(told(&text()), OPERATED);
    let refused = cluster.exits(74, &["server", "--id", "0", "--op-log", "no-such-folder/ops"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no-such-folder/ops"), "{refused:?}");
}
