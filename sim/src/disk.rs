//! A server's disk: what was made durable is there after a crash, and what was not may be.

use mcomp_consensus::{HardState, Persist, Recovered};

/// One disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    content: Recovered,
    /// As it was when the disk was last told to sync: it may come back after a crash.
    synced: HardState,
}

impl Disk {
    pub(crate) fn content(&self) -> Recovered {
        self.content.clone()
    }

    pub(crate) fn write(&mut self, persist: Persist) {
        if let Some(image) = persist.image {
            let covered = persist.forget_up_to.unwrap_or(image.index);
            let is_foreign = persist.forget_up_to.is_none();
            self.content.entries.retain(|entry| !is_foreign && entry.index > covered);
            self.content.image = Some(image);
        }
        if let Some(first) = persist.entries.first() {
            self.content.entries.retain(|entry| entry.index < first.index);
            self.content.entries.extend(persist.entries);
        }
        if let Some(hard_state) = persist.hard_state {
            self.content.hard_state = hard_state;
        }
        self.content.joined |= persist.joined;
        self.content.seat = persist.seat.unwrap_or(self.content.seat);
        if persist.must_sync {
            self.synced = self.content.hard_state;
        }
    }

    /// The machine went down.
    pub(crate) fn crash(&mut self, keeps_unsynced: bool) {
        if !keeps_unsynced {
            self.content.hard_state = self.synced;
        }
    }
}
