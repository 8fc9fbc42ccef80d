//! What the servers agree on, end to end: allocations, names, leases and locks, by real processes that are killed, frozen
//! and cut off from each other.
//!
//! Left out are clocks that run too fast or too slow, and disks that lose what they had: the simulator has those (`sim`).

/// A clock that jumps on one server.
mod clocks;

/// What programs leave that die, and what those leave that end in good order.
mod deaths;

/// One leader, whoever is killed or frozen, and the same page table before and after.
mod leader;

/// Memory with a time to live: it ends on time, and who comes too late changes nothing.
mod lease;

/// Locks, semaphores and barriers.
mod locks;

/// The battery that every malloc should stand.
mod malloc;

/// A network that falls apart, in both directions or in one.
mod partitions;

/// Clients and servers that are killed and frozen at random.
mod torture;

use serde_json::Value;

use crate::harness::Cluster;

/// Runs a command with `--json` that must end with this code, and returns what it says.
fn told(cluster: &Cluster, code: i32, args: &[&str]) -> Value {
    let output = cluster.exits(code, &[args, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("mcomp {args:?}: {error}: {output:?}"))
}

/// Runs a command that must be refused with this code and this word, and returns the sentence.
fn refused(cluster: &Cluster, code: i32, kind: &str, args: &[&str]) -> String {
    let answer = told(cluster, code, args);
    assert_eq!((&answer["outcome"], &answer["kind"]), (&"fail".into(), &kind.into()), "mcomp {args:?}: {answer}");
    answer["error"].as_str().expect("a sentence").to_owned()
}

/// The page table as `mcomp ls` has it, without how much is left of the leases: that differs from moment to moment.
fn table(cluster: &Cluster) -> Vec<Value> {
    let mut answer = told(cluster, 0, &["ls"]);
    let mut regions = std::mem::take(answer["regions"].as_array_mut().expect("a list"));
    for region in &mut regions {
        region.as_object_mut().expect("an object").remove("remaining_ms");
    }
    regions
}

/// A number of an answer.
fn number(answer: &Value, field: &str) -> u64 {
    answer[field].as_u64().unwrap_or_else(|| panic!("{field} is no number: {answer}"))
}

/// A text of an answer.
fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field].as_str().unwrap_or_else(|| panic!("{field} is no text: {answer}"))
}
