//! Data requests: each is answered from memory if it was done before, and otherwise done on the segment.

use std::time::{Duration, Instant};

use mcomp_net::{Received, begin_frame};
use mcomp_wire::meta::Fence;
use mcomp_wire::replica::{Name, Shown};
use mcomp_wire::{HEADER_LEN, Header, Malformed, Request, Role, Status, flags, limits};

use super::{Connection, End};
use crate::connections::Place;
use crate::counters::Counters;
use crate::memory::{self, Refusal};
use crate::replica::{Asker, Replicas};
use crate::session::Answer;
use crate::shared::{Pass, Shared};

/// How long a request waits for this server to hear of its fence.
const FENCE_PATIENCE: Duration = Duration::from_secs(1);

impl Connection {
    /// Does a data request and appends its answer.
    pub(super) fn data(&mut self, frame: &Received) -> Result<(), End> {
        let header = frame.header;
        let parsed = parse(&header, self.inbox.body(frame));
        let (fence, name, request) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                self.refuse(header, malformed_status(&error), &error.to_string());
                return Ok(());
            }
        };
        // What replicas have done is known by its name.
        let remembers = self.session_id.is_some() && request.modifies() && self.shared.replicas.is_none();
        if remembers && let Some(answer) = self.session.done(header.request_id) {
            let answer = answer.cloned();
            return self.answer_again(header, answer);
        }
        if !self.out.make_room(answer_room(&request)) {
            self.refuse_buffers(header);
            return Ok(());
        }
        if let Some(fence) = fence {
            self.shared.metadata.guards.wait_for_fence(fence.number, FENCE_PATIENCE);
        }
        let pass = if self.role == Role::Admin { Pass::Restorer } else { Pass::Fence(fence) };
        let started = self.shared.oplog.is_some().then(Instant::now);
        let out = &mut self.out.bytes;
        let at = begin_frame(out);
        let (status, was_done) = execute(&self.shared, &self.place, &header, &request, (pass, name), out);
        if status == Status::Ok {
            memory::count(&request, &mut self.tally);
        }
        if remembers && was_done {
            self.session.remember(header.request_id, status, &out[at + HEADER_LEN..]);
        }
        if let (Some(log), Some(started)) = (&self.shared.oplog, started) {
            log.log(self.place.id, &request, status, started.elapsed());
        }
        self.finish.frame(out, at, self.shared.answer_header(&header, status));
        self.answers_data = true;
        Ok(())
    }

    /// Answers a request that was done before, from memory.
    fn answer_again(&mut self, header: Header, answer: Option<Answer>) -> Result<(), End> {
        let known = answer.as_ref().and_then(|answer| Some((answer.status, answer.body.bytes()?)));
        let Some((status, body)) = known else {
            self.refuse(header, Status::ResultLost, "this request was done before; its answer is no longer known");
            return Ok(());
        };
        if !self.out.make_room(body.len()) {
            // Alone it fits into what every connection may have.
            self.flush()?;
            self.out.make_room(body.len());
        }
        let at = begin_frame(&mut self.out.bytes);
        self.out.bytes.extend_from_slice(body);
        let answer = self.shared.answer_header(&header, status);
        self.finish.frame(&mut self.out.bytes, at, answer);
        self.answers_data = true;
        Ok(())
    }
}

/// A data request that was refused: before it was tried, or by the memory.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It had no effect and may be tried again.
    Before(Refusal),
    /// It was tried; a second try gets the same answer.
    Done(Refusal),
}

impl Refused {
    /// Counts it and writes the answer's body. Says the status, and whether the request was tried.
    fn tell(self, out: &mut Vec<u8>, counters: &Counters) -> (Status, bool) {
        let (refusal, was_done) = match self {
            Refused::Before(refusal) => (refusal, false),
            Refused::Done(refusal) => (refusal, true),
        };
        refusal.emit(out);
        counters.refuse(refusal.status);
        (refusal.status, was_done)
    }
}

/// Does a request and appends the body of its answer. Says how it went, and whether it was tried.
fn execute(
    shared: &Shared,
    place: &Place,
    header: &Header,
    request: &Request<'_>,
    (pass, name): (Pass, Option<Name>),
    out: &mut Vec<u8>,
) -> (Status, bool) {
    let body = out.len();
    place.activity.begin();
    let admitted = shared.admit(place.id, header, request, pass);
    let done = admitted.and_then(|()| {
        let executed = match &shared.replicas {
            None => shared.memory.execute(request, out),
            Some(replicas) => {
                name.map_or(Ok(()), Replicas::check_name).map_err(Refused::Before)?;
                let name = name.unwrap_or_else(|| replicas.fresh());
                let shown = |fence: Fence| Shown { id: fence.id.as_u64_pair().1, number: fence.number };
                let fence = if let Pass::Fence(Some(fence)) = pass { shown(fence) } else { Shown::default() };
                replicas.execute(request, Asker { name, fence }, out)
            }
        };
        executed.map_err(Refused::Done)
    });
    place.activity.end();
    match done {
        Ok(()) => (Status::Ok, true),
        Err(refused) => {
            out.truncate(body);
            refused.tell(out, &shared.counters)
        }
    }
}

/// Bytes that the answer's body may take: also when it, or items of a batch, are refused.
fn answer_room(request: &Request<'_>) -> usize {
    let sentences = if let Request::Batch(_) = request { limits::MAX_BATCH_SENTENCES } else { 0 };
    request.answer_len() as usize + sentences + limits::MAX_MESSAGE
}

/// What a data request says: its fence, if it shows one, the name of the operation, if it has one, and what is wanted.
type Said<'a> = (Option<Fence>, Option<Name>, Request<'a>);

fn parse<'a>(header: &Header, mut body: &'a [u8]) -> Result<Said<'a>, Malformed> {
    let (mut fence, mut name) = (None, None);
    if header.flags & flags::FENCED != 0 {
        let (shown, rest) = Fence::parse(body)?;
        (fence, body) = (Some(shown), rest);
    }
    if header.flags & flags::NAMED != 0 {
        let (given, rest) = Name::parse(body)?;
        (name, body) = (Some(given), rest);
    }
    Ok((fence, name, Request::parse(header.kind, body)?))
}

fn malformed_status(error: &Malformed) -> Status {
    match error {
        Malformed::TooLarge { .. } | Malformed::TooMany { .. } => Status::TooLarge,
        _ => Status::Malformed,
    }
}
