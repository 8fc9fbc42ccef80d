//! Words of the cluster's metadata: what Raft puts in order, what is asked of the agreed state, and the answers.
//!
//! All of it travels as postcard in control bodies ([`crate::control::encode`]) and, for [`Ask`], in the log of every
//! server. What the words mean is decided in crate `meta`; their maxima stand in [`crate::limits`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Malformed, Shape, limits};

#[cfg(test)]
mod golden;

/// A command, from whom, and which of theirs it is: the same number again gets the first answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks. Nil only for [`Command::Open`].
    pub session: Uuid,
    /// Counts a session's commands, from 1. For [`Command::Open`] any number.
    pub number: u64,
    /// The asker has all answers up to this number, and will not ask for them again.
    pub settled: u64,
    /// What is to be done.
    pub command: Command,
}

/// What Raft puts in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A session begins. `token` names the wish, so that its answer finds who asked.
    Open {
        /// Chosen by who asks.
        token: Uuid,
        /// How long the session lives without a sign of life, in milliseconds.
        ttl_ms: u64,
    },
    /// A sign of life.
    KeepAlive,
    /// The session ends in good order: what it allocated without a lease stays, its locks do not.
    Close,
    /// Memory is wanted.
    Allocate(Allocate),
    /// An allocation is given back, by whoever.
    Free {
        /// Its first address.
        addr: u64,
        /// Which allocation of that address is meant, if it matters.
        generation: Option<u64>,
    },
    /// An allocation is made longer or shorter where it is.
    Resize {
        /// Its first address.
        addr: u64,
        /// Bytes wanted.
        size: u64,
        /// Which allocation of that address is meant, if it matters.
        generation: Option<u64>,
    },
    /// An allocation takes the place of another: name, lease, owner and notes pass over, and the old one is freed.
    Replace {
        /// The first address of the old one.
        from: u64,
        /// The first address of the new one, an allocation of this session without name or lease.
        to: u64,
    },
    /// A lease goes on for `lease_ms` from now.
    Renew {
        /// Its id.
        lease: Uuid,
        /// For how long, in milliseconds.
        lease_ms: u64,
    },
    /// A lease ends now, and its memory is free.
    Release {
        /// Its id.
        lease: Uuid,
    },
    /// A lease passes to another session, under a new fence.
    Transfer {
        /// Its id.
        lease: Uuid,
        /// Who has it then.
        to: Uuid,
    },
    /// A lock or a counting semaphore is wanted.
    Acquire {
        /// Its name.
        name: String,
        /// How many may hold it at a time: 1 for a lock.
        permits: u32,
        /// How long to wait for it, in milliseconds; 0 does not wait.
        wait_ms: u64,
    },
    /// A lock or a permit is given back.
    Unlock {
        /// Its name.
        name: String,
    },
    /// A session has come to a barrier, and waits for the others.
    Arrive {
        /// The barrier's name.
        name: String,
        /// How many sessions it waits for.
        parties: u32,
        /// How long to wait, in milliseconds.
        wait_ms: u64,
    },
    /// What sessions that died have left is freed.
    Collect,
    /// A part of the page table of a snapshot. Nothing is allocated while parts come; with the last one the table takes
    /// the place of the one that was there, and every session, lease and lock ends.
    Reset {
        /// Counts the parts from 0, which begins anew.
        part: u32,
        /// Whether it is the last one.
        last: bool,
        /// Some of the allocations.
        regions: Vec<Region>,
    },
    /// A server of replicated blocks has come, with this memory. Only it says so itself; it needs no session.
    Join {
        /// Its id.
        server: u32,
        /// Its segment's id. Another one than before means that what was there is lost.
        memory: Uuid,
        /// Which of the server's seats it has, see [`Seat`].
        seat: u16,
        /// Where it is by its own mcomp.cfg.
        address: String,
    },
    /// A server of replicated blocks is to live elsewhere.
    Move {
        /// Its id.
        server: u32,
        /// Its new address; none to stay where it is.
        address: Option<String>,
    },
    /// A server is to be added at the end of the address space.
    Grow {
        /// Its id: as many as there are servers.
        server: u32,
        /// Where it is.
        address: String,
        /// Copies of each block.
        replicas: u32,
        /// The epoch of the members in which all of them were seen to have their memory.
        epoch: u64,
    },
    /// A server has received the copies that move to it while the cluster grows. Only it says so itself; it needs no
    /// session.
    Received {
        /// Its id.
        server: u32,
        /// Its segment's id.
        memory: Uuid,
        /// How far the cluster had grown when they were all there.
        shape: Shape,
        /// Copies of each block.
        replicas: u32,
        /// The epoch of the members in which all of them were seen to have their memory.
        epoch: u64,
    },
}

