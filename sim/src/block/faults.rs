//! What happens to servers: they crash, come back, are cut off, lose their memory, and have their places taken.

use mcomp_quorum::{Coordinator, Copy, Incarnation, Place, Refill, Register, Replica, Set};

use super::object::Fields;
use super::world::{Event, Server, World};

/// Replicas and those whose place was taken, at most.
const MOST_SERVERS: usize = 12;

impl World {
    pub(super) fn restart(&mut self, me: u8, keeps: bool) {
        let replicas = self.replicas;
        // A minority may be without its memory at a time, and none loses it once all is to be well.
        let keeps = keeps || self.healed;
        let may_lose = self.lost() + 1 < self.place(me).majority();
        let (epoch, server) = (self.epoch, &mut self.servers[usize::from(me)]);
        (server.is_up, server.life) = (true, server.life + 1);
        if !keeps && may_lose && server.copy.votes() {
            self.last_incarnation += 1;
            server.incarnation = Incarnation(self.last_incarnation);
            server.copy = Copy::lost(Register::new(Fields::default()));
            self.epoch += 1;
        }
        let place = Place { me, replicas, incarnation: server.incarnation };
        server.coordinator = Coordinator::new(place, server.life << 32);
        server.refill = None;
        // It asks who the others are before it does anything.
        server.epoch = epoch;
        if self.epoch > epoch {
            for server in 0..replicas {
                let delay_us = self.rng.u64(..100_000);
                self.after(delay_us, Event::Learn { server, epoch: self.epoch });
            }
        } else if !self.servers[usize::from(me)].copy.votes() {
            self.servers[usize::from(me)].refill = Some(Refill::new(place));
        }
    }

    /// Replicas that have lost their memory, and are not filled yet.
    fn lost(&self) -> u32 {
        self.servers.iter().take(usize::from(self.replicas)).filter(|server| !server.copy.votes()).count() as u32
    }

    /// Another server takes the place of one, which goes on until it hears of that, or for ever. So it is when a server is
    /// moved, and when copies move because one is added.
    fn replace(&mut self, me: u8) {
        let (at, place) = (usize::from(me), self.place(me));
        let may_lose = self.lost() + 1 < place.majority() && self.servers[at].copy.votes();
        if !may_lose || self.servers.len() > MOST_SERVERS {
            return;
        }
        self.tally.moves += 1;
        (self.last_incarnation, self.epoch) = (self.last_incarnation + 1, self.epoch + 1);
        let (incarnation, life) = (Incarnation(self.last_incarnation), self.servers[at].life + 1);
        let place = Place { incarnation, ..place };
        let new = Server {
            me,
            is_up: true,
            life,
            epoch: self.epoch,
            incarnation,
            copy: Copy::lost(Register::new(Fields::default())),
            coordinator: Coordinator::new(place, life << 32),
            refill: Some(Refill::new(place)),
            is_mute: false,
            is_deaf: false,
        };
        let old = std::mem::replace(&mut self.servers[at], new);
        let before = self.servers.len() as u8;
        self.servers.push(old);
        self.after(10_000, Event::Tick { server: before });
        for server in (0..self.replicas).filter(|server| *server != me) {
            let delay_us = self.rng.u64(..100_000);
            self.after(delay_us, Event::Learn { server, epoch: self.epoch });
        }
        if self.rng.bool() {
            let delay_us = self.rng.u64(..500_000);
            self.after(delay_us, Event::Learn { server: before, epoch: self.epoch });
        }
    }

    fn crash(&mut self, me: u8) {
        let server = &mut self.servers[usize::from(me)];
        if std::mem::replace(&mut server.is_up, false) {
            self.tally.crashes += 1;
            let (keeps, pause_us) = (self.rng.bool(), self.rng.u64(..300_000));
            self.after(pause_us, Event::Restart { server: me, keeps });
        }
    }

    pub(super) fn fault(&mut self) {
        if self.healed {
            return;
        }
        let me = self.rng.u8(..self.replicas);
        match self.rng.u32(..if self.moves { 7 } else { 6 }) {
            6 => self.replace(me),
            0 | 1 => self.crash(me),
            2 => {
                let server = &mut self.servers[usize::from(me)];
                (server.is_mute, server.is_deaf) = [(true, true), (true, false), (false, true)][self.rng.usize(..3)];
                self.tally.cuts += 1;
            }
            3 => {
                let mut suspected = Set::default();
                (0..self.replicas).filter(|_| self.rng.bool()).for_each(|server| suspected.add(server));
                suspected.remove(me);
                self.servers[usize::from(me)].coordinator.suspect(suspected);
            }
            _ => {
                let server = &mut self.servers[usize::from(me)];
                (server.is_mute, server.is_deaf) = (false, false);
            }
        }
        let pause_us = self.rng.u64(10_000..200_000);
        self.after(pause_us, Event::Fault);
    }

    /// A majority heals. The rest is cut off or goes on as it is, for ever.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        (self.loses, self.doubles, self.delay_us) = (0, 0, 300);
        let minority = u32::from(self.replicas) - self.place(0).majority();
        for server in 0..self.replicas {
            let at = &mut self.servers[usize::from(server)];
            // What lost its memory is not counted on until it is filled.
            if self.broken.len() < minority && at.is_up && at.copy.votes() && self.rng.bool() {
                self.broken.add(server);
                at.is_mute = true;
            }
        }
        let lost = self.lost();
        for (at, server) in self.servers.iter_mut().enumerate().take(usize::from(self.replicas)) {
            if lost > 0 || !self.broken.has(at as u8) {
                (server.is_mute, server.is_deaf) = (false, false);
            }
        }
        if lost > 0 {
            self.broken = Set::default();
        }
    }
}
