//! Data requests, done on the segment.
//!
//! The only place where an address of the cluster becomes an offset of this segment. Every range of
//! a request is checked before any byte of it is touched: a request that does not fit is refused
//! whole. Each block of a request is its own atomic piece.

use std::sync::Arc;

use mcomp_shm::{Segment, Span, Torn};
use mcomp_wire::{
    AtomicAnswer, Batch, Cas16Answer, Kind, OutOfRange, Ranges, Request, Space, Status, emit_answer_item, limits,
};

/// This server's part of the address space.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    segment: Arc<Segment>,
    space: Space,
    first: u64,
}

/// A refusal: the request had no effect.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) message: String,
    /// The clock of a replicated block, from which its asker has to count on.
    pub(crate) clock: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), clock: None }
    }

    /// Appends it as the body of an answer.
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        if self.status == Status::Forgotten {
            out.extend_from_slice(&self.clock.unwrap_or_default().to_le_bytes());
        }
        out.extend_from_slice(self.message.as_bytes());
    }
}

impl From<OutOfRange> for Refusal {
    fn from(error: OutOfRange) -> Refusal {
        Refusal::new(Status::OutOfRange, error.to_string())
    }
}

impl Memory {
    /// The part of server `id`.
    pub(crate) fn new(segment: Arc<Segment>, space: Space, id: u32) -> Memory {
        Memory { segment, space, first: u64::from(id) * space.k() }
    }

    /// Does `request` and appends the body of its answer to `out`. After a refusal `out` may hold a
    /// part of an answer; the caller cuts it off.
    pub(crate) fn execute(&self, request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match *request {
            Request::Read { addr, len } => self.read(addr, len, out),
            Request::Write { addr, data } => {
                let span = self.span(addr, data.len() as u64)?;
                self.segment.write(span, data).map_err(|torn| self.torn(torn))
            }
            Request::Fill { addr, len, byte } => {
                let span = self.span(addr, len)?;
                self.segment.fill(span, byte).map_err(|torn| self.torn(torn))
            }
            Request::Copy { from, to, len } => {
                let (from, to) = (self.span(from, len)?, self.span(to, len)?);
                self.segment.copy(from, to).map_err(|torn| self.torn(torn))
            }
            Request::Compare { addr, data } => {
                let span = self.span(addr, data.len() as u64)?;
                let first = self.segment.compare(span, data).map_err(|torn| self.torn(torn))?;
                out.extend_from_slice(&first.unwrap_or(u64::MAX).to_le_bytes());
                Ok(())
            }
            Request::Checksum { addr, len } => self.checksum(addr, len, out),
            Request::Atomic { addr, op, operand, expected } => {
                self.atomic(addr, |current| op.apply(current, operand, expected), out)
            }
            Request::Cas16 { addr, expected, new } => self.cas16(addr, expected, new, out),
            Request::ReadV(ranges) => self.read_vectored(ranges, out),
            Request::WriteV(ranges, data) => self.write_vectored(ranges, data),
            Request::Batch(batch) => {
                self.batch(batch, out);
                Ok(())
            }
        }
    }

    fn read(&self, addr: u64, len: u64, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let span = self.span(addr, len)?;
        self.segment.read_append(span, out).map_err(|torn| self.torn(torn))
    }

    fn checksum(&self, addr: u64, len: u64, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut hasher = crc32fast::Hasher::new();
        self.segment
            .for_each_block(self.span(addr, len)?, |bytes| hasher.update(bytes))
            .map_err(|torn| self.torn(torn))?;
        out.extend_from_slice(&hasher.finalize().to_le_bytes());
        Ok(())
    }

    fn atomic(&self, addr: u64, apply: impl FnOnce(u64) -> Option<u64>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let offset = self.span(addr, 8)?.offset();
        let word = self.segment.word8(offset).ok_or_else(|| unaligned(addr, 8))?;
        let mut applied = false;
        let previous = self
            .segment
            .update8(word, |current| apply(current).inspect(|_| applied = true))
            .map_err(|torn| self.torn(torn))?;
        out.extend_from_slice(&AtomicAnswer { previous, applied }.emit());
        Ok(())
    }

    fn cas16(&self, addr: u64, expected: u128, new: u128, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let offset = self.span(addr, 16)?.offset();
        let word = self.segment.word16(offset).ok_or_else(|| unaligned(addr, 16))?;
        let previous = self
            .segment
            .update16(word, |current| (current == expected).then_some(new))
            .map_err(|torn| self.torn(torn))?;
        out.extend_from_slice(&Cas16Answer { previous, applied: previous == expected }.emit());
        Ok(())
    }

