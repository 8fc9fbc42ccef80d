//! Asking snapshot processes from outside: make a snapshot, say what you have done.

use mcomp_config::Config;
use mcomp_net::Connection;
use mcomp_wire::control::{self, SnapshotCreate, SnapshotCreated, SnapshotProgress, SnapshotterStatus};
use mcomp_wire::{Kind, Role};

use crate::SnapshotError;
use crate::cut::open;
use crate::gather::snapshot_address;

/// Has the master's snapshot process make a snapshot, and waits for it.
///
/// # Errors
///
/// [`SnapshotError::Unavailable`] when the master does not answer; [`SnapshotError::Refused`] with the
/// reason when the snapshot was given up. The servers go on in any case.
pub fn create(
    config: &Config,
    incremental: bool,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<SnapshotCreated, SnapshotError> {
    let master = config.snapshot().master;
    let (name, mut connection) = connect(config, master, Role::Admin)?;
    let failed = |error| SnapshotError::call(&name, error);
    // Another snapshot may have its turn first, and this one may take its time: its own limit ends it.
    let patience = config.snapshot().time_limit * 2;
    connection.set_request_timeout(patience).map_err(|error| failed(error.into()))?;
    connection.start(Kind::SnapshotCreate, &control::encode(&SnapshotCreate { incremental })).map_err(failed)?;
    loop {
        let (header, body) = connection.next_answer().map_err(failed)?;
        match Kind::from_wire(header.kind) {
            Some(Kind::SnapshotProgress) => progress(control::decode(body).map_err(|error| failed(error.into()))?),
            Some(Kind::SnapshotCreate) => return control::decode(body).map_err(|error| failed(error.into())),
            _ => return Err(SnapshotError::Protocol { who: name, reason: format!("unexpected frame: {header}") }),
        }
    }
}

/// What the snapshot process of server `id` is and has done.
///
/// # Errors
///
/// [`SnapshotError::Unavailable`] when it does not answer in time.
pub fn snapshotter_status(config: &Config, id: u32) -> Result<SnapshotterStatus, SnapshotError> {
    let (name, mut connection) = connect(config, id, Role::Admin)?;
    connection.call(Kind::SnapshotStatus, &()).map_err(|error| SnapshotError::call(name, error))
}

fn connect(config: &Config, id: u32, role: Role) -> Result<(String, Connection), SnapshotError> {
    let address = snapshot_address(config, id)?;
    let name = format!("snapshot process {id} ({address})");
    let connection = open(config, address, id, role, &name)?;
    Ok((name, connection))
}
