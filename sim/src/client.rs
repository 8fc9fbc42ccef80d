//! A client: one session, one command at a time, asked again until there is an answer.

use fastrand::Rng;
use mcomp_meta::{Refusal, Ticket};
use mcomp_wire::Status;
use mcomp_wire::meta::{Allocate, Answer, Ask, Command, Owner, Region, Told};
use uuid::Uuid;

use crate::oracle::Oracle;

/// How long a session of a client lives without a sign of life.
const TTL_MS: u64 = 3000;
/// Pages among which a restore chooses: as many as one server has.
const PAGES: u64 = 16;
const PAGE_BYTES: u64 = 4096;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    session: Option<Uuid>,
    number: u64,
    /// The command under way, and when it was asked first.
    pub(crate) pending: Option<(Ask, u64)>,
    /// What it has: addresses, and their leases.
    held: Vec<(u64, Option<Uuid>)>,
    lock: bool,
    /// Whether it restores now and then.
    restores: bool,
    /// The page table that it brings: the next part, and what has been sent.
    coming: Option<(u32, Vec<Region>)>,
    pub(crate) answered: u64,
    /// From now on it only gives back what it has.
    pub(crate) leaves: bool,
}

impl Client {
    pub(crate) fn new(restores: bool) -> Client {
        Client {
            session: None,
            number: 0,
            pending: None,
            held: Vec::new(),
            lock: false,
            restores,
            coming: None,
            answered: 0,
            leaves: false,
        }
    }

    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.pending.as_ref().map(|(ask, _)| Ticket::of(ask))
    }

    /// Whether it has nothing more to give back.
    pub(crate) fn is_done(&self) -> bool {
        self.leaves && self.pending.is_none() && self.held.is_empty() && !self.lock
    }

    /// What it asks now: the same again, or the next.
    pub(crate) fn ask(&mut self, now_ms: u64, rng: &mut Rng, oracle: &mut Oracle) -> Option<Ask> {
        if self.pending.is_none() {
            let command = self.next(rng)?;
            match command {
                Command::Release { lease } => oracle.may_end(lease),
                Command::Renew { lease, lease_ms } => oracle.may_become(lease, lease_ms, now_ms),
                _ => {}
            }
            let (session, number) = match command {
                Command::Open { .. } => (Uuid::nil(), 0),
                Command::KeepAlive => (self.session.expect("it has opened one"), 0),
                _ => {
                    self.number += 1;
                    (self.session.expect("it has opened one"), self.number)
                }
            };
            let ask = Ask { session, number, settled: number.saturating_sub(1), command };
            if let Command::Reset { last: true, .. } = ask.command {
                let (_, regions) = self.coming.take().expect("it has brought all of it");
                oracle.may_reset(Ticket::of(&ask), regions);
            }
            self.pending = Some((ask, now_ms));
        }
        self.pending.as_ref().map(|(ask, _)| ask.clone())
    }

    fn next(&mut self, rng: &mut Rng) -> Option<Command> {
        if self.session.is_none() {
            let token = Uuid::from_u128(rng.u128(1..));
            return if self.is_done() { None } else { Some(Command::Open { token, ttl_ms: TTL_MS }) };
        }
        let held = (!self.held.is_empty()).then(|| self.held[rng.usize(..self.held.len())]);
        if self.leaves {
            return match held {
                Some((_, Some(lease))) => Some(Command::Release { lease }),
                Some((addr, None)) => Some(Command::Free { addr, generation: None }),
                None if self.lock => Some(Command::Unlock { name: "lock".into() }),
                None => None,
            };
        }
        if self.restores
            && let Some(command) = self.restore(rng)
        {
            return Some(command);
        }
        let lock = || Command::Acquire { name: "lock".into(), permits: 1, wait_ms: 400 };
        Some(match (rng.u32(..10), held) {
            (0 | 1, Some((addr, None))) => Command::Free { addr, generation: None },
            (0, Some((_, Some(lease)))) => Command::Release { lease },
            (1..=3, Some((_, Some(lease)))) => Command::Renew { lease, lease_ms: lease_ms_of(rng) },
            (4 | 5, _) if self.lock => Command::Unlock { name: "lock".into() },
            (4 | 5, _) => lock(),
            (6, _) => Command::KeepAlive,
            (7, _) => Command::Allocate(Allocate { size: rng.u64(1..20_000), ..Allocate::default() }),
            _ => {
                let lease_ms = Some(lease_ms_of(rng));
                Command::Allocate(Allocate { size: rng.u64(1..9000), lease_ms, ..Allocate::default() })
            }
        })
    }

    /// The next part of a page table, if it brings one or begins to. Now and then it begins anew, or does something else
    /// in between.
    fn restore(&mut self, rng: &mut Rng) -> Option<Command> {
        if rng.u32(..20) == 0 {
            self.coming = Some((0, Vec::new()));
        }
        let (part, sent) = self.coming.as_mut()?;
        if rng.u32(..4) == 0 {
            return None;
        }
        let last = *part > 0 && rng.bool();
        let mut pages: Vec<u64> = (0..PAGES).filter(|page| sent.iter().all(|r| r.addr != page * PAGE_BYTES)).collect();
        rng.shuffle(&mut pages);
        let regions: Vec<Region> = pages.into_iter().take(rng.usize(..3)).map(|page| restored(page, rng)).collect();
        let command = Command::Reset { part: *part, last, regions: regions.clone() };
        *part += 1;
        sent.extend(regions);
        Some(command)
    }

    /// Takes the answer.
    pub(crate) fn told(&mut self, told: &Result<Told, Refusal>, oracle: &mut Oracle) -> Result<(), String> {
        let (ask, asked_ms) = self.pending.take().expect("an answer is for who asked");
        self.answered += 1;
        match told {
            Ok(told) => {
                oracle.acknowledged(told);
                self.succeeded(&ask.command, told, asked_ms, oracle);
                Ok(())
            }
            Err(refusal) => {
                self.failed(&ask.command, refusal);
                match (refusal.status, &ask.command) {
                    // A page table comes, or another one has taken the place of its own.
                    (Status::Restoring, Command::Allocate(_)) | (Status::Invalid, Command::Reset { .. })
                        if self.restores =>
                    {
                        Ok(())
                    }
                    _ => oracle.refused(refusal),
                }
            }
        }
    }

    fn succeeded(&mut self, command: &Command, told: &Told, asked_ms: u64, oracle: &mut Oracle) {
        let index = told.index;
        match (command, &told.answer) {
            (Command::Open { .. }, Answer::Session { id, .. }) => (self.session, self.number) = (Some(*id), 0),
            (Command::Allocate(wish), Answer::Region(region)) => {
                self.held.push((region.addr, region.lease.as_ref().map(|lease| lease.id)));
                if let (Some(lease), Some(lease_ms)) = (&region.lease, wish.lease_ms) {
                    oracle.leased(region.addr, lease, lease_ms, index, asked_ms);
                }
            }
            (Command::Free { addr, .. }, _) => self.held.retain(|(held, _)| held != addr),
            (Command::Release { lease }, _) => self.held.retain(|(_, held)| *held != Some(*lease)),
            (Command::Renew { lease_ms, .. }, Answer::Lease(lease)) => {
                let addr = self.held.iter().find(|(_, held)| *held == Some(lease.id)).map(|(addr, _)| *addr);
                oracle.leased(addr.expect("it renews what it has"), lease, *lease_ms, index, asked_ms);
            }
            (Command::Acquire { .. }, _) => self.lock = true,
            (Command::Unlock { .. }, _) => self.lock = false,
            // Every session ends with it, this one too.
            (Command::Reset { last: true, .. }, _) => self.forget(),
            _ => {}
        }
    }

    /// Its session has ended, and everything that it had with it.
    fn forget(&mut self) {
        self.session = None;
        self.held.clear();
        self.lock = false;
        self.coming = None;
    }

    fn failed(&mut self, command: &Command, refusal: &Refusal) {
        match (refusal.status, command) {
            // Everything that it had without a lease is left behind, its leases run out.
            (Status::NoSession, _) => self.forget(),
            // Another one has begun.
            (_, Command::Reset { .. }) => self.coming = None,
            (_, Command::Renew { lease, .. } | Command::Release { lease }) => {
                self.held.retain(|(_, held)| *held != Some(*lease));
            }
            (_, Command::Free { addr, .. }) => self.held.retain(|(held, _)| held != addr),
            (_, Command::Unlock { .. }) => self.lock = false,
            _ => {}
        }
    }
}

/// An allocation of a page table of old.
fn restored(page: u64, rng: &mut Rng) -> Region {
    Region {
        addr: page * PAGE_BYTES,
        size: rng.u64(1..=PAGE_BYTES),
        capacity: PAGE_BYTES,
        generation: rng.u64(..),
        name: rng.bool().then(|| format!("page-{page}")),
        owner: Owner::Session(Uuid::from_u128(rng.u128(..))),
        lease: None,
        notes: Vec::new(),
        created_ms: rng.u64(..),
    }
}

fn lease_ms_of(rng: &mut Rng) -> u64 {
    rng.u64(50..2000)
}