    fn read_vectored(&self, ranges: Ranges<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        ranges.iter().try_for_each(|(addr, len)| self.read(addr, len, out))
    }

    fn write_vectored(&self, ranges: Ranges<'_>, data: &[u8]) -> Result<(), Refusal> {
        for (addr, len) in ranges.iter() {
            self.segment.refuse_torn_edges(self.span(addr, len)?).map_err(|torn| self.torn(torn))?;
        }
        let mut rest = data;
        for (addr, len) in ranges.iter() {
            let (head, tail) = rest.split_at(len as usize);
            self.segment.write(self.span(addr, len)?, head).map_err(|torn| self.torn(torn))?;
            rest = tail;
        }
        Ok(())
    }

    fn batch(&self, batch: Batch<'_>, out: &mut Vec<u8>) {
        let mut sentence_bytes = 0;
        for request in batch.requests() {
            emit_answer_item(request.kind(), out, |out| {
                let body = out.len();
                match self.execute(&request, out) {
                    Ok(()) => Status::Ok,
                    Err(refusal) => {
                        out.truncate(body);
                        // Many refusals must not make the answer larger than a frame may be.
                        if sentence_bytes < limits::MAX_BATCH_SENTENCES {
                            sentence_bytes += refusal.message.len();
                            refusal.emit(out);
                        }
                        refusal.status
                    }
                }
            });
        }
    }

    /// The span of the segment for a range of the cluster.
    fn span(&self, addr: u64, len: u64) -> Result<Span, Refusal> {
        let offset = addr.checked_sub(self.first);
        match offset.and_then(|offset| self.segment.span(offset, len)) {
            Some(span) => Ok(span),
            None => Err(self.out_of_range(addr, len)),
        }
    }

    fn out_of_range(&self, addr: u64, len: u64) -> Refusal {
        if let Err(outside) = self.space.check(addr, len) {
            return outside.into();
        }
        let end = self.first + self.space.k();
        let message = format!("address {addr} + {len} bytes is not in this server's range {}..{end}", self.first);
        Refusal::new(Status::OutOfRange, message)
    }

    fn torn(&self, torn: Torn) -> Refusal {
        let addr = self.first + torn.block * mcomp_wire::BLOCK_SIZE;
        let message = format!(
            "the block at {addr} was left half-written when its server was killed: write all of it \
             ({} bytes) or restore a snapshot",
            mcomp_wire::BLOCK_SIZE
        );
        Refusal::new(Status::Torn, message)
    }
}

pub(crate) fn unaligned(addr: u64, size: u64) -> Refusal {
    Refusal::new(Status::Unaligned, format!("address {addr} is not a multiple of {size}, as this atomic needs"))
}

/// Payload bytes that a request reads and writes, for the counters.
pub(crate) fn payload(request: &Request<'_>) -> (usize, usize) {
    match request {
        Request::Read { len, .. } => (*len as usize, 0),
        Request::ReadV(ranges) => (ranges.total(), 0),
        Request::Write { data, .. } | Request::WriteV(_, data) => (0, data.len()),
        Request::Fill { len, .. } | Request::Copy { len, .. } => (0, *len as usize),
        Request::Compare { .. } | Request::Checksum { .. } => (0, 0),
        Request::Atomic { .. } => (8, 8),
        Request::Cas16 { .. } => (16, 16),
        Request::Batch(batch) => batch.requests().map(|one| payload(&one)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
    }
}

/// The address a request is about, for the operation log.
pub(crate) fn address(request: &Request<'_>) -> Option<u64> {
    match request {
        Request::Read { addr, .. }
        | Request::Write { addr, .. }
        | Request::Fill { addr, .. }
        | Request::Compare { addr, .. }
        | Request::Checksum { addr, .. }
        | Request::Atomic { addr, .. }
        | Request::Cas16 { addr, .. } => Some(*addr),
        Request::Copy { to, .. } => Some(*to),
        Request::ReadV(ranges) | Request::WriteV(ranges, _) => ranges.iter().next().map(|(addr, _)| addr),
        Request::Batch(batch) => batch.requests().next().and_then(|first| address(&first)),
    }
}

/// Counts a request, and the items of a batch as what they are.
pub(crate) fn count(request: &Request<'_>, tally: &mut crate::counters::Tally) {
    if let Request::Batch(batch) = request {
        tally.count(Kind::Batch, 0, 0);
        batch.requests().for_each(|one| count(&one, tally));
    } else {
        let (read, written) = payload(request);
        tally.count(request.kind(), read, written);
    }
}
