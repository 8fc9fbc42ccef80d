//! This server's part of a restore: nobody sees half-restored memory.
//!
//! From begin to end only the restoring connection may use the memory. The gate stands in the
//! segment, so that a restore that was cut off leaves the memory closed, also after a restart of the
//! server, until a restore has gone through. The end sets a new config epoch: clients that knew the
//! memory before it are refused.

use std::sync::Arc;

use mcomp_shm::Segment;
use mcomp_wire::Status;
use mcomp_wire::control::{RestoreBegin, RestoreEnd};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::connections::Connections;
use crate::memory::Refusal;

/// The restore in progress, if any.
#[derive(Debug)]
pub(crate) struct Restores {
    segment: Arc<Segment>,
    connections: Arc<Connections>,
    /// Guards who restores. Taken alone: a request that meets the closed gate asks for it in the
    /// middle of its burst, so nobody may hold it and wait for requests.
    current: Mutex<Option<(Uuid, u64)>>,
}

impl Restores {
    pub(crate) fn new(segment: Arc<Segment>, connections: Arc<Connections>) -> Restores {
        Restores { segment, connections, current: Mutex::default() }
    }

    /// Closes the memory to everyone but `connection`.
    pub(crate) fn begin(&self, connection: u64, request: &RestoreBegin) -> Result<(), Refusal> {
        {
            let mut current = self.current.lock();
            if current.is_some_and(|(_, owner)| owner != connection) {
                return Err(Refusal::new(Status::Busy, "another restore is under way"));
            }
            *current = Some((request.restore, connection));
            self.segment.set_restoring(true);
        }
        self.connections.wait_for_requests(connection);
        tracing::info!(restore = %request.restore, "restore begins");
        Ok(())
    }

    /// Opens the memory again, under a new config epoch.
    pub(crate) fn end(&self, connection: u64, request: &RestoreEnd) -> Result<(), Refusal> {
        let mut current = self.current.lock();
        if *current != Some((request.restore, connection)) {
            let message = format!("restore {} is not in progress on this connection", request.restore);
            return Err(Refusal::new(Status::Malformed, message));
        }
        if !self.segment.raise_config_epoch(request.config_epoch) {
            let message =
                format!("config epoch {} cannot follow {}", request.config_epoch, self.segment.config_epoch());
            return Err(Refusal::new(Status::Malformed, message));
        }
        self.segment.set_restoring(false);
        *current = None;
        tracing::info!(restore = %request.restore, config_epoch = request.config_epoch, "restore done");
        Ok(())
    }

    /// Whether `connection` may use the memory while the gate is closed.
    #[cold]
    pub(crate) fn admits(&self, connection: u64) -> Result<(), Refusal> {
        match *self.current.lock() {
            Some((_, owner)) if owner == connection => Ok(()),
            Some(_) => Err(Refusal::new(Status::Restoring, "a restore is under way: try again when it is done")),
            None => Err(Refusal::new(
                Status::Restoring,
                "a restore was cut off and the memory is not whole: run `mcomp restore` again, or purge",
            )),
        }
    }

    /// Forgets a restore whose connection is gone. The gate stays closed.
    pub(crate) fn connection_closed(&self, connection: u64) {
        let mut current = self.current.lock();
        if current.is_some_and(|(_, owner)| owner == connection) {
            *current = None;
            tracing::warn!("a restore was cut off: the memory stays closed until one goes through");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::fixture::{DEADLOCK, Scratch};

    /// A request announces itself, then meets the gate and asks who restores, while the one who closed the gate
    /// waits for it.
    #[test]
    fn a_request_that_meets_the_closing_gate_is_refused_and_not_waited_for() {
        let scratch = Scratch::new();
        let connections = Connections::new(2);
        let restores = Restores::new(Arc::clone(&scratch.segment), Arc::clone(&connections));
        let (restorer, other) = (connections.enter().unwrap(), connections.enter().unwrap());
        other.activity.begin();
        let (said, heard) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| restores.begin(restorer.id, &RestoreBegin { restore: Uuid::from_u128(1) }).is_ok());
            let (restores, scratch, other) = (&restores, &scratch, &other);
            scope.spawn(move || {
                while !scratch.segment.is_restoring() {
                    std::thread::yield_now();
                }
                said.send(restores.admits(other.id).is_err()).unwrap();
            });
            let refused = heard.recv_timeout(DEADLOCK);
            // Lets go of the restorer, also when the request was not answered.
            other.activity.end();
            assert_eq!(refused, Ok(true), "the request waits for the restorer, and the restorer for the request");
        });
    }

    #[test]
    fn a_request_that_panics_holds_no_restore_up() {
        let connections = Connections::new(2);
        let (restorer, other) = (connections.enter().unwrap(), connections.enter().unwrap());
        let activity = Arc::clone(&other.activity);
        activity.begin();
        drop(other);
        activity.wait();
        connections.wait_for_requests(restorer.id);
    }
}
