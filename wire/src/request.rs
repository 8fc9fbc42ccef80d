//! Data requests and their answers: fixed layouts, parsed in place, emitted by hand.
//!
//! [`Request::parse`] checks shapes and maxima only. Whether an address lies in a server's memory
//! is for that server to check, with the same types for the program and the wire.

use crate::{AtomicOp, Batch, Kind, Ranges, limits};

/// Why a body does not have the shape of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The body ends before its fields do.
    #[error("the body is shorter than its fields")]
    Short,
    /// The body goes on after its fields.
    #[error("{0} bytes follow the last field")]
    Trailing(usize),
    /// A reserved byte is not zero.
    #[error("a reserved byte is not zero")]
    Reserved,
    /// The kind is not known, or not allowed here.
    #[error("kind {0:#04x} is not a data request")]
    Kind(u8),
    /// An atomic operation that does not exist.
    #[error("atomic operation {0} does not exist")]
    AtomicOp(u8),
    /// More entries than allowed.
    #[error("{count} entries; at most {max} are allowed")]
    TooMany {
        /// As claimed.
        count: usize,
        /// The maximum.
        max: usize,
    },
    /// More bytes than allowed.
    #[error("{length} bytes; at most {max} are allowed in one request")]
    TooLarge {
        /// As claimed.
        length: u64,
        /// The maximum.
        max: u64,
    },
    /// A vectored write whose data are not as long as its ranges.
    #[error("the ranges hold {ranges} bytes and {data} follow")]
    LengthMismatch {
        /// Bytes by the ranges.
        ranges: usize,
        /// Bytes of data.
        data: usize,
    },
}

