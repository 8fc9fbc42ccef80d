//! Reads of the same machine's memory: mcomp's segment beside `memcpy` of as many bytes in the same
//! heat.
//!
//! Both read 4 KiB pages: huge pages are off for this process while it measures, as shared memory has
//! none. A read through the segment checks each block before and after it copies; `memcpy` does not.

use std::hint::black_box;
use std::time::Duration;

use mcomp_client::Cluster;
use rustix::thread::disable_transparent_huge_pages;

use crate::bench::{Bench, System};
use crate::case::{Group, size_word};
use crate::mcomp;
use crate::measure::{self, Sample};
use crate::peer::Transport;
use crate::placement::Placement;
use crate::result::{CaseResult, Unit};
use crate::servers::Servers;

/// The name of the rows that the segment is compared with.
pub(crate) const MEMCPY: &str = "memcpy";

/// A read of so many bytes, always the same ones or at random places of all memory.
#[derive(Clone, Copy, Debug)]
struct Heat {
    size_bytes: usize,
    is_hot: bool,
}

const HEATS: [Heat; 6] = [
    Heat { size_bytes: 8, is_hot: true },
    Heat { size_bytes: 4 << 10, is_hot: true },
    Heat { size_bytes: 64 << 10, is_hot: true },
    Heat { size_bytes: 1 << 20, is_hot: true },
    Heat { size_bytes: 8, is_hot: false },
    Heat { size_bytes: 4 << 10, is_hot: false },
];

/// Measures them all.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    if !HEATS.iter().any(|heat| bench.wants(&heat.id())) {
        return Ok(());
    }
    let large_bytes = bench.settings.large_bytes;
    bench.cores.enter_server(Placement::SameCore)?;
    let servers = Servers::start(&bench.scratch, 1, large_bytes)?;
    bench.cores.enter_client(Placement::SameCore)?;
    let cluster = servers.client(Transport::Segment, 1)?;
    cluster.fill(0, large_bytes, 0x5a)?;
    // Without this the comparison would be one of page sizes.
    disable_transparent_huge_pages(true)?;
    let memory = vec![0x5a_u8; large_bytes as usize];
    for heat in HEATS.into_iter().filter(|heat| bench.wants(&heat.id())).collect::<Vec<_>>() {
        let systems: Vec<System<'_>> = vec![
            (MEMCPY.to_owned(), Box::new(|window| copy(&memory, heat, window))),
            (format!("{} segment", mcomp::NAME), Box::new(|window| read(&cluster, heat, window))),
        ];
        let rows = bench.interleave(&heat.id(), systems)?;
        let (group, placement, unit) = (Group::Segment, Placement::SameCore, Unit::Nanoseconds);
        let title = heat.title(large_bytes);
        let mut result = CaseResult { group, id: heat.id(), title, placement, unit, rows };
        result.compare(|_| Some(MEMCPY.to_owned()));
        bench.results.push(result);
    }
    disable_transparent_huge_pages(false)?;
    Ok(())
}

fn copy(memory: &[u8], heat: Heat, window: Duration) -> anyhow::Result<Sample> {
    let mut buffer = vec![0; heat.size_bytes];
    let mut places = Places::of(heat, memory.len());
    measure::mean_ns(window, || {
        let at = places.next();
        black_box(&mut buffer).copy_from_slice(&memory[at..at + heat.size_bytes]);
        Ok(())
    })
}

fn read(cluster: &Cluster, heat: Heat, window: Duration) -> anyhow::Result<Sample> {
    let mut buffer = vec![0; heat.size_bytes];
    let mut places = Places::of(heat, cluster.size() as usize);
    measure::mean_ns(window, || Ok(cluster.read_at(places.next() as u64, black_box(&mut buffer))?))
}

impl Heat {
    fn id(self) -> String {
        let heat = if self.is_hot { "hot" } else { "cold" };
        format!("segment/get-{}-{heat}", size_word(self.size_bytes).replace(' ', ""))
    }

    fn title(self, large_bytes: u64) -> String {
        match self.is_hot {
            true => format!("get {}, hot", size_word(self.size_bytes)),
            false => format!("get {}, random over {}", size_word(self.size_bytes), size_word(large_bytes as usize)),
        }
    }
}

/// Where to read next: a generator that costs a nanosecond, the same for both rows.
#[derive(Debug)]
pub(crate) struct Places {
    state: u64,
    slots: u64,
    size_bytes: usize,
}

impl Places {
    /// Places of so many bytes, side by side, all over the memory.
    pub(crate) fn new(size_bytes: usize, memory_bytes: usize) -> Places {
        Places { state: 0x9e37_79b9_7f4a_7c15, slots: (memory_bytes / size_bytes) as u64, size_bytes }
    }

    fn of(heat: Heat, memory_bytes: usize) -> Places {
        Places::new(heat.size_bytes, if heat.is_hot { heat.size_bytes } else { memory_bytes })
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The upper bits of the state, scaled to the number of slots.
        let slot = ((self.state >> 32) * self.slots) >> 32;
        slot as usize * self.size_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_inside_and_all_over() {
        let heat = Heat { size_bytes: 4096, is_hot: false };
        let mut places = Places::of(heat, 1 << 20);
        let mut seen = vec![false; 256];
        for _ in 0..10_000 {
            seen[places.next() / 4096] = true;
        }
        assert!(seen.iter().all(|seen| *seen));
        let hot = &mut Places::of(Heat { is_hot: true, ..heat }, 1 << 20);
        assert!((0..100).all(|_| hot.next() == 0));
    }
}
