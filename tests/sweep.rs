//! The master under a sweep: a fault at its n-th call to the disk, for every n until a run ends untouched.
//!
//! The snapshot process of a real cluster is told to kill itself before the n-th call of a kind, or to
//! have it fail with EIO or ENOSPC, or come short. Whatever happens to it, every file with a
//! snapshot's name is whole and holds the memory of its instant, the command says what happened, the
//! servers hold nothing, and the next snapshot works and clears away what was left.
//!
//! Needs a binary with the feature `faults`, as the one under test is. Leaves out: what a disk loses
//! when the power fails.

mod commands;
mod folder;

use std::collections::BTreeMap;
use std::process::Output;

use mcomp_snapshot::create;

use crate::harness::{length, seed};
use folder::{State, Stricken};

/// Each kind of call, and what is done to it. A read that kills its process would add nothing.
const FAULTS: &[(&str, &[&str])] = &[
    ("open", &["kill", "eio", "enospc"]),
    ("mkdir", &["kill", "eio", "enospc"]),
    ("list", &["kill", "eio"]),
    ("read", &["eio"]),
    ("write", &["kill", "eio", "enospc", "short"]),
    ("sync", &["kill", "eio", "enospc"]),
    ("rename", &["kill", "eio", "enospc"]),
    ("unlink", &["kill", "eio"]),
    ("lock", &["kill", "eio"]),
];

/// More calls of a kind than any run makes.
const ENDLESS: u32 = 500;

/// Kinds of which every call is needed: whichever fails, there is no snapshot.
const NEEDED: &[&str] = &["mkdir", "write", "rename"];

/// Kinds that clear away what is left: when one fails, it stays until the next snapshot.
const CLEARING: &[&str] = &["open", "list", "lock", "unlink"];

/// Sweeps over all calls of the snapshots that begin in this state of the folder, and returns how many
/// of each kind were hit.
fn sweep(stricken: &mut Stricken, state: State) -> BTreeMap<&'static str, u32> {
    let mut hits = BTreeMap::new();
    for &(kind, effects) in FAULTS {
        for &effect in effects {
            let nth = (1..).find(|&nth| !strike(stricken, state, kind, nth, effect)).expect("it ends");
            assert!(nth < ENDLESS, "a fault at every {kind} is always met");
            *hits.entry(kind).or_insert(0) += nth - 1;
        }
    }
    eprintln!("faults met by a snapshot that begins with {state:?}: {hits:?}");
    hits
}

/// One snapshot with one fault, and the next one without. False when the fault was not met.
fn strike(stricken: &mut Stricken, state: State, kind: &str, nth: u32, effect: &str) -> bool {
    let fault = format!("{kind}:{nth}:{effect}");
    let before = stricken.begin(state, &fault);
    let output = stricken.create(state);
    let told = stricken.told();
    let hit = told.contains("a fault was asked for");
    match effect {
        _ if !hit => made(stricken, &output, &fault),
        "kill" => killed(stricken, &output, &fault),
        "short" => made(stricken, &output, &fault),
        _ if output.status.success() => {
            let excused = !NEEDED.contains(&kind) && (kind != "sync" || told.contains("could not be removed"));
            assert!(excused, "{fault}: a snapshot in spite of it: {output:?}");
            made(stricken, &output, &fault);
        }
        _ => {
            refused(stricken, &output, &fault, effect);
            assert_eq!(stricken.names(), before, "{fault}: other files than before");
        }
    }
    let leftovers = stricken.leftovers();
    let excused = hit && (effect == "kill" || CLEARING.contains(&kind));
    assert!(leftovers.is_empty() || excused, "{fault}: {leftovers:?} were left");
    stricken.check(&fault);
    // A fault that was not met would be met now.
    recovers(stricken, state, &fault, !hit || effect == "kill");
    hit
}

/// There is one more file, and it is the one that was promised.
fn made(stricken: &Stricken, output: &Output, fault: &str) {
    assert_eq!(output.status.code(), Some(0), "{fault}: {output:?}");
    let path = String::from_utf8_lossy(&output.stdout);
    let newest = stricken.names().pop().expect("a snapshot");
    assert_eq!(path.trim(), stricken.folder().join(newest).to_str().expect("a plain path"), "{fault}");
}

fn killed(stricken: &Stricken, output: &Output, fault: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{fault}: {output:?}");
    assert!(said.contains(&format!("snapshot process 0 ({})", stricken.master())), "{fault}: {said}");
    assert!(output.stdout.is_empty(), "{fault}: a path is promised: {output:?}");
}