/// A wish for memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocate {
    /// Bytes wanted, at least 1.
    pub size: u64,
    /// A name for it, which no other allocation has.
    pub name: Option<String>,
    /// Under a lease of so many milliseconds; without one it lives until it is freed.
    pub lease_ms: Option<u64>,
    /// Whether anybody may write to leased memory; otherwise only who shows the lease.
    pub shared: bool,
    /// Notes for people.
    pub notes: Vec<(String, String)>,
    /// Servers that it must not be on, as nobody answers there.
    pub avoid: Vec<u32>,
}

/// One allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its first address.
    pub addr: u64,
    /// Bytes asked for.
    pub size: u64,
    /// Bytes taken, at least `size`.
    pub capacity: u64,
    /// No two allocations ever have the same.
    pub generation: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Who owns it.
    pub owner: Owner,
    /// Its lease, if it has one.
    pub lease: Option<Lease>,
    /// Notes for people.
    pub notes: Vec<(String, String)>,
    /// When it was made, in milliseconds of the cluster's time.
    pub created_ms: u64,
}

/// Who owns an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// A session that lives.
    Session(Uuid),
    /// Nobody in particular: its session ended in good order and left it for others.
    Cluster,
    /// Nobody: its session died.
    Nobody,
}

/// A time to live, and the proof that it is one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Random; whoever knows it holds the lease.
    pub id: Uuid,
    /// Grows with each holder of the same memory. Writes carry it.
    pub fence: u64,
    /// When it ends, in milliseconds of the cluster's time.
    pub deadline_ms: u64,
    /// How long that was from when the answer was given, in milliseconds.
    pub remaining_ms: u64,
    /// Whether writes without the fence are obeyed.
    pub shared: bool,
}

/// The answer to a command that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Where the command stands in the log: a server whose state has come so far knows of it.
    pub index: u64,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing more to say.
    Done,
    /// The session that was opened.
    Session {
        /// Its id.
        id: Uuid,
        /// How long it lives without a sign of life, in milliseconds.
        ttl_ms: u64,
    },
    /// The allocation as it is now.
    Region(Box<Region>),
    /// The lease as it is now.
    Lease(Lease),
    /// Bytes that are free again.
    Freed {
        /// How many allocations.
        regions: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// The lock is held.
    Locked {
        /// What writes under it carry.
        id: Uuid,
        /// Grows with each holder.
        fence: u64,
    },
    /// All parties have come to the barrier.
    Passed {
        /// How often the barrier has opened, this time included.
        round: u64,
    },
    /// The server is one of the replicas.
    Joined(Member),
}

/// What is asked of the agreed state; it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Allocations from `from` on, in address order.
    Regions {
        /// The first address of interest.
        from: u64,
    },
    /// The allocation that holds an address.
    At {
        /// The address.
        addr: u64,
    },
    /// The allocation of a name.
    Named {
        /// The name.
        name: String,
    },
    /// The allocation under a lease.
    Leased {
        /// The lease's id.
        lease: Uuid,
    },
    /// What is free and how it lies.
    Space,
    /// Locks and barriers from a name on, in the order of names.
    Locks {
        /// The first name of interest.
        from: String,
    },
    /// Who leads, and how far this server is. Answered also by a server that knows no leader.
    Consensus,
    /// The servers that keep replicated blocks.
    Members,
    /// The same, as far as the server knows that is asked. Answered also by one that knows no leader.
    MembersHere,
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// Some allocations, and from where to ask for the next ones.
    Regions {
        /// In address order.
        regions: Vec<Region>,
        /// None when these were the last.
        next: Option<u64>,
    },
    /// One allocation, or none.
    Region(Option<Box<Region>>),
    /// What is free.
    Space(SpaceReport),
    /// Some locks, and from where to ask for the next ones.
    Locks {
        /// In the order of names.
        locks: Vec<LockReport>,
        /// None when these were the last.
        next: Option<String>,
    },
    /// Who leads.
    Consensus(ConsensusReport),
    /// Who keeps replicated blocks.
    Members(MembersReport),
}

