//! One server's share of a call: the requests to send there, the ones in flight, and the link they
//! travel on.
//!
//! What happens when a connection breaks is decided here. Requests in flight are sent again under
//! their old numbers if that is safe: they do not modify, or the server still knows the session, or it
//! has said in parting that it did not do them. Otherwise the lane fails, with an unknown outcome if a
//! request that modifies was sent. Each wait for progress ends after the timeout of the options.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mcomp_net::CallError;
use mcomp_wire::Status;

use crate::Error;
use crate::ask::Ask;
use crate::pool::{Lease, Pool, Reopen};
use crate::replicated::is_for_another;
use crate::sink::Sink;
use crate::window::Window;

/// Bytes sent to one server before the next one gets its turn.
const TURN: usize = 512 << 10;

/// One server's share of a call.
///
/// - `flight` holds what was sent on the present connection, oldest first: answers come in order.
/// - `again` holds what was in flight when a connection broke, oldest first; all of it goes before
///   `next` and `work`.
/// - `window` counts exactly `flight`.
#[derive(Debug)]
pub(crate) struct Lane<'p, 'a, W> {
    lease: Lease<'p>,
    work: W,
    next: Option<Ask<'a>>,
    flight: VecDeque<Flying<'a>>,
    again: VecDeque<Flying<'a>>,
    window: Window,
    /// The window was full: nothing is sent until half of it is empty, so that small requests leave
    /// many at a time.
    resting_above: Option<usize>,
    /// Why nothing more can be sent on the present connection, whose answers may still come.
    mute: Option<CallError>,
    failure: Option<Error>,
    /// A request that modifies was answered with success.
    effects: bool,
    /// Connections opened since the last answer.
    attempts: u32,
    /// When the last request left or the last answer came.
    progress: Instant,
    /// When the first of the connections broke that were opened since the last answer.
    broken_since: Option<Instant>,
    /// Requests taken from `work`, sent or not.
    begun: u64,
    /// Of replicated memory: what another replica is to be asked, and whether it may be done already.
    left: Vec<(Ask<'a>, bool)>,
    /// Of replicated memory: the connection is of no more use.
    is_over: bool,
}

/// A request with its number.
#[derive(Debug)]
struct Flying<'a> {
    id: u64,
    ask: Ask<'a>,
    /// Whether the server may have received all of it on the present connection.
    sent: bool,
    /// Whether it may have done it on an earlier one.
    may_be_done: bool,
}

