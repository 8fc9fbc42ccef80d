//! Data requests, done by the replicas of their blocks.
//!
//! Each block of a request is its own atomic piece, as in memory that is not replicated. All pieces of a request that do
//! not depend on each other go through the same rounds.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use mcomp_quorum::OpId;
use mcomp_wire::replica::{Name, PAGE, Shown};
use mcomp_wire::{AtomicAnswer, BLOCK_SIZE, Cas16Answer, Request, Space, Status, limits};

use super::call::Ended;
use super::page::{self, Answer, Change, Op, Page};
use super::{PATIENCE, Replicas, Want};
use crate::memory::Refusal;

/// Blocks that are worked on at a time: what a request of the longest payload has.
pub(super) const TOGETHER: usize = limits::MAX_PAYLOAD / PAGE + 1;
/// How often memory with a new owner is tried to be zeroed before it is looked whether the server stops.
const ZERO_PATIENCE: Duration = Duration::from_millis(500);
/// Whose operations those are that zero memory.
const ZEROER: u64 = u64::from_le_bytes(*b"zeroes!!");

/// Who asks for a request: under which name, and with which fence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) name: Name,
    pub(crate) fence: Shown,
}

/// What of a range lies in one block.
#[derive(Clone, Copy, Debug)]
struct Piece {
    block: u64,
    within: usize,
    len: usize,
    /// Bytes of the range before it.
    skip: usize,
}

