//! Values by number, where the number of a released value is given out again.
//!
//! Numbers depend on the history, so nothing that the allocator answers may depend on a number. Memory follows the
//! largest number of values that lived at once.

use std::ops::{Index, IndexMut};

/// Values by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Arena<T> {
    values: Vec<T>,
    unused: Vec<u32>,
}

impl<T: Default> Arena<T> {
    /// Numbers that never occur.
    pub(super) const RESERVED: u32 = u32::MAX - 8;

    /// Keeps a value under the number that is returned.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.unused.pop() {
            self.values[number as usize] = value;
            return number;
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        assert!(number < Self::RESERVED, "an arena of the allocator holds {number} values, and can number no more");
        self.values.push(value);
        number
    }

    /// Gives a number back and takes its value out.
    pub(super) fn release(&mut self, number: u32) -> T {
        self.unused.push(number);
        std::mem::take(&mut self.values[number as usize])
    }

    /// Values that are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.values.len() - self.unused.len()
    }
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.values[number as usize]
    }
}
