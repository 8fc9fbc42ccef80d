//! How this server comes to take part: it says which memory it has, and if that is not what was there before, has its
//! blocks filled from the other replicas before they vote.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mcomp_quorum::{Ask as Question, Incarnation, Place, Refill, Register, Reply};
use mcomp_shm::Life;
use mcomp_wire::Status;
use mcomp_wire::meta::{Answer, Ask, Command, Member, MembersReport};
use mcomp_wire::replica::Item;
use uuid::Uuid;

use super::page::Page;
use super::{Replicas, View, peers};
use crate::memory::Refusal;
use crate::metadata::Metadata;

/// Blocks that are asked for at a time: so many that their contents are a megabyte or two.
const WINDOW: usize = 256;
/// When they are asked for again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often it is looked whether this server is still spoken to.
const LOOK: Duration = Duration::from_secs(2);
/// Between two tries to join.
const PAUSE: Duration = Duration::from_millis(100);

impl Replicas {
    /// Joins, and fills what was lost; again whenever this server was moved. Ends when the server stops.
    pub(crate) fn live(&self, metadata: &Metadata) {
        while !self.is_stopping() {
            let seat = self.fills.lock().seat;
            let Some(member) = self.join(metadata) else { return };
            if self.segment.life() == Life::Unknown {
                if member.is_heir && !self.learn_config_epoch() {
                    // The next start asks again: once its life is known, it is believed to know the epoch.
                    return;
                }
                let life = if member.is_heir { Life::Filling } else { Life::Whole };
                self.segment.set_life(life);
            }
            tracing::info!(incarnation = member.incarnation, is_heir = member.is_heir, "one of the replicas");
            if self.segment.life() == Life::Filling {
                self.fill();
            }
            if self.placement.receiver() == Some(self.id) {
                self.say_what_it_received(metadata);
            }
            while !self.is_stopping() && self.fills.lock().seat == seat {
                if !metadata.knows_leader() {
                    self.ask_where_it_is();
                }
                self.rest(LOOK);
            }
        }
    }

    /// The memory may have been restored before this one came to be: the others know the epoch that clients speak of.
    /// False if the server stops before they were asked.
    fn learn_config_epoch(&self) -> bool {
        loop {
            let epoch = self.links.config_epoch(|| self.is_stopping());
            if self.is_stopping() {
                return false;
            }
            if let Some(epoch) = epoch {
                // It is at most what it is already, if there was no restore.
                self.segment.raise_config_epoch(epoch);
                return true;
            }
            self.rest(PAUSE);
        }
    }

    /// The agreement has given this server a seat.
    pub(crate) fn take_seat(&self, seat: u16) {
        let before = std::mem::replace(&mut self.fills.lock().seat, seat);
        if before != seat {
            self.filled.notify_all();
        }
    }

    /// Stops this server if another one has taken its place.
    pub(super) fn make_room(&self, members: &MembersReport, seat: u16) {
        if members.seat(self.id) > seat {
            let address = members.address(self.id).unwrap_or_default();
            self.on_moved.iter().for_each(|on_moved| on_moved.call(address));
        }
    }

    /// Nobody speaks to this server. Perhaps it was replaced while it was dead, frozen or cut off: the others know.
    fn ask_where_it_is(&self) {
        let seat = self.fills.lock().seat;
        if let Some(members) = self.links.ask_members(|| self.is_stopping()) {
            self.make_room(&members, seat);
        }
    }

    /// Says which memory this server has, until that is agreed on.
    fn join(&self, metadata: &Metadata) -> Option<Member> {
        let memory = Uuid::from_bytes(self.segment.segment_id());
        // The node knows its seat.
        let command = Command::Join { server: self.id, memory, seat: 0, address: self.address.clone() };
        let ask = Ask { session: Uuid::nil(), number: 0, settled: 0, command };
        let mut was_refused = false;
        while !self.is_stopping() {
            match metadata.command(ask.clone()) {
                Ok(told) => match told.answer {
                    Answer::Joined(member) => return Some(member),
                    other => tracing::error!(?other, "the metadata answers something else to a server that joins"),
                },
                Err(Refusal { status: Status::Invalid, message, .. }) if !was_refused => {
                    was_refused = true;
                    tracing::warn!(reason = message, "this server takes no part");
                }
                Err(refusal) => {
                    tracing::debug!(reason = refusal.message, "not one of the replicas yet");
                    self.ask_where_it_is();
                }
            }
            self.rest(PAUSE);
        }
        None
    }

