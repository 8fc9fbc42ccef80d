//! The frames of a batch: which parts of which items travel together, and how their answers come back.

use std::cell::Cell;

use mcomp_wire::replica::Name;
use mcomp_wire::{AtomicAnswer, AtomicOp, Cas16Answer, Kind, Malformed, Piece, Request, Status, emit_item, limits};

use super::{BatchOutcome, Item, Progress, What};
use crate::ask::Ask;
use crate::peer::Peer;
use crate::replicated::is_for_another;
use crate::{Error, Exchanged, Exchanged16};

/// Bytes of an item's own header, in a request and in an answer.
const ITEM_HEADER: usize = 8;

/// A part that another replica is to be asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) index: usize,
    pub(super) status: Status,
}

/// The part of an item that one frame holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    item: usize,
    addr: u64,
    len: u64,
}

impl Part {
    /// The part of item number `item` that `piece` is.
    pub(super) fn new(item: usize, piece: Piece) -> Part {
        Part { item, addr: piece.addr, len: piece.len }
    }

    /// What it takes up in a frame.
    pub(super) fn weight(&self, item: &Item<'_>) -> Weight {
        let (body, answer, filled) = match &item.what {
            What::Read { .. } | What::ReadInto(_) => (16, self.len as usize, 0),
            What::Write(_) => (8 + self.len as usize, 0, 0),
            // It says little about how long it takes.
            What::Fill { .. } => (24, 0, self.len),
            What::Atomic { .. } => (32, AtomicAnswer::LEN, 0),
            What::Cas16 { .. } => (40, Cas16Answer::LEN, 0),
        };
        Weight { request_len: ITEM_HEADER + body, answer_len: ITEM_HEADER + answer, filled, modifies: item.modifies() }
    }

    /// The request for it.
    fn request<'i>(&self, item: &'i Item<'_>) -> Request<'i> {
        let Part { addr, len, .. } = *self;
        match &item.what {
            What::Read { .. } | What::ReadInto(_) => Request::Read { addr, len },
            What::Write(data) => {
                let offset = self.offset(item);
                Request::Write { addr, data: &data[offset..offset + len as usize] }
            }
            What::Fill { byte, .. } => Request::Fill { addr, len, byte: *byte },
            What::Atomic { op, operand, expected } => {
                Request::Atomic { addr, op: *op, operand: *operand, expected: *expected }
            }
            What::Cas16 { expected, new } => Request::Cas16 { addr, expected: *expected, new: *new },
        }
    }

    /// Where it begins in the item's bytes.
    fn offset(&self, item: &Item<'_>) -> usize {
        (self.addr - item.addr) as usize
    }

    /// Completes the item's outcome with the part's good answer.
    fn take(&self, item: &Item<'_>, body: &[u8], progress: &mut Progress<'_>) -> Result<(), Malformed> {
        match &item.what {
            What::Read { .. } | What::ReadInto(_) if body.len() as u64 != self.len => return Err(Malformed::Short),
            What::Read { .. } | What::ReadInto(_) => progress.found(self.item, &item.what, self.offset(item), body),
            What::Atomic { op, .. } => {
                let AtomicAnswer { previous, applied } = AtomicAnswer::parse(body)?;
                let outcome = match op {
                    AtomicOp::CompareExchange => BatchOutcome::Exchanged(Exchanged { swapped: applied, previous }),
                    _ => BatchOutcome::Previous(previous),
                };
                progress.set(self.item, outcome);
            }
            What::Cas16 { .. } => {
                let Cas16Answer { previous, applied } = Cas16Answer::parse(body)?;
                progress.set(self.item, BatchOutcome::Exchanged16(Exchanged16 { swapped: applied, previous }));
            }
            What::Write(_) | What::Fill { .. } => {}
        }
        Ok(())
    }
}

/// What a part takes up in a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    request_len: usize,
    answer_len: usize,
    filled: u64,
    modifies: bool,
}

/// The parts that travel in one frame.
///
/// Invariants: at most [`limits::MAX_BATCH`] parts; request and answer each at most
/// [`limits::MAX_PAYLOAD`] bytes; all fills together at most [`limits::MAX_SPAN`] bytes, so that one
/// frame takes no longer than one fill may; the answer of a frame that modifies is short enough to be
/// remembered by the server, if it has more than one part.
#[derive(Debug)]
pub(super) struct Frame {
    server: u32,
    parts: Vec<Part>,
    modifies: bool,
    request_len: usize,
    answer_len: usize,
    filled: u64,
    is_answered: Cell<bool>,
}

impl Frame {
    /// An empty frame that will take about `parts` parts.
    pub(super) fn new(server: u32, parts: usize) -> Frame {
        Frame {
            server,
            parts: Vec::with_capacity(parts),
            modifies: false,
            request_len: 0,
            answer_len: 0,
            filled: 0,
            is_answered: Cell::new(false),
        }
    }

    /// The server it goes to.
    pub(super) fn server(&self) -> u32 {
        self.server
    }

    /// Whether it may change memory.
    pub(super) fn modifies(&self) -> bool {
        self.modifies
    }

