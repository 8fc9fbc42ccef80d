//! What a REPL keeps from one command to the next: its connections, and one session with the servers.
//!
//! Promises
//! - The servers know a REPL as one program: the allocations of all its lines have one owner, and none of them belongs
//!   to a program that died before the REPL itself does.
//! - The session begins with the first command that takes one. When the servers have given it up, the next such command
//!   begins another.

use std::ops::Deref;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcomp_client::{Cluster, Error, Session};

/// How long a process that was told to end waits for the servers to hear of it.
const GOODBYE: Duration = Duration::from_secs(1);

/// The cluster of a REPL, and what the servers know it by.
#[derive(Debug)]
pub(crate) struct Kept {
    cluster: Cluster,
    /// Guards the place of the session, and is a leaf; not held across IO.
    session: Mutex<Option<Arc<Session>>>,
}

/// The session that a command works in.
#[derive(Debug)]
pub(crate) enum Member {
    /// One of its own, which ends with it.
    Own(Session),
    /// That of the REPL, which goes on.
    Kept(Arc<Session>),
}

impl Kept {
    /// Connects to nobody yet.
    pub(crate) fn new(cluster: Cluster) -> Kept {
        Kept { cluster, session: Mutex::new(None) }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The session, a new one when there is none that the servers know.
    pub(crate) fn session(&self) -> Result<Arc<Session>, Error> {
        let known = self.place().clone().filter(|session| !session.is_lost());
        if let Some(session) = known {
            return Ok(session);
        }
        let session = Arc::new(self.cluster.session()?);
        let lost = self.place().replace(Arc::clone(&session));
        // It says goodbye to the servers as it goes, so it goes after the guard.
        drop(lost);
        Ok(session)
    }

    /// Ends the session in good order, if there is one that no command uses.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        let session = self.place().take();
        session.and_then(Arc::into_inner).map_or(Ok(()), Session::close)
    }

    /// The same for a process that ends now, whatever the servers do: it does not wait for long.
    pub(crate) fn leave_soon(self: Arc<Kept>) {
        let (done, told) = channel();
        // Without a thread it is as if nobody had answered: the servers give the session up by themselves.
        let leaving = std::thread::Builder::new().name("leaving".into()).spawn(move || done.send(self.leave().is_ok()));
        let _ = leaving.map(|_| told.recv_timeout(GOODBYE));
    }

    fn place(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Ends the session with the command, unless it is the REPL's.
    pub(crate) fn close(self) -> Result<(), Error> {
        match self {
            Member::Own(session) => session.close(),
            Member::Kept(_) => Ok(()),
        }
    }
}

impl Deref for Member {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            Member::Own(session) => session,
            Member::Kept(session) => session,
        }
    }
}
