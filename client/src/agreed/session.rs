//! A session: commands that are done once, and what ends with them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcomp_wire::meta::{Answer, Ask, Command, Lease, Region, Told};
use mcomp_wire::{Kind, Status, control};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use super::{Failed, Lock};
use crate::{Cluster, Error};

/// How long the servers keep a session that shows no sign of life, unless told otherwise.
const TTL: Duration = Duration::from_secs(10);

/// A program's part in what the servers agree on. What it holds as a lock is given back when it ends, in whatever way;
/// what it allocated stays, and belongs to nobody in particular, or to nobody at all when the program died.
///
/// A thread in the background shows the servers signs of life. Dropping the session ends it in good order, as
/// [`Session::close`] does.
///
/// # Errors
/// [`Error::Agreed`] is what the servers said: the command was not done. [`Error::Unknown`] says that there was no
/// answer: it may have been done, or may be yet. Asking again would be another command.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: Cluster,
    id: Uuid,
    ttl: Duration,
    /// Guards the numbers of commands. A leaf; not held across IO.
    numbers: Mutex<Numbers>,
    /// Relaxed: whoever sees it late is told by the servers.
    lost: AtomicBool,
    /// Whether the session ends. Taken alone.
    ended: Mutex<bool>,
    end: Condvar,
}

#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    open: BTreeSet<u64>,
}

impl Cluster {
    /// Begins a session that the servers keep for ten seconds without a sign of life.
    pub fn session(&self) -> Result<Session, Error> {
        self.session_of(TTL)
    }

