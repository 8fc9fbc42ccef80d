//! The whole state as bytes: for a server that lags behind, and for the start after a compaction of the log.
//!
//! What follows from the rest is left out, and made again. Bytes come from a peer or a disk, so nothing is believed:
//! [`State::from_image`] refuses what could not have come out of [`State::image`].

use std::collections::{BTreeMap, BTreeSet};

use mcomp_wire::meta::{MembersReport, Owner};
use mcomp_wire::{Malformed, Space, control};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::allocator::{MAX_SPACE_BYTES, Run};
use crate::leases::LeaseState;
use crate::locks::{Barrier, Lock};
use crate::reset::{Coming, Parts};
use crate::sessions::Session;
use crate::state::Due;
use crate::table::Allocation;
use crate::{Effect, State};

/// Why bytes are no image of a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corrupt {
    /// They do not have the shape.
    #[error("the image of the metadata is damaged: {0}")]
    Shape(#[from] Malformed),
    /// They are of another address space.
    #[error(
        "the metadata is of a cluster with n = {their_n} and k = {their_k} bytes, and mcomp.cfg says n = {our_n} and \
         k = {our_k}: take mcomp.cfg back, or start from a snapshot with new metadata (mcomp purge)"
    )]
    Space {
        /// Servers of the image.
        their_n: u32,
        /// Bytes each of the image.
        their_k: u64,
        /// Servers here.
        our_n: u32,
        /// Bytes each here.
        our_k: u64,
    },
    /// They contradict themselves.
    #[error("the image of the metadata contradicts itself: {0}")]
    Contradiction(String),
}

#[derive(Serialize, Deserialize)]
struct Image {
    k_bytes: u64,
    n: u32,
    log_id: u64,
    index: u64,
    now_ms: u64,
    serial: u64,
    sessions: BTreeMap<Uuid, Session>,
    allocations: BTreeMap<u64, Allocation>,
    leases: BTreeMap<Uuid, LeaseState>,
    quarantine: BTreeMap<u64, (u64, u64)>,
    locks: BTreeMap<String, Lock>,
    barriers: BTreeMap<String, Barrier>,
    coming: Option<Parts>,
    reset_by: Option<Uuid>,
    members: MembersReport,
    last_incarnation: u16,
}

impl State {
    /// The state as bytes.
    pub fn image(&self) -> Vec<u8> {
        let state = self.clone();
        control::encode(&Image {
            k_bytes: state.space.k(),
            n: state.space.n(),
            log_id: state.log_id,
            index: state.index,
            now_ms: state.now_ms,
            serial: state.serial,
            sessions: state.sessions,
            allocations: state.allocations,
            leases: state.leases,
            quarantine: state.quarantine,
            locks: state.locks,
            barriers: state.barriers,
            coming: state.coming.map(|coming| coming.into_parts()),
            reset_by: state.reset_by,
            members: state.members,
            last_incarnation: state.last_incarnation,
        })
    }

    /// The state of an image, if it is one, and of this address space, or of what that was before servers were added or
    /// will be when they are.
    pub fn from_image(bytes: &[u8], space: Space) -> Result<State, Corrupt> {
        let image: Image = control::decode(bytes)?;
        let shape = image.members.shape;
        if image.n != shape.n || !shape.is_sound() {
            return Err(Corrupt::Contradiction(format!("{} servers, and {shape:?}", image.n)));
        }
        // Servers may have been added since, or be listed that are not added yet.
        if image.k_bytes != space.k() || space.n() < image.members.first_servers() {
            let (our_n, our_k) = (space.n(), space.k());
            return Err(Corrupt::Space { their_n: image.n, their_k: image.k_bytes, our_n, our_k });
        }
        let space = Space::new(image.k_bytes, image.n);
        let space = space.filter(|space| space.size() <= MAX_SPACE_BYTES);
        let space = space.ok_or_else(|| Corrupt::Contradiction("an address space that cannot be".into()))?;
        let mut state = State {
            log_id: image.log_id,
            index: image.index,
            now_ms: image.now_ms,
            serial: image.serial,
            sessions: image.sessions,
            allocations: image.allocations,
            leases: image.leases,
            quarantine: image.quarantine,
            locks: image.locks,
            barriers: image.barriers,
            reset_by: image.reset_by,
            members: image.members,
            last_incarnation: image.last_incarnation,
            ..State::new(space)
        };
        if let Some(parts) = image.coming {
            state.coming = Some(Box::new(Coming::of_parts(parts, space).map_err(Corrupt::Contradiction)?));
        }
        state.check_members().map_err(Corrupt::Contradiction)?;
        state.derive().map_err(Corrupt::Contradiction)?;
        state.check_invariants().map_err(Corrupt::Contradiction)?;
        Ok(state)
    }

