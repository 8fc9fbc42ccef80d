//! Which servers keep replicated blocks, and which life of its memory each one lives.
//!
//! A server says what memory it has when it starts. Memory that was not there before makes it another incarnation, and
//! begins a new epoch: what its former life had promised is not promised any more, and messages of the old epoch count
//! no more.
//!
//! A server is moved in two steps. First its next *seat* is agreed on, with an address; the old one serves on. When a
//! server says that it has come to that seat, it takes the place of the old one, in the same entry as its memory. Two
//! servers are never moved at a time: each of them comes without its memory.

use mcomp_wire::meta::{Answer, Member, MembersReport, Seat};
use mcomp_wire::{Status, limits};
use uuid::Uuid;

use crate::mutant::{self, Mutant};
use crate::state::invalid;
use crate::{Refusal, State};

impl State {
    /// The servers that keep replicated blocks.
    pub fn members(&self) -> &MembersReport {
        &self.members
    }

    /// Gives a server its next seat, or takes it back.
    pub(crate) fn move_server(&mut self, server: u32, address: Option<String>) -> Result<Answer, Refusal> {
        let Some(member) = self.members.members.get(&server) else {
            let message = format!("server {server} keeps no replicated blocks: there are no copies to move it with");
            return Err(invalid(message));
        };
        let seat = self.members.seats.get(&server).cloned().unwrap_or_default();
        let present = seat.address.as_ref().unwrap_or(&member.address);
        let address = address.filter(|address| present != address);
        if address.as_ref() == seat.next.as_ref().map(|(_, address)| address) {
            return Ok(Answer::Done);
        }
        let next = match address {
            None => None,
            Some(address) => Some(self.next_seat(server, &seat, address)?),
        };
        let last = next.as_ref().map_or(seat.last, |(number, _)| *number);
        self.members.seats.insert(server, Seat { next, last, ..seat });
        Ok(Answer::Done)
    }

    fn next_seat(&self, server: u32, seat: &Seat, address: String) -> Result<(u16, String), Refusal> {
        if !is_address(&address) {
            return Err(invalid(format!("{address:?} is no address of a server: host:port")));
        }
        let others = || self.members.seats.iter().filter(|(other, _)| **other != server);
        if let Some((other, _)) = others().find(|(_, seat)| seat.next.is_some()) {
            let message = format!("server {other} is being replaced: wait for it, or give that up first");
            return Err(Refusal::new(Status::Locked, message));
        }
        if let Some((other, _)) = others().find(|(_, seat)| seat.address.as_ref() == Some(&address)) {
            return Err(invalid(format!("server {other} is at {address}")));
        }
        let number = seat.last.checked_add(1);
        number.map(|number| (number, address)).ok_or_else(|| invalid("a server can be moved 65,535 times"))
    }

    pub(crate) fn join(&mut self, server: u32, memory: Uuid, seat: u16, address: String) -> Result<Answer, Refusal> {
        if server >= self.members.shape.servers() {
            return Err(invalid(format!("there is no server {server}")));
        }
        if !is_address(&address) {
            return Err(invalid(format!("{address:?} is no address of a server: host:port")));
        }
        let has_come = match self.members.next(server) {
            _ if seat == self.members.seat(server) => false,
            Some((next, _)) if seat == next => true,
            _ if mutant::active() == Mutant::AnySeat => false,
            _ => {
                let to = self.members.address(server).unwrap_or("its first address");
                return Err(invalid(format!("server {server} was moved to {to}: this is not it any more")));
            }
        };
        let joined = self.join_with(server, memory, address)?;
        if has_come
            && let Some(seat) = self.members.seats.get_mut(&server)
            && let Some((number, address)) = seat.next.take()
        {
            (seat.number, seat.address) = (number, Some(address));
        }
        Ok(joined)
    }

    fn join_with(&mut self, server: u32, memory: Uuid, address: String) -> Result<Answer, Refusal> {
        let before = self.members.members.get_mut(&server);
        // What is kept by a server that was added was kept by others before.
        let is_added = self.members.added.contains_key(&server) && mutant::active() != Mutant::EmptyVoter;
        let is_heir = before.is_some() || is_added;
        if let Some(member) = before.filter(|member| member.memory == memory) {
            member.address = address;
            return Ok(Answer::Joined(member.clone()));
        }
        let Some(incarnation) = self.last_incarnation.checked_add(1) else {
            return Err(Refusal::new(Status::Full, "servers have lost their memory 65,535 times: restore a snapshot"));
        };
        self.last_incarnation = incarnation;
        let member = Member { memory, incarnation, is_heir, address };
        self.members.members.insert(server, member.clone());
        self.members.epoch += 1;
        Ok(Answer::Joined(member))
    }

