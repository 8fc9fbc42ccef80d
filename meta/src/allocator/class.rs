//! The sizes of small runs: which capacity a small size gets, and how many of it a page holds.
//!
//! A page is 256 grains of 16 bytes. A class is the largest number of grains of which a page holds `slots` pieces,
//! `256 / slots` rounded down, so a page wastes little at its end, and class and capacity say the same: a capacity of
//! `16 * g` bytes is a class when `256 / (256 / g) == g`. That leaves 30 classes: every multiple of 16 up to 288, four
//! to eight steps in each doubling up to 1,024, then 1,360 and 2,048. What is larger than half a page takes pages.

/// Bytes of a page: the smallest piece that the buddies know.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Bytes of a grain: the smallest capacity, and what every address is a multiple of.
const GRAIN_BYTES: u64 = 16;

/// Grains in a page.
const GRAINS: u32 = 256;

/// The class of `g` grains or a few less, by `g`. Entry 0 is not used.
static OF_GRAINS: [u8; GRAINS as usize / 2 + 1] = {
    let mut table = [0; GRAINS as usize / 2 + 1];
    let mut grains = 1;
    while grains <= GRAINS / 2 {
        let rounded = GRAINS / (GRAINS / grains);
        table[grains as usize] = if rounded <= 16 { rounded - 1 } else { 31 - GRAINS / rounded } as u8;
        grains += 1;
    }
    table
};

/// A size class, numbered from the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// How many there are: classes fit into the bits of a `u32`.
    #[cfg(test)]
    pub(super) const COUNT: u8 = 30;

    /// The class whose runs hold `size` bytes with the least waste; `None` when that takes pages.
    pub(super) fn of_size(size: u64) -> Option<Class> {
        let grains = size.div_ceil(GRAIN_BYTES);
        (1..=u64::from(GRAINS / 2)).contains(&grains).then(|| Class(OF_GRAINS[grains as usize]))
    }

    /// The class whose runs have exactly this capacity.
    pub(super) fn of_capacity(capacity: u64) -> Option<Class> {
        Class::of_size(capacity).filter(|class| class.capacity() == capacity)
    }

    /// Its bit in a set of classes.
    pub(super) fn bit(self) -> u32 {
        1 << self.0
    }

    /// Bytes of one run.
    pub(super) fn capacity(self) -> u64 {
        let index = u32::from(self.0);
        u64::from(if index < 16 { index + 1 } else { GRAINS / (31 - index) }) * GRAIN_BYTES
    }

    /// Runs in a page.
    pub(super) fn slots(self) -> u32 {
        let index = u32::from(self.0);
        if index < 16 { GRAINS / (index + 1) } else { 31 - index }
    }
}

/// The capacity of a run for `size` bytes.
pub(super) fn capacity_for(size: u64) -> u64 {
    match Class::of_size(size) {
        Some(class) => class.capacity(),
        None => size.div_ceil(PAGE_BYTES) * PAGE_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_follows_from_its_capacity_and_no_two_are_alike() {
        let capacities: Vec<u64> = (0..Class::COUNT).map(|number| Class(number).capacity()).collect();
        assert!(capacities.is_sorted_by(|a, b| a < b), "{capacities:?}");
        for (number, &capacity) in capacities.iter().enumerate() {
            assert_eq!(Class::of_capacity(capacity), Some(Class(number as u8)));
            assert_eq!(u64::from(Class(number as u8).slots()), PAGE_BYTES / capacity, "slots of {capacity}");
        }
        assert_eq!((capacities[0], capacities[28], capacities[29]), (16, 1360, 2048));
    }

    #[test]
    fn what_is_no_capacity_has_no_class() {
        for capacity in (0..=2 * PAGE_BYTES).filter(|c| !(1..=2048).contains(c) || capacity_for(*c) != *c) {
            assert_eq!(Class::of_capacity(capacity), None, "{capacity}");
        }
    }

    #[test]
    fn waste_stays_within_the_published_bound() {
        for size in 1..=5 * PAGE_BYTES {
            let (capacity, waste) = (capacity_for(size), capacity_for(size) - size);
            let bound = match size {
                1..=288 => 15,
                289..=1024 => capacity * 21 / 100,
                1025..=2048 => capacity * 34 / 100,
                _ => PAGE_BYTES - 1,
            };
            assert!(waste <= bound, "{size} bytes get {capacity}: {waste} are wasted, and {bound} were promised");
            assert!(size < 9 || capacity < 2 * size, "{size} bytes get {capacity}");
        }
    }
}