/// A data request, its payload still in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `len` bytes from `addr`. Answer: the bytes.
    Read {
        /// First address.
        addr: u64,
        /// Bytes wanted, at most [`limits::MAX_PAYLOAD`].
        len: u64,
    },
    /// Put `data` at `addr`. Answer: empty.
    Write {
        /// First address.
        addr: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// Put `byte` into all of `addr..addr+len`. Answer: empty.
    Fill {
        /// First address.
        addr: u64,
        /// Bytes to fill, at most [`limits::MAX_SPAN`].
        len: u64,
        /// The value.
        byte: u8,
    },
    /// Copy `len` bytes; overlapping ranges behave as one memmove. Answer: empty.
    Copy {
        /// First source address.
        from: u64,
        /// First target address.
        to: u64,
        /// Bytes to copy, at most [`limits::MAX_SPAN`].
        len: u64,
    },
    /// Compare memory at `addr` with `data`. Answer: u64, index of the first difference, or all ones.
    Compare {
        /// First address.
        addr: u64,
        /// What is expected there.
        data: &'a [u8],
    },
    /// CRC-32 of `addr..addr+len`. Answer: u32.
    Checksum {
        /// First address.
        addr: u64,
        /// Bytes to sum, at most [`limits::MAX_SPAN`].
        len: u64,
    },
    /// An atomic on the 8 little-endian bytes at `addr`, a multiple of 8. Answer: [`AtomicAnswer`].
    Atomic {
        /// A multiple of 8.
        addr: u64,
        /// What to do.
        op: AtomicOp,
        /// Its operand.
        operand: u64,
        /// For compare-and-swap: what must be there. Zero otherwise.
        expected: u64,
    },
    /// Compare-and-swap of the 16 bytes at `addr`, a multiple of 16. Answer: [`Cas16Answer`].
    Cas16 {
        /// A multiple of 16.
        addr: u64,
        /// What must be there.
        expected: u128,
        /// What to put there.
        new: u128,
    },
    /// Many reads. Answer: their bytes, one after the other.
    ReadV(Ranges<'a>),
    /// Many writes: the ranges, then their bytes, one after the other. Answer: empty.
    WriteV(Ranges<'a>, &'a [u8]),
    /// Many requests. Answer: a batch of answers.
    Batch(Batch<'a>),
}

impl<'a> Request<'a> {
    /// Reads a body of the given kind.
    pub fn parse(kind: u8, body: &'a [u8]) -> Result<Request<'a>, Malformed> {
        if kind == Kind::Batch as u8 {
            return Batch::parse(body).map(Request::Batch);
        }
        Request::parse_single(kind, body)
    }

    /// Reads a body of any kind but a batch.
    pub(crate) fn parse_single(kind: u8, body: &'a [u8]) -> Result<Request<'a>, Malformed> {
        let mut fields = Fields(body);
        let request = match Kind::from_wire(kind) {
            Some(Kind::Read) => Request::Read { addr: fields.u64()?, len: fields.length(limits::MAX_PAYLOAD as u64)? },
            Some(Kind::Write) => Request::Write { addr: fields.u64()?, data: fields.payload()? },
            Some(Kind::Fill) => {
                Request::Fill { addr: fields.u64()?, len: fields.length(limits::MAX_SPAN)?, byte: fields.padded_u8()? }
            }
            Some(Kind::Copy) => {
                Request::Copy { from: fields.u64()?, to: fields.u64()?, len: fields.length(limits::MAX_SPAN)? }
            }
            Some(Kind::Compare) => Request::Compare { addr: fields.u64()?, data: fields.payload()? },
            Some(Kind::Checksum) => Request::Checksum { addr: fields.u64()?, len: fields.length(limits::MAX_SPAN)? },
            Some(Kind::Atomic) => fields.atomic()?,
            Some(Kind::Cas16) => Request::Cas16 { addr: fields.u64()?, expected: fields.u128()?, new: fields.u128()? },
            Some(Kind::ReadV) => Request::ReadV(fields.ranges()?),
            Some(Kind::WriteV) => {
                let ranges = fields.ranges()?;
                let data = fields.payload()?;
                if data.len() != ranges.total() {
                    return Err(Malformed::LengthMismatch { ranges: ranges.total(), data: data.len() });
                }
                Request::WriteV(ranges, data)
            }
            _ => return Err(Malformed::Kind(kind)),
        };
        fields.end()?;
        Ok(request)
    }

    /// Appends the body that [`Request::parse`] reads. Batches are built item by item with
    /// [`crate::emit_item`], so a batch is appended as it is.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        match *self {
            Request::Read { addr, len } | Request::Checksum { addr, len } => {
                put(addr);
                put(len);
            }
            Request::Write { addr, data } | Request::Compare { addr, data } => {
                put(addr);
                out.extend_from_slice(data);
            }
            Request::Fill { addr, len, byte } => {
                put(addr);
                put(len);
                put(u64::from(byte));
            }
            Request::Copy { from, to, len } => {
                put(from);
                put(to);
                put(len);
            }
            Request::Atomic { addr, op, operand, expected } => {
                put(addr);
                put(op as u64);
                put(operand);
                put(expected);
            }
            Request::Cas16 { addr, expected, new } => {
                put(addr);
                out.extend_from_slice(&expected.to_le_bytes());
                out.extend_from_slice(&new.to_le_bytes());
            }
            Request::ReadV(ranges) => Ranges::emit(&ranges.iter().collect::<Vec<_>>(), out),
            Request::WriteV(ranges, data) => {
                Ranges::emit(&ranges.iter().collect::<Vec<_>>(), out);
                out.extend_from_slice(data);
            }
            Request::Batch(batch) => {
                for request in batch.requests() {
                    crate::emit_item(&request, out);
                }
            }
        }
    }

    /// The kind of the frame that carries it.
    pub fn kind(&self) -> Kind {
        match self {
            Request::Read { .. } => Kind::Read,
            Request::Write { .. } => Kind::Write,
            Request::Fill { .. } => Kind::Fill,
            Request::Copy { .. } => Kind::Copy,
            Request::Compare { .. } => Kind::Compare,
            Request::Checksum { .. } => Kind::Checksum,
            Request::Atomic { .. } => Kind::Atomic,
            Request::Cas16 { .. } => Kind::Cas16,
            Request::ReadV(_) => Kind::ReadV,
            Request::WriteV(..) => Kind::WriteV,
            Request::Batch(_) => Kind::Batch,
        }
    }

    /// Whether it may change memory: then a blind second try could change it twice.
    pub fn modifies(&self) -> bool {
        match self {
            Request::Read { .. } | Request::Compare { .. } | Request::Checksum { .. } | Request::ReadV(_) => false,
            Request::Batch(batch) => batch.requests().any(|request| request.modifies()),
            _ => true,
        }
    }

    /// Bytes of memory that it touches and that neither its body nor its answer holds.
    pub fn touched_len(&self) -> u64 {
        match self {
            Request::Fill { len, .. } | Request::Copy { len, .. } | Request::Checksum { len, .. } => *len,
            Request::Batch(batch) => batch.requests().map(|request| request.touched_len()).sum(),
            _ => 0,
        }
    }

    /// Bytes of the answer's body when it goes well: at most [`limits::MAX_PAYLOAD`], and in a batch the headers of
    /// the items beside it.
    pub fn answer_len(&self) -> u64 {
        match self {
            Request::Read { len, .. } => *len,
            Request::ReadV(ranges) => ranges.total() as u64,
            Request::Compare { .. } => 8,
            Request::Checksum { .. } => 4,
            Request::Atomic { .. } => AtomicAnswer::LEN as u64,
            Request::Cas16 { .. } => Cas16Answer::LEN as u64,
            Request::Batch(batch) => batch.requests().map(|request| 8 + request.answer_len()).sum(),
            _ => 0,
        }
    }
}

/// The answer to [`Request::Atomic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicAnswer {
    /// What was there before.
    pub previous: u64,
    /// False when a compare-and-swap found another value.
    pub applied: bool,
}

impl AtomicAnswer {
    /// Bytes on the wire.
    pub const LEN: usize = 16;

    /// Its bytes: previous value, then 1 or 0 in eight bytes.
    pub fn emit(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.previous.to_le_bytes());
        bytes[8] = u8::from(self.applied);
        bytes
    }

    /// Reads the bytes of [`AtomicAnswer::emit`].
    pub fn parse(body: &[u8]) -> Result<AtomicAnswer, Malformed> {
        let mut fields = Fields(body);
        let answer = AtomicAnswer { previous: fields.u64()?, applied: fields.padded_bool()? };
        fields.end()?;
        Ok(answer)
    }
}

