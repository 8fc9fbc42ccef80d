//! What mcomp is meant to reach, and whether it did in this run. Targets are ratios inside one run;
//! a target whose cases or peers are missing is said to be unmeasured.

use std::fmt;

use serde::Serialize;

use crate::result::{CaseResult, Row};

/// One target and what it was judged by.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) goal: String,
    pub(crate) checks: Vec<Check>,
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) found: f64,
    pub(crate) limit: Limit,
}

/// Which side of a number is good.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Check {
    fn is_met(&self) -> bool {
        self.excess() <= 0.0
    }

    /// By what part of the limit it is missed; negative when it is met.
    fn excess(&self) -> f64 {
        match self.limit {
            Limit::AtMost(limit) => self.found / limit - 1.0,
            Limit::AtLeast(limit) => 1.0 - self.found / limit,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, limit) = match self.limit {
            Limit::AtMost(limit) => ("at most", limit),
            Limit::AtLeast(limit) => ("at least", limit),
        };
        write!(f, "{}: {:.2}, {word} {limit:.2} wanted", self.what, self.found)?;
        if !self.is_met() {
            write!(f, " (missed by {:.0} %)", self.excess() * 100.0)?;
        }
        Ok(())
    }
}

impl Target {
    /// An item of a list, with one item below it for each comparison that was missed.
    pub(crate) fn markdown(&self) -> String {
        let missed = self.checks.iter().filter(|check| !check.is_met()).map(|check| format!("  - {check}\n"));
        format!("- {self}\n{}", missed.collect::<String>())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, good) = (self.checks.len(), self.checks.iter().filter(|check| check.is_met()).count());
        let closest = self.checks.iter().max_by(|a, b| a.excess().total_cmp(&b.excess()));
        match closest {
            None => write!(f, "not measured: {}", self.goal),
            Some(closest) if good == all => {
                write!(f, "met ({good} of {all}): {}; closest: {closest}", self.goal)
            }
            Some(closest) => {
                write!(f, "MISSED ({good} of {all} met): {}; furthest: {closest}", self.goal)
            }
        }
    }
}

/// All targets that this harness can judge.
pub(crate) fn judge(results: &[CaseResult]) -> Vec<Target> {
    let found = Found { results };
    vec![
        found.trips("TCP", 1.15, 1.20),
        found.trips("Unix", 1.20, 1.20),
        found.ahead_of_peers(),
        found.rates("8 B 64 deep on one connection: at least Redis", "deep/", &["Redis TCP"], 1.0),
        found.rates("8 B 64 deep on one connection: aim at 0.8 of raw", "deep/", &["raw TCP"], 0.8),
        found.rates(
            "many connections: at least 1.3 x Redis and memcached",
            "many/",
            &["Redis TCP", "memcached TCP"],
            1.3,
        ),
        found.rates("64 connections 16 deep: at least Redis", "many-deep/", &["Redis TCP"], 1.0),
        found.processor_time(),
        found.atomics(),
        found.segment_latency(),
        found.segment_copies(),
        found.streams(),
        found.at_most(
            "client memory of a sequential gigabyte: at most 64 MiB",
            "stream/client-memory",
            "mcomp TCP",
            64.0,
        ),
        found.at_most("an idle connection: at most 32 KiB of the server", "idle/1000", "mcomp TCP", 32.0),
        found.start(),
        found.start_is_linear(),
    ]
}

struct Found<'a> {
    results: &'a [CaseResult],
}

