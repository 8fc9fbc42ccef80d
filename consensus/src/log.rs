//! The log as the engine reads it: in memory, the same as on disk.

use std::collections::VecDeque;

use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::message::{into_entry, into_snapshot};
use crate::persist::{HardState, Image, Recovered};
use crate::voters::Voters;

/// Invariants: `entries` follow `forgotten` without a gap; `image` is not before `forgotten`; `voters` are those as of the
/// last entry that was applied.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    voters: Voters,
    hard_state: HardState,
    /// The last entry that is no longer there, and its term.
    forgotten: (u64, u64),
    entries: VecDeque<Entry>,
    image: Option<Image>,
}

impl Log {
    pub(crate) fn new(recovered: Recovered, voters: Voters) -> Log {
        let Recovered { image, entries, hard_state, .. } = recovered;
        let at_image = image.as_ref().map_or((0, 0), |image| (image.index, image.term));
        let mut log = Log { voters, hard_state, forgotten: at_image, entries: VecDeque::new(), image };
        // Entries that the image covers may be there still; they are kept for servers that lag behind.
        let covered: Vec<_> = entries.into_iter().map(into_entry).collect();
        log.append(covered.into_iter().filter(|entry| entry.index > at_image.0).collect());
        log
    }

    /// Takes new entries in, in place of those that have their indices.
    pub(crate) fn append(&mut self, new: Vec<Entry>) {
        let Some(first) = new.first().map(|entry| entry.index) else { return };
        assert!(first > self.forgotten.0 && first <= self.last() + 1, "entry {first} after {}", self.last());
        while self.entries.back().is_some_and(|entry| entry.index >= first) {
            self.entries.pop_back();
        }
        self.entries.extend(new);
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Takes an image of a leader: everything here is older.
    pub(crate) fn take_image(&mut self, image: Image) {
        self.forgotten = (image.index, image.term);
        self.hard_state.commit = self.hard_state.commit.max(image.index);
        self.entries.clear();
        self.voters = image.voters.clone();
        self.image = Some(image);
    }

    /// Takes an image of our own, and forgets all but `keep` of the entries that it covers. Says up to which.
    pub(crate) fn compact(&mut self, image: Image, keep: u64) -> u64 {
        let up_to = image.index.saturating_sub(keep).max(self.forgotten.0);
        while self.entries.front().is_some_and(|entry| entry.index <= up_to) {
            let gone = self.entries.pop_front().expect("there is a first");
            self.forgotten = (gone.index, gone.term);
        }
        self.image = Some(image);
        up_to
    }

    /// Bytes of the image.
    pub(crate) fn image_bytes(&self) -> usize {
        self.image.as_ref().map_or(0, |image| image.data.len())
    }

    /// Whether entries are gone, so that whoever has none is sent the image.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.forgotten.0 > 0
    }

    pub(crate) fn voters(&self) -> &Voters {
        &self.voters
    }

    pub(crate) fn set_voters(&mut self, voters: Voters) {
        self.voters = voters;
    }

    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.forgotten.0 {
            return Some(self.forgotten.1);
        }
        let at = index.checked_sub(self.forgotten.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?).map(|entry| entry.term)
    }

    fn last(&self) -> u64 {
        self.forgotten.0 + self.entries.len() as u64
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf_state = self.voters.clone().into_conf();
        let mut hard_state = raft::eraftpb::HardState::default();
        (hard_state.term, hard_state.vote) = (self.hard_state.term, self.hard_state.vote);
        hard_state.commit = self.hard_state.commit.max(self.forgotten.0);
        Ok(RaftState { hard_state, conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_bytes: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.forgotten.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} are wanted, and the last is {}", self.last());
        let max_bytes = max_bytes.into().unwrap_or(u64::MAX);
        let at = (low - self.forgotten.0 - 1) as usize;
        let mut bytes = 0;
        let wanted = self.entries.iter().skip(at).take((high - low) as usize).enumerate();
        let fits = wanted.take_while(|(at, entry)| {
            bytes += entry.data.len() as u64;
            *at == 0 || bytes <= max_bytes
        });
        Ok(fits.map(|(_, entry)| entry.clone()).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = if index < self.forgotten.0 { StorageError::Compacted } else { StorageError::Unavailable };
        self.term_of(index).ok_or(raft::Error::Store(missing))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.forgotten.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, at_least: u64, _to: u64) -> raft::Result<Snapshot> {
        match &self.image {
            Some(image) if image.index >= at_least => Ok(into_snapshot(image.clone())),
            _ => Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable)),
        }
    }
}
