//! A snapshot file that was damaged, cut short or mixed is refused before memory is touched; killed
//! masters leave nothing that could be taken for a snapshot.
//!
//! The files are those of real clusters. What needs many tries is validated in process, with the same
//! call that `mcomp restore` makes first; a sample goes through the command itself, with the whole
//! memory compared before and after.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mcomp_client::Cluster as Client;
use mcomp_config::Config;
use mcomp_snapshot::file::{Chain, ChunkEntry, Folder, Snapshot, State};
use mcomp_snapshot::{Restore, SnapshotError, create, snapshotter_status};
use mcomp_wire::control::SnapshotCreated;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::harness::{Cluster, Setup, length, seed, wait_until};

/// A file in 32 bytes.
type Sum = [u8; 32];

/// What every server of a cluster is and holds: equal before and after a restore that was refused.
#[derive(PartialEq)]
struct Picture {
    image: Vec<u8>,
    epochs: Vec<(String, u64)>,
}

fn picture(client: &Client) -> Picture {
    let statuses = client.statuses().into_iter().map(|status| status.expect("every server answers"));
    Picture {
        image: client.read_vec(0, client.size()).expect("the memory is read"),
        epochs: statuses.map(|status| (status.state, status.config_epoch)).collect(),
    }
}

fn noise(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// A snapshot of the cluster as it is now.
fn snapshot(cluster: &Cluster, incremental: bool) -> PathBuf {
    let created = create(&cluster.config(), incremental, &mut |_| {}).expect("a snapshot");
    assert_eq!(created.full, !incremental);
    PathBuf::from(created.path)
}

/// Validates as `mcomp restore` does, and expects that the file is refused for what it holds.
fn is_refused(config: &Config, path: &Path, what: &str) {
    match Restore::prepare(config, path, &mut |_, _| {}) {
        Ok(restore) => panic!("{what}: accepted as {:?}", restore.plan()),
        Err(error) => assert_eq!(error.exit_code(), 65, "{what}: {error}"),
    }
}

fn is_accepted(config: &Config, path: &Path) {
    Restore::prepare(config, path, &mut |_, _| {}).expect("an undamaged file");
}

/// Two servers with few bytes in use: all codecs, and a file of a few thousand bytes.
fn small_cluster(random: &mut fastrand::Rng) -> (Cluster, Client) {
    let cluster = Setup::new(2, "16KiB").start();
    let client = cluster.client();
    client.write_at(0, b"text that repeats, text that repeats, text that repeats").expect("text");
    client.write_at(4096, &noise(random, 500)).expect("noise");
    client.fill(20 << 10, 3000, 7).expect("one value");
    (cluster, client)
}

#[test]
fn every_flipped_byte_and_every_truncation_is_refused() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (cluster, client) = small_cluster(&mut random);
    let full = snapshot(&cluster, false);
    client.write_at(8192, &noise(&mut random, 64)).expect("a change");
    let increment = snapshot(&cluster, true);
    let (config, before) = (cluster.config(), picture(&client));
    // A flaw of the parent is a flaw of the child.
    for (damaged, restored) in [(&full, &full), (&full, &increment), (&increment, &increment)] {
        let original = fs::read(damaged).expect("the file is read");
        let file = File::options().write(true).open(damaged).expect("our own file");
        for (at, byte) in (0..).zip(&original) {
            let flipped = byte ^ random.u8(1..);
            file.write_all_at(&[flipped], at).expect("a byte is flipped");
            is_refused(&config, restored, &format!("byte {at} is {flipped:#x}, not {byte:#x}"));
            file.write_all_at(&[*byte], at).expect("a byte is mended");
        }
        is_accepted(&config, restored);
        for len in (0..original.len() as u64).rev() {
            file.set_len(len).expect("the file is cut");
            is_refused(&config, restored, &format!("{len} bytes are left"));
        }
        fs::write(damaged, &original).expect("the file is mended");
        is_accepted(&config, restored);
    }
    assert!(picture(&client) == before, "validation touches no memory");
}

