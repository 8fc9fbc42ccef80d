//! How a server is added: the cluster grows by one, in steps.
//!
//! Where blocks are not replicated it is done at once: the address space is longer. Otherwise copies move first, as
//! [`mcomp_wire::Placement`] says, one step after the other; a step is done when the server that receives says so. Each
//! step begins a new epoch, so that no message of those who have not come so far counts.

use mcomp_wire::meta::Answer;
use mcomp_wire::{Placement, Shape, Space, Status, limits};
use uuid::Uuid;

use crate::allocator::{Allocator, MAX_SPACE_BYTES, Run};
use crate::members::is_address;
use crate::state::invalid;
use crate::{Refusal, State};

impl State {
    /// Begins to add a server, or does so at once.
    pub(crate) fn grow(&mut self, server: u32, address: String, replicas: u32, epoch: u64) -> Result<Answer, Refusal> {
        if self.members.added.get(&server) == Some(&address) {
            return Ok(Answer::Done);
        }
        let Shape { n, step } = self.members.shape;
        let has_come = self.members.members.contains_key(&n);
        if step > 0 && (server != n || has_come) {
            return Err(Refusal::new(Status::Locked, format!("server {n} is being added: wait for it")));
        }
        if server != n {
            return Err(invalid(format!("there are {n} servers: the next one is server {n}, not {server}")));
        }
        if !is_address(&address) {
            return Err(invalid(format!("{address:?} is no address of a server: host:port")));
        }
        if step > 0 {
            // Nobody has come from where it was to be.
            self.members.added.insert(server, address);
            return Ok(Answer::Done);
        }
        self.check_epoch(epoch)?;
        self.check_not_moving()?;
        self.check_not_coming()?;
        self.longer_space()?;
        if Placement::new(self.members.shape, replicas).is_none() {
            return Err(invalid(format!("{replicas} copies of each block on {n} servers")));
        }
        self.members.added.insert(server, address);
        match replicas {
            1 => self.come_to(Shape { n: n + 1, step: 0 }),
            _ => self.come_to(Shape { n, step: 1 }),
        }
    }

    /// A server has received what was to move to it.
    pub(crate) fn received(
        &mut self,
        server: u32,
        memory: Uuid,
        shape: Shape,
        replicas: u32,
        epoch: u64,
    ) -> Result<Answer, Refusal> {
        let present = self.members.shape;
        if shape != present {
            // It is told again, or what was received then counts no more.
            return if shape < present { Ok(Answer::Done) } else { Err(invalid("that is yet to come")) };
        }
        let receiver = Placement::new(shape, replicas).and_then(Placement::receiver);
        let is_its_own = self.members.members.get(&server).is_some_and(|member| member.memory == memory);
        if receiver != Some(server) || !is_its_own {
            return Err(invalid(format!("it is not for server {server} to receive anything")));
        }
        self.check_epoch(epoch)?;
        self.check_not_moving()?;
        let next = shape.next(replicas);
        if next.n > shape.n {
            self.check_not_coming()?;
        }
        self.come_to(next)
    }

    fn come_to(&mut self, shape: Shape) -> Result<Answer, Refusal> {
        if shape.n > self.space.n() {
            self.space = self.longer_space()?;
            self.allocator = Allocator::new(self.space.k(), self.space.n());
            let allocated = self.allocations.iter().map(|(addr, allocation)| (*addr, allocation.capacity));
            let quarantined = self.quarantine.iter().map(|(addr, (capacity, _))| (*addr, *capacity));
            for (addr, capacity) in allocated.chain(quarantined) {
                self.allocator.reserve(Run { addr, capacity }).expect("what has fitted fits into more");
            }
        }
        self.members.shape = shape;
        self.members.epoch += 1;
        Ok(Answer::Done)
    }