fn refused(stricken: &Stricken, output: &Output, fault: &str, effect: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = if effect == "eio" { "Input/output error" } else { "No space left on device" };
    // Or the folder above it, which gets it as a new name.
    let above = stricken.folder().parent().expect("it has one").to_owned();
    assert_eq!(output.status.code(), Some(74), "{fault}: {output:?}");
    assert!(said.contains("cannot ") && said.contains(reason), "{fault}: {said}");
    assert!(said.contains(above.to_str().expect("a plain path")), "{fault}: {said}");
    assert!(output.stdout.is_empty(), "{fault}: a path is promised: {output:?}");
}

/// The next snapshot works, by the same process or one without a fault, and clears away what was left.
fn recovers(stricken: &mut Stricken, state: State, fault: &str, anew: bool) {
    if anew {
        stricken.restart();
    }
    stricken.change();
    let created = create(&stricken.config(), state == State::Chain, &mut |_| {});
    let created = created.unwrap_or_else(|error| panic!("{fault}: the next snapshot fails: {error}"));
    assert_eq!(stricken.names().last(), Some(&created.name), "{fault}: it is not the newest");
    assert!(stricken.leftovers().is_empty(), "{fault}: {:?} are still there", stricken.leftovers());
    stricken.check(fault);
    stricken.stop();
}

/// Every kind was met, but for those that this state has no use for.
fn all_were_met(hits: &BTreeMap<&str, u32>, unused: &[&str]) {
    for (kind, count) in hits {
        assert_eq!(*count == 0, unused.contains(kind), "{count} faults at {kind}: {hits:?}");
    }
}

#[test]
fn the_first_snapshot_of_all_survives_a_fault_at_every_call() {
    let mut stricken = Stricken::start();
    let hits = sweep(&mut stricken, State::NoFolder);
    all_were_met(&hits, &["unlink"]);
    stricken.restores();
}

#[test]
fn a_full_snapshot_survives_a_fault_at_every_call() {
    let mut stricken = Stricken::start();
    let hits = sweep(&mut stricken, State::Full);
    all_were_met(&hits, &["mkdir"]);
    stricken.restores();
}

#[test]
fn an_incremental_snapshot_survives_a_fault_at_every_call() {
    let mut stricken = Stricken::start();
    let hits = sweep(&mut stricken, State::Chain);
    all_were_met(&hits, &["mkdir"]);
    stricken.restores();
}

/// What a power failure may take is not in this sweep, but the order of the calls is.
#[test]
fn a_file_is_synced_before_it_gets_its_name_and_its_folder_after() {
    let mut stricken = Stricken::start();
    stricken.begin_traced(State::Full);
    made(&stricken, &stricken.create(State::Full), "no fault");
    let told = stricken.told();
    let calls = told.lines().filter_map(|line| line.split_once("disk call=")).map(|(_, call)| call);
    let changes: Vec<&str> = calls.filter(|call| ["Write", "Sync", "Rename", "Unlink"].contains(call)).collect();
    // What a killed writer had left goes first, what retention removes goes last.
    assert_eq!(changes, ["Unlink", "Write", "Sync", "Rename", "Sync", "Unlink", "Unlink", "Sync"]);
    stricken.stop();
}

/// Faults rarely come alone: what clears away after the first one may meet the second.
#[test]
fn a_snapshot_survives_two_faults() {
    let mut random = fastrand::Rng::with_seed(seed());
    let mut stricken = Stricken::start();
    let mut codes = BTreeMap::new();
    for _ in 0..length("MCOMP_TEST_FAULT_PAIRS", 20) {
        let state = [State::Full, State::Chain][random.usize(..2)];
        let mut one = |kinds: &[(&str, &[&str])]| {
            let (kind, effects) = kinds[random.usize(..kinds.len())];
            format!("{kind}:{}:{}", random.u32(1..6), effects[random.usize(..effects.len())])
        };
        let fault = format!("{},{}", one(FAULTS), one(FAULTS));
        stricken.begin(state, &fault);
        let output = stricken.create(state);
        let code = output.status.code().expect("it ends by itself");
        assert!([0, 69, 74].contains(&code), "{fault}: {output:?}");
        *codes.entry(code).or_insert(0) += 1;
        stricken.check(&fault);
        // The second fault may still be waiting.
        recovers(&mut stricken, state, &fault, true);
    }
    eprintln!("snapshots with two faults by exit code: {codes:?}");
    stricken.restores();
}

/// The snapshot process of another machine copies and sends; it has no use for a disk.
#[test]
fn a_process_that_is_not_the_master_calls_no_disk() {
    let mut stricken = Stricken::start();
    stricken.start_other("any:1:kill");
    stricken.begin(State::Full, "any:1000000:kill");
    made(&stricken, &stricken.create(State::Full), "any:1:kill at another process");
    stricken.check("any:1:kill at another process");
    stricken.stop();
    stricken.stop_other();
}