impl<'p, 'a, W: Iterator<Item = Ask<'a>>> Lane<'p, 'a, W> {
    /// A lane that will do `work` over `lease`.
    pub(crate) fn new(lease: Lease<'p>, mut work: W) -> Self {
        let next = work.next();
        Lane {
            lease,
            next,
            work,
            flight: VecDeque::new(),
            again: VecDeque::new(),
            window: Window::default(),
            resting_above: None,
            mute: None,
            failure: None,
            effects: false,
            attempts: 0,
            progress: Instant::now(),
            broken_since: None,
            begun: 0,
            left: Vec::new(),
            is_over: false,
        }
    }

    /// A lane that goes on with a request whose connection broke with `error`. `sent`: the server may
    /// have received it.
    pub(crate) fn mending(lease: Lease<'p>, work: W, id: u64, ask: Ask<'a>, sent: bool, error: CallError) -> Self {
        let mut lane = Lane::new(lease, work);
        lane.flight.push_back(Flying { id, ask, sent, may_be_done: false });
        lane.mend(error);
        lane
    }

    /// The server it leads to.
    pub(crate) fn pool(&self) -> &'p Pool {
        self.lease.pool()
    }

    /// Why it ended early.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// What the end of this lane means for its request number `index`, which has no good answer: one
    /// that was never sent, or does not modify, certainly had no effect.
    pub(crate) fn failure_of(&self, index: u64, modifies: bool) -> Error {
        let failure = self.failure.clone().expect("a lane that did not fail has answered everything");
        match failure {
            Error::Unknown { server, address, reason } if index >= self.begun || !modifies => {
                Error::Unavailable { server, address, reason }
            }
            // The answer is there and cannot be read: what was asked may have been done.
            Error::Protocol { .. } if index < self.begun && modifies => self.pool().peer().in_part(failure),
            failure => failure,
        }
    }

    /// Whether it may have changed memory.
    pub(crate) fn has_effects(&self) -> bool {
        self.effects || matches!(self.failure, Some(Error::Unknown { .. }))
    }

    /// Sends nothing new; what is in flight is still awaited.
    pub(crate) fn stop(&mut self) {
        self.next = None;
    }

    fn upcoming(&self) -> Option<&Ask<'a>> {
        if self.is_over {
            return None;
        }
        self.again.front().map(|flying| &flying.ask).or(self.next.as_ref())
    }

    fn pop_upcoming(&mut self) -> Option<Flying<'a>> {
        if let Some(flying) = self.again.pop_front() {
            return Some(flying);
        }
        let ask = self.next.take()?;
        self.next = self.work.next();
        self.begun += 1;
        let mut ask = ask;
        if self.pool().is_replicated() {
            ask.name = Some(self.pool().names().next());
        }
        Some(Flying { id: self.lease.next_id(), ask, sent: false, may_be_done: false })
    }

    /// Sends until the window is full or the turn is over.
    pub(crate) fn send_turn(&mut self) {
        if self.mute.is_some() || self.resting_above.is_some_and(|half| self.flight.len() > half) {
            return;
        }
        self.resting_above = None;
        let mut turn = 0;
        while let Some((request, answer)) = self.upcoming().map(Ask::weights) {
            if !self.window.admits(request, answer) {
                self.resting_above = Some(self.flight.len() / 2);
                break;
            }
            if turn >= TURN {
                break;
            }
            turn += request;
            if let Err(error) = self.send_one(request, answer) {
                return self.fall_mute(error);
            }
        }
        if let Err(error) = self.lease.flush() {
            self.fall_mute(error);
        }
    }

    /// Goes on without sending. What arrived before the connection broke is still to be read: answers, and the
    /// server's last word, which says that the rest was not done.
    fn fall_mute(&mut self, error: CallError) {
        match error {
            CallError::Lost(_) => self.mute = Some(error),
            error => self.mend(error),
        }
    }

    fn send_one(&mut self, request: usize, answer: usize) -> Result<(), CallError> {
        let flying = self.pop_upcoming().expect("the caller saw it");
        self.window.add(request, answer);
        self.flight.push_back(flying);
        let ask = self.flight.back_mut().expect("pushed above");
        // From here on it may leave at any time, with the frames around it.
        ask.sent = true;
        self.lease.send(ask.id, &ask.ask)?;
        self.progress = Instant::now();
        Ok(())
    }

    /// Whether there is nothing to do but wait for an answer.
    pub(crate) fn must_wait(&self) -> bool {
        let has_sent_all = self.resting_above.is_some() || self.upcoming().is_none();
        self.mute.is_some() || (!self.flight.is_empty() && has_sent_all)
    }

    /// Whether anything is left to be sent or awaited.
    pub(crate) fn is_open(&self) -> bool {
        self.mute.is_some() || !self.flight.is_empty() || self.upcoming().is_some()
    }

    /// Waits for one answer and hands it on.
    pub(crate) fn take_one(&mut self, index: usize, sink: &mut impl Sink) {
        let deadline = self.deadline();
        let Some(first) = self.flight.front() else {
            return self.mute.take().into_iter().for_each(|error| self.mend(error));
        };
        match self.lease.receive_for(first.id, &first.ask, deadline, sink) {
            Ok(received) => {
                let ask = self.landed();
                self.effects |= ask.modifies;
                let Some(received) = received else { return };
                let body = checked(self.pool(), &ask, self.lease.body(&received));
                if let Err(error) = body.and_then(|body| sink.deliver(index, ask.tag, body)) {
                    self.end_unread(error, ask.modifies);
                }
            }
            Err(CallError::Refused { status, .. })
                if !self.lease.has_parted() && self.pool().is_replicated() && is_for_another(status) =>
            {
                self.pool().names().count_on_from(self.lease.shown_clock());
                let mut ask = self.landed();
                let may_be_done = status == Status::Unknown;
                if status == Status::Forgotten {
                    ask.name = None;
                }
                self.left.push((ask, may_be_done));
            }
            Err(CallError::Refused { status, message }) if !self.lease.has_parted() => {
                self.landed();
                self.end_with(self.pool().peer().refused(status, message));
            }
            Err(error) => self.mend(error),
        }
    }

    /// When the oldest request is overdue. While this thread served other lanes, the answer may have
    /// arrived: so there is always time to take it.
    fn deadline(&self) -> Instant {
        let timeout = self.pool().timeout();
        (self.progress + timeout).max(Instant::now() + timeout / 8)
    }

    /// Takes the oldest request out of flight: its answer is here.
    fn landed(&mut self) -> Ask<'a> {
        let flying = self.flight.pop_front().expect("an answer to a request in flight");
        let (request, answer) = flying.ask.weights();
        self.window.remove(request, answer);
        (self.attempts, self.broken_since) = (0, None);
        self.progress = Instant::now();
        flying.ask
    }

    /// Ends with an answer that cannot be read. What was asked may have been done, which outweighs
    /// whatever ended the lane before.
    fn end_unread(&mut self, error: Error, modifies: bool) {
        if !modifies {
            return self.end_with(error);
        }
        self.failure = None;
        self.end_with(self.pool().peer().unknown(error.to_string()));
    }

    /// Remembers the first failure and sends nothing new.
    fn end_with(&mut self, error: Error) {
        self.failure.get_or_insert(error);
        self.stop();
    }

    /// Connects again, or ends the lane. Afterwards nothing is in flight.
    fn mend(&mut self, error: CallError) {
        self.lease.break_off();
        self.window = Window::default();
        (self.resting_above, self.mute) = (None, None);
        if self.pool().is_replicated() {
            return self.leave(&error);
        }
        let was_left_undone = is_parting(&error);
        while let Some(mut flying) = self.flight.pop_back() {
            flying.may_be_done |= std::mem::take(&mut flying.sent) && !was_left_undone;
            self.again.push_front(flying);
        }
        if let Err(error) = self.reconnect(error) {
            self.again.clear();
            // An unknown outcome outweighs whatever ended the lane before.
            if matches!(error, Error::Unknown { .. }) {
                self.failure = None;
            }
            self.end_with(error);
        }
    }

    /// Leaves everything to other replicas.
    fn leave(&mut self, error: &CallError) {
        self.pool().standing().failed();
        self.is_over = true;
        let was_left_undone = is_parting(error);
        let flights = self.flight.drain(..).chain(self.again.drain(..));
        self.left.extend(flights.map(|flying| (flying.ask, flying.sent && !was_left_undone)));
    }

    /// Of replicated memory: what is to be asked of another replica, and whether it may be done already.
    pub(crate) fn into_left(mut self) -> impl Iterator<Item = (Ask<'a>, bool)> {
        let (is_over, failed) = (self.is_over, self.failure.is_some());
        let rest = self.next.take().into_iter().chain(self.work).filter(move |_| is_over && !failed);
        self.left.into_iter().chain(rest.map(|ask| (ask, false)))
    }

    fn reconnect(&mut self, error: CallError) -> Result<(), Error> {
        let (pool, timeout) = (self.pool(), self.pool().timeout());
        let at_stake = self.again.iter().any(|flying| flying.may_be_done && flying.ask.modifies);
        if !matches!(error, CallError::Lost(_)) && !is_parting(&error) {
            return Err(pool.peer().unanswered(error, at_stake, timeout));
        }
        let mut last = pool.peer().unanswered(error, at_stake, timeout);
        // A server that greets, takes the request and hangs up makes no progress, however often it does so.
        let deadline = *self.broken_since.get_or_insert_with(Instant::now) + timeout;
        loop {
            if self.attempts > 0 && !pause(deadline) {
                return Err(last);
            }
            self.attempts += 1;
            let error = match self.lease.reopen() {
                Ok(resumed) if resumed || !at_stake => return Ok(()),
                Ok(_) => return Err(pool.peer().unknown("the server was restarted before it answered")),
                Err(Reopen::Never(error)) if !at_stake => return Err(error),
                // The process that knew the session is gone: no later attempt can settle it.
                Err(Reopen::Never(error) | Reopen::Nobody(error)) if at_stake => {
                    return Err(pool.peer().unknown(error.to_string()));
                }
                Err(Reopen::Never(error) | Reopen::Nobody(error) | Reopen::NotNow(error)) => error,
            };
            last = if at_stake { pool.peer().unknown(error.to_string()) } else { error };
        }
    }
}

/// Whether it is the last word of a server that stops: nothing that it has not answered on the connection was done.
fn is_parting(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status: Status::Stopping, .. })
}

/// Sleeps 10 to 100 ms, so that many clients do not come back at the same instant. Whether there is
/// time for another attempt.
fn pause(deadline: Instant) -> bool {
    let pause = Duration::from_millis(fastrand::u64(10..=100));
    let is_in_time = Instant::now() + pause < deadline;
    if is_in_time {
        std::thread::sleep(pause);
    }
    is_in_time
}

/// The body of an answer, if its length is right for the request.
pub(crate) fn checked<'b>(pool: &Pool, ask: &Ask<'_>, body: &'b [u8]) -> Result<&'b [u8], Error> {
    if ask.expects(body.len()) {
        return Ok(body);
    }
    Err(pool.peer().protocol(format!("{} bytes answer a {}", body.len(), ask.kind)))
}
