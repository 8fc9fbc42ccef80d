//! What mcomp is meant to reach. Targets are ratios inside one run.

mod replicas;

use crate::limits::MOST_CONNECTIONS;
use crate::mcomp;
use crate::result::{CaseResult, Row};
use crate::snapshot::COPY;
use crate::target::{Check, Limit, Target};

/// All targets that this harness can judge.
pub(crate) fn judge(results: &[CaseResult]) -> Vec<Target> {
    let found = Found { results };
    let mut targets = vec![
        found.trips("TCP", 1.15, 1.20),
        found.trips("Unix", 1.20, 1.20),
        found.sealed(),
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
        found.streams_of_memory(),
        found.at_most(
            "client memory of a sequential gigabyte: at most 64 MiB",
            "stream/client-memory",
            "mcomp TCP",
            64.0,
        ),
        found.at_most("an idle connection: at most 32 KiB of the server", "idle/1000", "mcomp TCP", 32.0),
        found.served(),
        found.start(),
        found.start_is_linear(),
        found.over_copy("snapshot/save", "a full snapshot: at least 0.7 x the speed of a plain copy with fsync"),
        found.over_copy("snapshot/restore", "a restore: at least 0.7 x the speed of a plain copy back"),
        found.over_redis(),
        found.incremental(),
        found.tail_of_writers(),
        found.hold(),
        found.agreed_together(),
        found.over_etcd(),
        found.at_most("a new leader decides: within 2 s of the old one's death", "agree/failover", mcomp::NAME, 2000.0),
    ];
    targets.extend(found.replicas());
    targets
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

    fn sealed(&self) -> Target {
        let of_4_kib = self.cases("trip/").filter(|result| result.id.ends_with("-4KiB"));
        let sealed = format!("{} TCP", mcomp::SEALED_NAME);
        let checks = of_4_kib.filter_map(|result| self.ratio(result, &sealed, "mcomp TCP", Limit::AtMost(1.5)));
        let goal = "4 KiB with a secret: at most 1.5 x the round trip without".to_owned();
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

    /// The hot streams are no limit for a server whose bytes lie in memory; those of a bare server of memory are.
    fn streams_of_memory(&self) -> Target {
        let checks = self.cases("stream/").filter_map(|result| {
            let ours = result.row("mcomp TCP")?;
            let bare = result.rows.iter().filter(|row| row.system.starts_with("raw memory"));
            let best = bare.max_by(|a, b| a.median.total_cmp(&b.median))?;
            let what = format!("over {}, {}", best.system, result.title);
            Some(Check { what, found: ours.median / best.median, limit: Limit::AtLeast(0.8) })
        });
        Target {
            goal: "a sequential gigabyte: at least 0.8 x raw streams that come from memory and go into it".to_owned(),
            checks: checks.collect(),
        }
    }

    fn at_most(&self, goal: &str, id: &str, system: &str, limit: f64) -> Target {
        let row = self.row(id, system);
        let check = row.map(|row| Check { what: id.to_owned(), found: row.median, limit: Limit::AtMost(limit) });
        Target { goal: goal.to_owned(), checks: check.into_iter().collect() }
    }

    fn served(&self) -> Target {
        let id = format!("idle/{MOST_CONNECTIONS}-served");
        let check = self.row(&id, "mcomp TCP").zip(self.row(&id, "raw TCP")).map(|(ours, raw)| {
            let remark = ours.remark.as_ref().map_or_else(String::new, |remark| format!(" ({remark})"));
            Check { what: format!("served{remark}"), found: ours.median, limit: Limit::AtLeast(raw.median) }
        });
        let goal = format!("{MOST_CONNECTIONS} connections at a time: as many served as limits allow a bare server");
        Target { goal, checks: check.into_iter().collect() }
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

    fn over_copy(&self, id: &str, goal: &str) -> Target {
        let pair = self.row(id, mcomp::NAME).zip(self.row(id, COPY));
        let check = pair.map(|(ours, copy)| {
            let what = format!("speed over a copy, {id}");
            Check { what, found: copy.median / ours.median, limit: Limit::AtLeast(0.7) }
        });
        Target { goal: goal.to_owned(), checks: check.into_iter().collect() }
    }

    fn agreed_together(&self) -> Target {
        let pair = self.row("agree/64", mcomp::NAME).zip(self.row("agree/1", mcomp::NAME));
        let check = pair.map(|(many, one)| {
            let what = "allocations of 64 clients over those of one".to_owned();
            Check { what, found: many.median / one.median, limit: Limit::AtLeast(10.0) }
        });
        let goal = "allocations: 64 clients at least 10 x one".to_owned();
        Target { goal, checks: check.into_iter().collect() }
    }

    fn over_etcd(&self) -> Target {
        let checks = self.cases("agree/");
        let checks = checks.filter_map(|result| self.ratio(result, mcomp::NAME, "etcd", Limit::AtLeast(2.0)));
        Target { goal: "allocations: at least 2 x the puts of etcd".to_owned(), checks: checks.collect() }
    }

    fn over_redis(&self) -> Target {
        let checks = self.cases("snapshot/");
        let checks = checks.filter_map(|result| self.ratio(result, mcomp::NAME, "Redis", Limit::AtMost(0.5)));
        Target { goal: "snapshot and restore: at most 0.5 x the time of Redis".to_owned(), checks: checks.collect() }
    }

    fn incremental(&self) -> Target {
        let rows = self.cases("incremental/time").flat_map(|result| &result.rows);
        let checks = rows.filter(|row| row.baseline.as_ref() != Some(&row.system)).filter_map(|row| {
            Some(Check { what: format!("{} changed", row.system), found: row.ratio?, limit: Limit::Shown })
        });
        let goal = "time of an incremental snapshot over a full one, by the blocks that changed";
        Target { goal: goal.to_owned(), checks: checks.collect() }
    }

    fn tail_of_writers(&self) -> Target {
        let row = self.row("writers/set-64B-p99", "during a full snapshot");
        let check = row.and_then(|row| {
            let what = "p99 of 64 B over that without a snapshot".to_owned();
            Some(Check { what, found: row.ratio?, limit: Limit::AtMost(3.0) })
        });
        let goal = "p99 of a writer while a full snapshot runs: at most 3 x without";
        Target { goal: goal.to_owned(), checks: check.into_iter().collect() }
    }

    fn hold(&self) -> Target {
        let row = self.row("writers/hold", "hold of the cut");
        let check = row.and_then(|row| {
            Some(Check { what: "hold over a write of 8 B".to_owned(), found: row.ratio?, limit: Limit::Shown })
        });
        let goal = "for how long a cut holds answers back, in round trips";
        Target { goal: goal.to_owned(), checks: check.into_iter().collect() }
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

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert!(judge(&[]).iter().all(|target| target.to_string().starts_with("not measured")));
    }
}