    /// Begins a session that the servers keep for `ttl` without a sign of life.
    pub fn session_of(&self, ttl: Duration) -> Result<Session, Error> {
        let command = Command::Open { token: Uuid::new_v4(), ttl_ms: ttl.as_millis() as u64 };
        let ask = Ask { session: Uuid::nil(), number: 0, settled: 0, command };
        let deadline = Instant::now() + self.pool(0).timeout();
        let told = command_of(self, &ask, deadline)?;
        let Answer::Session { id, .. } = told.answer else { return Err(self.odd_answer()) };
        let shared = Arc::new(Shared {
            cluster: self.clone(),
            id,
            ttl,
            numbers: Mutex::default(),
            lost: AtomicBool::new(false),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let keeper = Arc::clone(&shared);
        let keeper = std::thread::Builder::new().name("mcomp-session".into()).spawn(move || keeper.keep_alive());
        let keeper =
            keeper.map_err(|source| Error::Io { what: "a thread for the session", source: Arc::new(source) })?;
        Ok(Session { shared, keeper: Some(keeper) })
    }
}

fn command_of(cluster: &Cluster, ask: &Ask, deadline: Instant) -> Result<Told, Error> {
    cluster.agree(Kind::Command, &control::encode(ask), deadline).map_err(|failed| match failed {
        Failed::Refused(Status::ResultLost, message) => cluster.pool(0).peer().unknown(message),
        Failed::Refused(status, message) => Error::Agreed { status, message },
        Failed::Silence(error) => cluster.pool(0).peer().unknown(error.to_string()),
    })
}

impl Session {
    /// Its id, to which leases can be transferred.
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> &Cluster {
        &self.shared.cluster
    }

    /// Whether the servers have given it up: its locks are gone, and its allocations nobody's.
    pub fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// A lease goes on for `lease_ms` from now. Whoever knows its id may ask for that.
    pub fn renew(&self, lease: Uuid, lease_ms: u64) -> Result<Lease, Error> {
        self.lease(Command::Renew { lease, lease_ms })
    }

    /// A lease passes to another session, under a new fence: writes under the old one are refused from then on.
    pub fn transfer(&self, lease: Uuid, to: Uuid) -> Result<Lease, Error> {
        self.lease(Command::Transfer { lease, to })
    }

    fn lease(&self, command: Command) -> Result<Lease, Error> {
        match self.ask(command)?.answer {
            Answer::Lease(lease) => Ok(lease),
            _ => Err(self.cluster().odd_answer()),
        }
    }

    /// A lease ends, and its memory is free. Returns how many bytes were asked for.
    pub fn release(&self, lease: Uuid) -> Result<u64, Error> {
        self.freed(Command::Release { lease }).map(|(_, bytes)| bytes)
    }

    /// Frees what sessions that died have left. Returns how many allocations and bytes that were.
    pub fn collect(&self) -> Result<(u64, u64), Error> {
        self.freed(Command::Collect)
    }

    /// Has a server of replicated blocks live at another address; none, or its present one, to stay. The one there takes its
    /// place when it comes; see docs/replication.md. For admins.
    pub fn move_server(&self, server: u32, address: Option<&str>) -> Result<(), Error> {
        self.ask(Command::Move { server, address: address.map(str::to_owned) }).map(drop)
    }

    /// Has a server added at the end of the address space: it is to be server `server`, which is as many as there are, and
    /// runs at `address` already. There are `replicas` copies of each block, and in `epoch` of the members all servers were
    /// seen to have their memory. For admins.
    pub fn add_server(&self, server: u32, address: &str, replicas: u32, epoch: u64) -> Result<(), Error> {
        self.ask(Command::Grow { server, address: address.to_owned(), replicas, epoch }).map(drop)
    }

    pub(super) fn freed(&self, command: Command) -> Result<(u64, u64), Error> {
        match self.ask(command)?.answer {
            Answer::Freed { regions, bytes } => Ok((regions, bytes)),
            _ => Err(self.cluster().odd_answer()),
        }
    }

    /// Waits for the lock `name`, and holds it until the returned value is dropped, or the session ends.
    pub fn lock(&self, name: &str, wait: Duration) -> Result<Lock, Error> {
        self.acquire(name, 1, wait)
    }

    /// Waits for one of the `permits` of the semaphore `name`.
    pub fn acquire(&self, name: &str, permits: u32, wait: Duration) -> Result<Lock, Error> {
        let wait_ms = wait.as_millis() as u64;
        let command = Command::Acquire { name: name.to_owned(), permits, wait_ms };
        match self.shared.ask_for(command, wait)?.answer {
            Answer::Locked { id, fence } => Ok(Lock::new(&self.shared, name, id, fence)),
            _ => Err(self.cluster().odd_answer()),
        }
    }

    /// Waits until `parties` sessions have come to the barrier `name`. Returns a number that grows each time it opens.
    pub fn barrier(&self, name: &str, parties: u32, wait: Duration) -> Result<u64, Error> {
        let wait_ms = wait.as_millis() as u64;
        let command = Command::Arrive { name: name.to_owned(), parties, wait_ms };
        match self.shared.ask_for(command, wait)?.answer {
            Answer::Passed { round } => Ok(round),
            _ => Err(self.cluster().odd_answer()),
        }
    }

    /// Ends the session: locks are given back, allocations stay for others.
    pub fn close(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        *self.shared.ended.lock() = true;
        self.shared.end.notify_all();
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        // It ends at once, or after the question that it has under way.
        let _ = keeper.join();
        match self.shared.ask(Command::Close) {
            Err(Error::Agreed { status: Status::NoSession, .. }) => Ok(()),
            closed => closed.map(drop),
        }
    }

    pub(super) fn ask(&self, command: Command) -> Result<Told, Error> {
        self.shared.ask(command)
    }

    pub(super) fn region_of(&self, command: Command) -> Result<(u64, Region), Error> {
        let told = self.ask(command)?;
        match told.answer {
            Answer::Region(region) => Ok((told.index, *region)),
            _ => Err(self.cluster().odd_answer()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without an answer it runs out by itself.
        let _ = self.end();
    }
}

impl Shared {
    pub(super) fn ask(&self, command: Command) -> Result<Told, Error> {
        self.ask_for(command, Duration::ZERO)
    }

    /// Has a command done that may wait for so long.
    fn ask_for(&self, command: Command, wait: Duration) -> Result<Told, Error> {
        let (number, settled) = {
            let mut numbers = self.numbers.lock();
            numbers.last += 1;
            let number = numbers.last;
            numbers.open.insert(number);
            (number, numbers.open.first().map_or(0, |first| first - 1))
        };
        let ask = Ask { session: self.id, number, settled, command };
        let deadline = Instant::now() + self.cluster.pool(0).timeout() + wait;
        let told = command_of(&self.cluster, &ask, deadline);
        self.numbers.lock().open.remove(&number);
        if let Err(Error::Agreed { status: Status::NoSession, .. }) = told {
            self.lost.store(true, Ordering::Relaxed);
        }
        told
    }

    fn keep_alive(&self) {
        let mut ended = self.ended.lock();
        // It may have ended before this thread came to its first line.
        while !*ended {
            self.end.wait_for(&mut ended, self.ttl / 3);
            if *ended {
                return;
            }
            parking_lot::MutexGuard::unlocked(&mut ended, || {
                let ask = Ask { session: self.id, number: 0, settled: 0, command: Command::KeepAlive };
                let deadline = Instant::now() + (self.ttl / 3).max(Duration::from_millis(100));
                if let Err(Error::Agreed { status: Status::NoSession, .. }) = command_of(&self.cluster, &ask, deadline)
                {
                    self.lost.store(true, Ordering::Relaxed);
                }
            });
            if self.lost.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}
