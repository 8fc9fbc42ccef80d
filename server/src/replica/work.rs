//! Operations on blocks: handed to their coordinators, carried on by what other replicas say and by time, waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mcomp_quorum::{Coordinator, Effect, Fate, Outcome, Place, Set};
use mcomp_wire::replica::Item;
use parking_lot::RwLockReadGuard;

use super::call::{self, Call, Ended};
use super::held::Held;
use super::page::Page;
use super::timer::Why;
use super::{BACK_OFF_US, KEPT, Outgoing, Replicas, SILENCE, Shard, View, Want, fill, peers};

impl Replicas {
    /// Has operations done, one on each block, and waits for them. Blocks are those that this server keeps.
    pub(super) fn run(&self, wants: Vec<(u64, Want)>, patience: Duration) -> Vec<Ended> {
        let deadline = Instant::now() + patience;
        let mut view = self.view.read();
        while view.held.is_some() && Instant::now() < deadline {
            drop(view);
            self.pass(deadline);
            view = self.view.read();
        }
        if view.held.is_some() {
            return wants.iter().map(|_| Ended::NotDone).collect();
        }
        self.run_in(view, wants, deadline)
    }

    /// The same while a cut holds this server up.
    pub(super) fn run_held(&self, wants: Vec<(u64, Want)>, patience: Duration) -> Vec<Ended> {
        self.run_in(self.view.read(), wants, Instant::now() + patience)
    }

    fn run_in(&self, view: RwLockReadGuard<'_, View>, wants: Vec<(u64, Want)>, deadline: Instant) -> Vec<Ended> {
        let call = Call::new(wants.len());
        let mut begun = Vec::with_capacity(wants.len());
        {
            let mut out = self.outgoing(&view);
            for (index, (block, want)) in wants.into_iter().enumerate() {
                // Relaxed: see the field.
                let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
                let place = call::Place { call: Arc::clone(&call), index };
                begun.push((block, ticket));
                if view.own.is_none() || self.is_stopping() {
                    place.end(Ended::NotDone);
                    continue;
                }
                let mut shard = self.shard(block).lock();
                shard.waiting.insert(ticket, place);
                self.with(&view, &mut shard, block, &mut out, |coordinator, held| match want {
                    Want::Read => coordinator.read(held, ticket),
                    Want::Write(id, op) => coordinator.write(held, ticket, id, op),
                });
            }
        }
        drop(view);
        for index in call.wait(deadline) {
            let (block, ticket) = begun[index];
            let mut shard = self.shard(block).lock();
            // It may have ended meanwhile.
            if let Some(place) = shard.waiting.remove(&ticket) {
                tracing::debug!(block, at = ?shard.coordinators.get(&block), "no majority in time");
                let fate = shard.coordinators.get_mut(&block).map(|coordinator| coordinator.abandon(ticket));
                place.end(if fate == Some(Fate::Unknown) { Ended::Unknown } else { Ended::NotDone });
            }
        }
        call.take()
    }

    /// Does something with the coordinator of a block that this server keeps, and then what it wants done.
    pub(super) fn with(
        &self,
        view: &View,
        shard: &mut Shard,
        block: u64,
        out: &mut Outgoing<'_>,
        what: impl FnOnce(&mut Coordinator<Page>, &mut Held<'_>),
    ) {
        let (Some(home), Some(me)) = (self.home(block), self.replica_of(self.id, block)) else { return };
        let mut held = self.held(view, me, block);
        if shard.coordinators.len() >= KEPT && !shard.coordinators.contains_key(&block) {
            shard.coordinators.retain(|_, coordinator| !coordinator.is_idle());
        }
        let coordinator = shard.coordinators.entry(block).or_insert_with(|| {
            let incarnation = view.own.unwrap_or(fill::NOBODY);
            let place = Place { me, replicas: self.replicas as u8, incarnation };
            // Relaxed: see the field.
            Coordinator::new(place, self.attempts.fetch_add(1 << 32, Ordering::Relaxed))
        });
        let mut suspected = Set::default();
        for replica in (0..self.replicas as u8).filter(|replica| *replica != me) {
            if self.links.suspects(self.server(home, replica), out.began) {
                suspected.add(replica);
            }
        }
        coordinator.suspect(suspected);
        what(coordinator, &mut held);
        let effects = coordinator.take_effects();
        let (attempt, is_idle) = (coordinator.attempt(), coordinator.is_idle());
        for effect in effects {
            match effect {
                Effect::Send { to, attempt, ask } => {
                    let servers = to.iter().map(|replica| self.server(home, replica));
                    peers::with_ask(&ask, |word| {
                        servers.for_each(|server| out.push(server, &Item { block, attempt, word }));
                    });
                }
                Effect::Done(ticket, outcome) => {
                    if let Outcome::Forgotten { clock, .. } = outcome {
                        // Relaxed: it grows. Names that this server gives count on from it.
                        self.clock.fetch_max(clock, Ordering::Relaxed);
                    }
                    if let Some(place) = shard.waiting.remove(&ticket) {
                        place.end(ended(outcome));
                    }
                }
                Effect::BackOff => {
                    // Relaxed: a count.
                    self.counts.lost_rounds.fetch_add(1, Ordering::Relaxed);
                    let pause = Duration::from_micros(fastrand::u64(BACK_OFF_US));
                    self.timer.set(Instant::now() + pause, block, Why::BackOff);
                }
            }
        }
        if !is_idle {
            let due = out.began + SILENCE;
            if shard.unanswered.is_empty() {
                self.timer.set_about(due, block, Why::Silence);
            }
            shard.unanswered.push_back((due, block, attempt));
        }
    }

    pub(super) fn run_timer(&self) {
        while let Some((block, why)) = self.timer.next() {
            let view = self.view.read();
            let mut out = self.outgoing(&view);
            let mut shard = self.shard(block).lock();
            match why {
                Why::BackOff if shard.coordinators.contains_key(&block) => {
                    self.with(&view, &mut shard, block, &mut out, |coordinator, held| coordinator.retry(held));
                }
                Why::BackOff => {}
                Why::Silence => self.ask_again(&view, &mut shard, &mut out),
            }
        }
    }

    /// Asks again what was not answered in time.
    fn ask_again(&self, view: &View, shard: &mut Shard, out: &mut Outgoing<'_>) {
        let count = shard.unanswered.partition_point(|(due, ..)| *due <= out.began);
        let due: Vec<_> = shard.unanswered.drain(..count).collect();
        if let Some((next, block, _)) = shard.unanswered.front() {
            self.timer.set_about(*next, *block, Why::Silence);
        }
        for (_, block, attempt) in due {
            let Some(coordinator) = shard.coordinators.get(&block) else { continue };
            if coordinator.attempt() == attempt && !coordinator.is_idle() {
                // Relaxed: a count.
                self.counts.asked_again.fetch_add(1, Ordering::Relaxed);
                self.with(view, shard, block, out, |coordinator, held| coordinator.resend(held));
            }
        }
    }
}

fn ended(outcome: Outcome<Page>) -> Ended {
    match outcome {
        Outcome::Wrote { answer, .. } => Ended::Wrote(answer),
        Outcome::Read(page) => Ended::Read(page),
        Outcome::NotDone => Ended::NotDone,
        Outcome::Forgotten { was_tried: true, .. } => Ended::Unknown,
        Outcome::Forgotten { was_tried: false, clock } => Ended::Forgotten(clock),
    }
}
