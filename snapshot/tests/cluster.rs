//! Snapshot and restore through real servers and snapshot processes, all in this process: what does
//! not need a kill. The end-to-end tests kill and freeze.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use mcomp_client::{Cluster, Options};
use mcomp_config::{Config, Overrides};
use mcomp_server::Server;
use mcomp_snapshot::file::{Chain, Folder, Meta, Writer};
use mcomp_snapshot::{Restore, SnapshotError, Snapshotter};
use mcomp_wire::control::{RestoreBegin, RestoreEnd};
use mcomp_wire::{Kind, Role};

struct Running {
    config: Config,
    servers: Vec<Server>,
    snapshotters: Vec<Snapshotter>,
}

impl Running {
    fn start(dir: &Path, n: u32, k: u64, extra: &str) -> Running {
        let config = config(dir, n, k, extra);
        let server =
            |id| Server::start(&config, &mcomp_server::Options { id, ..Default::default() }).expect("a server");
        let snapshotter = |id| Snapshotter::start(&config, id).expect("a snapshot process");
        let servers = (0..n).map(server).collect();
        let snapshotters = (0..n).map(snapshotter).collect();
        Running { config, servers, snapshotters }
    }

    fn client(&self) -> Cluster {
        Cluster::connect(&self.config).expect("a client")
    }

    fn create(&self, incremental: bool) -> mcomp_wire::control::SnapshotCreated {
        mcomp_snapshot::create(&self.config, incremental, &mut |_| {}).expect("a snapshot")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.snapshotters.clear();
        self.servers.clear();
        mcomp_shm::purge(self.config.name()).expect("the segments go");
    }
}

fn config(dir: &Path, n: u32, k: u64, extra: &str) -> Config {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let ip = format!("127.{}.{}.{number}", 1 + (pid >> 8) % 254, pid % 256);
    let mut text = format!("[cluster]\nname = \"s{pid}-{number}\"\nk = {k}\nn = {n}\n{extra}\n");
    for id in 0..n {
        text.push_str(&format!("[[server]]\naddress = \"{ip}:{}\"\nsnapshot = \"{ip}:{}\"\n", 7401 + id, 7501 + id));
    }
    Config::parse(&text, &dir.join("mcomp.cfg"), &Overrides::default()).expect("a valid config")
}

fn random_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

#[test]
fn what_is_saved_comes_back_on_other_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let (k, seed) = (1 << 20, 7);
    let image = {
        let cluster = Running::start(dir.path(), 3, k, "");
        let client = cluster.client();
        let data = random_bytes(2 << 20, seed);
        client.write_at(12_345, &data).unwrap();
        let first = cluster.create(false);
        assert!(first.full && first.memory_bytes >= 2 << 20, "{first:?}");
        client.write_at(100, b"changed since").unwrap();
        client.fill(1 << 20, 100_000, 0).unwrap();
        let second = cluster.create(true);
        assert!(!second.full && second.memory_bytes < 200_000, "{second:?}");
        client.write_at(0, &[1; 5000]).unwrap();
        let mut image = vec![0; 3 << 20];
        image[12_345..12_345 + data.len()].copy_from_slice(&data);
        image[100..113].copy_from_slice(b"changed since");
        image[1 << 20..(1 << 20) + 100_000].fill(0);
        image
    };
    let newest = Folder::open(dir.path().join("snapshots")).unwrap().list().unwrap().pop().unwrap();
    for (n, k) in [(2, 2 << 20), (5, 640 << 10), (3, 1 << 20)] {
        let cluster = Running::start(dir.path(), n, k, "");
        let client = cluster.client();
        client.fill(0, client.size(), 0xee).unwrap();
        let restore = Restore::prepare(&cluster.config, &newest.path, &mut |_, _| {}).unwrap();
        assert_eq!(restore.plan().files, 2);
        restore.run(&mut |_, _| {}).unwrap();
        let older = client.read_at(0, &mut [0; 8]).unwrap_err();
        assert_eq!(older.kind(), "fenced", "a client of the memory before it: {older}");
        let found = cluster.client().read_vec(0, client.size()).unwrap();
        assert!(found[..image.len().min(found.len())] == image[..image.len().min(found.len())], "{n} x {k}");
        assert!(found.iter().skip(image.len()).all(|&byte| byte == 0), "the rest is zero");
    }
    let small = config(dir.path(), 2, 512 << 10, "");
    let refused = Restore::prepare(&small, &newest.path, &mut |_, _| {}).unwrap_err();
    assert!(matches!(refused, SnapshotError::DoesNotFit { .. }), "{refused}");
}

