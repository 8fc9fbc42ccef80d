//! The page table of a cut, as the servers agree on it.
//!
//! It is asked for when the cut is made: what was allocated by an answer before the cut, and not freed since, is in it.
//! What was allocated or freed at the same time as the cut may be in it or not.
//!
//! Leaves out: a moment that is the same as that of the memory. The servers agree on allocations without the cut, and a
//! cut that waited for them would hold writers longer.

use std::collections::HashMap;

use mcomp_client::{Cluster, Error, Options};
use mcomp_config::Config;
use mcomp_wire::Role;

use crate::file::SavedRegion;

/// How often a table that changes while it is read is read.
const MOST_PASSES: u32 = 4;

/// The page table, or why nobody can tell. The keys and certificates are read anew, as for all connections of a snapshot.
pub(crate) fn ask(config: &Config) -> Result<Vec<SavedRegion>, Error> {
    let mut options = Options::from_config(config);
    (options.role, options.segment) = (Role::Node, false);
    let cluster = Cluster::with_options(options)?;
    // A long table comes in pieces, each of its own moment: what moves to an address that was passed already is missed.
    let mut digest = None;
    for _ in 0..MOST_PASSES {
        let regions = unique(cluster.regions()?.into_iter().map(SavedRegion::from).collect());
        let found = digest_of(&regions);
        if digest.replace(found) == Some(found) {
            return Ok(regions);
        }
    }
    tracing::warn!(
        "allocations changed all the while they were listed: what moved meanwhile may not be in the snapshot"
    );
    Ok(unique(cluster.regions()?.into_iter().map(SavedRegion::from).collect()))
}

/// A name that comes twice passed to another allocation between two pieces: the later piece is right, and the earlier
/// allocation was freed.
fn unique(mut regions: Vec<SavedRegion>) -> Vec<SavedRegion> {
    let named = |region: &SavedRegion| region.name.clone().map(|name| (name, region.addr));
    let last: HashMap<String, u64> = regions.iter().filter_map(named).collect();
    regions.retain(|region| region.name.as_ref().is_none_or(|name| last.get(name) == Some(&region.addr)));
    regions
}

fn digest_of(regions: &[SavedRegion]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for SavedRegion { addr, size, capacity, created_ms, name, .. } in regions {
        for number in [addr, size, capacity, created_ms] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(name.as_deref().unwrap_or_default().as_bytes()).update(&[0]);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(addr: u64, name: Option<&str>) -> SavedRegion {
        let name = name.map(str::to_owned);
        SavedRegion { addr, size: 1, capacity: 16, created_ms: 0, name, notes: Vec::new() }
    }

    #[test]
    fn a_name_that_moved_is_where_it_was_seen_last() {
        let table = vec![region(0, Some("a")), region(16, None), region(32, Some("b")), region(48, Some("a"))];
        assert_eq!(unique(table.clone()), table[1..]);
        assert_ne!(digest_of(&table), digest_of(&table[1..]));
    }
}
