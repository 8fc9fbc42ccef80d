//! One chunk: up to 1 MiB of memory, encoded to stand in a file, and decoded again.
//!
//! Encoding needs no file, so that many threads, or many machines, compress at the same time and one
//! writer appends. The CRC-32 covers the cut id and the address with the stored bytes: a chunk that
//! was copied whole from another snapshot, or to another place, is refused. Decoding writes into a
//! buffer of exactly the length that the table promised, at most 1 MiB, and refuses more or fewer.

use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};

use super::bytes::{CHUNK_MARKER, ChunkBytes};
use super::error::{Fault, Part, ensure};
use super::{BLOCK_BYTES, FileError};

/// The most memory that one chunk holds, in bytes.
pub const MAX_CHUNK_BYTES: u32 = 1 << 20;

/// How the stored bytes of a chunk become memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// The memory itself.
    Raw = 0,
    /// One zstd frame, smaller than the memory.
    Zstd = 1,
    /// Nothing is stored: the memory is zero.
    Zero = 2,
}

impl Codec {
    /// The codec of this number, if there is one.
    pub fn from_number(number: u8) -> Option<Codec> {
        [Codec::Raw, Codec::Zstd, Codec::Zero].into_iter().find(|codec| *codec as u8 == number)
    }
}

/// A chunk as it will stand in a file.
///
/// - `address` and `length` are multiples of 4096, `length` is 4096 to 1 MiB;
/// - `stored` has `length` bytes when raw, fewer but some when zstd, none when zero;
/// - `crc` is a claim until [`Writer::append`](super::Writer::append) has checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChunk {
    address: u64,
    length: u32,
    codec: Codec,
    crc: u32,
    stored: Vec<u8>,
}

impl EncodedChunk {
    /// Encodes memory in the shortest of the three ways; `level` is zstd's.
    ///
    /// # Errors
    ///
    /// [`FileError::Refused`] when the address or the length cannot be a chunk's, or zstd gives up.
    pub fn encode(cut: Uuid, address: u64, memory: &[u8], level: i32) -> Result<EncodedChunk, FileError> {
        let length = u32::try_from(memory.len()).unwrap_or(u32::MAX);
        check_range(address, length).map_err(Fault::given)?;
        let (codec, stored) = shortest(memory, level)
            .map_err(|error| Fault::new(Part::Chunk(address), format!("zstd failed: {error}")).given())?;
        let crc = checksum(cut, address, length, codec, &stored);
        Ok(EncodedChunk { address, length, codec, crc, stored })
    }

    /// A chunk that was encoded elsewhere. Checks its shape; the writer checks its CRC.
    ///
    /// # Errors
    ///
    /// [`FileError::Refused`] with the value that no chunk can have.
    pub fn from_parts(
        address: u64,
        length: u32,
        codec: Codec,
        crc: u32,
        stored: Vec<u8>,
    ) -> Result<EncodedChunk, FileError> {
        let stored_bytes = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        check_shape(address, length, stored_bytes, codec).map_err(Fault::given)?;
        Ok(EncodedChunk { address, length, codec, crc, stored })
    }

    /// The first byte of memory that it records.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many bytes of memory it records.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// How its stored bytes are to be read.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The CRC-32 over cut id, address, length, codec and stored bytes.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The bytes that stand in the file.
    pub fn stored(&self) -> &[u8] {
        &self.stored
    }

    /// Whether the CRC is that of a chunk of this cut.
    pub(super) fn belongs_to(&self, cut: Uuid) -> bool {
        self.crc == checksum(cut, self.address, self.length, self.codec, &self.stored)
    }
}

/// The chunk header that stands before the stored bytes.
pub(super) fn chunk_bytes(address: u64, length: u32, stored: u32, codec: Codec, crc: u32) -> ChunkBytes {
    ChunkBytes {
        marker: CHUNK_MARKER,
        codec: codec as u8,
        reserved: [0; 3],
        address: U64::new(address),
        length: U32::new(length),
        stored: U32::new(stored),
        crc: U32::new(crc),
    }
}

/// Refuses lengths and addresses that no chunk has.
pub(super) fn check_shape(address: u64, length: u32, stored: u32, codec: Codec) -> Result<(), Fault> {
    check_range(address, length)?;
    let right = match codec {
        Codec::Raw => stored == length,
        Codec::Zstd => (1..length).contains(&stored),
        Codec::Zero => stored == 0,
    };
    ensure(right, Part::Chunk(address), || format!("{stored} stored bytes for {length} bytes of memory as {codec:?}"))
}

