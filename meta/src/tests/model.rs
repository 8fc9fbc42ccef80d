//! Random histories against a model that keeps everything in plain lists.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a step of a history does.
#[derive(Clone, Debug)]
enum Act {
    Pass(u64),
    Allocate { who: usize, size: u64, lease_ms: Option<u64>, name: Option<u8> },
    Free { which: usize },
    Resize { which: usize, size: u64 },
    Renew { which: usize, lease_ms: u64 },
    Release { which: usize },
    Acquire { who: usize, name: u8, wait_ms: u64 },
    Unlock { who: usize, name: u8 },
    KeepAlive { who: usize },
    Again { who: usize },
    Reopen { who: usize },
    Collect { who: usize },
    Image,
}

fn act() -> impl Strategy<Value = Act> {
    let size = prop_oneof![1u64..200, 1u64..20_000, 4096u64..3 * K_BYTES];
    prop_oneof![
        2 => (0u64..800).prop_map(Act::Pass),
        6 => (0..4usize, size.clone(), prop::option::of(1u64..2000), prop::option::of(0u8..6))
            .prop_map(|(who, size, lease_ms, name)| Act::Allocate { who, size, lease_ms, name }),
        3 => (0..9usize).prop_map(|which| Act::Free { which }),
        3 => (0..9usize, size).prop_map(|(which, size)| Act::Resize { which, size }),
        2 => (0..9usize, 1u64..3000).prop_map(|(which, lease_ms)| Act::Renew { which, lease_ms }),
        1 => (0..9usize).prop_map(|which| Act::Release { which }),
        3 => (0..4usize, 0u8..3, 0u64..900).prop_map(|(who, name, wait_ms)| Act::Acquire { who, name, wait_ms }),
        2 => (0..4usize, 0u8..3).prop_map(|(who, name)| Act::Unlock { who, name }),
        2 => (0..4usize).prop_map(|who| Act::KeepAlive { who }),
        1 => (0..4usize).prop_map(|who| Act::Again { who }),
        1 => (0..4usize).prop_map(|who| Act::Reopen { who }),
        1 => (0..4usize).prop_map(|who| Act::Collect { who }),
        1 => Just(Act::Image),
    ]
}

/// An allocation as the model sees it.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    size: u64,
    generation: u64,
    lease: Option<(Uuid, u64)>,
    owner: Option<usize>,
    collectable: bool,
    name: Option<String>,
}

/// A command, and what was said to it at once.
type Asked = (Command, Option<Result<Told, Refusal>>);

struct Model {
    bench: Bench,
    askers: Vec<(Asker, u64)>,
    last: Vec<Option<Asked>>,
    held: BTreeMap<u64, Held>,
    /// Holder and waiters with their deadlines, in order, by name.
    locks: BTreeMap<u8, Vec<(usize, u64)>>,
    fence: u64,
}

const TTL_MS: u64 = 2500;

impl Model {
    fn new() -> Model {
        let mut bench = Bench { quarantine_ms: 50, ..Bench::new() };
        let askers = (0..4).map(|_| (bench.open(TTL_MS), bench.now_ms + TTL_MS)).collect();
        Model { bench, askers, last: vec![None; 4], held: BTreeMap::new(), locks: BTreeMap::new(), fence: 0 }
    }

    fn is_alive(&self, who: usize) -> bool {
        self.askers[who].1 > self.bench.now_ms
    }

    /// Asks, and says what came of it; none when nothing has yet.
    fn ask(&mut self, who: usize, command: Command) -> Option<Result<Answer, Status>> {
        let alive = self.is_alive(who);
        let told = self.askers[who].0.start(&mut self.bench, command.clone());
        self.last[who] = Some((command, told.clone()));
        if alive {
            self.askers[who].1 = self.bench.now_ms + TTL_MS;
        } else {
            assert_eq!(told.clone().unwrap().unwrap_err().status, Status::NoSession);
        }
        told.map(|told| told.map(|told| told.answer).map_err(|refusal| refusal.status))
    }