    /// This server has the copies that were to move to it: says so, until it is agreed on and the cluster is a step
    /// further. Not before all others have their memory: the next step takes a copy from one of them.
    fn say_what_it_received(&self, metadata: &Metadata) {
        let memory = Uuid::from_bytes(self.segment.segment_id());
        let (shape, replicas) = (self.placement.shape(), self.replicas);
        while !self.is_stopping() {
            // Before they are asked: whoever loses its memory from then on begins another one.
            let epoch = self.view.read().epoch;
            if self.is_whole() && self.links.all_serve(|| self.is_stopping()) {
                let command = Command::Received { server: self.id, memory, shape, replicas, epoch };
                match metadata.command(Ask { session: Uuid::nil(), number: 0, settled: 0, command }) {
                    Ok(_) => return,
                    Err(refusal) => tracing::debug!(reason = refusal.message, "the cluster does not grow further yet"),
                }
            }
            self.rest(PAUSE);
        }
    }

    /// Whether all of its blocks vote.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_member() && self.segment.life() == Life::Whole
    }

    /// How much of this server's memory is filled again, in percent, while that goes on.
    pub(crate) fn filling_percent(&self) -> Option<u64> {
        let all = self.places().count() as u64;
        let is_filling = self.segment.life() == Life::Filling;
        // Relaxed: a count.
        is_filling.then(|| self.counts.filled.load(Ordering::Relaxed).min(all) * 100 / all)
    }

    /// Where in the segment copies stand. While a server is added some of the places are free.
    fn places(&self) -> impl Iterator<Item = u64> + '_ {
        let used = (0..self.replicas).filter(|replica| self.placement.home(self.id, *replica).is_some());
        used.flat_map(|replica| u64::from(replica) * self.part..u64::from(replica + 1) * self.part)
    }

    fn fill(&self) {
        let filled = self.places().filter(|at| self.segment.is_filled(*at)).count();
        // Relaxed: a count.
        self.counts.filled.store(filled as u64, Ordering::Relaxed);
        let mut places = self.places().peekable();
        while places.peek().is_some() {
            let window: Vec<u64> = places.by_ref().take(WINDOW).collect();
            let began = Instant::now();
            loop {
                let left: Vec<u64> = window.iter().copied().filter(|at| !self.segment.is_filled(*at)).collect();
                if left.is_empty() {
                    break;
                }
                if self.is_stopping() {
                    return;
                }
                let had = self.fills.lock().blocks;
                self.ask_for(&left);
                let deadline = Instant::now() + AGAIN;
                let mut fills = self.fills.lock();
                while fills.blocks < had + left.len() as u64 {
                    if self.filled.wait_until(&mut fills, deadline).timed_out() {
                        break;
                    }
                }
            }
            // Half of the time is for others.
            if began.elapsed() > Duration::from_millis(1) {
                self.rest(began.elapsed().min(AGAIN));
            }
        }
        self.segment.set_life(Life::Whole);
        tracing::info!("all blocks are filled again");
    }

    /// Asks the other replicas for blocks, by their places in the segment.
    fn ask_for(&self, places: &[u64]) {
        let view = self.view.read();
        let Some(incarnation) = view.own else { return };
        let mut out = self.outgoing(&view);
        for at in places {
            let me = (at / self.part) as u8;
            let Some(home) = self.placement.home(self.id, me.into()) else { continue };
            let block = u64::from(home) * self.part + at % self.part;
            let place = Place { me, replicas: self.replicas as u8, incarnation };
            self.shard(block).lock().refills.entry(block).or_insert_with(|| Refill::new(place));
            for replica in place.others().iter() {
                peers::with_ask(&Question::Show, |word| {
                    out.push(self.server(home, replica), &Item { block, attempt: 0, word });
                });
            }
        }
    }

    /// Takes what another replica keeps of a block.
    pub(super) fn shown(&self, view: &View, me: u8, from: u8, block: u64, reply: Reply<Register<Page>>) {
        let mut shard = self.shard(block).lock();
        let Some(refill) = shard.refills.get_mut(&block) else { return };
        let mut held = self.held(view, me, block);
        if refill.heard(&mut held, from, reply) {
            shard.refills.remove(&block);
            drop(shard);
            // Relaxed: a count.
            self.counts.filled.fetch_add(1, Ordering::Relaxed);
            self.fills.lock().blocks += 1;
            self.filled.notify_all();
        }
    }

    /// Waits for a while, unless the server stops.
    fn rest(&self, pause: Duration) {
        let mut fills = self.fills.lock();
        let deadline = Instant::now() + pause;
        while !self.is_stopping() && !self.filled.wait_until(&mut fills, deadline).timed_out() {}
    }
}

/// Named in ballots of who has none.
pub(super) const NOBODY: Incarnation = Incarnation(0);
