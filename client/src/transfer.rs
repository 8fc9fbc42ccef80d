//! Requests over one or many servers at once, driven by the calling thread.
//!
//! [`drive`] sends to every lane before it waits for any, keeps each lane's window full, and takes one
//! answer from each in turn. Memory is bounded by the windows, however long the call is. It leaves
//! out what happens when a connection breaks: each [`Lane`] knows that for itself.

use std::time::Instant;

use mcomp_net::CallError;

use crate::Error;
use crate::ask::Ask;
use crate::lane::{Lane, checked};
use crate::pool::{Lease, Pool};
use crate::sink::Sink;

/// What the failure of one lane means for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// They send nothing new: the call has failed.
    StopAll,
    /// They go on: their requests are independent.
    GoOn,
}

/// Does the work of all lanes.
pub(crate) fn drive<'a, W: Iterator<Item = Ask<'a>>>(
    lanes: &mut [Lane<'_, 'a, W>],
    on_failure: OnFailure,
    sink: &mut impl Sink,
) {
    while lanes.iter().any(Lane::is_open) {
        lanes.iter_mut().for_each(Lane::send_turn);
        for (index, lane) in lanes.iter_mut().enumerate() {
            if lane.must_wait() {
                lane.take_one(index, sink);
            }
        }
        if on_failure == OnFailure::StopAll && lanes.iter().any(|lane| lane.failure().is_some()) {
            lanes.iter_mut().for_each(Lane::stop);
        }
    }
}

/// What came of a call as a whole: its first failure, and an unknown outcome if any part of it may
/// have changed memory.
pub(crate) fn verdict<'a, W: Iterator<Item = Ask<'a>>>(lanes: &[Lane<'_, 'a, W>]) -> Result<(), Error> {
    let failed = lanes.iter().filter(|lane| lane.failure().is_some());
    // A lane that does not know its outcome says more than one that had none.
    let Some(lane) = failed.max_by_key(|lane| lane.has_effects()) else { return Ok(()) };
    let failure = lane.failure().cloned().expect("filtered by it");
    Err(if lanes.iter().any(Lane::has_effects) { lane.pool().peer().in_part(failure) } else { failure })
}

/// Hands an answer on, if it can be one.
pub(crate) fn deliver(pool: &Pool, ask: &Ask<'_>, lane: usize, body: &[u8], sink: &mut impl Sink) -> Result<(), Error> {
    checked(pool, ask, body).and_then(|body| sink.deliver(lane, ask.tag, body))
}

/// One request and its answer: the hot path, without a lane. A connection that breaks is left to one.
pub(crate) fn single(mut lease: Lease<'_>, ask: Ask<'_>, sink: &mut impl Sink) -> Result<(), Error> {
    let pool = lease.pool();
    let id = lease.next_id();
    let mut sent = false;
    let answer = lease.send(id, &ask).and_then(|()| lease.flush()).and_then(|()| {
        sent = true;
        lease.receive_for(id, &ask, Instant::now() + pool.timeout(), sink)
    });
    match answer {
        Ok(None) => Ok(()),
        Ok(Some(received)) => {
            let taken = deliver(pool, &ask, 0, lease.body(&received), sink);
            if taken.is_err() {
                lease.break_off();
            }
            taken.map_err(|error| if ask.modifies { pool.peer().in_part(error) } else { error })
        }
        Err(CallError::Refused { status, message }) if !lease.is_broken() => Err(pool.peer().refused(status, message)),
        Err(error) => {
            let mut lanes = [Lane::mending(lease, std::iter::empty(), id, ask, sent, error)];
            drive(&mut lanes, OnFailure::StopAll, sink);
            verdict(&lanes)
        }
    }
}