/// One life of one server's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its segment's id.
    pub memory: Uuid,
    /// Under which it proposes ballots; given out once.
    pub incarnation: u16,
    /// Whether another memory of the same server was there before, and is lost.
    pub is_heir: bool,
    /// Where it is, as it said when it came.
    pub address: String,
}

/// The servers that keep replicated blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersReport {
    /// Grows with every change. Messages between replicas name it.
    pub epoch: u64,
    /// By server.
    pub members: BTreeMap<u32, Member>,
    /// By server, of those that were moved or are to be.
    pub seats: BTreeMap<u32, Seat>,
    /// How far the cluster has grown.
    pub shape: Shape,
    /// Where the servers are that were added since it began, or were when they were added.
    pub added: BTreeMap<u32, String>,
}

/// Where a server lives, of one that does not live where it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Counts its moves. Servers name it to each other, so that nobody takes who was replaced for who came.
    pub number: u16,
    /// Its address; none while that is the one of mcomp.cfg.
    pub address: Option<String>,
    /// The seat that it is to have, and the address there.
    pub next: Option<(u16, String)>,
    /// The last number that was given out.
    pub last: u16,
}

impl MembersReport {
    /// How many servers the cluster began with.
    pub fn first_servers(&self) -> u32 {
        self.shape.servers().saturating_sub(self.added.len() as u32)
    }

    /// The number of a server's seat.
    pub fn seat(&self, server: u32) -> u16 {
        self.seats.get(&server).map_or(0, |seat| seat.number)
    }

    /// Where a server was moved to, if it was.
    pub fn address(&self, server: u32) -> Option<&str> {
        self.seats.get(&server)?.address.as_deref()
    }

    /// The seat that a server is to have, and the address there.
    pub fn next(&self, server: u32) -> Option<(u16, &str)> {
        let (number, address) = self.seats.get(&server)?.next.as_ref()?;
        Some((*number, address))
    }
}

/// How the space is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceReport {
    /// Bytes in all.
    pub size: u64,
    /// Bytes that allocations asked for.
    pub asked: u64,
    /// Bytes that they take.
    pub taken: u64,
    /// Bytes that wait for their quarantine to end.
    pub quarantined: u64,
    /// Bytes of the largest free run.
    pub largest_free: u64,
    /// Allocations.
    pub regions: u64,
    /// Allocations under a lease.
    pub leases: u64,
    /// Sessions that live.
    pub sessions: u64,
    /// By server: free bytes, and the largest free run inside it.
    pub servers: Vec<(u64, u64)>,
}

/// A lock, a semaphore or a barrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockReport {
    /// Its name.
    pub name: String,
    /// How many may hold it, or how many a barrier waits for.
    pub permits: u32,
    /// Whether it is a barrier.
    pub barrier: bool,
    /// Who holds it or has arrived, with the fences.
    pub holders: Vec<(Uuid, u64)>,
    /// How many wait.
    pub waiting: u64,
}

/// A server's part in the consensus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsensusReport {
    /// Who leads, as far as this server knows.
    pub leader: Option<u32>,
    /// The term.
    pub term: u64,
    /// What is known to be committed.
    pub committed: u64,
    /// How far this server's state is.
    pub applied: u64,
    /// The cluster's time as of the last command, in milliseconds.
    pub now_ms: u64,
    /// The servers that vote.
    pub voters: Vec<u32>,
}

/// What a write shows to be obeyed on guarded memory. On the wire it stands before the body of a request with the flag
/// [`crate::flags::FENCED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence {
    /// A lease's id, or a lock's ([`lock_id`]).
    pub id: Uuid,
    /// Numbers grow over all leases and locks: a server that has not come so far waits.
    pub number: u64,
}

impl Fence {
    /// Bytes on the wire.
    pub const LEN: usize = 24;