    fn step(&mut self, act: Act) {
        let addr_of = |held: &BTreeMap<u64, Held>, which: usize| held.keys().nth(which % held.len().max(1)).copied();
        match act {
            Act::Pass(ms) => self.pass(ms),
            Act::Allocate { who, size, lease_ms, name } => self.allocate(who, size, lease_ms, name),
            Act::Free { which } => {
                let Some(addr) = addr_of(&self.held, which) else { return };
                let Some(who) = (0..4).find(|who| self.is_alive(*who)) else { return };
                let generation = Some(self.held[&addr].generation);
                let told = self.ask(who, Command::Free { addr, generation }).unwrap();
                match self.held[&addr].lease {
                    Some(_) => assert_eq!(told, Err(Status::Fenced)),
                    None => {
                        let freed = self.held.remove(&addr).unwrap();
                        assert_eq!(told, Ok(Answer::Freed { regions: 1, bytes: freed.size }));
                    }
                }
            }
            Act::Resize { which, size } => {
                let Some(addr) = addr_of(&self.held, which) else { return };
                let Some(who) = (0..4).find(|who| self.is_alive(*who)) else { return };
                match self.ask(who, Command::Resize { addr, size, generation: None }).unwrap() {
                    Ok(Answer::Region(region)) => {
                        assert_eq!((region.addr, region.size), (addr, size));
                        self.held.get_mut(&addr).unwrap().size = size;
                    }
                    told => assert_eq!(told, Err(Status::Full)),
                }
            }
            Act::Renew { which, lease_ms } => {
                let Some(addr) = addr_of(&self.held, which) else { return };
                let Some(who) = (0..4).find(|who| self.is_alive(*who)) else { return };
                let Some((lease, _)) = self.held[&addr].lease else { return };
                assert!(self.ask(who, Command::Renew { lease, lease_ms }).unwrap().is_ok());
                self.held.get_mut(&addr).unwrap().lease = Some((lease, self.bench.now_ms + lease_ms));
            }
            Act::Release { which } => {
                let Some(addr) = addr_of(&self.held, which) else { return };
                let Some(who) = (0..4).find(|who| self.is_alive(*who)) else { return };
                let Some((lease, _)) = self.held[&addr].lease else { return };
                assert!(self.ask(who, Command::Release { lease }).unwrap().is_ok());
                self.held.remove(&addr);
            }
            Act::Acquire { who, name, wait_ms } => self.acquire(who, name, wait_ms),
            Act::Unlock { who, name } => self.unlock(who, name),
            Act::KeepAlive { who } => drop(self.ask(who, Command::KeepAlive)),
            Act::Again { who } => self.again(who),
            Act::Reopen { who } => self.reopen(who),
            Act::Collect { who } => self.collect(who),
            Act::Image => {
                let image = self.bench.state.image();
                self.bench.state = State::from_image(&image, self.bench.state.space()).unwrap();
                assert_eq!(self.bench.state.image(), image);
            }
        }
        self.compare();
    }

    fn allocate(&mut self, who: usize, size: u64, lease_ms: Option<u64>, name: Option<u8>) {
        let name = name.map(|name| format!("name-{name}"));
        let is_taken = name.is_some() && self.held.values().any(|held| held.name == name);
        let wish = Allocate { size, name: name.clone(), lease_ms, ..Allocate::default() };
        let alive = self.is_alive(who);
        let told = self.ask(who, Command::Allocate(wish)).unwrap();
        let region = match told {
            Ok(Answer::Region(region)) => *region,
            Err(Status::Exists) => return assert!(is_taken),
            Err(Status::Full) => return,
            other => return assert!(!alive, "{other:?}"),
        };
        assert!(!is_taken);
        let before = self.held.range(..=region.addr).next_back();
        assert!(before.is_none_or(|(addr, held)| addr + held.size <= region.addr), "{region:?} overlaps {before:?}");
        let after = self.held.range(region.addr..).next();
        assert!(after.is_none_or(|(addr, _)| region.addr + region.capacity <= *addr), "{region:?} overlaps {after:?}");
        assert!(self.held.values().all(|held| held.generation < region.generation));
        let lease = lease_ms.map(|lease_ms| (region.lease.unwrap().id, self.bench.now_ms + lease_ms));
        let generation = region.generation;
        let held = Held { size, generation, lease, owner: Some(who), collectable: false, name };
        self.held.insert(region.addr, held);
    }

    fn acquire(&mut self, who: usize, name: u8, wait_ms: u64) {
        let alive = self.is_alive(who);
        let told = self.ask(who, Command::Acquire { name: format!("lock-{name}"), permits: 1, wait_ms });
        if !alive {
            return;
        }
        let queue = self.locks.entry(name).or_default();
        let is_in = queue.iter().position(|(other, _)| *other == who);
        match told {
            Some(Ok(Answer::Locked { fence, .. })) => {
                assert!(queue.is_empty() && fence > self.fence);
                self.fence = fence;
                queue.push((who, u64::MAX));
            }
            Some(Err(Status::Locked)) => assert!(wait_ms == 0 && !queue.is_empty() && queue[0].0 != who),
            Some(Err(Status::Invalid)) => assert!(is_in.is_some(), "it holds the lock already, or waits for it"),
            None => {
                assert_eq!(is_in, None);
                queue.push((who, self.bench.now_ms + wait_ms));
            }
            other => panic!("{other:?}"),
        }
    }

