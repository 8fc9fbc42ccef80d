//! A file goes into the memory and comes out again, whatever is lost in between.
//!
//! The story that a user tells: put a file there, take snapshots, lose every server with its memory,
//! and bring the snapshot back onto fewer or more servers than it came from. Everything is done by
//! the command; bytes are compared whole, and files by their SHA-256.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{Cluster, Setup, seed};

const N: u32 = 3;
const K: usize = 64 << 10;
const SIZE: usize = N as usize * K;

/// Larger than two servers, of an odd size, at an odd address.
const FILE_LEN: usize = 150_001;
const FILE_ADDR: usize = 1_003;

/// A running cluster whose memory is a file between zeros.
struct Story {
    cluster: Cluster,
    file: PathBuf,
    /// What the memory should be.
    memory: Vec<u8>,
    random: fastrand::Rng,
}

impl Story {
    fn begin() -> Story {
        let mut random = fastrand::Rng::with_seed(seed());
        let cluster = Setup::new(N, "64KiB").with("[snapshot]\nfull_every = 10").start();
        let bytes: Vec<u8> = (0..FILE_LEN).map(|_| random.u8(..)).collect();
        let file = cluster.dir.path().join("file.bin");
        fs::write(&file, &bytes).expect("a scratch file is written");
        cluster.ok(&["write", &FILE_ADDR.to_string(), "--file", text(&file)]);
        let mut memory = vec![0; SIZE];
        memory[FILE_ADDR..][..FILE_LEN].copy_from_slice(&bytes);
        Story { cluster, file, memory, random }
    }