    /// What an image says of them holds together.
    pub(crate) fn check_members(&self) -> Result<(), String> {
        let mut given: Vec<u16> = self.members.members.values().map(|member| member.incarnation).collect();
        given.sort_unstable();
        let repeats = given.windows(2).any(|pair| pair[0] == pair[1]);
        let is_known = |server: &u32| *server < self.members.shape.servers();
        if repeats || given.last().is_some_and(|last| *last > self.last_incarnation) || given.first() == Some(&0) {
            return Err("incarnations that were not given out, or twice".into());
        }
        if !self.members.members.keys().all(is_known) || self.members.epoch < u64::from(self.last_incarnation) {
            return Err("members that cannot have come".into());
        }
        if !self.members.members.values().all(|member| is_address(&member.address)) {
            return Err("members without an address".into());
        }
        let is_right = |(server, seat): (&u32, &Seat)| {
            let next = seat.next.iter().map(|(number, address)| (*number, address));
            let given = next.clone().map(|(number, _)| number).chain([seat.number]).max();
            let addresses = seat.address.iter().chain(next.map(|(_, address)| address));
            self.members.members.contains_key(server)
                && given.is_some_and(|given| given <= seat.last)
                && seat.next.as_ref().is_none_or(|(number, _)| *number > seat.number)
                && (seat.number > 0) == seat.address.is_some()
                && addresses.into_iter().all(|address| is_address(address))
        };
        self.check_growth()?;
        let moving = self.members.seats.values().filter(|seat| seat.next.is_some()).count();
        if moving > 1 || !self.members.seats.iter().all(is_right) {
            return Err("seats that cannot have been given out".into());
        }
        Ok(())
    }
}

/// Whether a server could be at `address`: a host and a port.
pub(crate) fn is_address(address: &str) -> bool {
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    address.len() <= limits::MAX_ADDRESS
        && address.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
}

#[cfg(test)]
mod tests {
    use mcomp_wire::Space;

    use super::*;

    const NEW: &str = "10.0.0.9:7001";

    /// Three servers that have joined, with memories of their own numbers.
    fn state() -> State {
        let mut state = State::new(Space::new(4096, 3).unwrap());
        for server in 0..3 {
            join(&mut state, server, server.into(), 0).unwrap();
        }
        state
    }

    fn join(state: &mut State, server: u32, memory: u128, seat: u16) -> Result<Member, Refusal> {
        let address = if seat == 0 { format!("first:{}", 1 + server) } else { NEW.to_owned() };
        let joined = state.join(server, Uuid::from_u128(memory), seat, address).map(|answer| match answer {
            Answer::Joined(member) => member,
            other => panic!("{other:?}"),
        });
        state.check_members().unwrap();
        joined
    }

    fn to(state: &mut State, server: u32, address: Option<&str>) -> Result<Answer, Refusal> {
        let moved = state.move_server(server, address.map(str::to_owned));
        state.check_members().unwrap();
        moved
    }

    #[test]
    fn a_server_that_was_replaced_does_not_come_back() {
        let mut state = state();
        let epoch = state.members().epoch;
        for _ in 0..2 {
            assert_eq!(to(&mut state, 1, Some(NEW)), Ok(Answer::Done), "asking again changes nothing");
            assert_eq!(state.members().next(1), Some((1, NEW)));
        }
        let old = join(&mut state, 1, 1, 0).unwrap();
        assert_eq!((state.members().epoch, state.members().seat(1)), (epoch, 0), "the old one serves until then");
        let new = join(&mut state, 1, 77, 1).unwrap();
        assert!(new.is_heir && new.incarnation > old.incarnation);
        assert_eq!(state.members().epoch, epoch + 1);
        assert_eq!((state.members().address(1), state.members().next(1)), (Some(NEW), None));
        for memory in [1, 5] {
            let refused = join(&mut state, 1, memory, 0).unwrap_err();
            assert!(refused.message.contains(NEW), "{refused}");
        }
        assert_eq!(join(&mut state, 1, 77, 1), Ok(new));
    }

    #[test]
    fn a_move_is_given_up_and_its_seat_is_never_given_out_again() {
        let mut state = state();
        for stay in [None, Some("first:2")] {
            to(&mut state, 1, Some(NEW)).unwrap();
            to(&mut state, 1, stay).unwrap();
            assert_eq!(state.members().next(1), None);
        }
        assert_eq!(join(&mut state, 1, 77, 1).unwrap_err().status, Status::Invalid);
        to(&mut state, 1, Some(NEW)).unwrap();
        assert_eq!(state.members().next(1), Some((3, NEW)));
        assert_eq!(join(&mut state, 1, 77, 2).unwrap_err().status, Status::Invalid);
        join(&mut state, 1, 77, 3).unwrap();
    }

    #[test]
    fn whoever_comes_with_its_memory_is_not_filled() {
        let mut state = state();
        let before = join(&mut state, 1, 1, 0).unwrap();
        to(&mut state, 1, Some(NEW)).unwrap();
        let after = join(&mut state, 1, 1, 1).unwrap();
        assert_eq!(after, Member { address: NEW.into(), ..before }, "the same memory under another address");
        assert_eq!(state.members().address(1), Some(NEW));
    }

    #[test]
    fn one_server_at_a_time() {
        let mut state = state();
        to(&mut state, 1, Some(NEW)).unwrap();
        assert_eq!(to(&mut state, 2, Some("h:1")).unwrap_err().status, Status::Locked);
        join(&mut state, 1, 77, 1).unwrap();
        assert!(to(&mut state, 2, Some(NEW)).unwrap_err().message.contains("server 1 is at"));
        to(&mut state, 2, Some("h:1")).unwrap();
    }

    #[test]
    fn addresses_that_make_no_sense() {
        let mut state = state();
        let long = format!("{}:7", "h".repeat(limits::MAX_ADDRESS));
        for bad in ["", "h", "h:", ":7", "h:0", "h:70000", "h:+7", "a b:7", &long] {
            assert_eq!(to(&mut state, 1, Some(bad)).unwrap_err().status, Status::Invalid, "{bad:?}");
        }
        assert!(to(&mut state, 3, Some(NEW)).is_err(), "there is no such server");
    }
}
