//! Which cores servers and clients run on. A figure without its placement means nothing: waking an
//! idle core costs ten times the work of a small request.

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// Where servers and clients run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Placement {
    /// All on one core.
    #[serde(rename = "same core")]
    SameCore,
    /// Servers on one core, clients on another.
    #[serde(rename = "cross")]
    Cross,
    /// Wherever the scheduler puts them.
    #[serde(rename = "free")]
    Free,
}

impl Placement {
    /// All of them.
    pub(crate) const ALL: [Placement; 3] = [Placement::SameCore, Placement::Cross, Placement::Free];

    /// How it is called in tables and names of cases.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Placement::SameCore => "same core",
            Placement::Cross => "cross",
            Placement::Free => "free",
        }
    }
}

/// The cores that this run may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    all: CpuSet,
}

impl Cores {
    /// What the run was started with.
    pub(crate) fn found() -> anyhow::Result<Cores> {
        Ok(Cores { all: sched_getaffinity(None).context("cannot ask for the cores of this process")? })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.all.count()
    }

    /// Whether there are enough for this placement.
    pub(crate) fn allow(&self, placement: Placement) -> bool {
        placement == Placement::SameCore || self.count() > 1
    }

    /// Moves this thread to where servers belong: processes that it starts stay there.
    pub(crate) fn enter_server(&self, placement: Placement) -> anyhow::Result<()> {
        self.enter(placement, 0)
    }

    /// Moves this thread to where clients belong, with the threads that it starts.
    pub(crate) fn enter_client(&self, placement: Placement) -> anyhow::Result<()> {
        self.enter(placement, usize::from(placement == Placement::Cross))
    }

    fn enter(&self, placement: Placement, nth: usize) -> anyhow::Result<()> {
        let mut wanted = self.all;
        if placement != Placement::Free {
            let core = (0..CpuSet::MAX_CPU).filter(|&core| self.all.is_set(core)).nth(nth);
            wanted = CpuSet::new();
            wanted.set(core.with_context(|| format!("{} needs more cores than there are", placement.word()))?);
        }
        sched_setaffinity(None, &wanted).context("cannot choose the core of this thread")
    }
}
