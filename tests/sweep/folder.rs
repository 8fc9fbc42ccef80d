//! A cluster whose disk can be told to fail, and a snapshot folder that is set back before every fault.
//!
//! The memory stands still while a snapshot is made, so what every file must hold is known to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use mcomp_client::Cluster as Client;
use mcomp_config::Config;
use mcomp_snapshot::file::{Chain, Folder, State as FileState};
use mcomp_snapshot::{Restore, create};

use crate::harness::{Cluster, Setup, seed, wait_until};

const K: usize = 64 << 10;
const SERVERS: usize = 2;

/// What a writer that was killed long ago has left.
const STALE: &str = ".mcs-1-0123456789abcdef.tmp";

/// What the folder holds when a snapshot begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It does not exist.
    NoFolder,
    /// Two chains and a leftover, and a full snapshot is wanted. It makes the older chain superfluous.
    Full,
    /// The same, and an incremental snapshot is wanted.
    Chain,
}

/// A cluster of which the master's disk fails.
pub(super) struct Stricken {
    cluster: Cluster,
    client: Client,
    random: fastrand::Rng,
    memory: Vec<u8>,
    /// The memory that each file was made of.
    images: BTreeMap<String, Vec<u8>>,
    /// The files that the folder is set back to.
    aside: PathBuf,
    /// The newest of them, once the folder was set back: retention must not take it.
    stays: Option<String>,
    /// Memory of each segment while no cut is held.
    idle_blocks: Vec<u64>,
    /// How much of the master's log was read before this fault.
    read_bytes: usize,
}

impl Stricken {
    pub(super) fn start() -> Stricken {
        let mut random = fastrand::Rng::with_seed(seed());
        // A window of 64 KiB, so that small files meet what large ones do.
        let setup = Setup::new(SERVERS as u32, "64KiB").with("[snapshot]\nkeep = 3").env("MCOMP_TEST_SHRINK", "512");
        let cluster = setup.start();
        let client = cluster.client();
        let mut memory = vec![0; K * SERVERS];
        random.fill(&mut memory);
        client.write_at(0, &memory).expect("noise");
        let aside = cluster.dir.path().join("aside");
        let (images, idle_blocks, read_bytes) = (BTreeMap::new(), Vec::new(), 0);
        let mut stricken =
            Stricken { cluster, client, random, memory, images, aside, stays: None, idle_blocks, read_bytes };
        stricken.idle_blocks = stricken.blocks();
        stricken.make_aside();
        stricken
    }

    /// Two chains of two files each. Retention keeps three tips, so the next snapshot ends the older chain.
    fn make_aside(&mut self) {
        for incremental in [false, true, false, true] {
            self.change();
            let created = create(&self.config(), incremental, &mut |_| {}).expect("a snapshot");
            assert_eq!(created.full, !incremental);
            self.images.insert(created.name, self.memory.clone());
        }
        self.stop();
        fs::rename(self.folder(), &self.aside).expect("the files are put aside");
        fs::write(self.aside.join(STALE), "half a snapshot").expect("a leftover");
        assert_eq!(files_in(&self.aside).len(), 5);
    }

    /// Sets the folder back.
    pub(super) fn set_back(&mut self, state: State) {
        let folder = self.folder();
        let _ = fs::remove_dir_all(&folder);
        if state != State::NoFolder {
            fs::create_dir(&folder).expect("the folder");
            for name in files_in(&self.aside) {
                fs::copy(self.aside.join(&name), folder.join(&name)).expect("a file is set back");
            }
        }
        self.stays = self.names().pop();
    }

    /// Sets the folder back, changes the memory, and starts a master with this fault before it. Returns the
    /// snapshots that there are.
    pub(super) fn begin(&mut self, state: State, fault: &str) -> Vec<String> {
        self.set_back(state);
        self.change();
        self.read_bytes = self.cluster.log("snapshotter", 0).len();
        self.cluster.start_snapshotter_under(&["env", &format!("MCOMP_TEST_FAULT={fault}")], 0);
        self.names()
    }

    /// The same without a fault, with the buffers of a release and every call in the log.
    pub(super) fn begin_traced(&mut self, state: State) {
        self.begin(state, "");
        self.stop();
        let words = ["env", "MCOMP_LOG=mcomp_snapshot::file=trace,warn", "MCOMP_TEST_SHRINK=1"];
        self.cluster.start_snapshotter_under(&words, 0);
    }

    /// Has a snapshot made by the command.
    pub(super) fn create(&self, state: State) -> Output {
        let args = ["snapshot", "create", "--incremental"];
        self.cluster.run(if state == State::Chain { &args } else { &args[..2] })
    }

    /// Runs a command with a fault before it.
    pub(super) fn command(&self, args: &[&str], fault: &str) -> Output {
        self.cluster.command(args).env("MCOMP_TEST_FAULT", fault).output().expect("mcomp runs")
    }

    /// Changes some bytes on every server.
    pub(super) fn change(&mut self) {
        for server in 0..SERVERS {
            let (at, bytes) = (server * K + self.random.usize(..K - 8), self.random.u64(..).to_le_bytes());
            self.client.write_at(at as u64, &bytes).expect("the servers serve");
            self.memory[at..][..8].copy_from_slice(&bytes);
        }
    }

