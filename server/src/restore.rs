//! This server's part of a restore: nobody sees half-restored memory.
//!
//! From begin to end only the restoring connection may use the memory. The gate stands in the
//! segment, so that a restore that was cut off leaves the memory closed, also after a restart of the
//! server, until a restore has gone through. The end sets a new config epoch: clients that knew the
//! memory before it are refused.
//!
//! A restore that has not tried to write yet can be taken back: the memory is what it was, so it opens
//! again under its old epoch, when the restorer asks for that and when its connection closes.

use std::sync::Arc;

use mcomp_shm::Segment;
use mcomp_wire::Status;
use mcomp_wire::control::{RestoreAbort, RestoreBegin, RestoreEnd};
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
    current: Mutex<Option<Current>>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    restore: Uuid,
    /// The connection that restores.
    owner: u64,
    /// The gate was open before the begin, and nothing that modifies was tried since.
    is_whole: bool,
}

impl Restores {
    pub(crate) fn new(segment: Arc<Segment>, connections: Arc<Connections>) -> Restores {
        Restores { segment, connections, current: Mutex::default() }
    }

    /// Closes the memory to everyone but `connection`, which knows it as that of `config_epoch`.
    pub(crate) fn begin(&self, connection: u64, config_epoch: u64, request: &RestoreBegin) -> Result<(), Refusal> {
        {
            let mut current = self.current.lock();
            let is_whole = match *current {
                Some(other) if other.owner != connection => {
                    return Err(Refusal::new(Status::Busy, "another restore is under way"));
                }
                Some(own) => own.is_whole,
                None => !self.segment.is_restoring(),
            };
            self.check_epoch(config_epoch)?;
            *current = Some(Current { restore: request.restore, owner: connection, is_whole });
            self.segment.set_restoring(true);
        }
        self.connections.wait_for_requests(connection);
        tracing::info!(restore = %request.restore, "restore begins");
        Ok(())
    }

