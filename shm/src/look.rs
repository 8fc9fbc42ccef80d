//! Looking at a segment without touching it: would a server that starts now take it over?
//!
//! The same checks as those of [`Segment::open`](crate::Segment::open), and none of its changes. What was seen may
//! change a moment later, so nothing is decided by it: it is for telling a person.

use std::collections::BTreeSet;

use crate::error::ShmError;
use crate::image::Image;
use crate::layout::{self, Spec, State};
use crate::object::{self, Object, Open};
use crate::purge::holder_of;

/// What a segment that could be served is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A server holds it.
    Served {
        /// Process id of that server, 0 when it has not written it yet.
        pid: u32,
    },
    /// Nobody holds it, and the next server takes it over with every byte.
    Left {
        /// Whether its server stopped in good order, and did not die.
        clean: bool,
    },
    /// Its making or its removal was cut short: the next server makes a new one.
    Unfinished,
}

/// Looks at the segment of this specification. The question takes its lock in shared mode for a moment, which a
/// starting server outwaits.
///
/// # Errors
/// What [`Segment::open`](crate::Segment::open) would refuse, and [`ShmError::Missing`] when there is no segment.
pub fn look(spec: &Spec) -> Result<Found, ShmError> {
    spec.check()?;
    let object = Object::open(&spec.cluster, spec.id, Open::ReadOnly)?;
    let served = holder_of(&object);
    let image = Image::of(&object)?;
    match (image.state(), served) {
        (_, Some(pid)) if image.is_unfinished() => Ok(Found::Served { pid }),
        (State::Retired, _) => Ok(Found::Unfinished),
        _ if image.is_unfinished() => Ok(Found::Unfinished),
        (state, served) => {
            image.verify_for(spec, &object)?;
            let clean = state == State::Clean;
            Ok(served.map_or(Found::Left { clean }, |pid| Found::Served { pid }))
        }
    }
}

/// The clusters that have segments on this machine, those of other users too, by name.
pub fn clusters() -> Result<Vec<String>, ShmError> {
    let unreadable = |source| ShmError::Io { action: "list", path: object::FOLDER.into(), source };
    let mut clusters = BTreeSet::new();
    for entry in std::fs::read_dir(object::FOLDER).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        clusters.extend(name.to_str().and_then(cluster_of));
    }
    Ok(clusters.into_iter().collect())
}

/// The cluster in the name of a segment's file, `None` for any other name.
fn cluster_of(name: &str) -> Option<String> {
    let (cluster, _) = name.strip_prefix("mcomp.")?.rsplit_once('.')?;
    layout::check_cluster(cluster).ok()?;
    object::parse_id(name, cluster).map(|_| cluster.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_name_a_cluster() {
        assert_eq!(cluster_of("mcomp.demo-1_x.12").as_deref(), Some("demo-1_x"));
        for name in
            ["mcomp.demo.01", "mcomp.demo.x", "mcomp.de.mo.1", "mcomp..1", "demo.1", "mcomp.demo", "sem.mcomp.1"]
        {
            assert_eq!(cluster_of(name), None, "{name}");
        }
    }
}
