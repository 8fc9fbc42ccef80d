//! Requests for replicated memory: any replica of a block does them, and the next one is asked when one does not answer.
//!
//! A request keeps its name on the way, so that it is done at most once. It has failed when no replica can have done it,
//! and its outcome is unknown when one that was asked may have, or may yet.

use std::time::{Duration, Instant};

use mcomp_net::CallError;
use mcomp_wire::Status;

use crate::ask::Ask;
use crate::lane::Lane;
use crate::pool::{Lease, Pool};
use crate::sink::Sink;
use crate::transfer::{OnFailure, deliver, drive, verdict};
use crate::{Cluster, Error};

/// How long one replica is waited for while there is another one to ask.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);
/// Between two rounds of asking.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 5..=25;

/// What came of asking one replica.
enum Attempt {
    Done,
    /// It says no for good.
    Refused(Error),
    /// It was not done there.
    NotDone(Error),
    /// It may have been done, or may be yet.
    Unknown(Error),
    /// It was not done under this name, and will not be.
    Forgotten(Error),
}

impl Cluster {
    /// The replicas of the blocks of `home`, those that seem to answer first.
    fn replicas_of(&self, home: u32) -> Vec<u32> {
        let (mut good, bad): (Vec<u32>, Vec<u32>) =
            self.added().keepers(home).partition(|server| self.pool(*server).standing().is_good(PATIENCE));
        if !bad.is_empty() {
            self.miss();
        }
        good.extend(bad);
        good
    }

    /// Has a request done by the replicas of `home`. `may_be_done`: it was sent to one of them already.
    pub(crate) fn ask_replicas(
        &self,
        home: u32,
        mut ask: Ask<'_>,
        mut may_be_done: bool,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        let era = self.era()?;
        let names = self.pool(home).names();
        let timeout = self.pool(home).timeout();
        let deadline = Instant::now() + timeout;
        may_be_done &= ask.modifies;
        let mut unknown = None;
        loop {
            let mut last = None;
            for server in self.replicas_of(home) {
                let pool = self.pool(server);
                let attempt = match self.checkout(server, era) {
                    Ok(lease) => {
                        ask.name.get_or_insert_with(|| names.next());
                        attempt(lease, &ask, Instant::now() + timeout.min(PATIENCE), sink)
                    }
                    Err(error @ (Error::Unavailable { .. } | Error::Timeout { .. } | Error::Busy { .. })) => {
                        pool.standing().failed();
                        Attempt::NotDone(error)
                    }
                    Err(error) => Attempt::Refused(error),
                };
                match attempt {
                    Attempt::Done => return Ok(()),
                    Attempt::Refused(error) if may_be_done => {
                        return self.note(era, Err(pool.peer().unknown(error.to_string())));
                    }
                    Attempt::Refused(error) => return self.note(era, Err(error)),
                    Attempt::NotDone(error) => last = Some(error),
                    Attempt::Unknown(error) => {
                        may_be_done |= ask.modifies;
                        unknown = Some(error);
                    }
                    Attempt::Forgotten(error) if may_be_done => return Err(error),
                    Attempt::Forgotten(error) => {
                        ask.name = None;
                        last = Some(error);
                    }
                }
                if Instant::now() >= deadline {
                    break;
                }
            }
            self.miss();
            let pause = Duration::from_millis(fastrand::u64(PAUSE_MS));
            // A name that is too old is no reason to wait.
            if ask.name.is_some() || Instant::now() >= deadline {
                if Instant::now() + pause >= deadline {
                    let failed = last.or(unknown.clone()).expect("some replica was asked");
                    let peer = self.pool(home).peer();
                    return Err(match may_be_done {
                        true => peer.unknown(unknown.unwrap_or(failed).to_string()),
                        false => peer.without_majority(&failed),
                    });
                }
                std::thread::sleep(pause);
            }
        }
    }
}

