//! How far the items of a batch have come, and what became of them.

use super::{BatchOutcome, Item, What};
use crate::cluster::{PIECE, zeros};
use crate::{Cluster, Error, Outcome};

/// What is known of each item, in their order.
///
/// An item is done when it has no open part and did not fail: a part that nobody accounts for never
/// becomes a success.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    outcomes: Vec<Result<BatchOutcome, Error>>,
    open: Vec<Open<'a>>,
}

#[derive(Debug, Default)]
struct Open<'a> {
    /// Parts without an answer.
    parts: usize,
    /// A server where a part changed memory.
    done_at: Option<u32>,
    /// The caller's buffer for a read.
    buffer: &'a mut [u8],
}

impl<'a> Progress<'a> {
    /// Room for so many items.
    pub(super) fn new(items: usize) -> Progress<'a> {
        Progress { outcomes: Vec::with_capacity(items), open: Vec::with_capacity(items) }
    }

    /// Adds an item that must not be sent.
    pub(super) fn refuse(&mut self, error: Error) {
        self.outcomes.push(Err(error));
        self.open.push(Open::default());
    }

    /// Adds an item, and takes its buffer if it has one. Whether it may be sent: this machine has room for the
    /// answer.
    pub(super) fn begin(&mut self, item: &mut Item<'a>) -> bool {
        let mut open = Open::default();
        let outcome = match &mut item.what {
            // The bytes of one part are allocated when they are here.
            What::Read { len } if *len > PIECE => zeros(*len).map(BatchOutcome::Bytes),
            What::Read { .. } => Ok(BatchOutcome::Bytes(Vec::new())),
            What::ReadInto(buffer) => {
                open.buffer = std::mem::take(buffer);
                Ok(BatchOutcome::Done)
            }
            _ => Ok(BatchOutcome::Done),
        };
        let is_well = outcome.is_ok();
        self.outcomes.push(outcome);
        self.open.push(open);
        is_well
    }

    /// Notes that a part of the item begun last is to be sent.
    pub(super) fn expect_part(&mut self) {
        self.open.last_mut().expect("a part belongs to an item").parts += 1;
    }

    /// Notes that a part was answered, with success or not.
    pub(super) fn close_part(&mut self, item: usize) {
        self.open[item].parts -= 1;
    }

    /// Notes that a part changed memory at `server`.
    pub(super) fn changed(&mut self, item: usize, server: u32) {
        self.open[item].done_at = Some(server);
    }

    /// Puts what was found `offset` bytes into a read where it belongs.
    pub(super) fn found(&mut self, item: usize, what: &What<'_>, offset: usize, body: &[u8]) {
        if let What::ReadInto(_) = what {
            return self.open[item].buffer[offset..offset + body.len()].copy_from_slice(body);
        }
        let (What::Read { len }, Ok(BatchOutcome::Bytes(bytes))) = (what, &mut self.outcomes[item]) else { return };
        if bytes.is_empty() {
            match room_for(*len, body.len()) {
                Ok(room) => *bytes = room,
                Err(error) => return self.fail(item, error),
            }
        }
        if bytes.len() < body.len() {
            // It is the only part, and there is room for it.
            bytes.extend_from_slice(body);
        } else {
            bytes[offset..offset + body.len()].copy_from_slice(body);
        }
    }

    /// Notes what an item of one part found.
    pub(super) fn set(&mut self, item: usize, outcome: BatchOutcome) {
        self.outcomes[item] = Ok(outcome);
    }

    /// Notes that a part failed. The first failure stands, unless a later one leaves more open.
    pub(super) fn fail(&mut self, item: usize, error: Error) {
        let first = self.outcomes[item].as_ref().err().map(Error::outcome);
        if first.is_none() || (first, error.outcome()) == (Some(Outcome::Fail), Outcome::Unknown) {
            self.outcomes[item] = Err(error);
        }
    }

    /// What came of the whole items.
    pub(super) fn finish(mut self, cluster: &Cluster) -> Vec<Result<BatchOutcome, Error>> {
        for (outcome, open) in self.outcomes.iter_mut().zip(&self.open) {
            match (&mut *outcome, open.done_at) {
                (Ok(_), _) => assert_eq!(open.parts, 0, "parts of a batch item were neither answered nor failed"),
                (Err(error), Some(server)) => *outcome = Err(cluster.pool(server).peer().in_part(error.clone())),
                (Err(_), None) => {}
            }
        }
        self.outcomes
    }
}

/// Room for a read of `len` bytes of which a part of `part_len` is here: empty if it is all of it, zeros otherwise.
fn room_for(len: u64, part_len: usize) -> Result<Vec<u8>, Error> {
    if part_len as u64 != len {
        return zeros(len);
    }
    let mut room = Vec::new();
    room.try_reserve_exact(part_len).map_err(|_| Error::TooLarge { len, max: isize::MAX as u64 })?;
    Ok(room)
}
