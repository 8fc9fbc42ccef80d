//! What this process may have, beside what the configuration wants: asked before anything is created.
//!
//! A limit that makes the segment impossible is an error; one that only makes the server smaller is a warning, and
//! status says how small. It leaves out memory, which the segment asks for itself, and raising limits: that is up
//! to the program, for a library does not change the process that it is in.

use mcomp_config::format_size;
use mcomp_shm::{Found, Spec, look};
use rustix::process::{Resource, getrlimit};

use crate::StartError;

/// Open files of a server beside its connections: the segment, sockets that listen, logs, files read in passing.
pub const OTHER_FILES: u64 = 32;

/// Open files that a connection takes: its socket.
pub const CONNECTION_FILES: u64 = 1;

/// Refuses to make a segment that is larger than any file this process may make: the system would refuse it with a
/// signal that ends most programs. One that is there already may be as large as it is.
pub(crate) fn check_file_size(spec: &Spec) -> Result<(), StartError> {
    let Some(limit_bytes) = getrlimit(Resource::Fsize).current else { return Ok(()) };
    let needed_bytes = spec.sizes()?.file_bytes;
    let is_there = matches!(look(spec), Ok(Found::Served { .. } | Found::Left { .. }));
    match needed_bytes > limit_bytes && !is_there {
        true => Err(StartError::FileSize { needed_bytes, limit_bytes }),
        false => Ok(()),
    }
}

/// How many connections this process can serve at a time: as many as are configured, unless it may not open so
/// many files.
pub(crate) fn most_connections(configured: u32) -> usize {
    let open_files = getrlimit(Resource::Nofile).current;
    let most = affordable(configured, open_files);
    if most < configured as usize {
        let limit = open_files.unwrap_or(u64::MAX);
        tracing::warn!(
            "limits.max_connections is {configured}, and this process may open {limit} files, enough for {most} \
             connections: raise the hard limit (`ulimit -n`, LimitNOFILE= of a service), or lower max_connections"
        );
    }
    most
}

/// At least one: a server that nobody reaches could not even say what is wrong.
fn affordable(configured: u32, open_files: Option<u64>) -> usize {
    let room = open_files.map_or(u64::MAX, |limit| (limit.saturating_sub(OTHER_FILES) / CONNECTION_FILES).max(1));
    u64::from(configured).min(room) as usize
}

/// What [`StartError::FileSize`] says.
pub(crate) fn file_size_sentence(needed_bytes: u64, limit_bytes: u64) -> String {
    let (needed, limit) = (format_size(needed_bytes), format_size(limit_bytes));
    format!(
        "the segment takes a file of {needed} ({needed_bytes} bytes), and this process may make none above {limit} \
         ({limit_bytes} bytes): raise the limit on file sizes (`ulimit -f unlimited`, LimitFSIZE= of a service), or \
         choose a smaller k"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_bound_the_connections() {
        assert_eq!(affordable(4096, None), 4096);
        assert_eq!(affordable(4096, Some(1 << 20)), 4096);
        assert_eq!(affordable(4096, Some(1024)), 992);
        assert_eq!(affordable(4096, Some(OTHER_FILES)), 1);
        assert_eq!(affordable(4096, Some(0)), 1);
    }
}
