//! The frames of a batch: which parts of which items travel together, and how their answers come back.

use mcomp_wire::{AtomicAnswer, AtomicOp, Cas16Answer, Kind, Malformed, Piece, Request, Status, emit_item, limits};

use super::{BatchOutcome, Item, Progress};
use crate::ask::Ask;
use crate::peer::Peer;
use crate::{Error, Exchanged, Exchanged16};

/// Bytes of an item's own header, in a request and in an answer.
const ITEM_HEADER: usize = 8;

/// The part of an item that one frame holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    item: usize,
    offset: u64,
    piece: Piece,
}

impl Part {
    /// The part of item number `item` that begins `offset` bytes into it.
    pub(super) fn new(item: usize, offset: u64, piece: Piece) -> Part {
        Part { item, offset, piece }
    }

    /// The request for it.
    pub(super) fn request<'i>(&self, item: &'i Item<'_>) -> Request<'i> {
        let Piece { addr, len, .. } = self.piece;
        match item {
            Item::Read { .. } => Request::Read { addr, len },
            Item::Write { data, .. } => Request::Write { addr, data: &data[self.bytes()] },
            Item::Fill { byte, .. } => Request::Fill { addr, len, byte: *byte },
            Item::Atomic { op, operand, expected, .. } => {
                Request::Atomic { addr, op: *op, operand: *operand, expected: *expected }
            }
            Item::Cas16 { expected, new, .. } => Request::Cas16 { addr, expected: *expected, new: *new },
        }
    }

    /// Where it lies in the item's bytes.
    fn bytes(&self) -> std::ops::Range<usize> {
        self.offset as usize..(self.offset + self.piece.len) as usize
    }

    /// Completes the item's outcome with the part's answer.
    fn take(&self, item: &Item<'_>, body: &[u8], outcome: &mut BatchOutcome) -> Result<(), Malformed> {
        match (item, outcome) {
            (Item::Read { .. }, BatchOutcome::Bytes(bytes)) => {
                if body.len() as u64 != self.piece.len {
                    return Err(Malformed::Short);
                }
                bytes[self.bytes()].copy_from_slice(body);
            }
            (Item::Atomic { op, .. }, outcome) => {
                let AtomicAnswer { previous, applied } = AtomicAnswer::parse(body)?;
                *outcome = match op {
                    AtomicOp::CompareExchange => BatchOutcome::Exchanged(Exchanged { swapped: applied, previous }),
                    _ => BatchOutcome::Previous(previous),
                };
            }
            (Item::Cas16 { .. }, outcome) => {
                let Cas16Answer { previous, applied } = Cas16Answer::parse(body)?;
                *outcome = BatchOutcome::Exchanged16(Exchanged16 { swapped: applied, previous });
            }
            _ => {}
        }
        Ok(())
    }
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
}

impl Frame {
    /// An empty frame.
    pub(super) fn new(server: u32) -> Frame {
        Frame { server, parts: Vec::new(), modifies: false, request_len: 0, answer_len: 0, filled: 0 }
    }

    /// The server it goes to.
    pub(super) fn server(&self) -> u32 {
        self.server
    }

    /// Whether it may change memory.
    pub(super) fn modifies(&self) -> bool {
        self.modifies
    }

    /// Whether another part fits.
    pub(super) fn has_room(&self, request: &Request<'_>) -> bool {
        let (request_len, answer_len) = weights(request);
        let is_remembered = self.modifies || request.modifies();
        let most = if is_remembered { limits::MAX_REMEMBERED_BYTES } else { limits::MAX_PAYLOAD };
        self.parts.len() < limits::MAX_BATCH
            && self.request_len + request_len <= limits::MAX_PAYLOAD
            && self.answer_len + answer_len <= most
            && self.filled + filled(request) <= limits::MAX_SPAN
    }

    /// Adds a part, for which there is room or which is the first.
    pub(super) fn push(&mut self, part: Part, request: &Request<'_>) {
        let (request_len, answer_len) = weights(request);
        self.modifies |= request.modifies();
        self.request_len += request_len;
        self.answer_len += answer_len;
        self.filled += filled(request);
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
        progress: &mut [Progress],
        peer: &Peer,
    ) -> Result<(), Error> {
        let wrong = |error: Malformed| peer.protocol(error.to_string());
        let answers = mcomp_wire::Batch::parse_answer(body).map_err(wrong)?;
        if answers.len() != self.parts.len() {
            return Err(peer.protocol(format!("{} answers to {} requests", answers.len(), self.parts.len())));
        }
        for (part, answer) in self.parts.iter().zip(answers.items()) {
            let (item, of_item) = (&items[part.item], &mut progress[part.item]);
            match Status::from_wire(answer.status) {
                Status::Ok => {
                    part.take(item, answer.body, &mut of_item.outcome).map_err(wrong)?;
                    if !matches!(item, Item::Read { .. }) {
                        of_item.done_at = Some(self.server);
                    }
                }
                status => of_item.fail(peer.refused(status, limits::sentence(answer.body))),
            }
            of_item.open -= 1;
        }
        Ok(())
    }

    /// Notes that none of it was answered.
    pub(super) fn fail(&self, progress: &mut [Progress], error: &Error) {
        self.parts.iter().for_each(|part| progress[part.item].fail(error.clone()));
    }
}

/// Bytes that a request and its answer take in a batch.
fn weights(request: &Request<'_>) -> (usize, usize) {
    let body = match request {
        Request::Write { data, .. } => 8 + data.len(),
        // The longest of the fixed layouts.
        _ => 40,
    };
    (ITEM_HEADER + body, ITEM_HEADER + request.answer_len() as usize)
}

/// Bytes that a fill touches: its request says little about how long it takes.
fn filled(request: &Request<'_>) -> u64 {
    if let Request::Fill { len, .. } = request { *len } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_of_one_frame_take_no_longer_than_one_may() {
        let fill = |len| Request::Fill { addr: 0, len, byte: 0 };
        let part = Part::new(0, 0, Piece { server: 0, addr: 0, len: 1 });
        let mut frame = Frame::new(0);
        frame.push(part, &fill(limits::MAX_SPAN - 1));
        assert!(frame.has_room(&fill(1)));
        assert!(!frame.has_room(&fill(2)));
        assert!(frame.has_room(&Request::Write { addr: 0, data: &[0; 64] }));
    }
}