    fn unlock(&mut self, who: usize, name: u8) {
        let alive = self.is_alive(who);
        let told = self.ask(who, Command::Unlock { name: format!("lock-{name}") }).unwrap();
        let queue = self.locks.entry(name).or_default();
        let holds = alive && queue.first().is_some_and(|(holder, _)| *holder == who);
        assert_eq!(told.is_ok(), holds);
        if holds {
            queue.remove(0);
        }
    }

    fn again(&mut self, who: usize) {
        let Some((command, first)) = self.last[who].clone() else { return };
        if !self.is_alive(who) || matches!(command, Command::KeepAlive) {
            return;
        }
        let told = self.askers[who].0.again(&mut self.bench, command);
        self.askers[who].1 = self.bench.now_ms + TTL_MS;
        if first.is_some() {
            assert_eq!(told, first, "the second try is told what the first one was");
        }
    }

    fn reopen(&mut self, who: usize) {
        if self.is_alive(who) {
            self.ask(who, Command::Close).unwrap().unwrap();
            self.leave(who, false);
        }
        self.last[who] = None;
        self.askers[who] = (self.bench.open(TTL_MS), self.bench.now_ms + TTL_MS);
    }

    fn collect(&mut self, who: usize) {
        let alive = self.is_alive(who);
        let told = self.ask(who, Command::Collect).unwrap();
        if alive {
            let gone: Vec<u64> =
                self.held.iter().filter(|(_, h)| h.collectable && h.lease.is_none()).map(|(addr, _)| *addr).collect();
            let bytes = gone.iter().map(|addr| self.held.remove(addr).unwrap().size).sum();
            assert_eq!(told, Ok(Answer::Freed { regions: gone.len() as u64, bytes }));
        }
    }

    fn leave(&mut self, who: usize, died: bool) {
        for held in self.held.values_mut().filter(|held| held.owner == Some(who)) {
            (held.owner, held.collectable) = (None, died);
        }
        for queue in self.locks.values_mut() {
            queue.retain(|(other, _)| *other != who);
        }
    }

    fn pass(&mut self, ms: u64) {
        let was_alive: Vec<bool> = (0..4).map(|who| self.is_alive(who)).collect();
        let until_ms = self.bench.now_ms + ms;
        // Step by step, as the locks change hands in the order of the deadlines.
        for now_ms in self.bench.now_ms + 1..=until_ms {
            let dies = |who: &usize| was_alive[*who] && self.askers[*who].1 == now_ms;
            for who in (0..4).filter(dies).collect::<Vec<_>>() {
                self.leave(who, true);
            }
            for queue in self.locks.values_mut() {
                let mut at = 0;
                queue.retain(|(_, deadline_ms)| {
                    at += 1;
                    at == 1 || *deadline_ms > now_ms
                });
            }
        }
        self.bench.pass(ms);
        self.held.retain(|_, held| held.lease.is_none_or(|(_, deadline_ms)| deadline_ms > until_ms));
    }

    /// Everything that the state says is what the model says.
    fn compare(&mut self) {
        for queue in self.locks.values_mut() {
            if let Some(first) = queue.first_mut() {
                first.1 = u64::MAX;
            }
        }
        let now_ms = self.bench.now_ms;
        self.held.retain(|_, held| held.lease.is_none_or(|(_, deadline_ms)| deadline_ms > now_ms));
        let said: Vec<_> = self.bench.state.all_regions().map(|r| (r.addr, r.size, r.generation, r.name)).collect();
        let held: Vec<_> = self.held.iter().map(|(a, h)| (*a, h.size, h.generation, h.name.clone())).collect();
        assert_eq!(said, held);
        let Found::Locks { locks, .. } = self.bench.state.query(&Query::Locks { from: String::new() }) else {
            panic!()
        };
        let said: Vec<_> = locks.iter().map(|l| (l.name.clone(), l.holders[0].0, l.waiting)).collect();
        let queues = self.locks.iter().filter(|(_, queue)| !queue.is_empty());
        let queues =
            queues.map(|(name, q)| (format!("lock-{name}"), self.askers[q[0].0].0.session, q.len() as u64 - 1));
        assert_eq!(said, queues.collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_are_those_of_the_model(acts in prop::collection::vec(act(), 1..120)) {
        let mut model = Model::new();
        for act in acts {
            model.step(act);
        }
        // When all leases have run out and all owners are gone, nothing is leaked.
        model.pass(5000);
        let mut last = model.bench.open(60_000);
        for addr in model.held.keys().copied().collect::<Vec<_>>() {
            last.ask(&mut model.bench, Command::Free { addr, generation: None }).unwrap();
        }
        prop_assert!(last.allocate(&mut model.bench, bytes(3 * K_BYTES)).is_ok());
    }
}
