//! The fixed header in front of every frame.
//!
//! Promises: a header that [`Header::parse`] returns has the right magic, version and checksum, no
//! unknown flag, and a length within [`limits::MAX_BODY`]. The kind and status are left as numbers:
//! an unknown kind has a sound frame around it, so its sender can be told by name what was wrong.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Status, limits};

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"MCMP";

/// The protocol version that this crate speaks.
pub const VERSION: u8 = 1;

/// Bytes of a header on the wire.
pub const HEADER_LEN: usize = 48;

/// Bits of [`Header::flags`].
pub mod flags {
    /// The frame answers the request with the same id.
    pub const ANSWER: u16 = 1 << 0;
    /// `body_crc` covers the body (negotiated in the handshake).
    pub const CHECKSUM: u16 = 1 << 1;
    /// Another frame of the same answer follows.
    pub const MORE: u16 = 1 << 2;
    /// A seal follows the body (agreed on in the handshake); the length does not count it.
    pub const SEALED: u16 = 1 << 3;
    /// A fence stands before the body of a data request; the length counts it.
    pub const FENCED: u16 = 1 << 4;
    /// The name of the operation stands before the body of a data request, behind the fence if there is one; the length
    /// counts it.
    pub const NAMED: u16 = 1 << 5;
    /// Every flag this version knows. A frame with another one is refused: it would mean something
    /// that this side cannot honour.
    pub const KNOWN: u16 = ANSWER | CHECKSUM | MORE | SEALED | FENCED | NAMED;
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 4],
    version: u8,
    kind: u8,
    flags: U16,
    request_id: U64,
    config_epoch: U64,
    cut_epoch: U64,
    length: U32,
    status: U16,
    reserved: U16,
    body_crc: U32,
    header_crc: U32,
}

const _: () = assert!(size_of::<Raw>() == HEADER_LEN);
const CRC_AT: usize = HEADER_LEN - 4;

/// A header as a program sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What is asked or answered; see [`crate::Kind`].
    pub kind: u8,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Chosen by the client, rising within a session; the answer carries it back. With the session
    /// it names the operation: a retry carries the same.
    pub request_id: u64,
    /// The config epoch that the sender lives in. A server refuses a data request of another epoch.
    pub config_epoch: u64,
    /// The newest snapshot epoch that the sender has seen; zero from clients.
    pub cut_epoch: u64,
    /// Bytes of body that follow.
    pub length: u32,
    /// See [`crate::Status`]; zero in requests.
    pub status: u16,
    /// CRC-32 of the body when [`flags::CHECKSUM`] is set, otherwise zero.
    pub body_crc: u32,
}

/// Why bytes are not a frame of ours. After any of these the stream has no known frame boundary:
/// the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The stream does not start with [`MAGIC`].
    #[error("not an mcomp frame: it starts with {0:02x?} where \"MCMP\" stands")]
    Magic([u8; 4]),
    /// The peer speaks another version.
    #[error("protocol version {0}; this side speaks {VERSION}")]
    Version(u8),
    /// The header's own checksum does not match.
    #[error("header checksum {found:#010x} where {expected:#010x} stands")]
    HeaderChecksum {
        /// Computed from the bytes.
        found: u32,
        /// Written in the frame.
        expected: u32,
    },
    /// A flag that this version does not know, or a reserved field that is not zero.
    #[error("unknown flags {0:#06x}")]
    Flags(u16),
    /// The body would be larger than allowed.
    #[error("body of {length} bytes; at most {max} are allowed here")]
    TooLong {
        /// As announced.
        length: u32,
        /// The maximum that applied.
        max: usize,
    },
    /// A header that only an answer can have, or one without the checksum that was agreed on.
    #[error("not a request as agreed: it has a status, the flags of an answer, or no body checksum")]
    NotARequest,
    /// The seal does not fit, is missing, or was not agreed on.
    #[error("the frame's seal {0}")]
    Seal(&'static str),
    /// The body's checksum does not match.
    #[error("body checksum {found:#010x} where {expected:#010x} stands")]
    BodyChecksum {
        /// Computed from the bytes.
        found: u32,
        /// Written in the frame.
        expected: u32,
    },
}

impl FrameError {
    /// The status with which the peer is told.
    pub fn status(&self) -> Status {
        match self {
            FrameError::Version(_) => Status::Version,
            FrameError::TooLong { .. } => Status::TooLarge,
            FrameError::Seal(_) => Status::Denied,
            FrameError::HeaderChecksum { .. } | FrameError::BodyChecksum { .. } => Status::Checksum,
            FrameError::Magic(_) | FrameError::Flags(_) | FrameError::NotARequest => Status::Malformed,
        }
    }
}