    /// Opens the memory again, under a new config epoch.
    pub(crate) fn end(&self, connection: u64, request: &RestoreEnd) -> Result<(), Refusal> {
        let mut current = self.current.lock();
        find(&current, connection, request.restore)?;
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

    /// Opens the memory again as it was. Refused when it is not whole; then it stays closed.
    pub(crate) fn abort(&self, connection: u64, request: &RestoreAbort) -> Result<(), Refusal> {
        let mut current = self.current.lock();
        if !find(&current, connection, request.restore)?.is_whole {
            let message = "the memory is not whole: this restore has written, or one before it was cut off";
            return Err(Refusal::new(Status::Restoring, message));
        }
        self.open_again(&mut current);
        tracing::info!(restore = %request.restore, "restore taken back");
        Ok(())
    }

    /// Whether somebody restores now. A restore that was cut off is not under way, though the gate is closed.
    pub(crate) fn is_under_way(&self) -> bool {
        self.current.lock().is_some()
    }

    /// Refuses a request that lives in another config epoch than the memory.
    #[inline]
    pub(crate) fn check_epoch(&self, config_epoch: u64) -> Result<(), Refusal> {
        let epoch = self.segment.config_epoch();
        if config_epoch == epoch { Ok(()) } else { Err(fenced(config_epoch, epoch)) }
    }

    /// Whether `connection` may use the memory, after it has met the closed gate. Notes whether it `modifies`.
    #[cold]
    pub(crate) fn admits(&self, connection: u64, modifies: bool) -> Result<(), Refusal> {
        match &mut *self.current.lock() {
            Some(current) if current.owner == connection => {
                current.is_whole &= !modifies;
                Ok(())
            }
            // The gate was opened since; whoever closes it anew waits for this request.
            None if !self.segment.is_restoring() => Ok(()),
            Some(_) => Err(Refusal::new(Status::Restoring, "a restore is under way: try again when it is done")),
            None => Err(Refusal::new(
                Status::Restoring,
                "a restore was cut off and the memory is not whole: run `mcomp restore` again, or purge",
            )),
        }
    }

    /// Forgets a restore whose connection is gone. The gate stays closed, unless the memory is whole.
    pub(crate) fn connection_closed(&self, connection: u64) {
        let mut current = self.current.lock();
        match *current {
            Some(Current { owner, is_whole: true, .. }) if owner == connection => {
                self.open_again(&mut current);
                tracing::warn!("a restore was cut off before it wrote anything: the memory is open again");
            }
            Some(Current { owner, .. }) if owner == connection => {
                *current = None;
                tracing::warn!("a restore was cut off: the memory stays closed until one goes through");
            }
            _ => {}
        }
    }

    fn open_again(&self, current: &mut Option<Current>) {
        debug_assert!(current.is_some_and(|current| current.is_whole), "{current:?}");
        self.segment.set_restoring(false);
        *current = None;
    }
}

/// The restore in progress, if it is `restore` and was begun on `connection`.
fn find(current: &Option<Current>, connection: u64, restore: Uuid) -> Result<Current, Refusal> {
    let own = current.filter(|current| (current.restore, current.owner) == (restore, connection));
    let message = || format!("restore {restore} is not in progress on this connection");
    own.ok_or_else(|| Refusal::new(Status::Malformed, message()))
}

#[cold]
fn fenced(config_epoch: u64, epoch: u64) -> Refusal {
    let message = format!(
        "the request lives in config epoch {config_epoch} and the memory in {epoch}: it was restored since, connect again"
    );
    Refusal::new(Status::Fenced, message)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use mcomp_net::Origin;

    use super::*;
    use crate::fixture::{DEADLOCK, Scratch};

    const RESTORE: Uuid = Uuid::from_u128(1);

    /// A restorer and everybody else, at one memory.
    struct Scene {
        scratch: Scratch,
        restores: Restores,
    }

    impl Scene {
        const RESTORER: u64 = 1;
        const OTHER: u64 = 2;

        fn new() -> Scene {
            let scratch = Scratch::new();
            let restores = Restores::new(Arc::clone(&scratch.segment), Connections::new(2, None, 0));
            Scene { scratch, restores }
        }

        fn begin(&self) -> Result<(), Refusal> {
            let epoch = self.scratch.segment.config_epoch();
            self.restores.begin(Scene::RESTORER, epoch, &RestoreBegin { restore: RESTORE })
        }

        fn abort(&self) -> Result<(), Status> {
            let aborted = self.restores.abort(Scene::RESTORER, &RestoreAbort { restore: RESTORE });
            aborted.map_err(|refusal| refusal.status)
        }

        fn is_open(&self) -> bool {
            !self.scratch.segment.is_restoring()
        }
    }

    #[test]
    fn a_restore_that_wrote_nothing_is_taken_back() {
        let scene = Scene::new();
        let epoch = scene.scratch.segment.config_epoch();
        assert_eq!(scene.abort(), Err(Status::Malformed), "nothing is in progress");
        scene.begin().unwrap();
        scene.restores.admits(Scene::RESTORER, false).unwrap();
        let foreign = scene.restores.abort(Scene::OTHER, &RestoreAbort { restore: RESTORE });
        assert_eq!(foreign.unwrap_err().status, Status::Malformed);
        assert_eq!((scene.is_open(), scene.abort(), scene.is_open()), (false, Ok(()), true));
        assert_eq!(scene.scratch.segment.config_epoch(), epoch);
        scene.restores.admits(Scene::OTHER, true).expect("it met the gate a moment before it was opened");
        assert_eq!(scene.abort(), Err(Status::Malformed), "it is over");
    }

    #[test]
    fn a_restore_that_wrote_is_not_taken_back() {
        let scene = Scene::new();
        scene.begin().unwrap();
        scene.restores.admits(Scene::RESTORER, true).unwrap();
        scene.begin().expect("once more, under the same gate");
        assert_eq!((scene.abort(), scene.is_open()), (Err(Status::Restoring), false));
        scene.restores.connection_closed(Scene::RESTORER);
        scene.begin().expect("the next restore");
        assert_eq!(scene.abort(), Err(Status::Restoring), "the one before it has left a mixture");
        scene.restores.connection_closed(Scene::RESTORER);
        assert!(!scene.is_open() && scene.restores.admits(Scene::OTHER, false).is_err());
    }

    #[test]
    fn a_restorer_that_leaves_before_it_writes_leaves_the_memory_open() {
        let scene = Scene::new();
        scene.begin().unwrap();
        scene.restores.connection_closed(Scene::OTHER);
        assert!(!scene.is_open());
        scene.restores.connection_closed(Scene::RESTORER);
        assert!(scene.is_open());
    }

    #[test]
    fn a_restorer_of_an_older_epoch_closes_nothing() {
        let scene = Scene::new();
        let older = scene.scratch.segment.config_epoch();
        assert!(scene.scratch.segment.raise_config_epoch(older + 1));
        let refused = scene.restores.begin(Scene::RESTORER, older, &RestoreBegin { restore: RESTORE });
        assert_eq!(refused.unwrap_err().status, Status::Fenced);
        assert!(scene.is_open());
        scene.begin().expect("nobody restores");
    }

    /// A request announces itself, then meets the gate and asks who restores, while the one who closed the gate
    /// waits for it.
    #[test]
    fn a_request_that_meets_the_closing_gate_is_refused_and_not_waited_for() {
        let scratch = Scratch::new();
        let connections = Connections::new(2, None, 0);
        let restores = Restores::new(Arc::clone(&scratch.segment), Arc::clone(&connections));
        let (restorer, other) =
            (connections.enter(Origin::User(0)).unwrap(), connections.enter(Origin::User(0)).unwrap());
        other.activity.begin();
        let (said, heard) = channel();
        std::thread::scope(|scope| {
            let epoch = scratch.segment.config_epoch();
            let begin = RestoreBegin { restore: RESTORE };
            let (restorer, begun) = (&restorer, &restores);
            scope.spawn(move || begun.begin(restorer.id, epoch, &begin).is_ok());
            let (restores, scratch, other) = (&restores, &scratch, &other);
            scope.spawn(move || {
                while !scratch.segment.is_restoring() {
                    std::thread::yield_now();
                }
                said.send(restores.admits(other.id, true).is_err()).unwrap();
            });
            let refused = heard.recv_timeout(DEADLOCK);
            // Lets go of the restorer, also when the request was not answered.
            other.activity.end();
            assert_eq!(refused, Ok(true), "the request waits for the restorer, and the restorer for the request");
        });
    }

    #[test]
    fn a_request_that_panics_holds_no_restore_up() {
        let connections = Connections::new(2, None, 0);
        let (restorer, other) =
            (connections.enter(Origin::User(0)).unwrap(), connections.enter(Origin::User(0)).unwrap());
        let activity = Arc::clone(&other.activity);
        activity.begin();
        drop(other);
        activity.wait();
        connections.wait_for_requests(restorer.id);
    }
}
