//! The list of ranges in a vectored request, read in place from the frame.

use crate::{Malformed, limits};

const ENTRY: usize = 16;

/// A checked list of `(address, length)` pairs that still lies in the frame.
///
/// Invariants: at most [`limits::MAX_RANGES`] entries; the lengths add up to at most
/// [`limits::MAX_PAYLOAD`]. Whether they lie in anyone's memory is for the server to check.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ranges<'a> {
    entries: &'a [u8],
    total: usize,
}

impl<'a> Ranges<'a> {
    /// Splits a body into its ranges and what follows them.
    pub fn parse(body: &'a [u8]) -> Result<(Ranges<'a>, &'a [u8]), Malformed> {
        let (head, rest) = body.split_at_checked(8).ok_or(Malformed::Short)?;
        let count = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        if head[4..] != [0; 4] {
            return Err(Malformed::Reserved);
        }
        if count > limits::MAX_RANGES {
            return Err(Malformed::TooMany { count, max: limits::MAX_RANGES });
        }
        let (entries, rest) = rest.split_at_checked(count * ENTRY).ok_or(Malformed::Short)?;
        let mut ranges = Ranges { entries, total: 0 };
        let total = ranges.iter().try_fold(0u64, |sum, (_, len)| sum.checked_add(len));
        match total {
            Some(total) if total <= limits::MAX_PAYLOAD as u64 => ranges.total = total as usize,
            _ => {
                return Err(Malformed::TooLarge { length: total.unwrap_or(u64::MAX), max: limits::MAX_PAYLOAD as u64 });
            }
        }
        Ok((ranges, rest))
    }

    /// Writes a list in the form that [`Ranges::parse`] reads.
    pub fn emit(list: &[(u64, u64)], out: &mut Vec<u8>) {
        debug_assert!(list.len() <= limits::MAX_RANGES);
        out.extend_from_slice(&(list.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for (addr, len) in list {
            out.extend_from_slice(&addr.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
    }

    /// `(address, length)` in the order of the request.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + 'a {
        self.entries.chunks_exact(ENTRY).map(|entry| {
            let addr = u64::from_le_bytes(entry[..8].try_into().expect("eight bytes"));
            let len = u64::from_le_bytes(entry[8..].try_into().expect("eight bytes"));
            (addr, len)
        })
    }

    /// The lengths added up.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl std::fmt::Debug for Ranges<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