    fn longer_space(&self) -> Result<Space, Refusal> {
        let n = self.space.n() + 1;
        let longer = Space::new(self.space.k(), n).filter(|space| space.size() <= MAX_SPACE_BYTES);
        let too_many = || Refusal::new(Status::Full, format!("{n} servers are more than a cluster can have"));
        longer.filter(|_| n <= limits::MAX_SERVERS).ok_or_else(too_many)
    }

    /// Whoever has lost its memory since all were seen to have theirs has begun another epoch.
    fn check_epoch(&self, epoch: u64) -> Result<(), Refusal> {
        match epoch == self.members.epoch {
            true => Ok(()),
            false => Err(Refusal::new(Status::Busy, "a server has come with other memory meanwhile: look again")),
        }
    }

    /// A server that is moved comes without its memory, and one that receives has not all of its own.
    fn check_not_moving(&self) -> Result<(), Refusal> {
        match self.members.seats.iter().find(|(_, seat)| seat.next.is_some()) {
            None => Ok(()),
            Some((server, _)) => {
                let message = format!("server {server} is being replaced: wait for it, or give that up first");
                Err(Refusal::new(Status::Locked, message))
            }
        }
    }

    /// A page table that comes is one of the address space as it was when that began.
    fn check_not_coming(&self) -> Result<(), Refusal> {
        match self.coming {
            None => Ok(()),
            Some(_) => {
                Err(Refusal::new(Status::Restoring, "a restore is under way: no server is added until it is done"))
            }
        }
    }