    /// All that must hold at any time: files, memory, and servers that hold nothing.
    pub(super) fn check(&mut self, fault: &str) {
        let listed = Folder::open(self.folder()).and_then(|folder| folder.list()).unwrap_or_default();
        for entry in &listed {
            assert_eq!(entry.state, FileState::Complete, "{fault}: {}", entry.name);
            // What is new can only be of the memory as it is.
            let image = self.images.entry(entry.name.clone()).or_insert_with(|| self.memory.clone());
            let found = image_of(&entry.path).unwrap_or_else(|error| panic!("{fault}: {}: {error}", entry.name));
            assert!(found == *image, "{fault}: {} is not the memory of its instant", entry.name);
        }
        if let Some(newest) = listed.last() {
            Restore::prepare(&self.config(), &newest.path, &mut |_, _| {}).expect("the newest can be restored");
        }
        let stays = self.stays.iter().all(|name| listed.iter().any(|entry| entry.name == *name));
        assert!(stays, "{fault}: the newest chain from before is gone");
        wait_until("no server holds a cut", || self.blocks() == self.idle_blocks);
        let found = self.client.read_vec(0, self.memory.len() as u64).expect("the servers serve");
        assert!(found == self.memory, "{fault}: the memory was changed");
    }

    /// The newest snapshot comes back.
    pub(super) fn restores(&mut self) {
        let newest = self.names().pop().expect("a snapshot");
        self.cluster.ok(&["snapshot", "verify", &newest]);
        self.cluster.ok(&["restore", &newest]);
        self.reconnect();
        let found = self.client.read_vec(0, self.memory.len() as u64).expect("the memory");
        assert!(found == self.images[&newest], "{newest} was restored to something else");
        self.memory = found;
    }

    /// A client of the memory as it is now: a restore fences those of before.
    pub(super) fn reconnect(&mut self) {
        self.client = self.cluster.client();
    }

    /// The memory that a file is to hold.
    pub(super) fn image(&self, name: &str) -> &[u8] {
        &self.images[name]
    }

    /// The newest of the files that the folder is set back to.
    pub(super) fn newest_aside(&self) -> String {
        files_in(&self.aside).pop().expect("four snapshots")
    }

    /// Whether the folder is as it was set back.
    pub(super) fn is_as_aside(&self) -> bool {
        let whole = |folder: &Path| -> Vec<_> {
            files_in(folder).into_iter().map(|name| (fs::read(folder.join(&name)).expect("a file"), name)).collect()
        };
        whole(&self.folder()) == whole(&self.aside)
    }

    /// A folder for what a test needs besides.
    pub(super) fn scratch(&self) -> &Path {
        self.cluster.dir.path()
    }

    /// Starts a master without a fault in the place of a dead one.
    pub(super) fn restart(&mut self) {
        self.cluster.kill_snapshotter(0);
        self.cluster.start_snapshotter(0);
    }

    pub(super) fn stop(&mut self) {
        self.cluster.stop_snapshotter(0);
    }

    /// Starts the process that is not the master anew, with a fault before it.
    pub(super) fn start_other(&mut self, fault: &str) {
        self.cluster.stop_snapshotter(1);
        self.cluster.start_snapshotter_under(&["env", &format!("MCOMP_TEST_FAULT={fault}")], 1);
    }

    pub(super) fn stop_other(&mut self) {
        self.cluster.stop_snapshotter(1);
        assert!(!self.cluster.log("snapshotter", 1).contains("a fault was asked for"));
    }

    /// What the master has said since [`Stricken::begin`].
    pub(super) fn told(&self) -> String {
        self.cluster.log("snapshotter", 0).split_off(self.read_bytes)
    }

    /// Names of the files that pass for snapshots, the oldest first.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = files_in(&self.folder());
        names.retain(|name| name.ends_with(".mcs"));
        names
    }

    /// Names of all other files.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let mut names = files_in(&self.folder());
        names.retain(|name| !name.ends_with(".mcs"));
        names
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.cluster.snapshot_dir()
    }

    /// Where the master listens.
    pub(super) fn master(&self) -> String {
        self.cluster.snapshot_address(0)
    }

    pub(super) fn config(&self) -> Config {
        self.cluster.config()
    }

    /// Disk blocks of the segments: more while a cut has its shadow area.
    fn blocks(&self) -> Vec<u64> {
        let path = |id| format!("/dev/shm/mcomp.{}.{id}", self.cluster.name);
        (0..SERVERS).map(|id| fs::metadata(path(id)).expect("a segment").blocks()).collect()
    }
}

/// The memory that a file and its ancestors hold.
fn image_of(path: &Path) -> Result<Vec<u8>, mcomp_snapshot::file::FileError> {
    let chain = Chain::open(path)?;
    chain.verify(&mut |_, _| {})?;
    let mut image = Vec::new();
    chain.export_stream(&mut image, path, &mut |_, _| {})?;
    Ok(image)
}

/// The names in a folder, sorted; none when there is no folder.
pub(super) fn files_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string();
    let mut names: Vec<String> = entries.map(|entry| name(entry).expect("a plain name")).collect();
    names.sort_unstable();
    names
}
