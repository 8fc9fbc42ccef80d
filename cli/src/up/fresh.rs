//! The memory that a start has made, and that goes again when the start fails.
//!
//! Left behind, it would take the room that a second try with a smaller k needs, and its shape would be
//! held against that try. What was there before is never touched: a segment goes only if there was
//! none of its id before the start, its server did not say that it took one over, and nobody serves
//! it any more.

use std::path::PathBuf;

use mcomp_config::Config;
use mcomp_shm::{PurgeOutcome, ShmError, list, purge_those};

use super::{Role, Supervisor};
use crate::commands::server::TAKEN_OVER;

/// What a start finds on this machine.
#[derive(Debug)]
pub(super) struct Found {
    cluster: String,
    /// Ids of the segments.
    ids: Vec<u32>,
}

/// What became of the memory that a failed start had made.
#[derive(Debug, Default)]
pub(super) struct Cleared {
    pub(super) removed: usize,
    /// Those that could not be removed.
    pub(super) left: Vec<PathBuf>,
}

impl Found {
    /// Looks, before anything is started.
    pub(super) fn look(config: &Config) -> Result<Found, ShmError> {
        let ids = list(config.name())?.into_iter().map(|listed| listed.id).collect();
        Ok(Found { cluster: config.name().to_owned(), ids })
    }

    /// Removes the segments that the servers among `roles` have made. Call it when all of them are gone.
    pub(super) fn clear(&self, roles: &[Role], supervisor: &Supervisor<'_>) -> Cleared {
        let is_ours = |id: u32| {
            let said = supervisor.ready_line(Role::Server(id)).unwrap_or_default();
            roles.contains(&Role::Server(id)) && !self.ids.contains(&id) && !said.contains(TAKEN_OVER)
        };
        let mut cleared = Cleared::default();
        // What cannot even be listed is no news after a start that failed: its own error is told.
        for segment in purge_those(&self.cluster, |listed| is_ours(listed.id)).unwrap_or_default() {
            match segment.outcome {
                PurgeOutcome::Removed => cleared.removed += 1,
                _ => cleared.left.push(segment.path),
            }
        }
        cleared
    }
}
