//! This server's part of a cut, of replicated memory.
//!
//! From the switch on nothing new is begun, and what is under way ends: so when every server has switched, nothing is
//! under way anywhere. Servers that have not switched, because nobody reaches them, are a minority, and what they ask is
//! put aside. Then whoever is to be copied brings its blocks up to date: it compares ballots with the others, many at a
//! time, and reads the blocks where too few agree, which settles them. At the release the new epoch begins, and
//! everything goes on.
//!
//! So what is copied is the memory at one moment between the last switch and the first release: whatever was answered
//! before is in it, and nothing that begins afterwards.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mcomp_quorum::Replica;
use mcomp_shm::{Mutant, mutant};
use mcomp_wire::Status;
use mcomp_wire::replica::{DIGEST_BLOCKS, Envelope, Item, Word};
use parking_lot::{Condvar, Mutex};

use super::call::Ended;
use super::{Replicas, View, Want};
use crate::memory::Refusal;

/// How long answers about ballots are waited for before blocks are read instead.
const DIGEST_PATIENCE: Duration = Duration::from_millis(15);
/// How often it is looked whether all is quiet.
const LOOK: Duration = Duration::from_micros(100);
/// Bytes of messages that are put aside at most; those beyond are lost, and asked again.
const ASIDE_BYTES: usize = 16 << 20;

/// What waits for the end of a cut.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Whether it is closed. Taken alone.
    closed: Mutex<bool>,
    opened: Condvar,
    /// Questions of servers that are not held. Taken last.
    aside: Mutex<Vec<Vec<u8>>>,
    /// What other replicas said of ballots. Taken last.
    digests: Mutex<Digests>,
    digested: Condvar,
}

#[derive(Debug, Default)]
struct Digests {
    attempt: u64,
    /// By the first block and the replica.
    said: HashMap<(u64, u8), u64>,
}

