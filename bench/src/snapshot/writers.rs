//! What a writer notices of a full snapshot: its latencies with and without one, and for how long the
//! cut holds answers back.
//!
//! The writer writes 64 bytes at random places of all memory, one after the other. During a snapshot
//! the first write to a block has its old contents copied, so this is the hardest kind of writer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::anyhow;
use mcomp_client::Cluster;

use super::{PATIENCE, Saved, Stage, result};
use crate::bench::Bench;
use crate::case::Group;
use crate::measure::Trips;
use crate::memory::Places;
use crate::peer::Conn;
use crate::result::Unit;

const MEDIAN_ID: &str = "writers/set-64B-p50";
const TAIL_ID: &str = "writers/set-64B-p99";
const HOLD_ID: &str = "writers/hold";

/// The cases.
pub(super) const IDS: [&str; 3] = [MEDIAN_ID, TAIL_ID, HOLD_ID];

/// The columns.
const WITHOUT: &str = "no snapshot";
const DURING: &str = "during a full snapshot";
const TRIP: &str = "write of 8 B, no snapshot";
const HOLD: &str = "hold of the cut";

const SIZE_BYTES: usize = 64;

/// Latencies without a snapshot are taken for so many windows, because one is long.
const WINDOWS: u32 = 8;

/// Measures with and without a snapshot in turn.
pub(super) fn run(bench: &mut Bench, stage: &Stage) -> anyhow::Result<()> {
    let cluster = stage.client()?;
    let places = Places::new(SIZE_BYTES, stage.noise.bytes as usize);
    let mut writer = Writer { cluster: &cluster, places, bytes: [0x5a; SIZE_BYTES] };
    let (mut medians, mut tails) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    let (mut trips, mut holds) = (Vec::new(), Vec::new());
    bench.repeat("writers/", PATIENCE, |bench| {
        let window = bench.settings.window;
        let small = Trips::run(&mut Small(&cluster), |elapsed| elapsed < window)?;
        let without = Trips::run(&mut writer, |elapsed| elapsed < window * WINDOWS)?;
        let (during, saved) = beside_snapshot(bench, stage, &mut writer)?;
        for (index, found) in [&without, &during].into_iter().enumerate() {
            medians[index].push(found.quantile_us(0.5));
            tails[index].push(found.quantile_us(0.99));
        }
        trips.push(small.quantile_us(0.5));
        holds.push(saved.hold_us as f64);
        saved.remove()
    })?;
    let mut add = |id, title: &str, names: [&'static str; 2], values: [&[f64]; 2]| {
        let systems = [(names[0], values[0]), (names[1], values[1])];
        let mut found = result(Group::Writers, id, title.to_owned(), Unit::Microseconds, &systems);
        found.compare(|_| Some(names[0].to_owned()));
        bench.keep(found);
    };
    add(MEDIAN_ID, "set 64 B at random, p50", [WITHOUT, DURING], [&medians[0], &medians[1]]);
    add(TAIL_ID, "set 64 B at random, p99", [WITHOUT, DURING], [&tails[0], &tails[1]]);
    add(HOLD_ID, "answers held back", [TRIP, HOLD], [&trips, &holds]);
    Ok(())
}

/// Writes from before a snapshot begins until it is there.
fn beside_snapshot(bench: &Bench, stage: &Stage, writer: &mut Writer<'_>) -> anyhow::Result<(Trips, Saved)> {
    let is_saved = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| Trips::run(writer, |_| !is_saved.load(Ordering::Relaxed)));
        // In this thread: a process ends with the thread that has started it.
        let saved = stage.save(bench, false);
        is_saved.store(true, Ordering::Relaxed);
        let trips = writing.join().map_err(|_| anyhow!("a measuring thread panicked"))??;
        Ok((trips, saved?))
    })
}

/// The writer that is measured.
#[derive(Debug)]
struct Writer<'a> {
    cluster: &'a Cluster,
    places: Places,
    bytes: [u8; SIZE_BYTES],
}

impl Conn for Writer<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        Ok(self.cluster.write_at(self.places.next() as u64, &self.bytes)?)
    }
}

/// The round trip that a hold is compared with.
#[derive(Debug)]
struct Small<'a>(&'a Cluster);

impl Conn for Small<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        Ok(self.0.write_at(0, &[0x5a; 8])?)
    }
}
