//! The memory of the shadow area: had before a cut, given back after it.

use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::error::ShmError;
use crate::open::{allocate, populate};
use crate::preflight;
use crate::segment::Segment;

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
        let mut shadow = self.lock_shadow();
        if shadow.is_prepared {
            return Ok(());
        }
        let regions = self.map.regions();
        preflight::check(regions.k_bytes)?;
        allocate(&self.object, regions.shadow_offset, regions.k_bytes)?;
        if let Err(error) = populate(&self.map, &self.object, regions.shadow_offset, regions.k_bytes) {
            self.punch_shadow()?;
            return Err(error);
        }
        shadow.is_prepared = true;
        Ok(())
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