    /// What an image says of it holds together.
    pub(crate) fn check_growth(&self) -> Result<(), String> {
        let servers = self.members.shape.servers();
        let added = self.members.added.len() as u32;
        let are_last = (0..added).all(|last| self.members.added.contains_key(&(servers - 1 - last)));
        if added >= servers || !are_last || (self.members.shape.step > 0 && added == 0) {
            return Err("servers that cannot have been added".into());
        }
        match self.members.added.values().all(|address| is_address(address)) {
            true => Ok(()),
            false => Err("added servers without an address".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "10.0.0.9:7001";
    const K: u64 = 4096;

    fn state(n: u32) -> State {
        let mut state = State::new(Space::new(K, n).unwrap());
        for server in 0..n {
            join(&mut state, server);
        }
        state
    }

    fn join(state: &mut State, server: u32) -> mcomp_wire::meta::Member {
        match state.join(server, memory(server), 0, format!("first:{}", 1 + server)) {
            Ok(Answer::Joined(member)) => member,
            other => panic!("{other:?}"),
        }
    }

    fn memory(server: u32) -> Uuid {
        Uuid::from_u128(100 + u128::from(server))
    }

    fn grow(state: &mut State, server: u32, address: &str, replicas: u32) -> Result<Answer, Refusal> {
        let epoch = state.members().epoch;
        state.grow(server, address.into(), replicas, epoch)
    }

    fn received(state: &mut State, server: u32, memory: Uuid, shape: Shape, replicas: u32) -> Result<Answer, Refusal> {
        let epoch = state.members().epoch;
        state.received(server, memory, shape, replicas, epoch)
    }

    fn check(state: &State) {
        state.check_members().unwrap();
        state.assert_invariants();
    }

    #[test]
    fn without_copies_it_is_done_at_once() {
        let mut state = state(1);
        for _ in 0..2 {
            assert_eq!(grow(&mut state, 1, NEW, 1), Ok(Answer::Done), "asking again changes nothing");
            assert_eq!((state.space().n(), state.members().shape), (2, Shape { n: 2, step: 0 }));
        }
        assert_eq!(state.members().first_servers(), 1);
        check(&state);
        let image = state.image();
        for n in [1, 2, 3] {
            let again = State::from_image(&image, Space::new(K, n).unwrap()).unwrap();
            assert_eq!((again.space().n(), again.image()), (2, image.clone()), "a mcomp.cfg with {n} servers");
        }
    }

    #[test]
    fn copies_move_first_step_by_step() {
        let mut state = state(3);
        let mut epoch = state.members().epoch;
        grow(&mut state, 3, NEW, 3).unwrap();
        for (step, receiver) in [(1, 3), (2, 0)] {
            let shape = Shape { n: 3, step };
            assert_eq!((state.members().shape, state.space().n()), (shape, 3));
            assert!(state.members().epoch > epoch, "messages of before count no more");
            check(&state);
            assert!(State::from_image(&state.image(), state.space()).is_ok());
            let member = join(&mut state, receiver);
            assert_eq!(member.is_heir, receiver == 3, "who is added is filled before it votes");
            epoch = state.members().epoch;
            let ahead = Shape { n: 4, step: 0 };
            assert!(received(&mut state, receiver, memory(receiver), ahead, 3).is_err());
            assert!(received(&mut state, receiver, memory(7), shape, 3).is_err(), "another memory");
            assert!(received(&mut state, 1, memory(1), shape, 3).is_err(), "another server");
            assert_eq!(state.members().shape, shape);
            for _ in 0..2 {
                assert_eq!(received(&mut state, receiver, memory(receiver), shape, 3), Ok(Answer::Done));
            }
        }
        assert_eq!((state.members().shape, state.space().n()), (Shape { n: 4, step: 0 }, 4));
        check(&state);
    }

    /// All had their memory when that was looked at, and one has lost it since.
    #[test]
    fn nothing_moves_when_a_server_has_come_with_other_memory_meanwhile() {
        let mut state = state(3);
        let before = state.members().epoch;
        state.join(1, memory(77), 0, "first:2".into()).unwrap();
        assert_eq!(state.grow(3, NEW.into(), 3, before).unwrap_err().status, Status::Busy);
        grow(&mut state, 3, NEW, 3).unwrap();
        join(&mut state, 3);
        let (before, shape) = (state.members().epoch, state.members().shape);
        state.join(2, memory(78), 0, "first:3".into()).unwrap();
        assert_eq!(state.received(3, memory(3), shape, 3, before).unwrap_err().status, Status::Busy);
        assert_eq!(state.members().shape, shape);
        received(&mut state, 3, memory(3), shape, 3).unwrap();
        check(&state);
    }

    #[test]
    fn one_change_at_a_time() {
        let mut state = state(3);
        assert_eq!(grow(&mut state, 4, NEW, 3).unwrap_err().status, Status::Invalid);
        assert_eq!(grow(&mut state, 3, "here", 3).unwrap_err().status, Status::Invalid);
        assert_eq!(grow(&mut state, 3, NEW, 5).unwrap_err().status, Status::Invalid);
        state.move_server(1, Some(NEW.into())).unwrap();
        assert_eq!(grow(&mut state, 3, "h:1", 3).unwrap_err().status, Status::Locked);
        state.move_server(1, None).unwrap();
        grow(&mut state, 3, NEW, 3).unwrap();
        // Nobody was there: another address is as good. Once it has come it is moved like others.
        grow(&mut state, 3, "h:1", 3).unwrap();
        assert_eq!(state.members().added[&3], "h:1");
        assert_eq!(grow(&mut state, 4, "h:2", 3).unwrap_err().status, Status::Locked);
        join(&mut state, 3);
        assert_eq!(grow(&mut state, 3, "h:2", 3).unwrap_err().status, Status::Locked);
        // While one is moved, no copies do: that is for after it.
        let shape = state.members().shape;
        state.move_server(3, Some("h:2".into())).unwrap();
        assert_eq!(received(&mut state, 3, memory(3), shape, 3).unwrap_err().status, Status::Locked);
        state.move_server(3, None).unwrap();
        received(&mut state, 3, memory(3), shape, 3).unwrap();
        check(&state);
    }

    /// What it would vote about it has never seen.
    #[cfg(feature = "mutants")]
    #[test]
    fn a_server_that_votes_with_the_memory_that_it_brings_is_noticed() {
        use crate::mutant::{self, Mutant};
        let ended = mutant::with(Mutant::EmptyVoter, || std::panic::catch_unwind(copies_move_first_step_by_step));
        assert!(ended.is_err());
    }
}