/// Asks one replica once.
fn attempt(mut lease: Lease<'_>, ask: &Ask<'_>, deadline: Instant, sink: &mut impl Sink) -> Attempt {
    let pool = lease.pool();
    let id = lease.next_id();
    let mut sent = false;
    let answer = lease.send(id, ask).and_then(|()| {
        sent = true;
        lease.flush()?;
        lease.receive_for(id, ask, deadline, sink)
    });
    match answer {
        Ok(received) => {
            pool.standing().answered();
            let Some(received) = received else { return Attempt::Done };
            match deliver(pool, ask, 0, lease.body(&received), sink) {
                Ok(()) => Attempt::Done,
                Err(error) => {
                    lease.break_off();
                    Attempt::Refused(if ask.modifies { pool.peer().in_part(error) } else { error })
                }
            }
        }
        Err(error) => {
            if !matches!(error, CallError::Refused { .. }) || lease.is_broken() {
                pool.standing().failed();
                lease.break_off();
            }
            pool.names().count_on_from(lease.shown_clock());
            of_error(pool, error, sent)
        }
    }
}

/// What a failure at one replica means.
fn of_error(pool: &Pool, error: CallError, sent: bool) -> Attempt {
    let peer = pool.peer();
    match error {
        CallError::Refused { status, message } => match status {
            Status::Unavailable | Status::Busy | Status::Stopping => Attempt::NotDone(peer.refused(status, message)),
            Status::Unknown => Attempt::Unknown(peer.refused(status, message)),
            Status::Forgotten => Attempt::Forgotten(peer.refused(status, message)),
            status => Attempt::Refused(peer.refused(status, message)),
        },
        error @ (CallError::Lost(_) | CallError::TimedOut(_)) if sent => {
            Attempt::Unknown(peer.unanswered(error, false, PATIENCE))
        }
        error @ (CallError::Lost(_) | CallError::TimedOut(_)) => {
            Attempt::NotDone(peer.unanswered(error, false, PATIENCE))
        }
        error => Attempt::Refused(peer.unanswered(error, sent, PATIENCE)),
    }
}

/// Whether another replica may do what one has refused so.
pub(crate) fn is_for_another(status: Status) -> bool {
    matches!(status, Status::Unavailable | Status::Busy | Status::Stopping | Status::Unknown | Status::Forgotten)
}

impl Cluster {
    /// As [`Cluster::run`], for replicated memory: one replica of each part is asked for everything, and what it does not
    /// do is asked of the others, one request after the other.
    pub(crate) fn run_replicated<'a, W: Iterator<Item = Ask<'a>>>(
        &self,
        shares: impl Iterator<Item = (u32, W)>,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        let era = self.era()?;
        let (mut homes, mut lanes) = (Vec::new(), Vec::new());
        for (home, work) in shares {
            lanes.push(Lane::new(self.checkout_replica(home, era)?, work));
            homes.push(home);
        }
        drive(&mut lanes, OnFailure::StopAll, sink);
        self.note_failures(era, &lanes);
        verdict(&lanes)?;
        for ((index, lane), home) in lanes.into_iter().enumerate().zip(homes) {
            for (ask, may_be_done) in lane.into_left() {
                let mut sink = AsLane { index, sink: &mut *sink };
                self.ask_replicas(home, ask, may_be_done, &mut sink)?;
            }
        }
        Ok(())
    }

    /// A connection to the first replica that can be reached. Those that are there and do not serve yet are waited for.
    fn checkout_replica(&self, home: u32, era: u32) -> Result<Lease<'_>, Error> {
        let deadline = Instant::now() + self.pool(home).timeout();
        loop {
            let mut failed = None;
            for server in self.replicas_of(home) {
                match self.checkout(server, era) {
                    Err(error @ (Error::Unavailable { .. } | Error::Timeout { .. } | Error::Busy { .. })) => {
                        self.pool(server).standing().failed();
                        // That somebody is there counts more than that others are not.
                        failed = failed.filter(|failed| matches!(failed, Error::Busy { .. })).or(Some(error));
                    }
                    done => return done,
                }
            }
            let failed = failed.expect("a block has replicas");
            let pause = Duration::from_millis(fastrand::u64(PAUSE_MS));
            if !matches!(failed, Error::Busy { .. }) || Instant::now() + pause >= deadline {
                return Err(failed);
            }
            std::thread::sleep(pause);
        }
    }
}

/// A sink that takes answers as those of one lane.
struct AsLane<'s, S> {
    index: usize,
    sink: &'s mut S,
}

impl<S: Sink> Sink for AsLane<'_, S> {
    fn room(&mut self, tag: u64, len: usize) -> Option<&mut [u8]> {
        self.sink.room(tag, len)
    }

    fn deliver(&mut self, _: usize, tag: u64, body: &[u8]) -> Result<(), Error> {
        self.sink.deliver(self.index, tag, body)
    }
}