    /// Changes some bytes across the first boundary, and the last byte of the memory.
    fn change(&mut self) {
        let patch: Vec<u8> = (0..9_000).map(|_| self.random.u8(..)).collect();
        for (addr, bytes) in [(K - 4_500, &patch[..]), (SIZE - 1, &[0x5A])] {
            self.cluster.client().write_at(addr as u64, bytes).expect("the memory is changed");
            self.memory[addr..][..bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Takes a snapshot and returns its path.
    fn snapshot(&self, incremental: bool) -> PathBuf {
        let mut args = vec!["snapshot", "create", "--json"];
        args.extend(incremental.then_some("--incremental"));
        let created = json(&self.cluster.ok(&args));
        assert_eq!(created["full"], !incremental, "{created}");
        let path = PathBuf::from(created["path"].as_str().expect("a path"));
        assert_eq!(path.parent(), Some(self.cluster.snapshot_dir().as_path()), "{created}");
        path
    }

    /// Loses everything but the snapshots, and starts empty servers of another shape.
    fn lose_all(&mut self, n: u32, k: &str) {
        self.cluster.replace(Setup::new(n, k));
        (0..n).for_each(|id| self.cluster.start_server(id));
        let client = self.cluster.client();
        assert!(whole(&self.cluster).iter().all(|&byte| byte == 0), "new memory is zero");
        client.fill(0, client.size(), 0xDB).expect("the new memory gets contents that must go");
    }

    /// Restores and compares: `wanted`, and zeros behind it.
    fn restore(&self, snapshot: &Path, wanted: &[u8]) {
        let restored = json(&self.cluster.ok(&["restore", text(snapshot), "--json"]));
        assert_eq!(restored["dry_run"], false, "{restored}");
        let found = whole(&self.cluster);
        let held = wanted.len().min(found.len());
        assert!(found[..held] == wanted[..held], "the restored memory differs");
        assert!(found[held..].iter().all(|&byte| byte == 0), "what the snapshot does not hold is zero");
    }

    /// The file, read back by the command, has the same hash.
    fn check_file(&self) {
        let out = self.cluster.dir.path().join("out.bin");
        let (addr, len) = (FILE_ADDR.to_string(), FILE_LEN.to_string());
        self.cluster.ok(&["read", &addr, &len, "-o", text(&out)]);
        assert_eq!(sha256(&out), sha256(&self.file), "the file is not what it was");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn json(stdout: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(stdout).expect("--json prints one JSON value");
    assert_eq!(value["outcome"], "ok", "{value}");
    value
}

fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).expect("a file is read"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All of the memory.
fn whole(cluster: &Cluster) -> Vec<u8> {
    let client = cluster.client();
    client.read_vec(0, client.size()).expect("the whole memory is read")
}

/// What must not change when a restore is refused or only planned: contents, and config epochs.
fn traces(cluster: &Cluster) -> (Vec<u8>, Vec<u64>) {
    let epochs = cluster.client().statuses().into_iter().map(|status| status.expect("a status").config_epoch);
    (whole(cluster), epochs.collect())
}

#[test]
fn a_file_survives_the_loss_of_every_server() {
    let mut story = Story::begin();
    story.check_file();
    let snapshot = story.snapshot(false);
    let wanted = story.memory.clone();
    story.change();
    story.restore(&snapshot, &wanted);
    for (n, k) in [(2, "256KiB"), (5, "40KiB"), (1, "192KiB"), (48, "4KiB"), (N, "64KiB")] {
        story.lose_all(n, k);
        story.restore(&snapshot, &wanted);
        story.check_file();
    }
}

#[test]
fn an_incremental_chain_survives_the_loss_of_every_server() {
    let mut story = Story::begin();
    let mut chain = vec![(story.snapshot(false), story.memory.clone())];
    for _ in 0..3 {
        story.change();
        chain.push((story.snapshot(true), story.memory.clone()));
    }
    for (n, k) in [(2, "256KiB"), (5, "40KiB")] {
        for (snapshot, memory) in &chain {
            story.lose_all(n, k);
            story.restore(snapshot, memory);
        }
    }
    let images = chain.iter().map(|(snapshot, memory)| (export(&story.cluster, snapshot), memory));
    assert!(images.into_iter().all(|(image, memory)| image == *memory), "an export differs from its memory");
}

/// The flat image of a snapshot.
fn export(cluster: &Cluster, snapshot: &Path) -> Vec<u8> {
    let out = cluster.dir.path().join("image.bin");
    cluster.ok(&["snapshot", "export", text(snapshot), "-o", text(&out), "--force"]);
    let image = fs::read(&out).expect("the image is read");
    let piped = cluster.ok(&["snapshot", "export", text(snapshot), "-o", "-"]);
    assert!(image == piped, "an export to a pipe differs from one to a file");
    image
}

#[test]
fn an_export_is_the_memory_and_replaces_nothing_unasked() {
    let story = Story::begin();
    let snapshot = story.snapshot(false);
    let image = export(&story.cluster, &snapshot);
    assert_eq!(image.len(), SIZE, "exactly n times k bytes");
    assert!(image == whole(&story.cluster) && image == story.memory, "the image differs from the memory");
    let old = story.cluster.dir.path().join("old.bin");
    fs::write(&old, b"old").expect("a file in the way");
    story.cluster.exits(64, &["snapshot", "export", text(&snapshot), "-o", text(&old)]);
    assert_eq!(fs::read(&old).expect("it is still there"), b"old");
}

#[test]
fn a_dry_run_changes_nothing_and_needs_no_server() {
    let mut story = Story::begin();
    let snapshot = story.snapshot(false);
    story.lose_all(2, "256KiB");
    let before = traces(&story.cluster);
    let planned = json(&story.cluster.ok(&["restore", text(&snapshot), "--dry-run", "--json"]));
    assert_eq!(planned["dry_run"], true, "{planned}");
    assert_eq!(planned["plan"]["space_bytes"], SIZE, "{planned}");
    assert_eq!(planned["plan"]["target_bytes"], 512 << 10, "{planned}");
    assert_eq!(planned["plan"]["non_zero_end"], FILE_ADDR + FILE_LEN - trailing_zeros(&story.memory), "{planned}");
    assert!(traces(&story.cluster) == before, "a dry run has changed something");
    story.cluster.kill_server(0);
    story.cluster.ok(&["restore", text(&snapshot), "--dry-run"]);
    let name = snapshot.file_name().and_then(|name| name.to_str()).expect("a plain name");
    story.cluster.ok(&["restore", name, "--dry-run"]);
}

/// Zeros at the end of the file, which is random.
fn trailing_zeros(memory: &[u8]) -> usize {
    memory[FILE_ADDR..][..FILE_LEN].iter().rev().take_while(|&&byte| byte == 0).count()
}

#[test]
fn a_snapshot_that_does_not_fit_is_refused_before_anything_is_touched() {
    let mut story = Story::begin();
    let (small, wanted) = (story.snapshot(false), story.memory.clone());
    story.change();
    let full = story.snapshot(false);
    // The file ends behind 147 KiB; the change has set the last byte of all.
    for (snapshot, n, k) in [(&small, 2, "64KiB"), (&small, 1, "144KiB"), (&full, 47, "4KiB"), (&full, 2, "92KiB")] {
        story.lose_all(n, k);
        let before = traces(&story.cluster);
        for dry_run in [&["--dry-run"][..], &[]] {
            let output = story.cluster.exits(73, &[&["restore", text(snapshot)], dry_run].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let size = before.0.len().to_string();
            assert!(said.contains(&size), "{size} is not in {said}");
        }
        assert!(traces(&story.cluster) == before, "a refused restore has changed something");
    }
    // Zeros at the end need no address.
    story.lose_all(1, "148KiB");
    story.restore(&small, &wanted);
}

#[test]
fn a_restore_without_all_servers_changes_nothing() {
    let mut story = Story::begin();
    let snapshot = story.snapshot(false);
    story.lose_all(3, "64KiB");
    let before = whole(&story.cluster);
    for dead in 0..3 {
        story.cluster.kill_server(dead);
        story.cluster.exits(69, &["restore", text(&snapshot)]);
        story.cluster.start_server(dead);
        assert!(whole(&story.cluster) == before, "a restore without server {dead} has changed something");
    }
}

#[test]
fn a_snapshot_needs_every_snapshot_process() {
    let mut story = Story::begin();
    for missing in 0..N {
        story.cluster.stop_snapshotter(missing);
        let output = story.cluster.exits(69, &["snapshot", "create"]);
        let (said, address) = (String::from_utf8_lossy(&output.stderr), story.cluster.snapshot_address(missing));
        assert!(said.contains(&address), "{address} is not in {said}");
        story.cluster.start_snapshotter(missing);
    }
    assert!(listed(&story.cluster).is_empty(), "what failed has left no file");
    let snapshot = story.snapshot(false);
    assert!(export(&story.cluster, &snapshot) == story.memory, "the next one is good");
}

#[test]
fn listings_parse_and_prune_keeps_what_others_build_on() {
    let mut story = Story::begin();
    let mut made = Vec::new();
    for incremental in [false, false, true, true] {
        made.push(story.snapshot(incremental));
        story.change();
    }
    let names: Vec<&str> =
        made.iter().map(|path| path.file_name().and_then(|name| name.to_str()).expect("a name")).collect();
    assert_eq!(listed(&story.cluster), names, "oldest first");
    for (path, is_full) in made.iter().zip([true, true, false, false]) {
        let shown = json(&story.cluster.ok(&["snapshot", "show", text(path), "--json"]));
        assert_eq!((&shown["full"], &shown["state"]), (&is_full.into(), &"complete".into()), "{shown}");
        assert_eq!((&shown["n"], &shown["k"]), (&N.into(), &K.into()), "{shown}");
        assert_eq!(shown["cluster"], story.cluster.name, "{shown}");
        let verified = json(&story.cluster.ok(&["snapshot", "verify", text(path), "--json"]));
        assert_eq!((&verified["valid"], &verified["cut"]), (&true.into(), &shown["cut"]), "{verified}");
    }
    let verified = json(&story.cluster.ok(&["snapshot", "verify", names[3], "--json"]));
    assert_eq!(verified["files"], 3, "a full one and two that build on it: {verified}");
    for human in [&["snapshot", "ls"][..], &["snapshot", "show", names[3]], &["snapshot", "verify", names[3]]] {
        let said = String::from_utf8(story.cluster.ok(human)).expect("text");
        assert!(said.contains(names[3]), "{human:?}: {said}");
    }
    let pruned = json(&story.cluster.ok(&["snapshot", "prune", "--keep", "1", "--json"]));
    assert_eq!(pruned["removed"], serde_json::json!([names[0]]), "{pruned}");
    assert_eq!(listed(&story.cluster), &names[1..], "the chain of the newest stays");
    story.cluster.ok(&["snapshot", "verify", names[3]]);
    story.cluster.exits(1, &["snapshot", "show", names[0]]);
}

fn listed(cluster: &Cluster) -> Vec<String> {
    let list = json(&cluster.ok(&["snapshot", "ls", "--json"]));
    let entries = list["snapshots"].as_array().expect("a list").iter();
    let name = |entry: &Value| {
        assert_eq!(entry["state"], "complete", "{entry}");
        entry["name"].as_str().expect("a name").to_owned()
    };
    entries.map(name).collect()
}
