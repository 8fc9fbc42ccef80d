//! How many connections the widest case wants, and how many this machine lets a process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections of the widest case.
pub(crate) const MOST_CONNECTIONS: usize = 10_000;

/// What servers are told to admit: the widest case, and a few that come and go.
pub(crate) const ADMITTED_CONNECTIONS: usize = MOST_CONNECTIONS + 1000;

/// Open files that are enough for it, where a server has two for each connection.
const ENOUGH_OPEN_FILES: u64 = 32 << 10;

/// Raises the soft limit as far as the hard one allows and the widest case needs; the servers inherit
/// it. No further: some programs have a table of that size.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(u64::MAX).min(ENOUGH_OPEN_FILES);
    if current.is_some_and(|current| current < wanted) {
        // If it cannot be raised, the case that needs it says what ended it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

/// How many files this process, and each server, may have open.
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