impl Header {
    /// Reads a header, and checks everything that can be checked without the body.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Header, FrameError> {
        let raw = Raw::ref_from_bytes(bytes).expect("Raw is unaligned and exactly HEADER_LEN long");
        if raw.magic != MAGIC {
            return Err(FrameError::Magic(raw.magic));
        }
        if raw.version != VERSION {
            return Err(FrameError::Version(raw.version));
        }
        let found = crc32fast::hash(&bytes[..CRC_AT]);
        let expected = raw.header_crc.get();
        if found != expected {
            return Err(FrameError::HeaderChecksum { found, expected });
        }
        if raw.flags.get() & !flags::KNOWN != 0 || raw.reserved.get() != 0 {
            return Err(FrameError::Flags(raw.flags.get()));
        }
        let header = Header {
            kind: raw.kind,
            flags: raw.flags.get(),
            request_id: raw.request_id.get(),
            config_epoch: raw.config_epoch.get(),
            cut_epoch: raw.cut_epoch.get(),
            length: raw.length.get(),
            status: raw.status.get(),
            body_crc: raw.body_crc.get(),
        };
        header.check_length(limits::MAX_BODY)?;
        Ok(header)
    }

    /// The header's bytes, with its checksum.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut raw = Raw {
            magic: MAGIC,
            version: VERSION,
            kind: self.kind,
            flags: U16::new(self.flags),
            request_id: U64::new(self.request_id),
            config_epoch: U64::new(self.config_epoch),
            cut_epoch: U64::new(self.cut_epoch),
            length: U32::new(self.length),
            status: U16::new(self.status),
            reserved: U16::new(0),
            body_crc: U32::new(self.body_crc),
            header_crc: U32::new(0),
        };
        let crc = crc32fast::hash(&raw.as_bytes()[..CRC_AT]);
        raw.header_crc = U32::new(crc);
        zerocopy::transmute!(raw)
    }

    /// Refuses a body longer than `max`, before anything is allocated for it.
    pub fn check_length(&self, max: usize) -> Result<(), FrameError> {
        if self.length as usize > max {
            return Err(FrameError::TooLong { length: self.length, max });
        }
        Ok(())
    }

    /// Checks the body against the header's checksum, if it carries one.
    pub fn check_body(&self, body: &[u8]) -> Result<(), FrameError> {
        if self.flags & flags::CHECKSUM == 0 {
            return Ok(());
        }
        let found = body_checksum(body);
        if found != self.body_crc {
            return Err(FrameError::BodyChecksum { found, expected: self.body_crc });
        }
        Ok(())
    }

    /// The same header for `body`: its length, and its checksum when `checksum` was negotiated.
    pub fn for_body(mut self, body: &[u8], checksum: bool) -> Header {
        debug_assert!(body.len() <= limits::MAX_BODY, "body of {} bytes", body.len());
        self.length = body.len() as u32;
        if checksum {
            self.flags |= flags::CHECKSUM;
            self.body_crc = body_checksum(body);
        }
        self
    }

    /// Refuses what is no request. `checksum`: whether the handshake agreed that bodies carry one.
    pub fn check_request(&self, checksum: bool) -> Result<(), FrameError> {
        let answers = self.flags & (flags::ANSWER | flags::MORE) != 0 || self.status != 0;
        let unsummed = checksum && self.flags & flags::CHECKSUM == 0;
        if answers || unsummed { Err(FrameError::NotARequest) } else { Ok(()) }
    }

    /// Whether [`flags::MORE`] is set.
    pub fn has_more(&self) -> bool {
        self.flags & flags::MORE != 0
    }
}

/// CRC-32 (IEEE 802.3) of a body.
pub fn body_checksum(body: &[u8]) -> u32 {
    crc32fast::hash(body)
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "kind={:#04x} flags={:#x} id={} epoch={} cut={} length={} status={}",
            self.kind, self.flags, self.request_id, self.config_epoch, self.cut_epoch, self.length, self.status
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            kind: 0x10,
            flags: flags::CHECKSUM,
            request_id: 7,
            config_epoch: 3,
            cut_epoch: 2,
            length: 16,
            status: 0,
            body_crc: 0xdead_beef,
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = sample().emit();
        #[rustfmt::skip]
        let expected: [u8; 44] = [
            b'M', b'C', b'M', b'P', 1, 0x10, 2, 0,
            7, 0, 0, 0, 0, 0, 0, 0,
            3, 0, 0, 0, 0, 0, 0, 0,
            2, 0, 0, 0, 0, 0, 0, 0,
            16, 0, 0, 0, 0, 0, 0, 0,
            0xef, 0xbe, 0xad, 0xde,
        ];
        assert_eq!(bytes[..44], expected);
        assert_eq!(bytes[44..], crc32fast::hash(&expected).to_le_bytes());
        assert_eq!(Header::parse(&bytes), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = sample().emit();
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&broken).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_long_body_is_refused() {
        let header = Header { length: limits::MAX_BODY as u32 + 1, ..sample() };
        assert!(matches!(Header::parse(&header.emit()), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn an_answer_is_not_a_request() {
        assert_eq!(sample().check_request(true), Ok(()));
        let plain = Header { flags: 0, ..sample() };
        assert_eq!((plain.check_request(false), plain.check_request(true)), (Ok(()), Err(FrameError::NotARequest)));
        for header in [Header { flags: flags::ANSWER, ..sample() }, Header { status: 1, ..sample() }] {
            assert_eq!(header.check_request(false), Err(FrameError::NotARequest));
        }
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        let header = Header { flags: 1 << 9, ..sample() };
        assert_eq!(Header::parse(&header.emit()), Err(FrameError::Flags(1 << 9)));
    }

    #[test]
    fn a_body_is_checked_only_when_negotiated() {
        let plain = Header::default().for_body(b"abc", false);
        assert_eq!(plain.check_body(b"abd"), Ok(()));
        let summed = Header::default().for_body(b"abc", true);
        assert_eq!(summed.check_body(b"abc"), Ok(()));
        assert!(matches!(summed.check_body(b"abd"), Err(FrameError::BodyChecksum { .. })));
    }
}