/// The CRC-32 of a chunk of this cut.
pub(super) fn checksum(cut: Uuid, address: u64, length: u32, codec: Codec, stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(cut.as_bytes());
    hasher.update(&address.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(&[codec as u8]);
    hasher.update(stored);
    hasher.finalize()
}

/// The hash of a chunk in a signed file: of its header and what is stored.
pub(super) fn digest(header: &[u8], stored: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(header).update(stored).finalize()
}

/// Makes `memory` the `length` bytes that `stored` stands for. The shape was checked before.
pub(super) fn decode(codec: Codec, stored: &[u8], length: u32, memory: &mut Vec<u8>) -> Result<(), String> {
    match codec {
        Codec::Raw => stored.clone_into(memory),
        Codec::Zero => {
            memory.clear();
            memory.resize(length as usize, 0);
        }
        Codec::Zstd => {
            memory.resize(length as usize, 0);
            let decoded = zstd::bulk::decompress_to_buffer(stored, memory.as_mut_slice())
                .map_err(|error| format!("zstd does not decode it into {length} bytes: {error}"))?;
            memory.truncate(decoded);
        }
    }
    if memory.len() == length as usize {
        return Ok(());
    }
    Err(format!("it decodes to {} bytes in place of {length}", memory.len()))
}

fn check_range(address: u64, length: u32) -> Result<(), Fault> {
    let aligned = address.is_multiple_of(BLOCK_BYTES) && u64::from(length).is_multiple_of(BLOCK_BYTES);
    ensure(aligned && length > 0 && length <= MAX_CHUNK_BYTES, Part::Chunk(address), || {
        format!("{length} bytes at {address}: both must be multiples of {BLOCK_BYTES}, the length 1 to 256 of them")
    })
}

fn shortest(memory: &[u8], level: i32) -> std::io::Result<(Codec, Vec<u8>)> {
    if is_zero(memory) {
        return Ok((Codec::Zero, Vec::new()));
    }
    let packed = zstd::bulk::compress(memory, level)?;
    if packed.len() < memory.len() { Ok((Codec::Zstd, packed)) } else { Ok((Codec::Raw, memory.to_vec())) }
}

/// Whether there is nothing but zeros.
pub(super) fn is_zero(memory: &[u8]) -> bool {
    // Every byte equals its neighbour: one memcmp, several times faster than a loop over bytes.
    memory.first().is_none_or(|first| *first == 0 && memory[1..] == memory[..memory.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Uuid = Uuid::from_u128(7);

    fn round_trip(memory: &[u8]) -> Codec {
        let chunk = EncodedChunk::encode(CUT, 8192, memory, 1).unwrap();
        let mut decoded = vec![9; 5];
        decode(chunk.codec, &chunk.stored, chunk.length, &mut decoded).unwrap();
        assert_eq!(decoded, memory);
        assert!(chunk.belongs_to(CUT) && !chunk.belongs_to(Uuid::from_u128(8)));
        let (codec, crc) = (chunk.codec, chunk.crc);
        let again = EncodedChunk::from_parts(8192, chunk.length, codec, crc, chunk.stored.clone()).unwrap();
        assert_eq!(again, chunk);
        codec
    }

    /// Bytes that do not compress, the same in every run.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn the_shortest_codec_is_chosen_and_decodes_to_the_same_memory() {
        assert_eq!(round_trip(&[0; 4096]), Codec::Zero);
        assert_eq!(round_trip(&vec![5; 1 << 20]), Codec::Zstd);
        assert_eq!(round_trip(&noise(8192)), Codec::Raw);
        let mut late = vec![0; 4096];
        late[4095] = 1;
        assert_eq!(round_trip(&late), Codec::Zstd);
    }

    #[test]
    fn misshapen_chunks_are_refused() {
        for (address, bytes) in [(0, 0), (0, 4095), (1, 4096), (0, (1 << 20) + 4096)] {
            assert!(EncodedChunk::encode(CUT, address, &vec![1; bytes], 1).is_err(), "{bytes} at {address}");
        }
        for (codec, stored) in [(Codec::Raw, 4095), (Codec::Zero, 1), (Codec::Zstd, 0), (Codec::Zstd, 4096)] {
            assert!(EncodedChunk::from_parts(0, 4096, codec, 0, vec![0; stored]).is_err(), "{stored} as {codec:?}");
        }
    }

    #[test]
    fn a_frame_that_holds_more_or_fewer_bytes_than_promised_is_refused() {
        let packed = zstd::bulk::compress(&[3; 8192], 1).unwrap();
        for length in [4096, 12288] {
            assert!(decode(Codec::Zstd, &packed, length, &mut Vec::new()).is_err());
        }
    }
}
