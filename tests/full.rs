//! A full or unwritable disk is reported, and the servers serve on.
//!
//! The disk is full in two ways: a limit on the size of files, which anyone may set, and a tiny file
//! system of its own, seen by the snapshot process alone, where the machine allows that. An
//! unwritable folder is a file in its place, a read-only file system, or a mode that forbids it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mcomp_snapshot::create;
use mcomp_snapshot::file::{Folder, State};
use rustix::process::{Pid, Resource, Rlimit, geteuid, getrlimit, prlimit};

use crate::harness::{Cluster, Setup, seed, under};

/// Bytes of noise in the memory, which no compression makes fit.
const NOISE: usize = 1 << 20;
/// Room on the disk.
const ROOM: u64 = 256 << 10;

fn setup() -> Setup {
    Setup::new(2, "1MiB")
}

fn fill_with_noise(cluster: &Cluster) {
    let mut noise = vec![0; NOISE];
    fastrand::Rng::with_seed(seed()).fill(&mut noise);
    cluster.client().write_at(0, &noise).expect("noise");
}

/// A snapshot must fail with 74 and these words; the servers serve on, and the folder is clean.
fn fails(cluster: &Cluster, folder: &Path, words: &[&str]) {
    let before = names_in(folder);
    let output = cluster.exits(74, &["snapshot", "create"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(words.iter().all(|word| message.contains(word)), "{words:?} are not all in {message}");
    assert_eq!(names_in(folder), before, "nothing is left behind");
    let client = cluster.client();
    client.write_at(NOISE as u64, b"the servers serve on").expect("a write");
    assert_eq!(client.read_vec(NOISE as u64, 20).expect("a read"), b"the servers serve on");
    let counters = client.status(0).expect("a status").counters;
    assert!(counters.snapshot.aborted <= 1, "the same failure is not tried over and over: {counters:?}");
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string();
    let mut names: Vec<String> = entries.map(|entry| name(entry).expect("a plain name")).collect();
    names.sort_unstable();
    names
}

/// The next snapshot works, and all in the folder are whole.
fn works(cluster: &Cluster, folder: &Path) {
    create(&cluster.config(), false, &mut |_| {}).expect("there is room for a snapshot");
    let listed = Folder::open(folder).and_then(|folder| folder.list()).expect("a listing");
    assert!(!listed.is_empty() && listed.iter().all(|entry| entry.state == State::Complete), "{listed:?}");
}

#[test]
fn a_file_that_may_not_grow_is_reported_and_the_snapshot_process_lives() {
    let cluster = setup().start();
    let folder = cluster.snapshot_dir();
    works(&cluster, &folder);
    fill_with_noise(&cluster);
    let pid = cluster.snapshotter_pid(0);
    limit_file_size(pid, Some(ROOM));
    fails(&cluster, &folder, &["cannot write", "too large"]);
    // What is small still fits.
    cluster.client().fill(0, NOISE as u64, 0).expect("zeros");
    works(&cluster, &folder);
    fill_with_noise(&cluster);
    limit_file_size(pid, getrlimit(Resource::Fsize).current);
    works(&cluster, &folder);
    assert_eq!(cluster.snapshotter_pid(0), pid);
    assert_eq!(names_in(&folder).len(), 3);
}

fn limit_file_size(pid: u32, most: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit { current: most, maximum };
    prlimit(Pid::from_raw(pid.cast_signed()), Resource::Fsize, limit).expect("our own child");
}

#[test]
fn a_command_whose_file_may_not_grow_reports_it_and_leaves_no_file() {
    let cluster = setup().start();
    fill_with_noise(&cluster);
    let created = create(&cluster.config(), false, &mut |_| {}).expect("a snapshot");
    let out = cluster.dir.path().join("image.bin");
    let out_text = out.to_str().expect("a plain path");
    let wrapper = ["sh", "-c", "ulimit -f 128 && exec \"$@\"", "sh"];
    for args in [["snapshot", "export", &created.name, "-o", out_text], ["read", "0", "1MiB", "-o", out_text]] {
        let output = under(&wrapper, cluster.command(&args)).output().expect("it runs");
        assert_eq!(output.status.code(), Some(74), "{args:?}: {output:?}");
        assert!(!out.exists(), "{args:?}: half a file is left");
    }
    assert_eq!(cluster.ok(&["read", "0", "1MiB", "-o", out_text]), b"");
    assert_eq!(fs::metadata(&out).expect("the file is there").len(), 1 << 20);
}

/// How a process gets file systems of its own on this machine, if it may.
pub(crate) fn private_mounts() -> Option<Vec<&'static str>> {
    let ways = [vec!["unshare", "-m"], vec!["unshare", "-Urm"]];
    let works = |way: &Vec<&str>| {
        let probe = "mount -t tmpfs -o size=64k tmpfs /tmp";
        let output = Command::new(way[0]).args(&way[1..]).args(["sh", "-c", probe]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = ways.into_iter().find(works);
    if found.is_none() {
        eprintln!("no private file systems on this machine: the limit on file sizes stands in for them");
    }
    found
}

/// Starts the master's snapshot process with a file system of its own over its folder, and returns
/// the folder as seen from outside.
fn start_with_own_disk(cluster: &mut Cluster, way: &[&str], options: &str) -> PathBuf {
    let dir = cluster.snapshot_dir();
    fs::create_dir_all(&dir).expect("the folder");
    let script = format!("mount -t tmpfs -o {options} tmpfs '{}' && exec \"$@\"", dir.display());
    let wrapper = [way, &["sh", "-c", &script, "sh"]].concat();
    cluster.start_snapshotter_under(&wrapper, 0);
    let root = PathBuf::from(format!("/proc/{}/root", cluster.snapshotter_pid(0)));
    root.join(dir.strip_prefix("/").expect("an absolute path"))
}

#[test]
fn a_full_disk_is_reported_and_the_next_snapshot_works_when_there_is_room() {
    let Some(way) = private_mounts() else { return };
    let mut cluster = setup().servers();
    cluster.start_snapshotter(1);
    let folder = start_with_own_disk(&mut cluster, &way, &format!("size={ROOM},mode=700"));
    works(&cluster, &folder);
    fill_with_noise(&cluster);
    fails(&cluster, &folder, &["cannot write", "No space left on device"]);
    cluster.client().fill(0, NOISE as u64, 0).expect("zeros");
    works(&cluster, &folder);
    assert_eq!(names_in(&folder).len(), 2, "{:?}", names_in(&folder));
    assert!(names_in(&cluster.snapshot_dir()).is_empty(), "the disk was the process's own");
}

#[test]
fn a_read_only_disk_is_reported() {
    let Some(way) = private_mounts() else { return };
    let mut cluster = setup().servers();
    cluster.start_snapshotter(1);
    let folder = start_with_own_disk(&mut cluster, &way, "ro,size=1m,mode=700");
    fails(&cluster, &folder, &["cannot", "Read-only file system"]);
}

#[test]
fn a_file_where_the_folder_should_be_is_reported() {
    let cluster = setup().start();
    let folder = cluster.snapshot_dir();
    fs::write(&folder, "not a folder").expect("a file");
    fails(&cluster, &folder, &["snapshots"]);
    fs::remove_file(&folder).expect("the file goes");
    works(&cluster, &folder);
}

#[test]
fn a_folder_that_may_not_be_written_is_reported() {
    if geteuid().is_root() {
        eprintln!("root may write everywhere: the read-only disk and the file in its place stand in");
        return;
    }
    let cluster = setup().start();
    let folder = cluster.snapshot_dir();
    works(&cluster, &folder);
    let allow = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("our own folder");
    allow(0o500);
    fails(&cluster, &folder, &["cannot create", "Permission denied"]);
    allow(0o700);
    works(&cluster, &folder);
}
