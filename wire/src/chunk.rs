//! One chunk of a snapshot on its way from a snapshot process to the master: the fields of its
//! header in the file, then the bytes that will stand in the file. The master writes them as they are.

use crate::{Malformed, limits};

/// Bytes in front of the stored ones.
const HEAD_LEN: usize = 24;

/// A chunk, its bytes still in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// First address of memory.
    pub addr: u64,
    /// Bytes of memory, at most [`limits::MAX_PAYLOAD`].
    pub length: u32,
    /// CRC-32 as it stands in the file.
    pub crc: u32,
    /// How `stored` is to be read; the numbers are those of the file.
    pub codec: u8,
    /// The encoded bytes.
    pub stored: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The bytes in front of the stored ones.
    pub fn emit_head(&self) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        head[..8].copy_from_slice(&self.addr.to_le_bytes());
        head[8..12].copy_from_slice(&self.length.to_le_bytes());
        head[12..16].copy_from_slice(&self.crc.to_le_bytes());
        head[16] = self.codec;
        head
    }

    /// Reads a frame's body.
    pub fn parse(body: &'a [u8]) -> Result<Chunk<'a>, Malformed> {
        let (head, stored) = body.split_first_chunk::<HEAD_LEN>().ok_or(Malformed::Short)?;
        if head[17..] != [0; 7] {
            return Err(Malformed::Reserved);
        }
        let longest = stored.len().max(u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize);
        if longest > limits::MAX_PAYLOAD {
            return Err(Malformed::TooLarge { length: longest as u64, max: limits::MAX_PAYLOAD as u64 });
        }
        Ok(Chunk {
            addr: u64::from_le_bytes(head[..8].try_into().expect("eight bytes")),
            length: u32::from_le_bytes(head[8..12].try_into().expect("four bytes")),
            crc: u32::from_le_bytes(head[12..16].try_into().expect("four bytes")),
            codec: head[16],
            stored,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let chunk = Chunk { addr: 0x1000, length: 4096, crc: 7, codec: 1, stored: b"z" };
        let mut body = chunk.emit_head().to_vec();
        body.extend_from_slice(chunk.stored);
        let mut expected = [0; 25];
        (expected[1], expected[9], expected[12], expected[16], expected[24]) = (0x10, 0x10, 7, 1, b'z');
        assert_eq!(body, expected);
        assert_eq!(Chunk::parse(&body), Ok(chunk));
        assert_eq!(Chunk::parse(&body[..23]), Err(Malformed::Short));
        body[20] = 1;
        assert_eq!(Chunk::parse(&body), Err(Malformed::Reserved));
    }
}
