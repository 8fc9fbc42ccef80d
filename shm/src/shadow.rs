//! The memory of the shadow area: had before a cut, given back after it.

use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::error::ShmError;
use crate::open::{allocate, populate};
use crate::preflight;
use crate::segment::Segment;

/// Allocated at a time: milliseconds.
const PIECE_BYTES: u64 = 16 << 20;

/// The shadow area, guarded by the mutex around it.
///
/// Lock order: taken before the semaphore of a block (by `end_cut`, when a writer has vanished), and by cut commands only
/// (`prepare_shadow`, `switch`, `end_cut`), never by an operation on blocks. It is held while pages are allocated or given back, never across IO.
pub(crate) struct Shadow {
    /// Whether every page of the area is allocated. A cut is active only while it is.
    pub(crate) is_prepared: bool,
}

impl Segment {
    /// Allocates the shadow area, so that no writer of the coming cut can meet a page that does not exist. Does
    /// nothing when it is prepared already.
    ///
    /// # Errors
    /// [`ShmError::Full`] with the numbers: the cut must be refused.
    pub fn prepare_shadow(&self) -> Result<(), ShmError> {
        self.prepare_shadow_while(|| true).map(|prepared| debug_assert!(prepared, "nobody gave it up"))
    }

    /// The same for as long as it is wanted, which is asked before each piece of 16 MiB. False, and nothing is kept,
    /// when it is not: a large area takes seconds.
    ///
    /// # Errors
    /// As [`Segment::prepare_shadow`].
    pub fn prepare_shadow_while(&self, is_wanted: impl Fn() -> bool) -> Result<bool, ShmError> {
        let mut shadow = self.lock_shadow();
        if !shadow.is_prepared {
            preflight::check(self.map.regions().k_bytes)?;
            let made = self.allocate_shadow(is_wanted);
            if !matches!(made, Ok(true)) {
                self.punch_shadow()?;
            }
            shadow.is_prepared = made.map_err(|error| match error {
                // Of one piece; the numbers are to be those of all.
                ShmError::Full { .. } => preflight::full(self.map.regions().k_bytes),
                error => error,
            })?;
        }
        Ok(shadow.is_prepared)
    }

    fn allocate_shadow(&self, is_wanted: impl Fn() -> bool) -> Result<bool, ShmError> {
        let regions = self.map.regions();
        let end = regions.shadow_offset + regions.k_bytes;
        for offset in (regions.shadow_offset..end).step_by(PIECE_BYTES as usize) {
            if !is_wanted() {
                return Ok(false);
            }
            let len_bytes = PIECE_BYTES.min(end - offset);
            allocate(&self.object, offset, len_bytes)?;
            populate(&self.map, &self.object, offset, len_bytes)?;
        }
        Ok(true)
    }

    /// Gives the memory of the shadow area back; the file keeps its size.
    pub(crate) fn punch_shadow(&self) -> Result<(), ShmError> {
        let regions = self.map.regions();
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match fallocate(&self.object.file, mode, regions.shadow_offset, regions.k_bytes) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(ShmError::io("give back the shadow area of", self.path(), errno)),
            }
        }
    }

    /// A panic while the mutex is held leaves at worst an allocated area that is thought unprepared, which the next
    /// `prepare_shadow` repairs: so poison is ignored.
    pub(crate) fn lock_shadow(&self) -> MutexGuard<'_, Shadow> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