#[test]
fn a_damaged_file_is_refused_by_the_command_and_the_memory_is_untouched() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (cluster, client) = small_cluster(&mut random);
    let full = snapshot(&cluster, false);
    client.write_at(0, &noise(&mut random, 32 << 10)).expect("other contents");
    let before = picture(&client);
    let original = fs::read(&full).expect("the file is read");
    let path = full.to_str().expect("a plain path");
    let refused = |what: &str| {
        let output = cluster.exits(65, &["restore", path]);
        let message = String::from_utf8_lossy(&output.stderr);
        let name = full.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(message.contains("not a valid snapshot") && message.contains(name), "{what}: {message}");
        assert!(picture(&client) == before, "{what}: memory was touched");
    };
    for round in 0..length("MCOMP_TEST_DAMAGED", 12) as usize {
        let mut bytes = original.clone();
        match round % 3 {
            0 => bytes.truncate(random.usize(..original.len())),
            1 => bytes.push(random.u8(..)),
            _ => bytes[random.usize(..original.len())] ^= random.u8(1..),
        }
        fs::write(&full, bytes).expect("the file is damaged");
        refused(&format!("round {round}"));
    }
    cluster.exits(65, &["restore", path, "--dry-run"]);
    cluster.exits(65, &["snapshot", "verify", path]);
    fs::write(&full, &original).expect("the file is mended");
    cluster.ok(&["restore", path]);
    // The old client is fenced; a new one knows the new epoch.
    let restored = cluster.client().read_vec(0, 24).expect("the memory is read");
    assert_eq!(restored, b"text that repeats, text ");
}

/// Two snapshots of different noise whose parts stand at the same places of their files.
fn twins(cluster: &Cluster, random: &mut fastrand::Rng) -> [PathBuf; 2] {
    let client = cluster.client();
    let mut snapshot_of_noise = || {
        // Noise does not shrink, so the parts have the same sizes.
        client.write_at(0, &noise(random, 32 << 10)).expect("noise");
        snapshot(cluster, false)
    };
    let first = snapshot_of_noise();
    let mut second = snapshot_of_noise();
    // The chunks of the two servers come in any order.
    wait_until("they come in the same order", || {
        let is_twin = places(&first) == places(&second);
        if !is_twin {
            second = snapshot_of_noise();
        }
        is_twin
    });
    [first, second]
}

/// Where the chunks of a snapshot stand, in the order of the file.
fn places(path: &Path) -> Vec<(u64, u64, u32)> {
    let snapshot = Snapshot::open(path).expect("a snapshot");
    let place = |chunk: &ChunkEntry| (chunk.offset, chunk.address, chunk.stored);
    let mut places: Vec<_> = snapshot.chunks().iter().map(place).collect();
    places.sort_unstable();
    places
}

#[test]
fn parts_of_two_snapshots_make_no_third() {
    let mut random = fastrand::Rng::with_seed(seed());
    let cluster = Setup::new(2, "16KiB").with("[snapshot]\nkeep = 1000").start();
    let paths = twins(&cluster, &mut random);
    let (config, client) = (cluster.config(), cluster.client());
    let before = picture(&client);
    let files = paths.clone().map(|path| fs::read(path).expect("the file is read"));
    let len = files[0].len();
    assert_eq!(files[1].len(), len);
    // The files are cut at the borders of head, chunks, table, totals and trailer.
    let chunks = places(&paths[0]);
    assert!(chunks.len() > 1, "a chunk of each server at least");
    let mut borders: Vec<usize> = chunks.iter().map(|(offset, ..)| *offset as usize).collect();
    borders.extend([0, len - 112 - 32 * chunks.len(), len - 112, len - 56, len]);
    borders.sort_unstable();
    let parts: Vec<Range<usize>> = borders.windows(2).map(|pair| pair[0]..pair[1]).collect();
    for choice in 1..(1usize << parts.len()) - 1 {
        let part = |(at, range): (usize, &Range<usize>)| files[choice >> at & 1][range.clone()].to_vec();
        let mixed: Vec<u8> = parts.iter().enumerate().flat_map(part).collect();
        // Parts that are the same in both files make no difference.
        if !files.contains(&mixed) {
            fs::write(&paths[0], mixed).expect("a mixture is written");
            is_refused(&config, &paths[0], &format!("mixture {choice:#b} of {parts:?}"));
        }
    }
    cluster.exits(65, &["restore", paths[0].to_str().expect("a plain path")]);
    assert!(picture(&client) == before, "memory was touched");
}

