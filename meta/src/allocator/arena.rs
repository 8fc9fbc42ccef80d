//! Values by number, where the number of a released value is given out again.
//!
//! Numbers depend on the history, so nothing that the allocator answers may depend on a number. Memory follows the
//! largest number of values that lived at once.

use std::ops::{Index, IndexMut};

/// Values by number.
#[derive(Clone, Debug)]
pub(super) struct Arena<T> {
    values: Vec<T>,
    unused: Vec<u32>,
}

impl<T> Default for Arena<T> {
    fn default() -> Arena<T> {
        Arena { values: Vec::new(), unused: Vec::new() }
    }
}

impl<T> Arena<T> {
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

    /// Gives a number back. What it stood for stays where it is until the number is given out again.
    pub(super) fn release(&mut self, number: u32) {
        self.unused.push(number);
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