    /// What a server has to know at its start to guard its memory as of this state.
    pub fn guards(&self) -> Vec<Effect> {
        let mut effects = vec![Effect::Clear];
        effects.extend(self.leases.values().filter_map(|lease| self.guard_of(lease.addr)));
        for (name, lock) in &self.locks {
            let id = mcomp_wire::meta::lock_id(name);
            effects.extend(lock.holders.values().map(|&number| Effect::Hold(mcomp_wire::meta::Fence { id, number })));
        }
        effects
    }

    /// The bytes whose owners came after the entry at `index`: a server that was told nothing since zeroes them.
    pub fn zeroed_since(&self, index: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (addr, allocation) in &self.allocations {
            for (at, (from, zeroed_at)) in allocation.zeroed.iter().enumerate() {
                let end = allocation.zeroed.get(at + 1).map_or(addr + allocation.capacity, |(next, _)| *next);
                if *zeroed_at > index {
                    effects.push(Effect::Zero { addr: *from, len: end - from });
                }
            }
        }
        effects
    }

    /// Makes what follows from the rest.
    pub(crate) fn derive(&mut self) -> Result<(), String> {
        for (addr, allocation) in &self.allocations {
            let (addr, capacity) = (*addr, allocation.capacity);
            self.allocator.reserve(Run { addr, capacity }).map_err(|_| format!("the allocation at {addr} overlaps"))?;
            self.asked_bytes = self.asked_bytes.checked_add(allocation.size).ok_or("sizes that do not add up")?;
            if let Some(name) = &allocation.name
                && self.names.insert(name.clone(), addr).is_some()
            {
                return Err(format!("two allocations are named {name:?}"));
            }
            if let Owner::Session(id) = allocation.owner {
                let owner = self.sessions.get_mut(&id).ok_or_else(|| format!("{addr} has no owner"))?;
                owner.owned.insert(addr);
            }
        }
        for (&addr, &(capacity, until_ms)) in &self.quarantine {
            self.allocator.reserve(Run { addr, capacity }).map_err(|_| format!("the quarantine of {addr} overlaps"))?;
            self.dues.insert((until_ms, Due::Quarantine(addr)));
        }
        self.dues.extend(self.sessions.iter().map(|(id, session)| (session.deadline_ms, Due::Session(*id))));
        self.dues.extend(self.leases.iter().map(|(id, lease)| (lease.deadline_ms, Due::Lease(*id))));
        self.derive_meetings()
    }

    fn derive_meetings(&mut self) -> Result<(), String> {
        let mut met: BTreeSet<(Uuid, String)> = BTreeSet::new();
        for (name, lock) in &self.locks {
            met.extend(lock.holders.keys().map(|session| (*session, name.clone())));
            for waiter in &lock.waiting {
                met.insert((waiter.session, name.clone()));
                self.dues.insert((waiter.deadline_ms, Due::LockWaiter(name.clone(), waiter.ticket())));
            }
        }
        for (name, barrier) in &self.barriers {
            for waiter in &barrier.arrived {
                met.insert((waiter.session, name.clone()));
                self.dues.insert((waiter.deadline_ms, Due::BarrierWaiter(name.clone(), waiter.ticket())));
            }
        }
        for (session, name) in met {
            let session = self.sessions.get_mut(&session).ok_or_else(|| format!("{name:?} is held by nobody"))?;
            session.meets.insert(name);
        }
        Ok(())
    }
}