    /// Whether every part has its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.get()
    }

    /// Whether another part fits.
    pub(super) fn has_room(&self, part: &Weight) -> bool {
        let is_remembered = self.modifies || part.modifies;
        let most = if is_remembered { limits::MAX_REMEMBERED_BYTES } else { limits::MAX_PAYLOAD };
        self.parts.len() < limits::MAX_BATCH
            && self.request_len + part.request_len <= limits::MAX_PAYLOAD
            && self.answer_len + part.answer_len <= most
            && self.filled + part.filled <= limits::MAX_SPAN
    }

    /// Adds a part, for which there is room or which is the first.
    pub(super) fn push(&mut self, part: Part, weight: &Weight) {
        self.modifies |= weight.modifies;
        self.request_len += weight.request_len;
        self.answer_len += weight.answer_len;
        self.filled += weight.filled;
        self.parts.push(part);
    }

    /// The frame as one request.
    pub(super) fn ask<'x>(&self, tag: u64, items: &[Item<'_>]) -> Ask<'x> {
        let mut body = Vec::with_capacity(self.request_len);
        self.parts.iter().for_each(|part| emit_item(&part.request(&items[part.item]), &mut body));
        Ask::of_bytes(tag, Kind::Batch, body, self.answer_len, self.modifies)
    }

    /// Gives every part its answer. An answer that does not fit the request fails what is left.
    pub(super) fn take(
        &self,
        body: &[u8],
        items: &[Item<'_>],
        progress: &mut Progress<'_>,
        peer: &Peer,
        again: Option<&mut Vec<Again>>,
    ) -> Result<(), Error> {
        let mut again = again;
        let wrong = |error: Malformed| peer.protocol(error.to_string());
        let answers = mcomp_wire::Batch::parse_answer(body).map_err(wrong)?;
        if answers.len() != self.parts.len() {
            return Err(peer.protocol(format!("{} answers to {} requests", answers.len(), self.parts.len())));
        }
        for (index, (part, answer)) in self.parts.iter().zip(answers.items()).enumerate() {
            let item = &items[part.item];
            let status = Status::from_wire(answer.status);
            if let Some(again) = &mut again
                && is_for_another(status)
            {
                again.push(Again { index, status });
                continue;
            }
            if answer.status == Status::Ok as u16 {
                part.take(item, answer.body, progress).map_err(wrong)?;
                if item.modifies() {
                    progress.changed(part.item, self.server);
                }
            } else {
                let message = limits::sentence(answer.body);
                progress.fail(part.item, peer.refused(Status::from_wire(answer.status), message));
            }
            progress.close_part(part.item);
        }
        self.is_answered.set(true);
        Ok(())
    }

    /// One of its parts as a request of its own, under the name that it has in the frame; tagged by its index.
    pub(super) fn ask_part<'x>(&self, index: usize, items: &'x [Item<'_>], name: Option<Name>) -> Ask<'x> {
        let part = &self.parts[index];
        let mut ask = Ask::new(index as u64, part.request(&items[part.item]));
        ask.name = name.map(|name| Name { number: name.number + index as u64, ..name });
        ask
    }

    /// Takes the answer to one part that was asked again, or why there is none.
    pub(super) fn close(
        &self,
        index: usize,
        answer: Result<Vec<u8>, Error>,
        items: &[Item<'_>],
        progress: &mut Progress<'_>,
        peer: &Peer,
    ) {
        let part = &self.parts[index];
        let item = &items[part.item];
        let taken =
            answer.and_then(|body| part.take(item, &body, progress).map_err(|error| peer.protocol(error.to_string())));
        match taken {
            Ok(()) if item.modifies() => progress.changed(part.item, self.server),
            Ok(()) => {}
            Err(error) => progress.fail(part.item, error),
        }
        progress.close_part(part.item);
    }

    /// Notes that none of it was answered.
    pub(super) fn fail(&self, progress: &mut Progress<'_>, error: &Error) {
        self.parts.iter().for_each(|part| progress.fail(part.item, error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_of_one_frame_take_no_longer_than_one_may() {
        let item = |what| Item { addr: 0, what };
        let part = |len| Part::new(0, Piece { server: 0, addr: 0, len });
        let fill = |len| part(len).weight(&item(What::Fill { len, byte: 0 }));
        let mut frame = Frame::new(0, 0);
        frame.push(part(limits::MAX_SPAN - 1), &fill(limits::MAX_SPAN - 1));
        assert!(frame.has_room(&fill(1)));
        assert!(!frame.has_room(&fill(2)));
        assert!(frame.has_room(&part(64).weight(&item(What::Write(vec![0; 64].into())))));
    }

    #[test]
    fn a_part_weighs_what_is_sent_and_answered() {
        let mut buffer = [0; 5];
        for what in [
            What::Read { len: 5 },
            What::ReadInto(&mut buffer),
            What::Write(vec![0; 5].into()),
            What::Fill { len: 5, byte: 0 },
            What::Atomic { op: AtomicOp::Add, operand: 1, expected: 0 },
            What::Cas16 { expected: 0, new: 1 },
        ] {
            let item = Item { addr: 0, what };
            let part = Part::new(0, Piece { server: 0, addr: 0, len: 5 });
            let (request, weight) = (part.request(&item), part.weight(&item));
            let mut sent = Vec::new();
            emit_item(&request, &mut sent);
            assert_eq!(weight.request_len, sent.len(), "{request:?}");
            assert_eq!(weight.answer_len as u64, ITEM_HEADER as u64 + request.answer_len(), "{request:?}");
            assert_eq!(weight.modifies, request.modifies(), "{request:?}");
        }
    }
}
