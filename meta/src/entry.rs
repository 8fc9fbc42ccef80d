//! What goes into the state machine, and what comes out.

use mcomp_wire::Status;
use mcomp_wire::meta::{Ask, Command, Fence, Told};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What the leader added.
    pub stamp: Stamp,
    /// What was asked; nothing when only time has passed.
    pub ask: Option<Ask>,
}

/// What a state machine may not find out by itself: the leader adds it to each entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The cluster's time in milliseconds: it goes on while somebody leads, never back, and has nothing to do with
    /// the time of day.
    pub now_ms: u64,
    /// 128 random bits, for an id.
    pub random: Uuid,
    /// How long memory whose lease has run out stays unused, in milliseconds.
    pub quarantine_ms: u64,
    /// Whether allocations are spread over the servers, or packed.
    pub spread: bool,
}

impl Stamp {
    /// What the log is named by, if this is the stamp of its first entry: never 0.
    pub fn log_id(&self) -> u64 {
        (self.random.as_u128() as u64).max(1)
    }
}

/// Names the asker of a command, so that an answer finds its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// The session, or the token of one that is to be opened.
    pub who: Uuid,
    /// Which command of the session.
    pub number: u64,
}

impl Ticket {
    /// The ticket of a command.
    pub fn of(ask: &Ask) -> Ticket {
        match ask.command {
            Command::Open { token, .. } => Ticket { who: token, number: 0 },
            Command::Join { server, memory, .. } => Ticket { who: memory, number: server.into() },
            Command::Received { server, memory, shape, .. } => {
                Ticket { who: memory, number: u64::from(shape.step) << 32 | u64::from(server) }
            }
            _ => Ticket { who: ask.session, number: ask.number },
        }
    }
}

/// A command that was not done, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason as a code.
    pub status: Status,
    /// The reason as a sentence.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into() }
    }
}

/// What came of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Answers, to the asker of this entry or to others who have waited.
    pub told: Vec<(Ticket, Result<Told, Refusal>)>,
    /// What the servers have to do, in order.
    pub effects: Vec<Effect>,
}

/// What a server does on its part of the memory when it applies an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// These bytes have a new owner, and read as zeros.
    Zero {
        /// The first.
        addr: u64,
        /// How many.
        len: u64,
    },
    /// These bytes are written only with a fence, until they are guarded otherwise or not at all.
    Guard {
        /// The first.
        addr: u64,
        /// How many.
        len: u64,
        /// What opens them.
        fence: Fence,
        /// When it ends, in the cluster's time.
        deadline_ms: u64,
        /// Whether writes without a fence are obeyed too.
        shared: bool,
    },
    /// The guard of the bytes from here is gone.
    Unguard {
        /// The first.
        addr: u64,
    },
    /// Writes under a lock's fence are obeyed.
    Hold(Fence),
    /// They are not any more.
    LetGo(Fence),
    /// All guards and locks are gone.
    Clear,
}

/// A refusal as it stands in an image. Codes travel as numbers.
#[derive(Serialize, Deserialize)]
struct Written {
    status: u16,
    message: String,
}

impl Serialize for Refusal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { status: self.status as u16, message: self.message.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Refusal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Refusal, D::Error> {
        let Written { status, message } = Written::deserialize(deserializer)?;
        Ok(Refusal { status: Status::from_wire(status), message })
    }
}