impl Replicas {
    /// Does `request` under a name, and appends the body of its answer. After a refusal `out` may hold a part of one.
    pub(crate) fn execute(&self, request: &Request<'_>, asker: Asker, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if asker.fence.number != 0 {
            self.show(request, asker)?;
        }
        match *request {
            Request::Batch(batch) => {
                self.batch(batch, asker, out);
                Ok(())
            }
            Request::Copy { from, to, len } => self.copy(from, to, len, asker),
            Request::Compare { addr, data } => self.compare(addr, data, out),
            Request::Checksum { addr, len } => {
                let mut hasher = crc32fast::Hasher::new();
                self.see(&self.pieces(addr, len)?, |bytes| {
                    hasher.update(bytes);
                    true
                })?;
                out.extend_from_slice(&hasher.finalize().to_le_bytes());
                Ok(())
            }
            Request::ReadV(ranges) => {
                let mut pieces = Vec::new();
                for (addr, len) in ranges.iter() {
                    pieces.extend(self.pieces(addr, len)?);
                }
                self.append(&pieces, out)
            }
            Request::Read { addr, len } => self.append(&self.pieces(addr, len)?, out),
            Request::Fill { addr, len, .. } => {
                let pieces = self.pieces(addr, len)?;
                for some in pieces.chunks(TOGETHER) {
                    let mut wants = Vec::with_capacity(some.len());
                    for piece in some {
                        self.wants(request, piece, asker, &mut wants);
                    }
                    done(&self.run(wants, PATIENCE))?;
                }
                Ok(())
            }
            Request::Write { .. } | Request::WriteV(..) | Request::Atomic { .. } | Request::Cas16 { .. } => {
                let wants = self.simple(request, asker)?;
                answer(request, &self.run(wants, PATIENCE), out)
            }
        }
    }

    /// Shows the fence of a request to all blocks that it reads: a former holder whom a server that is behind still obeys
    /// comes too late from then on. What is written has its fence with it.
    fn show(&self, request: &Request<'_>, asker: Asker) -> Result<(), Refusal> {
        let pieces = match *request {
            Request::Read { addr, len } | Request::Checksum { addr, len } => self.pieces(addr, len)?,
            Request::Copy { from, len, .. } => self.pieces(from, len)?,
            Request::Compare { addr, data } => self.pieces(addr, data.len() as u64)?,
            Request::ReadV(ranges) => {
                let pieces: Result<Vec<_>, _> = ranges.iter().map(|(addr, len)| self.pieces(addr, len)).collect();
                pieces?.concat()
            }
            Request::Batch(batch) => {
                let mut requests = batch.requests();
                return requests.try_for_each(|request| self.show(&request, asker));
            }
            Request::Write { .. }
            | Request::WriteV(..)
            | Request::Fill { .. }
            | Request::Atomic { .. }
            | Request::Cas16 { .. } => return Ok(()),
        };
        let mut blocks: Vec<u64> = pieces.iter().map(|piece| piece.block).collect();
        blocks.dedup();
        for some in blocks.chunks(TOGETHER) {
            let Name { session, number } = self.fresh();
            let touch = |block: &u64| {
                let change = Change { op: Op::Touch, fence: asker.fence };
                (*block, Want::Write(OpId { session, number }, change))
            };
            done(&self.run(some.iter().map(touch).collect(), PATIENCE))?;
        }
        Ok(())
    }

    /// What a request wants of blocks, if none of it depends on another part of it.
    pub(super) fn simple(&self, request: &Request<'_>, asker: Asker) -> Result<Vec<(u64, Want)>, Refusal> {
        let mut wants = Vec::new();
        match *request {
            Request::Read { addr, len } => {
                wants.extend(self.pieces(addr, len)?.iter().map(|piece| (piece.block, Want::Read)));
            }
            Request::WriteV(ranges, data) => {
                let mut rest = data;
                for (index, (addr, len)) in ranges.iter().enumerate() {
                    let (head, tail) = rest.split_at(len as usize);
                    let asker = asker.nth(index);
                    for piece in self.pieces(addr, len)? {
                        self.wants(&Request::Write { addr, data: head }, &piece, asker, &mut wants);
                    }
                    rest = tail;
                }
            }
            Request::Write { addr, data } => {
                for piece in self.pieces(addr, data.len() as u64)? {
                    self.wants(request, &piece, asker, &mut wants);
                }
            }
            Request::Fill { addr, len, .. } => {
                for piece in self.pieces(addr, len)? {
                    self.wants(request, &piece, asker, &mut wants);
                }
            }
            Request::Atomic { addr, .. } => {
                aligned(addr, 8)?;
                for piece in self.pieces(addr, 8)? {
                    self.wants(request, &piece, asker, &mut wants);
                }
            }
            Request::Cas16 { addr, .. } => {
                aligned(addr, 16)?;
                for piece in self.pieces(addr, 16)? {
                    self.wants(request, &piece, asker, &mut wants);
                }
            }
            _ => unreachable!("a request with parts that depend on each other"),
        }
        Ok(wants)
    }

    /// The change that a request makes to one of its blocks.
    fn wants(&self, request: &Request<'_>, piece: &Piece, asker: Asker, wants: &mut Vec<(u64, Want)>) {
        let Piece { block, within, len, skip } = *piece;
        let op = match *request {
            Request::Write { data, .. } => match <&[u8; PAGE]>::try_from(&data[skip..skip + len]) {
                Ok(whole) => Op::Page(page::copied(whole)),
                Err(_) => Op::Patch { within, bytes: data[skip..skip + len].into() },
            },
            Request::Fill { byte, .. } => Op::Fill { within, len, byte },
            Request::Atomic { op, operand, expected, .. } => Op::Atomic { within, op, operand, expected },
            Request::Cas16 { expected, new, .. } => Op::Cas16 { within, expected, new },
            _ => unreachable!("a request that changes nothing"),
        };
        wants.push((block, Want::Write(asker.id(), Change { op, fence: asker.fence })));
    }

    /// Appends the bytes of pieces.
    fn append(&self, pieces: &[Piece], out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.see(pieces, |bytes| {
            out.extend_from_slice(bytes);
            true
        })
    }

    /// Gives the bytes of pieces to `see`, in their order, until it has seen enough.
    fn see(&self, pieces: &[Piece], mut see: impl FnMut(&[u8]) -> bool) -> Result<(), Refusal> {
        for some in pieces.chunks(TOGETHER) {
            let wants = some.iter().map(|piece| (piece.block, Want::Read)).collect();
            for (ended, piece) in self.run(wants, PATIENCE).iter().zip(some) {
                let page = page_of(ended)?;
                if !see(&page.bytes[piece.within..piece.within + piece.len]) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn compare(&self, addr: u64, data: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let (mut at, mut first) = (0, u64::MAX);
        self.see(&self.pieces(addr, data.len() as u64)?, |bytes| {
            let wanted = &data[at..at + bytes.len()];
            if bytes != wanted {
                first = (at + bytes.iter().zip(wanted).take_while(|(a, b)| a == b).count()) as u64;
                return false;
            }
            at += bytes.len();
            true
        })?;
        out.extend_from_slice(&first.to_le_bytes());
        Ok(())
    }

    /// Copies a megabyte at a time; towards higher addresses from the end on, as `memmove` does.
    fn copy(&self, from: u64, to: u64, len: u64, asker: Asker) -> Result<(), Refusal> {
        self.pieces(from, len)?;
        self.pieces(to, len)?;
        let step = (limits::MAX_PAYLOAD as u64).min(len.max(1));
        let steps = len.div_ceil(step);
        for count in 0..steps {
            let at = if to > from { steps - 1 - count } else { count } * step;
            let part = step.min(len - at);
            let mut bytes = Vec::with_capacity(part as usize);
            self.append(&self.pieces(from + at, part)?, &mut bytes)?;
            let write = Request::Write { addr: to + at, data: &bytes };
            // Two parts may meet in one block.
            let wants = self.simple(&write, asker.nth(count as usize))?;
            let written = done(&self.run(wants, PATIENCE));
            written.map_err(|refusal| if count > 0 { in_part(refusal) } else { refusal })?;
        }
        Ok(())
    }

    /// Zeroes memory that has a new owner since an entry of the metadata. It takes as long as it takes, unless the server
    /// stops.
    pub(crate) fn zero(&self, addr: u64, len: u64, generation: u64) {
        let Ok(pieces) = self.pieces(addr, len) else { return };
        for some in pieces.chunks(TOGETHER) {
            let reads = self.run(some.iter().map(|piece| (piece.block, Want::Read)).collect(), ZERO_PATIENCE);
            let is_zero = |piece: &Piece, read: &Ended| {
                let Ended::Read(page) = read else { return false };
                page.generation >= generation || page.bytes[piece.within..][..piece.len].iter().all(|byte| *byte == 0)
            };
            let mut left: Vec<Piece> = some
                .iter()
                .zip(&reads)
                .filter(|(piece, read)| !is_zero(piece, read))
                .map(|(piece, _)| *piece)
                .collect();
            while !left.is_empty() && !self.is_stopping() {
                let Name { number, .. } = self.fresh();
                let want = |piece: &Piece| {
                    let op = Op::Zero { within: piece.within, len: piece.len, generation };
                    (piece.block, Want::Write(OpId { session: ZEROER, number }, Change { op, fence: Shown::default() }))
                };
                let ended = self.run(left.iter().map(want).collect(), ZERO_PATIENCE);
                let is_open = |ended: &Ended| !matches!(ended, Ended::Wrote(_));
                left =
                    left.into_iter().zip(&ended).filter(|(_, ended)| is_open(ended)).map(|(piece, _)| piece).collect();
            }
        }
    }

    /// A name for an operation whose asker gives it none: if he sends it again it is another one.
    pub(crate) fn fresh(&self) -> Name {
        let now = number_of_now(Duration::ZERO);
        let next = |last: u64| Some(last.saturating_add(STEP).max(now));
        // Relaxed: a number that grows.
        let last = self.clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        Name { session: self.session, number: next(last).unwrap_or(last) }
    }

    /// Refuses a name from so far in the future that the clocks of blocks would leave everybody else behind: after the
    /// greatest number of all nothing could be done to a block any more.
    pub(crate) fn check_name(name: Name) -> Result<(), Refusal> {
        if name.number <= number_of_now(AHEAD) {
            return Ok(());
        }
        let message =
            format!("the number {} of this operation is of a day that has not come: set the clock", name.number);
        Err(Refusal::new(Status::Malformed, message))
    }

    /// The pieces of a range, if this server keeps all of its blocks.
    fn pieces(&self, addr: u64, len: u64) -> Result<Vec<Piece>, Refusal> {
        let space = Space::new(self.part * BLOCK_SIZE, self.servers()).expect("a checked config has a space");
        space.check(addr, len)?;
        let mut pieces = Vec::with_capacity((len / BLOCK_SIZE) as usize + 2);
        let mut done = 0;
        while done < len {
            let (block, within) = ((addr + done) / BLOCK_SIZE, (addr + done) % BLOCK_SIZE);
            let part = (BLOCK_SIZE - within).min(len - done);
            if self.replica_of(self.id, block).is_none() {
                let message = format!("address {addr} + {len} bytes is not in the memory that this server keeps");
                // Who asks may not know that the copies have moved.
                let status = if self.has_grown { Status::Unavailable } else { Status::OutOfRange };
                return Err(Refusal::new(status, message));
            }
            pieces.push(Piece { block, within: within as usize, len: part as usize, skip: done as usize });
            done += part;
        }
        Ok(pieces)
    }
}

/// Numbers of one microsecond: as many as a batch has items.
const STEP: u64 = limits::MAX_BATCH as u64;
/// How far clocks may be apart.
const AHEAD: Duration = Duration::from_secs(86_400);

/// The number with which names begin at this time of day, or so much later.
fn number_of_now(later: Duration) -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.saturating_add(later).as_micros() as u64).saturating_mul(STEP)
}

