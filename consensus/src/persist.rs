//! What a server keeps on disk of the agreement, in types of our own.

use mcomp_meta::{Corrupt, Entry, State};
use mcomp_wire::{Space, control};
use serde::{Deserialize, Serialize};

use crate::voters::{VoterChange, Voters};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its place.
    pub index: u64,
    /// In which term it was proposed.
    pub term: u64,
    /// The encoded [`mcomp_meta::Entry`], or nothing: a new leader's first entry.
    pub data: Vec<u8>,
    /// Who votes from here on, in place of an entry for the state.
    pub change: Option<VoterChange>,
}

/// What must not be forgotten between two messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term that was seen.
    pub term: u64,
    /// For whom this server voted in it, by the engine's name; 0 for nobody.
    pub vote: u64,
    /// What is known to be committed.
    pub commit: u64,
}

/// The state as of an entry: what the log before it has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Who votes.
    pub voters: Voters,
    /// The encoded state.
    pub data: Vec<u8>,
}

/// What is to be made durable, all of it or nothing, before anything else happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// Takes the place of the image and of every entry up to its index.
    pub image: Option<Image>,
    /// Takes the place of the entries from the first one's index on.
    pub entries: Vec<LogEntry>,
    /// Takes the place of the hard state.
    pub hard_state: Option<HardState>,
    /// Entries up to this one are of no more use.
    pub forget_up_to: Option<u64>,
    /// From now on this server votes.
    pub joined: bool,
    /// The seat that this server has from now on.
    pub seat: Option<u16>,
    /// Whether it must have reached the disk; otherwise it is enough that it is not lost with the process.
    pub must_sync: bool,
}

impl Persist {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let nothing = Persist { must_sync: self.must_sync, ..Persist::default() };
        *self == nothing
    }
}

impl Recovered {
    /// Names the log as [`State::log_id`] does, or 0 when there is no entry yet.
    pub fn log_id(&self, space: Space) -> Result<u64, Corrupt> {
        if let Some(image) = &self.image {
            return Ok(State::from_image(&image.data, space)?.log_id());
        }
        match self.entries.iter().find(|entry| !entry.data.is_empty()) {
            Some(first) => Ok(control::decode::<Entry>(&first.data)?.stamp.log_id()),
            None => Ok(0),
        }
    }

    /// Notes that the entries up to `index` were applied once: so they were committed, which may not have been written
    /// down.
    pub fn was_applied_up_to(&mut self, index: u64) {
        let last = self.entries.last().map(|entry| entry.index).or(self.image.as_ref().map(|image| image.index));
        self.hard_state.commit = self.hard_state.commit.max(index.min(last.unwrap_or(0)));
    }
}

/// What was found on disk at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last image.
    pub image: Option<Image>,
    /// The entries after those that were forgotten, without a gap.
    pub entries: Vec<LogEntry>,
    /// The hard state.
    pub hard_state: HardState,
    /// Whether this server has ever been able to vote.
    pub joined: bool,
    /// Its seat.
    pub seat: u16,
    /// How many servers there were when the log began, if it has.
    pub servers: Option<u32>,
}