/// The answer to [`Request::Cas16`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas16Answer {
    /// What was there before.
    pub previous: u128,
    /// False when another value was found.
    pub applied: bool,
}

impl Cas16Answer {
    /// Bytes on the wire.
    pub const LEN: usize = 24;

    /// Its bytes: previous value, then 1 or 0 in eight bytes.
    pub fn emit(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(&self.previous.to_le_bytes());
        bytes[16] = u8::from(self.applied);
        bytes
    }

    /// Reads the bytes of [`Cas16Answer::emit`].
    pub fn parse(body: &[u8]) -> Result<Cas16Answer, Malformed> {
        let mut fields = Fields(body);
        let answer = Cas16Answer { previous: fields.u128()?, applied: fields.padded_bool()? };
        fields.end()?;
        Ok(answer)
    }
}

/// What is left of a body while its fields are taken off the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Result<u128, Malformed> {
        self.bytes().map(u128::from_le_bytes)
    }

    /// A byte in a field of eight, the rest zero.
    fn padded_u8(&mut self) -> Result<u8, Malformed> {
        u8::try_from(self.u64()?).map_err(|_| Malformed::Reserved)
    }

    /// 1 or 0 in a field of eight bytes.
    fn padded_bool(&mut self) -> Result<bool, Malformed> {
        match self.u64()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Reserved),
        }
    }

    fn length(&mut self, max: u64) -> Result<u64, Malformed> {
        let length = self.u64()?;
        if length > max { Err(Malformed::TooLarge { length, max }) } else { Ok(length) }
    }

    fn payload(&mut self) -> Result<&'a [u8], Malformed> {
        let max = limits::MAX_PAYLOAD as u64;
        let payload = std::mem::take(&mut self.0);
        let length = payload.len() as u64;
        if length > max { Err(Malformed::TooLarge { length, max }) } else { Ok(payload) }
    }

    fn ranges(&mut self) -> Result<Ranges<'a>, Malformed> {
        let (ranges, rest) = Ranges::parse(self.0)?;
        self.0 = rest;
        Ok(ranges)
    }

    fn atomic(&mut self) -> Result<Request<'a>, Malformed> {
        let addr = self.u64()?;
        let number = self.padded_u8()?;
        let op = AtomicOp::from_wire(number).ok_or(Malformed::AtomicOp(number))?;
        Ok(Request::Atomic { addr, op, operand: self.u64()?, expected: self.u64()? })
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.0.len())) }
    }
}

#[cfg(test)]
mod tests;