#[test]
fn an_increment_without_its_very_parent_is_refused() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (cluster, client) = small_cluster(&mut random);
    let parent = snapshot(&cluster, false);
    client.write_at(8192, &noise(&mut random, 64)).expect("a change");
    let child = snapshot(&cluster, true);
    client.write_at(8192, &noise(&mut random, 64)).expect("a change");
    let other = snapshot(&cluster, false);
    let (before, aside) = (picture(&client), cluster.dir.path().join("aside"));
    let refused = |what: &str| {
        let output = cluster.exits(65, &["restore", child.to_str().expect("a plain path")]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("parent"), "{what}: {message}");
        let listed = Folder::open(cluster.snapshot_dir()).and_then(|folder| folder.list()).expect("a listing");
        let entry = listed.iter().find(|entry| entry.path == child).expect("the child is listed");
        assert!(matches!(entry.state, State::Broken(_)), "{what}: listed as {:?}", entry.state);
        assert!(picture(&client) == before, "{what}: memory was touched");
    };
    fs::rename(&parent, &aside).expect("the parent is put aside");
    refused("no parent");
    fs::copy(&other, &parent).expect("another snapshot takes its name");
    refused("another one in its place");
    let mut damaged = fs::read(&aside).expect("the parent is read");
    let middle = damaged.len() / 2;
    fs::write(&parent, &damaged[..middle]).expect("half of the parent");
    refused("half of it");
    damaged[100] ^= 1;
    fs::write(&parent, damaged).expect("a damaged parent");
    refused("a damaged one");
    fs::rename(&aside, &parent).expect("the parent comes back");
    cluster.ok(&["restore", child.to_str().expect("a plain path")]);
}

/// Two servers of 4 MiB of noise: a snapshot takes long enough to be interrupted.
fn large_cluster(random: &mut fastrand::Rng) -> (Cluster, Client) {
    let cluster = Setup::new(2, "4MiB").with("[snapshot]\nkeep = 24").start();
    let client = cluster.client();
    client.write_at(0, &noise(random, 8 << 20)).expect("noise");
    (cluster, client)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect()
}

fn temporary_files(folder: &Path) -> Vec<String> {
    names_in(folder).into_iter().filter(|name| !name.ends_with(".mcs")).collect()
}

/// Every file that looks like a snapshot is one, and those of `kept` are as they were.
fn all_are_whole(cluster: &Cluster, kept: &BTreeMap<PathBuf, Sum>) {
    let listed = Folder::open(cluster.snapshot_dir()).and_then(|folder| folder.list()).expect("a listing");
    for entry in &listed {
        assert_eq!(entry.state, State::Complete, "{}", entry.name);
        let verified = Chain::open(&entry.path).and_then(|chain| chain.verify(&mut |_, _| {}));
        verified.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
    }
    for (path, known) in kept {
        assert_eq!(sum(path), *known, "{} has changed", path.display());
        assert!(listed.iter().any(|entry| entry.path == *path), "{} is not listed", path.display());
    }
}

/// The sum of a file.
fn sum(path: &Path) -> Sum {
    Sha256::digest(fs::read(path).expect("the file is read")).into()
}

#[test]
fn a_master_that_is_killed_leaves_no_half_snapshot() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (mut cluster, client) = large_cluster(&mut random);
    let config = cluster.config();
    let mut kept = BTreeMap::new();
    let (mut leftovers, mut failures) = (0, 0);
    for round in 0..length("MCOMP_TEST_KILLED_MASTERS", 20) {
        client.write_at(random.u64(..8 << 20) & !4095, &noise(&mut random, 4096)).expect("a change");
        create(&config, random.bool(), &mut |_| {}).expect("the next snapshot works");
        let next = create(&config, false, &mut |_| {}).expect("the one after it too");
        kept.insert(PathBuf::from(&next.path), sum(Path::new(&next.path)));
        let folder = cluster.snapshot_dir();
        assert_eq!(temporary_files(&folder), [""; 0], "the next snapshot sweeps");
        // Every other time at the moment when the file begins to exist, otherwise at any time.
        let by_sight = round % 2 == 0;
        let patience = Duration::from_micros(random.u64(..next.took_us * 5 / 4));
        let created = std::thread::scope(|scope| {
            let creating = scope.spawn(|| create(&config, false, &mut |_| {}));
            let begun = Instant::now();
            wait_until("the file begins or is done, or the moment has come", || match by_sight {
                true => !temporary_files(&folder).is_empty() || creating.is_finished(),
                false => begun.elapsed() >= patience,
            });
            cluster.kill_snapshotter(0);
            creating.join().expect("the snapshot ends")
        });
        leftovers += temporary_files(&folder).len();
        failures += u32::from(created.is_err());
        if let Ok(created) = created {
            kept.insert(PathBuf::from(&created.path), sum(Path::new(&created.path)));
        }
        // Three a round at most, and retention keeps the newest 24.
        while kept.len() > 6 {
            kept.pop_first();
        }
        all_are_whole(&cluster, &kept);
        let listed = String::from_utf8(cluster.ok(&["snapshot", "ls"])).expect("text");
        assert!(!listed.contains(".tmp") && !listed.contains("broken"), "{listed}");
        cluster.start_snapshotter(0);
    }
    eprintln!("{failures} snapshots cut off, {leftovers} unfinished files left and swept");
    assert!(leftovers > 0 && failures > 0, "no kill hit a snapshot in the making");
    create(&config, false, &mut |_| {}).expect("the next snapshot works");
    assert_eq!(temporary_files(&cluster.snapshot_dir()), [""; 0]);
}