impl Found<'_> {
    fn row(&self, id: &str, system: &str) -> Option<&Row> {
        self.results.iter().find(|result| result.id == id)?.row(system)
    }

    /// The cases of a group.
    fn cases(&self, prefix: &str) -> impl Iterator<Item = &CaseResult> {
        self.results.iter().filter(move |result| result.id.starts_with(prefix))
    }

    /// One system's median over another's in one case.
    fn ratio(&self, result: &CaseResult, system: &str, over: &str, limit: Limit) -> Option<Check> {
        let (ours, theirs) = (result.row(system)?.median, result.row(over)?.median);
        Some(Check { what: format!("{} over {over}, {}", system, result.title), found: ours / theirs, limit })
    }

    fn trips(&self, transport: &str, limit: f64, limit_of_large: f64) -> Target {
        let (ours, raw) = (format!("mcomp {transport}"), format!("raw {transport}"));
        let limit_of = |result: &CaseResult| if result.id.ends_with("1MiB") { limit_of_large } else { limit };
        let checks =
            self.cases("trip/").filter_map(|result| self.ratio(result, &ours, &raw, Limit::AtMost(limit_of(result))));
        let goal = format!("round trips over {transport}: at most {limit:.2} x raw, 1 MiB {limit_of_large:.2} x");
        Target { goal, checks: checks.collect() }
    }

    fn ahead_of_peers(&self) -> Target {
        let pairs = self.cases("trip/").flat_map(|result| {
            let peers = result.rows.iter().map(|row| row.system.as_str());
            peers.filter(|peer| !peer.starts_with("raw") && !peer.starts_with("mcomp")).filter_map(|peer| {
                let transport = peer.rsplit(' ').next()?;
                self.ratio(result, &format!("mcomp {transport}"), peer, Limit::AtMost(1.0))
            })
        });
        Target { goal: "round trips: ahead of every peer at every size".to_owned(), checks: pairs.collect() }
    }

    fn rates(&self, goal: &str, prefix: &str, over: &[&str], limit: f64) -> Target {
        let checks = self.cases(prefix).flat_map(|result| {
            over.iter().filter_map(|over| self.ratio(result, "mcomp TCP", over, Limit::AtLeast(limit)))
        });
        Target { goal: goal.to_owned(), checks: checks.collect() }
    }

    fn processor_time(&self) -> Target {
        let checks = ["trip/get-8B", "trip/set-8B"].into_iter().filter_map(|id| {
            let (ours, theirs) = (self.row(id, "mcomp TCP")?.server_us?, self.row(id, "Redis TCP")?.server_us?);
            let what = format!("server CPU over Redis, {}", &id["trip/".len()..]);
            Some(Check { what, found: ours / theirs, limit: Limit::AtMost(0.9) })
        });
        Target { goal: "server CPU of a small operation: at most 0.9 x Redis".to_owned(), checks: checks.collect() }
    }

    fn atomics(&self) -> Target {
        let checks = ["atomic/add", "atomic/cas"].into_iter().filter_map(|id| {
            let (ours, write) = (self.row(id, "mcomp TCP")?.median, self.row("atomic/set", "mcomp TCP")?.median);
            Some(Check { what: format!("{id} over a write"), found: ours / write, limit: Limit::AtMost(1.05) })
        });
        Target {
            goal: "fetch-add and compare-and-swap: within 1.05 x of a write of 8 B".to_owned(),
            checks: checks.collect(),
        }
    }

    fn segment_latency(&self) -> Target {
        let checks = ["segment/get-8B-hot"].into_iter().filter_map(|id| {
            let found = self.row(id, "mcomp segment")?.median;
            Some(Check { what: format!("{id} in ns"), found, limit: Limit::AtMost(150.0) })
        });
        Target { goal: "a read of 8 B through the segment: at most 150 ns".to_owned(), checks: checks.collect() }
    }

    fn segment_copies(&self) -> Target {
        let large = self.cases("segment/").filter(|result| !result.id.contains("-8B-"));
        let checks = large.filter_map(|result| {
            let (ours, copy) = (result.row("mcomp segment")?.median, result.row("memcpy")?.median);
            let what = format!("speed over memcpy, {}", result.title);
            Some(Check { what, found: copy / ours, limit: Limit::AtLeast(0.7) })
        });
        Target {
            goal: "a read of 4 KiB and more through the segment: at least 0.7 x memcpy".to_owned(),
            checks: checks.collect(),
        }
    }

    fn streams(&self) -> Target {
        let checks = self.cases("stream/").filter_map(|result| {
            let row = result.row("mcomp TCP")?;
            let what = format!("over {}, {}", row.baseline.as_deref()?, result.title);
            Some(Check { what, found: row.ratio?, limit: Limit::AtLeast(0.8) })
        });
        Target {
            goal: "a sequential gigabyte: at least 0.8 x raw streams with the best buffers".to_owned(),
            checks: checks.collect(),
        }
    }

    fn at_most(&self, goal: &str, id: &str, system: &str, limit: f64) -> Target {
        let row = self.row(id, system);
        let check = row.map(|row| Check { what: id.to_owned(), found: row.median, limit: Limit::AtMost(limit) });
        Target { goal: goal.to_owned(), checks: check.into_iter().collect() }
    }

    fn start(&self) -> Target {
        let checks = self.cases("start/").filter_map(|result| {
            let row = result.row("mcomp")?;
            let what = format!("over {}, {}", row.baseline.as_deref()?, result.title);
            Some(Check { what, found: row.ratio?, limit: Limit::AtMost(1.0) })
        });
        Target {
            goal: "start of a server: no more than writing k bytes of fresh memory".to_owned(),
            checks: checks.collect(),
        }
    }

    fn start_is_linear(&self) -> Target {
        let pair = self.row("start/whole", "mcomp").zip(self.row("start/quarter", "mcomp"));
        let check = pair.map(|(whole, quarter)| {
            let found = whole.median / quarter.median;
            // Linear is 4; a tenth is left for noise.
            Check { what: "start of k over start of k/4".to_owned(), found, limit: Limit::AtMost(4.4) }
        });
        Target { goal: "start of a server: linear in k".to_owned(), checks: check.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(found: f64, limit: Limit) -> String {
        let check = Check { what: "x".to_owned(), found, limit };
        Target { goal: "g".to_owned(), checks: vec![check] }.to_string()
    }

    #[test]
    fn a_target_says_by_how_much_it_is_missed() {
        assert_eq!(target(1.1, Limit::AtMost(1.15)), "met (1 of 1): g; closest: x: 1.10, at most 1.15 wanted");
        assert!(target(1.38, Limit::AtMost(1.15)).ends_with("x: 1.38, at most 1.15 wanted (missed by 20 %)"));
        assert!(target(0.4, Limit::AtLeast(0.8)).ends_with("x: 0.40, at least 0.80 wanted (missed by 50 %)"));
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert!(judge(&[]).iter().all(|target| target.to_string().starts_with("not measured")));
    }
}
