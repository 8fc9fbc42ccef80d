//! What replicated memory is meant to reach.

use super::Found;
use crate::etcd;
use crate::replicas::{DEAD, FROZEN, HEALTHY, HOME_DEATH, MAJORITY, REPLICATED, SINGLE};
use crate::target::{Check, Limit, Target};

impl Found<'_> {
    pub(super) fn replicas(&self) -> Vec<Target> {
        let many = ["replicas/get-4KiB-64", "replicas/set-4KiB-64"];
        let one = ["replicas/get-4KiB-1", "replicas/set-4KiB-1"];
        let least = ["replicas/majority-get-4KiB", "replicas/majority-set-4KiB"];
        let large = ["replicas/get-1MiB", "replicas/set-1MiB"];
        let faults = ["replicas/faults-get-4KiB-8", "replicas/faults-set-4KiB-8"];
        let pairs = |ids: &[&str], ours, over, limit| self.over(ids, &[(ours, over)], limit);
        let target = |goal: &str, checks| Target { goal: goal.to_owned(), checks };
        let mut time = pairs(&["replicas/cpu-get-4KiB"], REPLICATED, SINGLE, Limit::AtMost(3.0));
        time.extend(pairs(&["replicas/cpu-set-4KiB"], REPLICATED, SINGLE, Limit::AtMost(3.5)));
        let hurt = self.over(&faults, &[(FROZEN, HEALTHY), (DEAD, HEALTHY)], Limit::AtLeast(0.7));
        vec![
            target(
                "three replicas, 64 clients, 4 KiB: at least 5 x etcd",
                pairs(&many, REPLICATED, etcd::NAME, Limit::AtLeast(5.0)),
            ),
            target(
                "three replicas, one client, 4 KiB: a lower median than etcd",
                pairs(&one, REPLICATED, etcd::NAME, Limit::AtMost(1.0)),
            ),
            target(
                "three replicas, 4 KiB: at most 1.5 x a minimal client of a majority",
                pairs(&least, REPLICATED, MAJORITY, Limit::AtMost(1.5)),
            ),
            target("processor time of three replicas, 4 KiB: a read at most 3 x one replica, a write 3.5 x", time),
            target(
                "three replicas, 1 MiB: at least 0.25 x the speed of one",
                pairs(&large, REPLICATED, SINGLE, Limit::AtLeast(0.25)),
            ),
            target("one of three servers frozen or dead: at least 0.7 x the rate of all three", hurt),
            self.at_most("the blocks of a dead home: back within 1 s", HOME_DEATH, REPLICATED, 1000.0),
        ]
    }

    /// One row over another in each of these cases.
    fn over(&self, ids: &[&str], pairs: &[(&str, &str)], limit: Limit) -> Vec<Check> {
        let cases = ids.iter().filter_map(|id| self.results.iter().find(|result| result.id == *id));
        cases.flat_map(|case| pairs.iter().filter_map(|(ours, over)| self.ratio(case, ours, over, limit))).collect()
    }
}
