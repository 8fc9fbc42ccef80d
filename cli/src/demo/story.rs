//! The steps of the demo, in order, each with the claim that it proves.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;
use mcomp_client::Cluster;
use mcomp_shm::PurgeOutcome;
use mcomp_snapshot::file::Chain;
use mcomp_snapshot::{Restore, create};
use serde_json::json;

use super::cast::{Cast, Running};
use super::layout::{Layout, SERVERS_AFTER, SERVERS_BEFORE};
use super::report::{Found, Report};
use super::writers::{Counts, WRITERS, Writers, check_instant, read_counts, wrong};
use crate::exit::{Exit, Failure};

/// How long the writers write before and after the snapshot.
const WRITING: Duration = Duration::from_millis(300);

/// Bytes of the file that are compared at a time.
const PART_BYTES: u64 = 1 << 20;

/// The file that is stored, and where.
#[derive(Debug)]
pub(super) struct Story<'c, 'e> {
    cast: &'c Cast<'e>,
    /// This executable. It stays the same file even when another is built at its path meanwhile.
    file: File,
    layout: Layout,
}

/// A snapshot that was taken while the writers wrote.
#[derive(Debug)]
struct Taken {
    path: PathBuf,
    /// The counters when it was asked for, and when it was done.
    before: Counts,
    after: Counts,
}

impl<'c, 'e> Story<'c, 'e> {
    /// Opens the file, and looks whether its memory fits into this machine.
    pub(super) fn new(cast: &'c Cast<'e>) -> anyhow::Result<Story<'c, 'e>> {
        let path = std::env::current_exe().map_err(|error| Failure::io("find this executable", &error))?;
        let unreadable = |error| Failure::io(format_args!("read {}", path.display()), &error);
        let file = File::open(&path).map_err(unreadable)?;
        let file_bytes = file.metadata().map_err(unreadable)?.len();
        let layout = Layout::of(file_bytes);
        check_room(&layout)?;
        Ok(Story { cast, file, layout })
    }

    /// All steps. Call it from the main thread, which the processes die with.
    pub(super) fn tell(&self, report: &mut Report) -> anyhow::Result<()> {
        let mut first = None;
        self.step(report, "start", || self.start(&mut first))?;
        let mut first = first.expect("the step has started it");
        let mut crc32 = 0;
        self.step(report, "store", || self.store(&first.cluster))?;
        self.step(report, "read", || self.read_back(&first.cluster, &mut crc32))?;
        let mut taken = None;
        self.step(report, "snapshot", || self.snapshot(&mut first, &mut taken))?;
        let taken = taken.expect("the step has taken it");
        self.step(report, "stop", || self.stop(first))?;
        let mut second = None;
        self.step(report, "restore", || self.restore(&taken, &mut second))?;
        let second = second.expect("the step has started it");
        self.step(report, "compare", || self.compare(&second.cluster, crc32, &taken))?;
        self.step(report, "clean up", || self.clean_up(second))
    }

    /// One step, unless the demo was asked to stop: some steps never look.
    fn step(
        &self,
        report: &mut Report,
        name: &'static str,
        work: impl FnOnce() -> anyhow::Result<Found>,
    ) -> anyhow::Result<()> {
        self.cast.check_asked()?;
        report.step(name, work)
    }

    fn start(&self, running: &mut Option<Running<'e>>) -> anyhow::Result<Found> {
        let k_bytes = self.layout.k_bytes;
        let started = running.insert(self.cast.start(SERVERS_BEFORE, k_bytes)?);
        let (name, processes) = (started.config.name(), started.processes());
        let text = format!(
            "{SERVERS_BEFORE} memory servers and {SERVERS_BEFORE} snapshot processes: one memory of {}, {} from each",
            BinaryBytes(u64::from(SERVERS_BEFORE) * k_bytes),
            BinaryBytes(k_bytes)
        );
        Ok(Found::new(text, json!({ "cluster": name, "n": SERVERS_BEFORE, "k": k_bytes, "processes": processes })))
    }

    fn store(&self, cluster: &Cluster) -> anyhow::Result<Found> {
        let Layout { file_addr, file_bytes, .. } = self.layout;
        let began = Instant::now();
        let stored = cluster.copy_from(&self.file, file_addr, file_bytes, |_| {})?;
        if stored != file_bytes {
            return Err(wrong(format!("{stored} of {file_bytes} bytes were stored")).into());
        }
        let text = format!("the mcomp executable, {} at {}", BinaryBytes(file_bytes), rate(file_bytes, began));
        let shares: Vec<(u32, u64)> = self.layout.shares().collect();
        let mut found = Found::new(text, json!({ "addr": file_addr, "bytes": file_bytes }));
        found.details = shares.iter().map(|(id, bytes)| format!("server {id} holds {}", BinaryBytes(*bytes))).collect();
        found.figures["per_server"] = shares.into_iter().map(|(_, bytes)| bytes).collect();
        Ok(found)
    }