impl Asker {
    /// Who asks for a part of a request.
    pub(super) fn nth(self, index: usize) -> Asker {
        let number = self.name.number.saturating_add(index as u64);
        Asker { name: Name { number, ..self.name }, ..self }
    }

    fn id(self) -> OpId {
        OpId { session: self.name.session, number: self.name.number }
    }
}

fn aligned(addr: u64, size: u64) -> Result<(), Refusal> {
    match addr.is_multiple_of(size) {
        true => Ok(()),
        false => Err(crate::memory::unaligned(addr, size)),
    }
}

/// Appends the answer to a request whose parts have ended so.
pub(super) fn answer(request: &Request<'_>, ended: &[Ended], out: &mut Vec<u8>) -> Result<(), Refusal> {
    match request {
        Request::Read { addr, len } => {
            let mut within = (addr % BLOCK_SIZE) as usize;
            let mut left = *len as usize;
            for ended in ended {
                let part = left.min(PAGE - within);
                out.extend_from_slice(&page_of(ended)?.bytes[within..within + part]);
                left -= part;
                within = 0;
            }
        }
        Request::Atomic { .. } => {
            let Answer { previous, applied, .. } = done(ended)?.expect("an atomic has one block");
            out.extend_from_slice(&AtomicAnswer { previous: previous as u64, applied }.emit());
        }
        Request::Cas16 { .. } => {
            let Answer { previous, applied, .. } = done(ended)?.expect("an atomic has one block");
            out.extend_from_slice(&Cas16Answer { previous, applied }.emit());
        }
        _ => drop(done(ended)?),
    }
    Ok(())
}

