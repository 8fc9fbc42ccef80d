//! Servers that were added since mcomp.cfg was written. Copies of the memory that it knows have moved to them, so they are
//! asked like others; the memory that is theirs has no address here.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use mcomp_net::auth::Keyring;
use mcomp_net::tls::Tls;
use mcomp_wire::meta::MembersReport;
use mcomp_wire::{Placement, Shape, limits};

use crate::Options;
use crate::pool::Pool;

/// What is known of them.
pub(crate) struct Added {
    options: Arc<Options>,
    keyring: Option<Arc<Keyring>>,
    tls: Option<Tls>,
    /// The connections to each of them, from the first on that mcomp.cfg does not list.
    pools: Box<[OnceLock<Box<Pool>>]>,
    /// How far the cluster has grown: the servers of the address space in the high half, the step in the low one. Release
    /// and Acquire: whoever sees it sees the pools of its servers.
    shape: AtomicU64,
}

impl fmt::Debug for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Added").field("shape", &self.shape()).finish_non_exhaustive()
    }
}

impl Added {
    /// None yet.
    pub(crate) fn new(options: &Arc<Options>, keyring: Option<Arc<Keyring>>, tls: Option<Tls>) -> Added {
        let (options, n) = (Arc::clone(options), options.space.n());
        // Where there is one copy nobody else is ever asked.
        let most = if options.replicas == 1 { 0 } else { limits::MAX_SERVERS.saturating_sub(n) };
        let pools = (0..most).map(|_| OnceLock::new()).collect();
        Added { options, keyring, tls, pools, shape: AtomicU64::new(pack(Shape { n, step: 0 })) }
    }

    fn shape(&self) -> Shape {
        let word = self.shape.load(Ordering::Acquire);
        Shape { n: (word >> 32) as u32, step: word as u32 }
    }

    /// Takes what a server says. One that lags behind says what is known already.
    pub(crate) fn learn(&self, report: &MembersReport) {
        let is_sound = Placement::new(report.shape, self.options.replicas).is_some();
        if !is_sound || report.shape <= self.shape() {
            return;
        }
        let first = self.options.space.n();
        for (&server, address) in report.added.range(first..) {
            if let Some(place) = self.pools.get((server - first) as usize) {
                let (options, keyring) = (Arc::clone(&self.options), self.keyring.clone());
                place.get_or_init(|| Box::new(Pool::new(server, address.clone(), options, keyring, self.tls.clone())));
            }
        }
        self.shape.fetch_max(pack(report.shape), Ordering::AcqRel);
    }

    /// The connections to one of them, if it is known.
    pub(crate) fn pool(&self, server: u32) -> Option<&Pool> {
        let place = server.checked_sub(self.options.space.n())?;
        self.pools.get(place as usize)?.get().map(|pool| &**pool)
    }

    /// The servers that keep the blocks of `home`, the home first.
    pub(crate) fn keepers(&self, home: u32) -> impl Iterator<Item = u32> {
        let (first, replicas) = (self.options.space.n(), self.options.replicas);
        let placement = Placement::new(self.shape(), replicas).expect("only such are learned");
        let all = (0..replicas).map(move |replica| placement.server(home, replica));
        all.filter(move |server| *server < first || self.pool(*server).is_some())
    }
}

fn pack(shape: Shape) -> u64 {
    u64::from(shape.n) << 32 | u64::from(shape.step)
}

#[cfg(test)]
mod tests {
    use mcomp_wire::Space;

    use super::*;

    fn keepers(added: &Added, home: u32) -> Vec<u32> {
        added.keepers(home).collect()
    }

    #[test]
    fn copies_are_looked_for_where_they_have_moved() {
        let servers = (0..3).map(|server| format!("127.0.0.1:{}", 7401 + server));
        let options = Options { replicas: 3, ..Options::new("added", Space::new(4096, 3).unwrap(), servers) };
        let added = Added::new(&Arc::new(options), None, None);
        assert_eq!(keepers(&added, 2), [2, 0, 1]);
        let report = |n, step, addresses: &[u32]| MembersReport {
            shape: Shape { n, step },
            added: addresses.iter().map(|server| (*server, format!("h:{server}"))).collect(),
            ..MembersReport::default()
        };
        added.learn(&report(3, 1, &[3]));
        assert_eq!(keepers(&added, 2), [2, 3, 1]);
        assert_eq!(added.pool(3).map(Pool::address).as_deref(), Some("h:3"));
        added.learn(&report(5, 0, &[3, 4]));
        assert_eq!(keepers(&added, 2), [2, 3, 4]);
        // Who lags behind, or says what cannot be.
        for (n, step) in [(3, 1), (4, 0), (u32::MAX, 1), (6, 3)] {
            added.learn(&report(n, step, &[3]));
            assert_eq!(keepers(&added, 2), [2, 3, 4]);
        }
        // Where nobody says where one is, the others are asked.
        added.learn(&report(6, 0, &[]));
        assert_eq!(keepers(&added, 1), [1, 2, 3]);
        assert!(added.pool(5).is_none() && added.pool(0).is_none() && added.pool(u32::MAX).is_none());
    }
}