/// Makes a snapshot through the command, which must fail with 69 and a sentence about `who`.
fn fails_because_of(cluster: &Cluster, who: &str) {
    let output = cluster.exits(69, &["snapshot", "create"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(who), "{who} is not named: {message}");
    assert!(output.stdout.is_empty(), "no path is printed: {output:?}");
}

/// What `mcomp status --json` says of the master: snapshots done, given up, and the last reason.
fn master_counts(cluster: &Cluster) -> (u64, u64, String) {
    let status: serde_json::Value =
        serde_json::from_slice(&cluster.run(&["status", "--json"]).stdout).expect("one JSON object");
    let master = &status["snapshotters"][0];
    let count = |name: &str| master[name].as_u64().unwrap_or_else(|| panic!("no {name} in {master}"));
    (count("ok"), count("aborted"), master["last_error"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_process_that_is_down_fails_the_snapshot_by_name_and_the_next_one_works() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (mut cluster, client) = small_cluster(&mut random);
    snapshot(&cluster, false);
    assert_eq!(master_counts(&cluster), (1, 0, String::new()));

    cluster.kill_snapshotter(1);
    fails_because_of(&cluster, &format!("snapshot process 1 ({})", cluster.snapshot_address(1)));
    let (ok, aborted, reason) = master_counts(&cluster);
    assert_eq!((ok, aborted), (1, 1));
    assert!(reason.contains("snapshot process 1"), "{reason}");
    cluster.start_snapshotter(1);
    snapshot(&cluster, false);

    cluster.kill_server(1);
    fails_because_of(&cluster, &format!("server 1 ({})", cluster.address(1)));
    let (ok, aborted, reason) = master_counts(&cluster);
    assert_eq!((ok, aborted), (2, 2));
    assert!(reason.contains("server 1"), "{reason}");
    // The other server was not left with a cut in progress: it serves.
    client.write_at(0, b"still served").expect("server 0 serves");
    cluster.start_server(1);
    snapshot(&cluster, false);

    cluster.kill_snapshotter(0);
    fails_because_of(&cluster, &format!("snapshot process 0 ({})", cluster.snapshot_address(0)));
    cluster.start_snapshotter(0);
    snapshot(&cluster, false);
    assert_eq!(names_in(&cluster.snapshot_dir()).len(), 4, "{:?}", names_in(&cluster.snapshot_dir()));
}

#[test]
fn a_snapshot_process_that_is_frozen_fails_the_snapshot_by_name() {
    let lines = "[client]\nconnect_timeout = \"300ms\"\ntimeout = \"1s\"\n[snapshot]\ntime_limit = \"3s\"";
    let cluster = Setup::new(2, "16KiB").with(lines).start();
    cluster.signal_snapshotter(1, Signal::STOP);
    fails_because_of(&cluster, "snapshot process 1");
    cluster.client().write_at(0, b"served").expect("servers serve");
    cluster.signal_snapshotter(1, Signal::CONT);
    snapshot(&cluster, false);
}

#[test]
fn a_snapshot_process_that_dies_while_it_copies_is_named_and_counted_by_the_servers() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (mut cluster, client) = large_cluster(&mut random);
    let (config, folder) = (cluster.config(), cluster.snapshot_dir());
    snapshot(&cluster, false);
    let aborted = |client: &Client| client.status(0).expect("a status").counters.snapshot.aborted;
    let mut last: Option<SnapshotError> = None;
    wait_until("a copy is interrupted", || {
        let created: Result<SnapshotCreated, SnapshotError> = std::thread::scope(|scope| {
            let creating = scope.spawn(|| create(&config, false, &mut |_| {}));
            wait_until("the file begins or is done", || !temporary_files(&folder).is_empty() || creating.is_finished());
            cluster.kill_snapshotter(1);
            creating.join().expect("the snapshot ends")
        });
        cluster.start_snapshotter(1);
        last = created.err();
        last.is_some()
    });
    let error = last.expect("it was interrupted");
    assert_eq!(error.exit_code(), 69, "{error}");
    assert!(error.to_string().contains("snapshot process 1"), "{error}");
    wait_until("the servers count it", || aborted(&client) > 0);
    assert!(snapshotter_status(&config, 0).expect("a status").aborted > 0);
    assert_eq!(temporary_files(&folder), [""; 0], "what was begun is gone");
    all_are_whole(&cluster, &BTreeMap::new());
    snapshot(&cluster, false);
}
