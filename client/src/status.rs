//! What the servers say about themselves.

use std::time::Instant;

use mcomp_wire::Kind;
use mcomp_wire::control::ServerStatus;

use crate::pool::Pool;
use crate::{Cluster, Error};

impl Cluster {
    /// What server `server` is and has counted. It answers during a restore too, and after one: a
    /// status does not depend on the memory's contents.
    pub fn status(&self, server: u32) -> Result<ServerStatus, Error> {
        ask_status(self.pool_of(server)?)
    }

    /// The status of every server, by id. All are asked at once, so that several dead ones cost no
    /// more time than one.
    pub fn statuses(&self) -> Vec<Result<ServerStatus, Error>> {
        let statuses = self.statuses_once();
        let is_elsewhere = self.replicas() > 1 && statuses.iter().any(Result::is_err) && self.look_for_moved();
        if is_elsewhere { self.statuses_once() } else { statuses }
    }

    fn statuses_once(&self) -> Vec<Result<ServerStatus, Error>> {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..self.space().n()).map(|server| scope.spawn(move || self.status(server))).collect();
            let of_thread = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
            asked.into_iter().map(|thread| of_thread(thread).expect("asking for a status does not panic")).collect()
        })
    }
}

/// Asks on a connection of its own: a status changes nothing, so nothing of a session is needed, and
/// calls that hold all connections of the pool do not delay it.
fn ask_status(pool: &Pool) -> Result<ServerStatus, Error> {
    let mut link = pool.dedicated()?;
    let status = link.control(Kind::Status, Vec::new(), Instant::now() + pool.timeout());
    link.close();
    status.map_err(|error| pool.peer().unanswered(error, false, pool.timeout()))
}
