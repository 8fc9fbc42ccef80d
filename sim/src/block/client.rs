//! A client: wants one thing after the other, and asks again elsewhere what was not answered in time.

use fastrand::Rng;
use mcomp_quorum::{OpId, Outcome};

use super::object::{FIELDS, Fields, Told, Wish};

/// Requests of one operation at most.
const TRIES: u32 = 4;

/// An operation that has no answer yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) wish: Wish,
    pub(super) number: u64,
    pub(super) asked_at: u64,
    pub(super) tries: u32,
    /// The replica that was asked last.
    pub(super) of: u8,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    session: u64,
    /// The greatest number that it has used or was shown.
    clock: u64,
    pub(super) asked: Option<Asked>,
    pub(super) left: u32,
}

/// What a client does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It asks this replica.
    Ask(u8),
    /// It wants something else; nobody knows what came of this.
    GiveUp,
    /// It wants something else; this was certainly not done.
    Drop,
}

impl Client {
    pub(super) fn new(session: u64, left: u32) -> Client {
        Client { session, clock: 0, asked: None, left }
    }

    pub(super) fn id(&self, number: u64) -> OpId {
        OpId { session: self.session, number }
    }

    /// Begins the next operation at a replica.
    pub(super) fn begin(&mut self, now: u64, of: u8, rng: &mut Rng) {
        self.left -= 1;
        self.clock += 1;
        let wish = wish(rng);
        self.asked = Some(Asked { wish, number: self.clock, asked_at: now, tries: 1, of });
    }

    /// No answer came in time. Unless it may give up, it asks for ever.
    pub(super) fn timed_out(&mut self, replicas: u8, may_give_up: bool) -> Next {
        let asked = self.asked.as_mut().expect("who waits has asked");
        if asked.tries >= TRIES && may_give_up {
            return Next::GiveUp;
        }
        asked.tries += 1;
        asked.of = (asked.of + 1) % replicas;
        Next::Ask(asked.of)
    }

    /// A replica has answered the operation of this number: what the client was told, or nothing when it goes on to
    /// wait, or has an answer already.
    pub(super) fn told(&mut self, number: u64, outcome: Outcome<Fields>) -> Option<Result<Told, Next>> {
        let asked = self.asked.as_mut().filter(|asked| asked.number == number)?;
        let was_asked_once = asked.tries == 1;
        match outcome {
            Outcome::Wrote { answer, clock } => {
                self.clock = self.clock.max(clock);
                Some(Ok(answer))
            }
            Outcome::Read(fields) => Some(Ok(Told::Holds(fields))),
            Outcome::Forgotten { was_tried, clock } => {
                self.clock = self.clock.max(clock);
                if was_tried || !was_asked_once {
                    return Some(Err(Next::GiveUp));
                }
                // It was certainly not done: it is asked for under another number.
                self.clock += 1;
                asked.number = self.clock;
                Some(Err(Next::Ask(asked.of)))
            }
            // Others may have done it.
            Outcome::NotDone if !was_asked_once => None,
            Outcome::NotDone => Some(Err(Next::Drop)),
        }
    }
}

fn wish(rng: &mut Rng) -> Wish {
    let field = rng.usize(..FIELDS);
    match rng.u32(..8) {
        0..3 => Wish::Read,
        3..5 => Wish::Patch(field, rng.u32(1..1000)),
        5..7 => Wish::Add(field),
        _ => Wish::Swap(field, rng.u32(..3), rng.u32(1..1000)),
    }
}