    /// Its bytes: the id as it is written, then the number.
    pub fn emit(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(self.id.as_bytes());
        bytes[16..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Takes a fence off the front of a body.
    pub fn parse(body: &[u8]) -> Result<(Fence, &[u8]), Malformed> {
        let (id, rest) = body.split_first_chunk::<16>().ok_or(Malformed::Short)?;
        let (number, rest) = rest.split_first_chunk::<8>().ok_or(Malformed::Short)?;
        Ok((Fence { id: Uuid::from_bytes(*id), number: u64::from_le_bytes(*number) }, rest))
    }
}

/// From one server to another: a part of a message about the metadata. Parts follow each other on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPart<'a> {
    /// Which server speaks.
    pub from: u32,
    /// Which of that server's seats has the speaker.
    pub seat: u16,
    /// Whether another part of the same message follows.
    pub more: bool,
    /// Bytes of the message.
    pub bytes: &'a [u8],
}

impl<'a> PeerPart<'a> {
    /// Bytes before those of the message.
    pub const OVERHEAD: usize = 8;

    /// Appends its bytes: who speaks, whether more follows and the seat in two bytes each, then those of the message.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&u16::from(self.more).to_le_bytes());
        out.extend_from_slice(&self.seat.to_le_bytes());
        out.extend_from_slice(self.bytes);
    }

    /// Reads the bytes of [`PeerPart::emit`].
    pub fn parse(body: &'a [u8]) -> Result<PeerPart<'a>, Malformed> {
        let (from, rest) = body.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let (more, rest) = rest.split_first_chunk::<2>().ok_or(Malformed::Short)?;
        let (seat, bytes) = rest.split_first_chunk::<2>().ok_or(Malformed::Short)?;
        let more = match u16::from_le_bytes(*more) {
            0 => false,
            1 => true,
            _ => return Err(Malformed::Reserved),
        };
        Ok(PeerPart { from: u32::from_le_bytes(*from), seat: u16::from_le_bytes(*seat), more, bytes })
    }
}

/// The id of a lock, by its name: FNV-1a of 128 bits. It need not be secret, nor unique: a fence's number is.
pub fn lock_id(name: &str) -> Uuid {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = name.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    Uuid::from_u128(hash)
}

/// Whether `name` may name an allocation, a lock or a barrier: it begins with a letter or `_`, goes on with letters,
/// digits and `_ - . /`, and is at most [`limits::MAX_NAME`] bytes. So no name looks like an address.
pub fn is_name(name: &str) -> bool {
    let begins = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let goes_on = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/');
    name.bytes().next().is_some_and(begins) && name.bytes().all(goes_on) && name.len() <= limits::MAX_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_fence() {
        let fence = Fence { id: Uuid::from_u128(0x0102), number: 0x0304 };
        let mut bytes = fence.emit().to_vec();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Fence::parse(&bytes[..23]), Err(Malformed::Short));
        bytes.push(9);
        assert_eq!(Fence::parse(&bytes), Ok((fence, &[9][..])));
    }

    #[test]
    fn golden_peer_part() {
        let part = PeerPart { from: 2, seat: 0x0103, more: true, bytes: b"xy" };
        let mut bytes = Vec::new();
        part.emit(&mut bytes);
        assert_eq!(bytes, [2, 0, 0, 0, 1, 0, 3, 1, b'x', b'y']);
        assert_eq!(PeerPart::parse(&bytes), Ok(part));
        assert_eq!(PeerPart::parse(&bytes[..7]), Err(Malformed::Short));
        bytes[4] = 2;
        assert_eq!(PeerPart::parse(&bytes), Err(Malformed::Reserved));
    }

    #[test]
    fn lock_ids_are_those_of_fnv() {
        // The published values of FNV-1a, 128 bits, for nothing and for "a".
        assert_eq!(lock_id("").as_u128(), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(lock_id("a").as_u128(), 0xd228cb696f1a8caf78912b704e4a8964);
    }

    #[test]
    fn names_never_look_like_addresses() {
        for good in ["a", "_", "results/day-1.bin", "A9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "9a", "0x10", "a b", "a+4", "a[0:4]", "\u{e9}", "-a", "/a", &"a".repeat(limits::MAX_NAME + 1)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
