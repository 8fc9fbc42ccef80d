//! `mcomp bench` counts what it says it counts, touches only what was offered, and tells what went
//! wrong. Nothing here says how fast anything is.

/// Refusals, errors and signals.
mod ends;

use std::fs;
use std::process::Output;

use mcomp_client::Cluster as Client;
use serde_json::{Value, json};

use crate::harness::{Cluster, Setup};

/// Bytes that each server lends.
const K: u64 = 64 << 10;

/// Two servers that are asked for everything: what is read from segments no server counts.
fn remote() -> Setup {
    Setup::new(2, "64KiB").with("[client]\nsegment = false")
}

fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Runs it to its end.
fn bench(cluster: &Cluster, args: &[&str]) -> Value {
    let output = cluster.run(&[&["bench", "--json"], args].concat());
    assert!(output.status.success(), "mcomp bench {args:?}: {output:?}");
    parsed(&output)
}

/// How often the servers together have done an op of this kind.
fn counted(client: &Client, kind: &str) -> u64 {
    client.statuses().into_iter().map(|status| status.expect("a status").counters.ops[kind]).sum()
}

fn runs(report: &Value) -> &[Value] {
    report["runs"].as_array().expect("runs")
}

/// The sum of a number over all runs.
fn sum(report: &Value, name: &str) -> u64 {
    runs(report).iter().map(|run| run[name].as_u64().expect("a number")).sum()
}

#[test]
fn a_count_is_exact_and_the_servers_agree() {
    let cluster = remote().servers();
    let client = cluster.client();
    let flags = ["--size", "8,4KiB", "--depth", "1,7", "--connections", "1,3", "--count", "100"];
    let report = bench(&cluster, &[&flags[..], &["--warm-up", "0s", "--seed", "7"]].concat());
    let shapes: Vec<_> =
        runs(&report).iter().map(|run| (&run["size_bytes"], &run["depth"], &run["connections"])).collect();
    assert_eq!(shapes.len(), 8);
    assert_eq!(shapes[0], (&json!(8), &json!(1), &json!(1)));
    assert_eq!(shapes[7], (&json!(4096), &json!(7), &json!(3)));
    for run in runs(&report) {
        for (name, value) in
            [("operations", 100), ("reads", 100), ("writes", 0), ("errors", 0), ("warm_up_operations", 0)]
        {
            assert_eq!(run[name], value, "{name} of {run}");
        }
        assert_eq!((&run["complete"], &run["errors_by_kind"]), (&json!(true), &json!([])), "{run}");
    }
    assert_eq!(counted(&client, "read"), 800);

    let range = ["--at", "0", "--len", "128KiB"];
    let report = bench(&cluster, &[&flags[..], &range, &["--reads", "40", "--warm-up", "20ms"]].concat());
    assert_eq!(sum(&report, "operations"), 800);
    let (reads, writes) = (sum(&report, "reads"), sum(&report, "writes"));
    assert!(reads + writes == 800 && reads > 0 && writes > 0, "{report}");
    let all = counted(&client, "read") + counted(&client, "write");
    assert_eq!(all, 800 + 800 + sum(&report, "warm_up_operations"));
}

#[test]
fn json_has_stable_names() {
    let cluster = remote().servers();
    let report =
        bench(&cluster, &["--size", "8", "--depth", "1", "--connections", "2", "--count", "50", "--seed", "3"]);
    let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(&report),
        "addr clock_us cluster cores count interrupted k len n outcome paths runs seed time_us warm_up_us"
    );
    let of_plan = |name: &str| report[name].as_u64();
    assert_eq!((of_plan("addr"), of_plan("len"), of_plan("k")), (Some(0), Some(2 * K), Some(K)));
    assert_eq!((of_plan("seed"), of_plan("count"), &report["time_us"]), (Some(3), Some(50), &Value::Null));
    assert_eq!((&report["outcome"], &report["interrupted"]), (&json!("ok"), &json!(false)));
    assert_eq!((&report["cluster"], &report["warm_up_us"]), (&json!(cluster.name), &json!(500_000.0)));
    assert!(!report["cores"].as_array().expect("cores").is_empty());
    for (server, path) in report["paths"].as_array().expect("paths").iter().enumerate() {
        assert_eq!(path, &json!({"server": server, "reads": "unix", "writes": "unix", "batches": "unix"}));
    }
    let run = &runs(&report)[0];
    assert_eq!(
        names(run),
        "bytes_per_s complete connections depth elapsed_us errors errors_by_kind latency operations operations_per_s \
         reads reads_percent size_bytes warm_up_operations writes"
    );
    let rising = ["min_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"];
    let latencies = rising.map(|name| run["latency"][name].as_f64().expect("a latency"));
    assert!(latencies.is_sorted() && latencies[5] > 0.0, "{run}");
    assert_eq!(names(&run["latency"]), "max_us mean_us min_us p50_us p90_us p99_9_us p99_us");
    assert!(run["elapsed_us"].as_f64() > Some(0.0) && run["operations_per_s"].as_f64() > Some(0.0), "{run}");
}

#[test]
fn people_get_a_table() {
    let cluster = remote().servers();
    let stdout = cluster.ok(&["bench", "--count", "20", "--warm-up", "0s", "--len", "4KiB", "--connections", "1"]);
    let text = String::from_utf8(stdout).expect("UTF-8");
    let mut lines = text.lines();
    let first = lines.next().expect("a line");
    for part in [cluster.name.as_str(), "2 x 64 KiB", "path: unix", "cores: ", "warm-up 0ms", "20 operations"] {
        assert!(first.contains(part), "{part:?} is not in {first:?}");
    }
    let table: Vec<Vec<&str>> =
        lines.skip(1).map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(table.iter().map(Vec::len).collect::<Vec<_>>(), [12; 5], "{text}");
    assert_eq!((table[0][0], table[0][11], table[4][11].trim()), ("SIZE", "ERRORS", "0"), "{text}");
}

