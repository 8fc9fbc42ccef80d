//! Copies inside the address space, between any servers.

use mcomp_wire::{Request, limits};

use crate::ask::Ask;
use crate::cluster::zeros;
use crate::{Cluster, Error};

/// Bytes that one step of a copy between two servers holds in the client.
const STEP: u64 = 4 << 20;

impl Cluster {
    /// Copies `len` bytes from `from` to `to`. Where the ranges overlap the result is as if they did
    /// not, as long as nobody else writes there. Inside one server the bytes stay there; between two
    /// they pass through this process, at most 4 MiB at a time.
    pub fn copy(&self, from: u64, to: u64, len: u64) -> Result<(), Error> {
        let bound = self.bound()?;
        bound.range_of(from, len)?;
        bound.range_of(to, len)?;
        let mut done = false;
        for step in steps(self.space().k(), from, to, len) {
            let copied = bound.copy_step(step);
            copied
                .map_err(|error| if done { self.pool(self.server_of(step.to)).peer().in_part(error) } else { error })?;
            done = true;
        }
        Ok(())
    }

    fn copy_step(&self, Step { from, to, len }: Step) -> Result<(), Error> {
        let server = self.server_of(from);
        if server == self.server_of(to) {
            return self.ask(server, Ask::new(0, Request::Copy { from, to, len }), |_| Ok(()));
        }
        let mut buffer = zeros(len)?;
        self.read_at(from, &mut buffer)?;
        self.write_at(to, &buffer)
    }

    fn server_of(&self, addr: u64) -> u32 {
        (addr / self.space().k()) as u32
    }
}

/// A part of a copy whose source lies in one server and whose target lies in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    from: u64,
    to: u64,
    len: u64,
}

/// The steps of a copy, in an order in which no step overwrites what a later one reads.
fn steps(k: u64, from: u64, to: u64, len: u64) -> impl Iterator<Item = Step> {
    // What lies before the target's start is read before it is written when going forward; a
    // target that begins inside the source needs the other direction.
    let backward = to > from && to - from < len;
    let mut left = if from == to { 0 } else { len };
    std::iter::from_fn(move || {
        let done = len - left;
        let room = |addr: u64| if backward { (addr + left - 1) % k + 1 } else { k - (addr + done) % k };
        let same_server = |a: u64, b: u64| a / k == b / k;
        if left == 0 {
            return None;
        }
        let most = left.min(room(from)).min(room(to));
        let at = |step: u64| if backward { left - step } else { done };
        let max = if same_server(from + at(most), to + at(most)) { limits::MAX_SPAN } else { STEP };
        let step = most.min(max);
        let at = at(step);
        left -= step;
        Some(Step { from: from + at, to: to + at, len: step })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn steps_move_like_memmove(k in 1u64..40, from in 0u64..200, to in 0u64..200, len in 0u64..200) {
            let mut memory: Vec<u16> = (0..400).collect();
            let mut expected = memory.clone();
            expected.copy_within(from as usize..(from + len) as usize, to as usize);
            for Step { from, to, len } in steps(k, from, to, len) {
                prop_assert!(len > 0);
                prop_assert_eq!(from / k, (from + len - 1) / k);
                prop_assert_eq!(to / k, (to + len - 1) / k);
                memory.copy_within(from as usize..(from + len) as usize, to as usize);
            }
            prop_assert_eq!(memory, expected);
        }
    }
}
