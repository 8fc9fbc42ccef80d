//! A batch: many data requests in one frame, answered in one frame, in order.
//!
//! Each item is an 8-byte item header (kind, zero, status, length) and the body that the same
//! request would have in a frame of its own. Items are independent: one that fails answers with its
//! status and the next is done all the same. A batch inside a batch is malformed.

use crate::{Kind, Malformed, Request, Status, limits};

const ITEM_HEADER: usize = 8;

/// The items of a batch, read in place. Invariant: every item has a known data kind and a
/// well-formed body, and there are at most [`limits::MAX_BATCH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    count: usize,
}

/// One item of a batch or of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchItem<'a> {
    /// The kind as a number.
    pub kind: u8,
    /// The status as a number; zero in a request.
    pub status: u16,
    /// The item's body.
    pub body: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Checks every item of a request batch before any is done.
    pub fn parse(body: &'a [u8]) -> Result<Batch<'a>, Malformed> {
        let batch = Batch::parse_answer(body)?;
        let (mut answer_bytes, mut touched_bytes) = (0u64, 0u64);
        for item in batch.items() {
            // The status is for answers.
            if item.status != 0 {
                return Err(Malformed::Reserved);
            }
            let request = Request::parse_single(item.kind, item.body)?;
            answer_bytes += request.answer_len();
            touched_bytes += request.touched_len();
        }
        let maxima = [(answer_bytes, limits::MAX_PAYLOAD as u64), (touched_bytes, limits::MAX_SPAN)];
        match maxima.into_iter().find(|(length, max)| length > max) {
            Some((length, max)) => Err(Malformed::TooLarge { length, max }),
            None => Ok(batch),
        }
    }

    /// Checks the framing of the items of an answer.
    pub fn parse_answer(body: &'a [u8]) -> Result<Batch<'a>, Malformed> {
        let mut count = 0;
        let mut rest = body;
        while !rest.is_empty() {
            (_, rest) = split_item(rest)?;
            count += 1;
            if count > limits::MAX_BATCH {
                return Err(Malformed::TooMany { count, max: limits::MAX_BATCH });
            }
        }
        Ok(Batch { bytes: body, count })
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The items in order.
    pub fn items(&self) -> impl Iterator<Item = BatchItem<'a>> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (item, after) = split_item(rest).expect("checked when the batch was parsed");
            rest = after;
            Some(item)
        })
    }

    /// The requests in order.
    pub fn requests(&self) -> impl Iterator<Item = Request<'a>> + use<'a> {
        self.items().map(|item| Request::parse_single(item.kind, item.body).expect("checked when the batch was parsed"))
    }
}

/// Appends a request to a batch under construction.
pub fn emit_item(request: &Request<'_>, out: &mut Vec<u8>) {
    let at = begin_item(request.kind() as u8, out);
    request.emit(out);
    end_item(at, Status::Ok, out);
}

/// Appends an answer: `write` appends the item's body and says how it went.
pub fn emit_answer_item(kind: Kind, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Status) {
    let at = begin_item(kind as u8, out);
    let status = write(out);
    end_item(at, status, out);
}

fn begin_item(kind: u8, out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    at
}

fn end_item(at: usize, status: Status, out: &mut [u8]) {
    let length = (out.len() - at - ITEM_HEADER) as u32;
    out[at + 2..at + 4].copy_from_slice(&(status as u16).to_le_bytes());
    out[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
}

fn split_item(bytes: &[u8]) -> Result<(BatchItem<'_>, &[u8]), Malformed> {
    let (head, rest) = bytes.split_at_checked(ITEM_HEADER).ok_or(Malformed::Short)?;
    if head[1] != 0 {
        return Err(Malformed::Reserved);
    }
    let status = u16::from_le_bytes([head[2], head[3]]);
    let length = u32::from_le_bytes(head[4..].try_into().expect("four bytes")) as usize;
    let (body, rest) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
    Ok((BatchItem { kind: head[0], status, body }, rest))
}