#[test]
fn memory_that_was_not_offered_stays() {
    let cluster = Setup::new(2, "64KiB").servers();
    let client = cluster.client();
    let before: Vec<u8> = (0..2 * K).map(|at| (at % 251) as u8).collect();
    client.write_at(0, &before).expect("a write");
    for args in [&["--reads", "99"][..], &["--reads", "0", "--at", "0"], &["--reads", "50", "--len", "8"]] {
        let output = cluster.exits(64, &[&["bench"], args].concat());
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(said.contains("--at") && said.contains("--len"), "{said}");
    }
    bench(&cluster, &["--count", "500", "--warm-up", "1ms", "--size", "1,8,4KiB", "--depth", "1,9"]);
    assert_eq!(client.read_vec(0, 2 * K).expect("a read"), before, "reads change nothing");

    // Across the boundary between the servers, and not aligned to any size.
    let (at, len) = (K - 5001, 10_003);
    let (at_text, len_text) = (at.to_string(), len.to_string());
    let range = ["--at", at_text.as_str(), "--len", len_text.as_str(), "--reads", "0"];
    let shape = ["--size", "1,3,8,4KiB", "--depth", "1,20", "--count", "2000", "--warm-up", "1ms"];
    let report = bench(&cluster, &[&range[..], &shape].concat());
    assert_eq!((sum(&report, "writes"), sum(&report, "reads")), (2000 * 16, 0));
    let after = client.read_vec(0, 2 * K).expect("a read");
    let (from, to) = (at as usize, (at + len) as usize);
    assert!(after[..from] == before[..from] && after[to..] == before[to..], "bytes beside the range changed");
    assert!(after[from..to] != before[from..to], "bytes of the range changed");
}

#[test]
fn segments_are_read_where_they_can_be() {
    let mut cluster = Setup::new(2, "64KiB").servers();
    let client = cluster.client();
    let args = ["--local", "--count", "300", "--warm-up", "0s", "--size", "8,4KiB"];
    let report = bench(&cluster, &args);
    assert_eq!(sum(&report, "reads"), 2 * 2 * 300, "{report}");
    for path in report["paths"].as_array().expect("paths") {
        assert_eq!((&path["reads"], &path["writes"]), (&json!("segment"), &json!("unix")), "{report}");
    }
    // The first read of each connection finds the segment.
    assert!(counted(&client, "read") < 100, "segments are read without asking the servers");
    let text = cluster.ok(&["bench", "--count", "10", "--warm-up", "0s", "--size", "8", "--connections", "1"]);
    assert!(String::from_utf8(text).expect("UTF-8").contains("path: reads segment, batches unix; "));
    // One server of the range that is down is one too many; the other one alone will do.
    cluster.kill_server(1);
    let answer = parsed(&cluster.exits(69, &[&["bench", "--json"], &args[..]].concat()));
    assert!(answer["error"].as_str().expect("a sentence").contains("segment of server 1"), "{answer}");
    bench(&cluster, &[&args[..], &["--len", "64KiB"]].concat());
}

#[test]
fn remote_asks_the_servers_over_tcp() {
    let cluster = Setup::new(2, "64KiB").servers();
    let client = cluster.client();
    let args = ["--remote", "--count", "200", "--warm-up", "0s", "--size", "8", "--depth", "1,16"];
    let report = bench(&cluster, &args);
    assert_eq!((sum(&report, "reads"), counted(&client, "read")), (800, 800));
    for path in report["paths"].as_array().expect("paths") {
        assert_eq!((&path["reads"], &path["batches"]), (&json!("tcp"), &json!("tcp")), "{report}");
    }
    let answer = parsed(&cluster.exits(64, &["bench", "--remote", "--local", "--json"]));
    assert!(answer["error"].as_str().expect("a sentence").contains("--remote"), "{answer}");
}

#[test]
fn a_seed_repeats_the_addresses() {
    let cluster = Setup::new(1, "1MiB").servers();
    let client = cluster.client();
    let image = |seed: &str| {
        client.fill(0, 1 << 20, 0).expect("a fill");
        let range = ["--reads", "0", "--at", "0", "--len", "1MiB", "--seed", seed];
        let shape = ["--size", "8", "--depth", "1", "--connections", "3", "--count", "40", "--warm-up", "0s"];
        bench(&cluster, &[&range[..], &shape].concat());
        client.read_vec(0, 1 << 20).expect("a read")
    };
    let (first, again, other) = (image("1"), image("1"), image("2"));
    // Where threads meet, the last one wins: these seeds send them to different places.
    let places = first.chunks(8).filter(|place| place.iter().any(|byte| *byte != 0)).count();
    assert_eq!(places, 40);
    assert!(first == again, "the same seed writes the same bytes to the same places");
    assert!(first != other, "another seed does not");
}

#[test]
fn help_has_examples_and_nothing_is_left_behind() {
    let cluster = Setup::new(1, "64KiB").servers();
    let help = String::from_utf8(cluster.ok(&["bench", "--help"])).expect("UTF-8");
    assert!(help.contains("Examples:") && help.contains("--reads 70 --at"), "{help}");
    cluster.ok(&["bench", "--count", "1", "--warm-up", "0s", "--size", "8", "--connections", "1"]);
    let mut files: Vec<_> =
        fs::read_dir(cluster.dir.path()).expect("a folder").map(|e| e.expect("an entry").file_name()).collect();
    files.sort();
    assert_eq!(files, ["mcomp.cfg", "metadata", "server-0.log"]);
}
