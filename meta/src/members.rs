//! Which servers keep replicated blocks, and which life of its memory each one lives.
//!
//! A server says what memory it has when it starts. Memory that was not there before makes it another incarnation, and
//! begins a new epoch: what its former life had promised is not promised any more, and messages of the old epoch count
//! no more.

use mcomp_wire::Status;
use mcomp_wire::meta::{Answer, Member, MembersReport};
use uuid::Uuid;

use crate::{Refusal, State};

impl State {
    /// The servers that keep replicated blocks.
    pub fn members(&self) -> &MembersReport {
        &self.members
    }

    pub(crate) fn join(&mut self, server: u32, memory: Uuid) -> Result<Answer, Refusal> {
        if server >= self.space.n() {
            return Err(crate::state::invalid(format!("there is no server {server}")));
        }
        let before = self.members.members.get(&server).copied();
        if let Some(member) = before.filter(|member| member.memory == memory) {
            return Ok(Answer::Joined(member));
        }
        let Some(incarnation) = self.last_incarnation.checked_add(1) else {
            return Err(Refusal::new(Status::Full, "servers have lost their memory 65,535 times: restore a snapshot"));
        };
        self.last_incarnation = incarnation;
        let member = Member { memory, incarnation, is_heir: before.is_some() };
        self.members.members.insert(server, member);
        self.members.epoch += 1;
        Ok(Answer::Joined(member))
    }

    /// What an image says of them holds together.
    pub(crate) fn check_members(&self) -> Result<(), String> {
        let mut given: Vec<u16> = self.members.members.values().map(|member| member.incarnation).collect();
        given.sort_unstable();
        let repeats = given.windows(2).any(|pair| pair[0] == pair[1]);
        let is_known = |server: &u32| *server < self.space.n();
        if repeats || given.last().is_some_and(|last| *last > self.last_incarnation) || given.first() == Some(&0) {
            return Err("incarnations that were not given out, or twice".into());
        }
        if !self.members.members.keys().all(is_known) || self.members.epoch != u64::from(self.last_incarnation) {
            return Err("members that cannot have come".into());
        }
        Ok(())
    }
}
