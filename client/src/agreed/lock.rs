//! A lock that is held.

use std::sync::Arc;

use mcomp_wire::meta::{Command, Fence};
use uuid::Uuid;

use super::session::Shared;
use crate::Error;

/// A lock, or a permit of a semaphore. Dropping it gives it back.
///
/// Whoever was frozen for longer than his session lived holds it no more, and may not know: writes that must not come
/// too late carry its [`fence`](Lock::fence), see [`Cluster::fenced`](crate::Cluster::fenced).
#[derive(Debug)]
pub struct Lock {
    session: Arc<Shared>,
    name: String,
    fence: Fence,
    held: bool,
}

impl Lock {
    pub(super) fn new(session: &Arc<Shared>, name: &str, id: Uuid, number: u64) -> Lock {
        Lock { session: Arc::clone(session), name: name.to_owned(), fence: Fence { id, number }, held: true }
    }

    /// What writes under it carry. Its number grows with each holder.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Gives it back, and says whether it was still held.
    pub fn unlock(mut self) -> Result<(), Error> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.held) {
            return Ok(());
        }
        self.session.ask(Command::Unlock { name: self.name.clone() }).map(drop)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Without an answer it goes with the session.
        let _ = self.give_back();
    }
}