impl Replicas {
    /// Begins nothing from now on, and waits until all is quiet. False if it is not in time; it goes on then.
    pub(crate) fn hold(&self, epoch: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        if mutant::active() == Mutant::ColourOnly {
            return true;
        }
        *self.gate.closed.lock() = true;
        let mut busy: Vec<u64> = {
            let mut view = self.view.write();
            view.held = Some(epoch);
            let mut out = self.outgoing(&view);
            let mut busy = Vec::new();
            for shard in &self.shards {
                let mut shard = shard.lock();
                let at_work = shard.coordinators.iter().filter(|(_, coordinator)| !coordinator.is_idle());
                let blocks: Vec<u64> = at_work.map(|(block, _)| *block).collect();
                for block in blocks {
                    // Whoever has switched before has put the first question aside.
                    self.with(&view, &mut shard, block, &mut out, |coordinator, held| coordinator.resend(held));
                    busy.push(block);
                }
            }
            busy
        };
        loop {
            busy.retain(|block| {
                let shard = self.shard(*block).lock();
                shard.coordinators.get(block).is_some_and(|coordinator| !coordinator.is_idle())
            });
            if busy.is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                tracing::debug!(blocks = busy.len(), "blocks are still at work: no cut");
                self.resume();
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Goes on.
    pub(crate) fn resume(&self) {
        {
            let mut view = self.view.write();
            view.held = None;
        }
        *self.gate.closed.lock() = false;
        self.gate.opened.notify_all();
        let aside = std::mem::take(&mut *self.gate.aside.lock());
        let view = self.view.read();
        for body in aside {
            // It was looked at when it came.
            let Ok((envelope, items)) = Envelope::parse(&body) else { continue };
            if envelope.epoch == view.epoch && view.own.is_some() && view.held.is_none() {
                let mut out = self.outgoing(&view);
                items.flatten().filter(|item| is_question(&item.word)).for_each(|item| {
                    self.take(&view, &envelope, &item, &mut out);
                });
            }
        }
    }

    /// Waits while a cut holds this server up.
    pub(super) fn pass(&self, deadline: Instant) {
        let mut closed = self.gate.closed.lock();
        while *closed && !self.gate.opened.wait_until(&mut closed, deadline).timed_out() {}
    }

    /// Whether the questions of a message are to be put aside; then they are.
    pub(super) fn put_aside(&self, view: &View, envelope: &Envelope, body: &[u8]) -> bool {
        let Some(epoch) = view.held else { return false };
        if envelope.is_held && envelope.cut_epoch == epoch {
            return false;
        }
        let mut aside = self.gate.aside.lock();
        let bytes: usize = aside.iter().map(Vec::len).sum();
        if bytes + body.len() <= ASIDE_BYTES {
            aside.push(body.to_vec());
        }
        true
    }

    /// Brings this server's copies of the blocks of some servers up to date, while all are held.
    pub(crate) fn settle(&self, homes: &[u32], patience: Duration) -> Result<(), Refusal> {
        let deadline = Instant::now() + patience;
        if mutant::active() == Mutant::Unsettled {
            return Ok(());
        }
        let mut firsts = Vec::new();
        for &home in homes {
            if self.placement.replica_of(self.id, home).is_none() {
                let message = format!("server {} keeps no copy of the blocks of server {home}", self.id);
                return Err(Refusal::new(Status::Malformed, message));
            }
            let blocks = u64::from(home) * self.part..(u64::from(home) + 1) * self.part;
            firsts.extend(blocks.step_by(DIGEST_BLOCKS as usize));
        }
        for first in self.differing(&firsts, deadline.min(Instant::now() + DIGEST_PATIENCE)) {
            let wants: Vec<(u64, Want)> = self.digest_range(first).map(|block| (block, Want::Read)).collect();
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = self.run_held(wants, left);
            if !ended.iter().all(|ended| matches!(ended, Ended::Read(_))) {
                return Err(Refusal::new(Status::CutLost, "no majority of the replicas has answered in time"));
            }
        }
        Ok(())
    }

    /// The ranges of blocks, by their first ones, of which no majority is known to be of one mind with this server.
    fn differing(&self, firsts: &[u64], deadline: Instant) -> Vec<u64> {
        let attempt = {
            let view = self.view.read();
            let mut digests = self.gate.digests.lock();
            // Relaxed: it only has to be another one.
            digests.attempt = self.attempts.fetch_add(1 << 32, Ordering::Relaxed);
            digests.said.clear();
            let attempt = digests.attempt;
            drop(digests);
            let mut out = self.outgoing(&view);
            for &first in firsts {
                let (Some(home), Some(me)) = (self.home(first), self.replica_of(self.id, first)) else { continue };
                for replica in (0..self.replicas as u8).filter(|replica| *replica != me) {
                    out.push(self.server(home, replica), &Item { block: first, attempt, word: Word::Digest });
                }
            }
            attempt
        };
        let wanted = self.replicas / 2;
        let own: HashMap<u64, Option<u64>> = {
            let view = self.view.read();
            firsts.iter().map(|first| (*first, self.digest(&view, *first))).collect()
        };
        let differs = |digests: &Digests, first: u64| {
            let said = (0..self.replicas as u8).filter_map(|replica| digests.said.get(&(first, replica)));
            let own = own.get(&first).copied().flatten();
            let agree = said.filter(|said| Some(**said) == own).count() as u32;
            agree < wanted
        };
        let mut digests = self.gate.digests.lock();
        while digests.attempt == attempt && firsts.iter().any(|first| differs(&digests, *first)) {
            if self.gate.digested.wait_until(&mut digests, deadline).timed_out() {
                break;
            }
        }
        firsts.iter().copied().filter(|first| differs(&digests, *first)).collect()
    }

    fn digest_range(&self, first: u64) -> std::ops::Range<u64> {
        let part_ends = (first / self.part + 1) * self.part;
        first..part_ends.min(first + DIGEST_BLOCKS)
    }

    /// What the accepted ballots of some blocks come to here; nothing if one of them does not vote.
    pub(super) fn digest(&self, view: &View, first: u64) -> Option<u64> {
        let me = self.replica_of(self.id, first)?;
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for block in self.digest_range(first) {
            let held = self.held(view, me, block);
            if !held.votes() {
                return None;
            }
            let mixed = (digest ^ held.accepted().to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            digest = mixed ^ mixed >> 29;
        }
        Some(digest)
    }

    /// Takes what another replica said of its ballots.
    pub(super) fn digested(&self, from: u8, first: u64, attempt: u64, digest: u64) {
        let mut digests = self.gate.digests.lock();
        if digests.attempt == attempt {
            digests.said.insert((first, from), digest);
            drop(digests);
            self.gate.digested.notify_all();
        }
    }
}

/// Whether it changes something at who is asked.
pub(super) fn is_question(word: &Word<'_>) -> bool {
    matches!(word, Word::Prepare(_) | Word::Accept(..))
}