    fn read_back(&self, cluster: &Cluster, crc32: &mut u32) -> anyhow::Result<Found> {
        let began = Instant::now();
        *crc32 = self.compare_file(cluster)?;
        let text = format!(
            "every byte is as written, at {}; the servers' own CRC-32, {crc32:08x}, agrees",
            rate(self.layout.file_bytes, began)
        );
        Ok(Found::new(text, json!({ "bytes": self.layout.file_bytes, "crc32": *crc32 })))
    }

    fn snapshot(&self, running: &mut Running<'e>, taken: &mut Option<Taken>) -> anyhow::Result<Found> {
        let cluster = running.cluster.clone();
        let started = Writers::start(&cluster, self.layout.counters);
        let writers = started.map_err(|error| Failure::io("start a writer", &error))?;
        running.pause(WRITING)?;
        let (before, increments) = (read_counts(&cluster, &self.layout.counters)?, writers.increments());
        let created = create(&running.config, false, &mut |_| {})?;
        let during = writers.increments() - increments;
        let after = read_counts(&cluster, &self.layout.counters)?;
        running.pause(WRITING)?;
        let rounds = writers.stop()?;
        let total = check_nothing_lost(&cluster, &self.layout, rounds)?;
        let path = PathBuf::from(&created.path);
        let chain = Chain::open(&path)?;
        chain.verify(&mut |_, _| {})?;
        *taken = Some(Taken { path, before, after });
        let text = format!(
            "one instant of all servers, in {:.1?}, to a file of {}, every byte of it verified",
            Duration::from_micros(created.took_us),
            BinaryBytes(created.file_bytes)
        );
        let figures = json!({
            "bytes": created.memory_bytes,
            "file_bytes": created.file_bytes,
            "hold_us": created.hold_us,
            "took_us": created.took_us,
            "writers": WRITERS,
            "increments_during": during,
            "increments": total,
        });
        let mut found = Found::new(text, figures);
        found.details = vec![
            format!("{WRITERS} writers went on: {during} increments while it was made; {total} in all, none lost"),
            format!("their answers were held once, for {:.1?}", Duration::from_micros(created.hold_us)),
        ];
        Ok(found)
    }

    fn stop(&self, running: Running<'e>) -> anyhow::Result<Found> {
        let processes = running.stop();
        let (paths, bytes) = self.purge()?;
        let text = format!(
            "{processes} processes stopped, {} segments of {} removed: only the snapshot file is left",
            paths.len(),
            BinaryBytes(bytes)
        );
        let mut found = Found::new(text, json!({ "processes": processes, "segments": paths, "bytes": bytes }));
        found.details = paths;
        Ok(found)
    }

    fn restore(&self, taken: &Taken, running: &mut Option<Running<'e>>) -> anyhow::Result<Found> {
        let k_bytes = self.layout.k_after_bytes;
        let started = running.insert(self.cast.start(SERVERS_AFTER, k_bytes)?);
        let restore = Restore::prepare(&started.config, &taken.path, &mut |_, _| {})?;
        let restored = restore.run(&mut |_, _| {})?;
        let text = format!(
            "every byte of the file checked, then {} set in {:.1?} on {SERVERS_AFTER} servers of {}",
            BinaryBytes(restored.memory_bytes),
            Duration::from_micros(restored.took_us),
            BinaryBytes(k_bytes)
        );
        let figures = json!({
            "n": SERVERS_AFTER,
            "k": k_bytes,
            "bytes": restored.memory_bytes,
            "took_us": restored.took_us,
            "config_epoch": restored.config_epoch,
        });
        Ok(Found::new(text, figures))
    }

    fn compare(&self, cluster: &Cluster, crc32: u32, taken: &Taken) -> anyhow::Result<Found> {
        let restored_crc32 = self.compare_file(cluster)?;
        if restored_crc32 != crc32 {
            return Err(wrong(format!("the CRC-32 was {crc32:08x} and is {restored_crc32:08x}")).into());
        }
        let counts = read_counts(cluster, &self.layout.counters)?;
        check_instant(&counts)?;
        check_between(taken, &counts)?;
        let text = "the file is the same, byte for byte, and the counters are of one instant".to_owned();
        let mut found = Found::new(text, json!({ "crc32": crc32, "counters": counts }));
        found.details = vec![
            format!("counters {counts:?}: each writer adds to them in this order, on two servers by turns,"),
            format!("so none is below the next one, and the first is at most {WRITERS} above the last"),
        ];
        Ok(found)
    }

