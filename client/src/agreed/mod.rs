//! What the servers agree on, asked by a program: allocations, names, leases, locks.
//!
//! Any server answers, and the next one is asked when one does not. Questions are answered from a state that knows
//! every command that was answered before. Commands belong to a [`Session`].

mod lock;
mod region;
mod reset;
mod session;

use std::time::{Duration, Instant};

use mcomp_net::CallError;
use mcomp_wire::meta::{ConsensusReport, Found, LockReport, MembersReport, Query, Region, SpaceReport};
use mcomp_wire::{Kind, Status, control};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::link::Link;
use crate::{Cluster, Error};

pub use lock::Lock;
pub use reset::Reset;
pub use session::Session;

/// Links that are kept for the next command or question.
const KEPT_LINKS: usize = 256;
/// How long one server is waited for at most before the next one is asked: a little longer than it waits itself.
const PATIENCE: Duration = Duration::from_millis(2500);
/// And at least.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);
/// Between two attempts, when no server had an answer.
const PAUSE_MS: std::ops::Range<u64> = 10..50;

/// Connections for commands and questions, and which server answered last.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// Guards the links that nobody uses. A leaf; not held across IO.
    idle: Mutex<Vec<(u32, Link)>>,
    /// Relaxed: any server will do.
    last: std::sync::atomic::AtomicU32,
}

/// What came of asking, when there is no answer.
enum Failed {
    /// The servers say no.
    Refused(Status, String),
    /// Nobody answered in time; the command may have been done.
    Silence(Error),
}

impl Cluster {
    /// Every allocation, in address order. Each page of them is as of one moment.
    pub fn regions(&self) -> Result<Vec<Region>, Error> {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let Found::Regions { regions, next } = self.query(&Query::Regions { from: at })? else {
                return Err(self.odd_answer());
            };
            all.extend(regions);
            from = next;
        }
        Ok(all)
    }

    /// The allocation that holds `addr`, if one does.
    pub fn region_at(&self, addr: u64) -> Result<Option<Region>, Error> {
        self.one_region(&Query::At { addr })
    }

    /// The allocation of this name, if there is one.
    pub fn region_named(&self, name: &str) -> Result<Option<Region>, Error> {
        self.one_region(&Query::Named { name: name.to_owned() })
    }

    /// The allocation under this lease, if it has not run out.
    pub fn region_leased(&self, lease: Uuid) -> Result<Option<Region>, Error> {
        self.one_region(&Query::Leased { lease })
    }

    fn one_region(&self, query: &Query) -> Result<Option<Region>, Error> {
        match self.query(query)? {
            Found::Region(region) => Ok(region.map(|region| *region)),
            _ => Err(self.odd_answer()),
        }
    }

    /// How the address space is used.
    pub fn space_report(&self) -> Result<SpaceReport, Error> {
        match self.query(&Query::Space)? {
            Found::Space(report) => Ok(report),
            _ => Err(self.odd_answer()),
        }
    }

    /// Locks, semaphores and barriers, in the order of their names.
    pub fn locks(&self) -> Result<Vec<LockReport>, Error> {
        let (mut all, mut from) = (Vec::new(), Some(String::new()));
        while let Some(at) = from {
            let Found::Locks { locks, next } = self.query(&Query::Locks { from: at })? else {
                return Err(self.odd_answer());
            };
            all.extend(locks);
            from = next;
        }
        Ok(all)
    }

    /// The servers that keep replicated blocks, and which life of its memory each one lives.
    pub fn members(&self) -> Result<MembersReport, Error> {
        match self.query(&Query::Members)? {
            Found::Members(report) if report.shape.is_sound() => Ok(report),
            _ => Err(self.odd_answer()),
        }
    }

    /// What one server knows of the agreement: who leads, and how far it is.
    pub fn consensus(&self, server: u32) -> Result<ConsensusReport, Error> {
        let pool = self.pool_of(server)?;
        let mut link = pool.dedicated()?;
        let body = control::encode(&Query::Consensus);
        let found = link.control(Kind::Query, body, Instant::now() + pool.timeout());
        link.close();
        match found.map_err(|error| pool.peer().unanswered(error, false, pool.timeout()))? {
            Found::Consensus(report) => Ok(report),
            _ => Err(self.odd_answer()),
        }
    }

    fn query(&self, query: &Query) -> Result<Found, Error> {
        let deadline = Instant::now() + self.pool(0).timeout();
        self.agree(Kind::Query, &control::encode(query), deadline).map_err(|failed| match failed {
            Failed::Refused(status, message) => Error::Agreed { status, message },
            Failed::Silence(error) => error,
        })
    }

    fn odd_answer(&self) -> Error {
        self.pool(0).peer().protocol("a question was answered with something else")
    }

    /// Asks one server after the other until one has an answer.
    fn agree<A: DeserializeOwned>(&self, kind: Kind, body: &[u8], deadline: Instant) -> Result<A, Failed> {
        use std::sync::atomic::Ordering::Relaxed;
        let (doors, n) = (self.doors(), self.space().n());
        let first = doors.last.load(Relaxed);
        let mut silence = None;
        for (server, to_ask) in (0..n).map(|at| ((first + at) % n, n - at)).cycle() {
            // One that is frozen leaves time for the others.
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ask_door(server, kind, body, PATIENCE.min(left / to_ask)) {
                Ok(answer) => {
                    doors.last.store(server, Relaxed);
                    return Ok(answer);
                }
                Err(failed @ Failed::Refused(..)) => return Err(failed),
                Err(Failed::Silence(error)) => silence = Some(error),
            }
            self.miss();
            let pause = Duration::from_millis(fastrand::u64(PAUSE_MS));
            if Instant::now() + pause >= deadline {
                break;
            }
            std::thread::sleep(pause);
        }
        Err(Failed::Silence(silence.expect("a cluster has a server")))
    }

    fn ask_door<A: DeserializeOwned>(
        &self,
        server: u32,
        kind: Kind,
        body: &[u8],
        patience: Duration,
    ) -> Result<A, Failed> {
        // A socket takes no wait of nothing.
        let patience = patience.max(LEAST_PATIENCE);
        let until = Instant::now() + patience;
        let pool = self.pool(server);
        let silence = |error| Failed::Silence(pool.peer().unanswered(error, false, pool.timeout()));
        // A link that stood idle may be dead without anybody's fault: then another one is opened at once.
        let (mut link, was_idle) = match self.doors().take(server) {
            Some(link) => (link, true),
            None => (pool.dedicated_within(patience).map_err(Failed::Silence)?, false),
        };
        let answer = link.control(kind, body.to_vec(), until);
        match answer {
            Ok(answer) => {
                self.doors().put(server, link);
                Ok(answer)
            }
            Err(CallError::Lost(_)) if was_idle => self.ask_door(server, kind, body, patience),
            Err(CallError::Refused { status, message }) => {
                if link.is_clean() {
                    self.doors().put(server, link);
                }
                match status {
                    Status::Unavailable | Status::Stopping | Status::Busy => {
                        Err(Failed::Silence(pool.peer().refused(status, message)))
                    }
                    _ => Err(Failed::Refused(status, message)),
                }
            }
            Err(error) => Err(silence(error)),
        }
    }
}

impl Doors {
    fn take(&self, server: u32) -> Option<Link> {
        let mut idle = self.idle.lock();
        let at = idle.iter().position(|(of, _)| *of == server)?;
        Some(idle.swap_remove(at).1)
    }

    fn put(&self, server: u32, link: Link) {
        let mut idle = self.idle.lock();
        if idle.len() < KEPT_LINKS {
            idle.push((server, link));
        }
    }
}