#[test]
fn a_missing_process_fails_the_snapshot_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Running::start(dir.path(), 2, 64 << 10, "[client]\nconnect_timeout = \"500ms\"\n");
    cluster.client().write_at(0, b"kept").unwrap();
    cluster.snapshotters.pop();
    let failed = mcomp_snapshot::create(&cluster.config, false, &mut |_| {}).unwrap_err();
    assert_eq!(failed.exit_code(), 69, "{failed}");
    assert!(failed.to_string().contains("snapshot process 1"), "{failed}");
    cluster.snapshotters.push(Snapshotter::start(&cluster.config, 1).unwrap());
    let stopped = cluster.servers.pop();
    drop(stopped);
    let failed = mcomp_snapshot::create(&cluster.config, false, &mut |_| {}).unwrap_err();
    assert!(failed.to_string().contains("server 1"), "{failed}");
    cluster
        .servers
        .push(Server::start(&cluster.config, &mcomp_server::Options { id: 1, ..Default::default() }).unwrap());
    let created = cluster.create(false);
    Chain::open(&created.path).unwrap().verify(&mut |_, _| {}).unwrap();
    let status = mcomp_snapshot::snapshotter_status(&cluster.config, 0).unwrap();
    assert_eq!((status.ok, status.aborted, status.last.as_str()), (1, 2, created.name.as_str()));
    assert_eq!(cluster.servers[0].status().counters.snapshot.ok, 1);
}

#[test]
fn the_schedule_makes_full_and_incremental_snapshots_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let extra = "[snapshot]\nevery = \"100ms\"\nkeep = 3\nfull_every = 2\n";
    let cluster = Running::start(dir.path(), 2, 64 << 10, extra);
    let client = cluster.client();
    let folder = || Folder::open(dir.path().join("snapshots")).unwrap().list().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut number = 0u64;
    while mcomp_snapshot::snapshotter_status(&cluster.config, 0).unwrap().ok < 6 {
        number += 1;
        client.write_at(8, &number.to_le_bytes()).unwrap();
        assert!(std::time::Instant::now() < deadline, "six snapshots in 30 s");
    }
    drop(cluster);
    let kept = folder();
    assert!((3..=4).contains(&kept.len()), "three, and what the oldest builds on: {}", kept.len());
    let full: Vec<bool> = kept.iter().map(|entry| entry.meta.as_ref().unwrap().is_full()).collect();
    assert!(full.windows(2).all(|pair| pair[0] != pair[1]), "every second one is full: {full:?}");
    for entry in kept {
        Chain::open(&entry.path).unwrap().verify(&mut |_, _| {}).unwrap();
    }
}

#[test]
fn a_restore_that_cannot_close_a_server_leaves_all_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let k = 64 << 10;
    let cluster = Running::start(dir.path(), 2, k, "");
    let client = cluster.client();
    client.write_at(k - 2, b"kept").unwrap();
    let snapshot = cluster.create(false).path;
    let restore = || Restore::prepare(&cluster.config, Path::new(&snapshot), &mut |_, _| {}).unwrap();
    let admin = Options { role: Role::Admin, ..Options::from_config(&cluster.config) };
    let mut other = Cluster::with_options(admin).unwrap().dedicated(1).unwrap();
    let other_restore = uuid::Uuid::from_u128(1);
    other.call::<_, ()>(Kind::RestoreBegin, &RestoreBegin { restore: other_restore }).unwrap();
    let refused = restore().run(&mut |_, _| {}).unwrap_err();
    assert_eq!((refused.kind(), refused.outcome_unknown()), ("busy", false), "{refused}");
    assert_eq!(client.read_vec(k - 2, 2).unwrap(), b"ke", "server 0 is open again, under the old epoch");
    let restore_end = RestoreEnd { restore: other_restore, config_epoch: other.welcome().config_epoch + 1 };
    other.call::<_, ()>(Kind::RestoreEnd, &restore_end).unwrap();
    restore().run(&mut |_, _| {}).unwrap();
    assert_eq!(cluster.client().read_vec(k - 2, 4).unwrap(), b"kept");
}

/// Whoever retries the whole snapshot copies for nothing, and makes the writers wait once more each time.
#[test]
fn a_copy_that_cannot_be_had_is_tried_once() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Running::start(dir.path(), 1, 64 << 10, "");
    // As the server finds block 3 after a death in the middle of a write: bit 0 of the entry's flags.
    let segment = format!("/dev/shm/mcomp.{}.0", cluster.config.name());
    let segment = std::fs::File::options().write(true).open(segment).unwrap();
    segment.write_all_at(&[1], 4096 + 3 * 64 + 56).unwrap();
    let failed = mcomp_snapshot::create(&cluster.config, false, &mut |_| {}).unwrap_err();
    assert!(failed.to_string().contains("block 3"), "{failed}");
    assert_eq!(cluster.servers[0].status().counters.snapshot.aborted, 1);
}

#[test]
fn a_clock_that_was_set_back_does_not_age_the_newest_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Running::start(dir.path(), 1, 64 << 10, "[snapshot]\nkeep = 1\n");
    let first = Chain::open(cluster.create(false).path).unwrap().meta().clone();
    let later = Meta { created_us: first.created_us + 3_600_000_000, cut: uuid::Uuid::from_u128(1), ..first };
    let folder = Folder::open(dir.path().join("snapshots")).unwrap();
    let later = Writer::create(folder.dir(), later).unwrap().finish().unwrap();
    let now = cluster.create(false);
    assert!(Path::new(&now.path).exists() && !later.path.exists(), "the newest one is kept: {}", now.name);
    let next = cluster.create(true);
    assert!(!next.full, "and built on");
}
