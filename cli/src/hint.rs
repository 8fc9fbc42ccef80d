//! The way out that an error alone cannot know: what to type when nobody listens where a server of
//! this machine should be.
//!
//! It is a second line for people. Scripts have the exit code.

use std::error::Error;
use std::io;
use std::net::ToSocketAddrs;

use mcomp_client::Error as ClientError;
use mcomp_config::is_local_ip;
use mcomp_snapshot::SnapshotError;

/// How the kernel's refusal reads inside the sentences of our errors.
const REFUSED: &str = "Connection refused";

/// What to do about an error, where it is more than the error says.
pub(crate) fn about(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(about_cause)
}

/// The same for a server that was asked for its status.
pub(crate) fn about_server(server: u32, address: &str, reason: &str) -> Option<String> {
    start(address, reason, &format!("server --id {server}"))
}

fn about_cause(cause: &(dyn Error + 'static)) -> Option<String> {
    let by_io = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let by_client = cause.downcast_ref().or_else(|| by_io.and_then(|inner| inner.downcast_ref()));
    match (by_client, cause.downcast_ref()) {
        (Some(ClientError::Unavailable { server, address, reason }), _)
        | (_, Some(SnapshotError::Cluster(ClientError::Unavailable { server, address, reason }))) => {
            about_server(*server, address, reason)
        }
        (_, Some(SnapshotError::Unavailable { who, reason })) => {
            // It ends in the address.
            let (_, address) = who.strip_suffix(')')?.rsplit_once('(')?;
            start(address, reason, "snapshotter")
        }
        _ => None,
    }
}

fn start(address: &str, reason: &str, alone: &str) -> Option<String> {
    // The name was resolved a moment ago, when the connection was tried.
    let is_local = || address.to_socket_addrs().is_ok_and(|mut all| all.any(|address| is_local_ip(address.ip())));
    let is_silent = reason.contains(REFUSED) && is_local();
    is_silent.then(|| {
        format!("nothing listens there on this machine: start it with `mcomp up`, or alone with `mcomp {alone}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(address: &str, reason: &str) -> ClientError {
        ClientError::Unavailable { server: 0, address: address.into(), reason: reason.into() }
    }

    #[test]
    fn only_silence_on_this_machine_has_this_way_out() {
        let refused = "Connection refused (os error 111)";
        let here = unavailable("127.0.0.1:7401", refused);
        let by_io = io::Error::from(here.clone());
        let by_snapshot = SnapshotError::Cluster(here.clone());
        for error in [anyhow::Error::from(here), by_io.into(), by_snapshot.into()] {
            let hint = about(&error).expect("a way out");
            assert!(hint.contains("`mcomp up`") && hint.contains("`mcomp server --id 0`"), "{hint}");
        }
        for error in [unavailable("192.0.2.1:7401", refused), unavailable("127.0.0.1:7401", "No route to host")] {
            assert_eq!(about(&error.into()), None);
        }
        let who = "snapshot process 0 (127.0.0.1:7501)".to_owned();
        let hint = about(&SnapshotError::Unavailable { who, reason: refused.into() }.into());
        assert!(hint.is_some_and(|hint| hint.contains("`mcomp snapshotter`")));
    }
}
