//! Where the bodies of answers go.

use crate::Error;

/// Takes the bodies of answers. A closure is one that gets the lane's index, the request's tag and the
/// body; what it refuses ends the lane.
pub(crate) trait Sink {
    /// Room for `len` bytes, the body of the answer to request `tag`, if they can be received where they
    /// belong. They are not delivered then.
    fn room(&mut self, _tag: u64, _len: usize) -> Option<&mut [u8]> {
        None
    }

    /// Takes a body.
    fn deliver(&mut self, lane: usize, tag: u64, body: &[u8]) -> Result<(), Error>;
}

impl<F: FnMut(usize, u64, &[u8]) -> Result<(), Error>> Sink for F {
    fn deliver(&mut self, lane: usize, tag: u64, body: &[u8]) -> Result<(), Error> {
        self(lane, tag, body)
    }
}

/// Up to here a copy costs less than to receive in two parts.
const COPIED: usize = 8 << 10;

/// The buffer of a read. A request's tag is the place of its bytes in it.
pub(crate) struct Into<'b>(pub(crate) &'b mut [u8]);

impl Sink for Into<'_> {
    fn room(&mut self, tag: u64, len: usize) -> Option<&mut [u8]> {
        if len <= COPIED {
            return None;
        }
        self.0.get_mut(tag as usize..)?.get_mut(..len)
    }

    fn deliver(&mut self, _: usize, tag: u64, body: &[u8]) -> Result<(), Error> {
        // Its length was checked against the request's.
        let at = tag as usize;
        self.0[at..at + body.len()].copy_from_slice(body);
        Ok(())
    }
}