fn page_of(ended: &Ended) -> Result<&Page, Refusal> {
    match ended {
        Ended::Read(page) => Ok(page),
        _ => Err(unavailable()),
    }
}

/// The last answer, if all parts were done.
fn done(ended: &[Ended]) -> Result<Option<Answer>, Refusal> {
    let (mut last, mut wrote, mut unknown, mut not_done, mut clock) = (None, false, false, false, None);
    let mut late = false;
    for ended in ended {
        match ended {
            Ended::Wrote(Answer { is_late: true, .. }) => late = true,
            Ended::Wrote(answer) => (last, wrote) = (Some(*answer), true),
            Ended::Unknown => unknown = true,
            Ended::NotDone | Ended::Read(_) => not_done = true,
            Ended::Forgotten(at) => clock = clock.max(Some(*at)),
        }
    }
    if late && !wrote && !unknown {
        let message = "the fence holds no more: a later one was shown here";
        return Err(Refusal::new(Status::Guarded, message));
    }
    match (unknown || wrote && (late || not_done || clock.is_some()), not_done, clock) {
        (true, ..) => {
            let message = "no majority of the replicas has answered in time: it may have been done, or may be yet";
            Err(Refusal { clock, ..Refusal::new(Status::Unknown, message) })
        }
        (_, true, _) => Err(Refusal { clock, ..unavailable() }),
        (_, _, Some(at)) => {
            let message = "the name of this operation is too old: it was not done now";
            Err(Refusal { clock: Some(at), ..Refusal::new(Status::Forgotten, message) })
        }
        _ => Ok(last),
    }
}

fn unavailable() -> Refusal {
    Refusal::new(Status::Unavailable, "no majority of the replicas has answered in time; nothing was done")
}

fn in_part(refusal: Refusal) -> Refusal {
    Refusal { status: Status::Unknown, message: format!("{}; another part of it was done", refusal.message), ..refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_uses_up_the_numbers_of_a_block() {
        let named = |number| Replicas::check_name(Name { session: 1, number });
        assert!(named(0).is_ok() && named(number_of_now(Duration::ZERO)).is_ok());
        for number in [u64::MAX, number_of_now(2 * AHEAD)] {
            let refused = named(number).unwrap_err();
            assert!(refused.status == Status::Malformed && refused.message.contains("set the clock"), "{refused:?}");
        }
    }
}