    fn clean_up(&self, running: Running<'e>) -> anyhow::Result<Found> {
        let processes = running.stop();
        self.purge()?;
        self.cast.scratch.remove_folder()?;
        let folder = self.cast.scratch.folder();
        let segments = self.cast.scratch.segments()?;
        if segments > 0 || folder.exists() {
            return Err(wrong(format!("{segments} segments are left, and perhaps {}", folder.display())).into());
        }
        let text = "nothing is left: no process, no segment, no file".to_owned();
        Ok(Found::new(text, json!({ "processes": processes, "folder": folder })))
    }

    /// Reads the stored file, compares it with the original, and has the servers compute its CRC-32,
    /// which must be that of the original: it is returned.
    fn compare_file(&self, cluster: &Cluster) -> anyhow::Result<u32> {
        let Layout { file_addr, file_bytes, .. } = self.layout;
        let mut original = vec![0; PART_BYTES as usize];
        let mut crc32 = crc32fast::Hasher::new();
        for chunk in cluster.chunks(file_addr, file_bytes, PART_BYTES)? {
            let (addr, stored) = chunk?;
            let original = &mut original[..stored.len()];
            let read = self.file.read_exact_at(original, addr - file_addr);
            read.map_err(|error| Failure::io("read the mcomp executable again", &error))?;
            if let Some(at) = stored.iter().zip(original.iter()).position(|(a, b)| a != b) {
                return Err(wrong(format!("the byte at address {} differs from the file", addr + at as u64)).into());
            }
            crc32.update(original);
        }
        let (ours, theirs) = (crc32.finalize(), cluster.checksum(file_addr, file_bytes)?);
        match ours == theirs {
            true => Ok(ours),
            false => Err(wrong(format!("the file's CRC-32 is {ours:08x}, and the servers say {theirs:08x}")).into()),
        }
    }

    /// Removes the memory; the names of what was removed, and its size. All of it must be ours to remove.
    fn purge(&self) -> anyhow::Result<(Vec<String>, u64)> {
        let purged = self.cast.scratch.purge()?;
        if let Some(kept) = purged.iter().find(|one| !matches!(one.outcome, PurgeOutcome::Removed)) {
            return Err(wrong(format!("{} was not removed: {:?}", kept.path.display(), kept.outcome)).into());
        }
        let paths = purged.iter().map(|one| one.path.display().to_string()).collect();
        Ok((paths, purged.iter().map(|one| one.allocated_bytes).sum()))
    }
}

/// When nobody writes any more, all counters are what the writers were told; their sum.
fn check_nothing_lost(cluster: &Cluster, layout: &Layout, rounds: u64) -> anyhow::Result<u64> {
    let counts = read_counts(cluster, &layout.counters)?;
    match counts.iter().all(|count| *count == rounds) {
        true => Ok(counts.iter().sum()),
        false => Err(wrong(format!("the writers did {rounds} rounds, and the counters are {counts:?}")).into()),
    }
}

/// The instant of the snapshot lies between asking for it and having it.
fn check_between(taken: &Taken, counts: &Counts) -> Result<(), Failure> {
    let Taken { before, after, .. } = taken;
    let is_between = |i: usize| (before[i]..=after[i]).contains(&counts[i]);
    match (0..counts.len()).all(is_between) {
        true => Ok(()),
        false => Err(wrong(format!(
            "the counters of the snapshot are {counts:?}; when it was asked for they were {before:?}, and when it \
             was done {after:?}"
        ))),
    }
}

/// Refuses a demo whose memory does not fit, before anything is started.
fn check_room(layout: &Layout) -> Result<(), Failure> {
    let folder = Path::new("/dev/shm");
    let stat = rustix::fs::statvfs(folder).map_err(|error| Failure::io("look into /dev/shm", &error.into()))?;
    let (needed, free) = (layout.shared_memory_bytes(), stat.f_bavail.saturating_mul(stat.f_frsize));
    // A tmpfs without a limit says that it has no blocks at all.
    if stat.f_blocks == 0 || needed <= free {
        return Ok(());
    }
    let text = format!(
        "the demo stores its executable of {} and needs {needed} bytes ({}) of /dev/shm for that, which has {free} \
         ({}) free: `mount -o remount,size=... /dev/shm`, or use a release build, which is smaller",
        BinaryBytes(layout.file_bytes),
        BinaryBytes(needed),
        BinaryBytes(free)
    );
    Err(Failure::new(Exit::FULL, "full", text))
}

/// Bytes for each second since `began`.
fn rate(bytes: u64, began: Instant) -> String {
    let seconds = began.elapsed().as_secs_f64().max(1e-6);
    format!("{}/s", BinaryBytes((bytes as f64 / seconds) as u64))
}
