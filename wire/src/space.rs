//! The address space: n servers of k bytes each, and how a range splits over them.
//!
//! An address and a length from outside are a claim; [`Space::check`] alone turns them into a
//! [`Range`], and everything that splits or indexes takes a `Range`.

/// An address space of `n` servers with `k` bytes each.
///
/// Invariants: `k > 0`, `n > 0`, `k * n` fits into a `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    k: u64,
    n: u32,
}

/// A range that lies inside its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    space: Space,
    addr: u64,
    len: u64,
}

/// The part of a range that one server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The server that holds it.
    pub server: u32,
    /// Its first address.
    pub addr: u64,
    /// Its length in bytes, never zero.
    pub len: u64,
}

/// A claimed range that does not lie inside the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {addr} + {len} bytes is outside the address space of {size} bytes (0..{size})")]
pub struct OutOfRange {
    /// The claimed address.
    pub addr: u64,
    /// The claimed length.
    pub len: u64,
    /// The size of the space.
    pub size: u64,
}

impl Space {
    /// A space, or `None` when `k` or `n` is zero or their product does not fit.
    pub fn new(k: u64, n: u32) -> Option<Space> {
        (k > 0 && n > 0 && k.checked_mul(u64::from(n)).is_some()).then_some(Space { k, n })
    }

    /// Bytes per server.
    pub fn k(self) -> u64 {
        self.k
    }

    /// Number of servers.
    pub fn n(self) -> u32 {
        self.n
    }

    /// Bytes in all.
    pub fn size(self) -> u64 {
        self.k * u64::from(self.n)
    }

    /// Turns a claim into a range. A zero length is fine anywhere in `0..=size`.
    pub fn check(self, addr: u64, len: u64) -> Result<Range, OutOfRange> {
        match addr.checked_add(len) {
            Some(end) if end <= self.size() => Ok(Range { space: self, addr, len }),
            _ => Err(OutOfRange { addr, len, size: self.size() }),
        }
    }
}

impl Range {
    /// First address.
    pub fn addr(self) -> u64 {
        self.addr
    }

    /// Length in bytes.
    pub fn len(self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// One past the last address.
    pub fn end(self) -> u64 {
        self.addr + self.len
    }

    /// The parts by server, none longer than `max`, in address order. Cuts inside a server fall on
    /// multiples of `max` when `max` is a power of two, so that pieces keep to whole blocks.
    pub fn pieces(self, max: u64) -> Pieces {
        assert!(max > 0, "a piece holds at least one byte");
        Pieces { range: self, max }
    }
}

/// Iterator over the pieces of a range.
#[derive(Clone, Debug)]
pub struct Pieces {
    range: Range,
    max: u64,
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let Range { space, addr, len } = self.range;
        if len == 0 {
            return None;
        }
        let offset = addr % space.k;
        let to_server_end = space.k - offset;
        let to_cut = self.max - offset % self.max;
        let piece = Piece { server: (addr / space.k) as u32, addr, len: len.min(to_server_end).min(to_cut) };
        self.range.addr += piece.len;
        self.range.len -= piece.len;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_is_a_place_but_not_a_byte() {
        let space = Space::new(16, 3).unwrap();
        assert!(space.check(48, 0).is_ok());
        assert_eq!(space.check(48, 1), Err(OutOfRange { addr: 48, len: 1, size: 48 }));
        assert!(space.check(49, 0).is_err());
        assert!(space.check(u64::MAX, 2).is_err());
        assert!(Space::new(u64::MAX, 2).is_none());
    }

    proptest! {
        #[test]
        fn pieces_tile_the_range(k in 1u64..100, n in 1u32..9, a in 0u64..900, l in 0u64..900, max in 1u64..50) {
            let space = Space::new(k, n).unwrap();
            let Ok(range) = space.check(a, l) else { return Ok(()) };
            let mut at = a;
            for piece in range.pieces(max) {
                prop_assert_eq!(piece.addr, at);
                prop_assert!(piece.len > 0 && piece.len <= max);
                prop_assert_eq!(piece.addr / k, u64::from(piece.server));
                prop_assert_eq!((piece.addr + piece.len - 1) / k, u64::from(piece.server));
                at += piece.len;
            }
            prop_assert_eq!(at, a + l);
        }
    }
}
