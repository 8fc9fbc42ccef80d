//! Servers killed again and again under every kind of load, most of them in the middle of a copy: the test build can
//! make the middle last. No block is ever seen half written, by a server or in its segment; what was acknowledged is
//! there; what was not is there wholly or not at all.
//!
//! The known wrong versions (a server that does again what every slot says, writers that leave their slots empty) must
//! be caught by the same load.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use mcomp_client::{Cluster as Client, Error, Outcome};

use super::{BLOCK, StopAtEnd, client};
use crate::harness::{Cluster, Setup, length, seed, wait_until};

const SERVERS: u32 = 2;
const K: u64 = 64 << 10;
/// Blocks that several writers fill, on the first server and on the second.
const SHARED: [u64; 4] = [0, 1, 16, 17];
/// A counter, and then the first block of each keeper.
const COUNTER: u64 = 2;
const KEPT: [u64; 4] = [3, 4, 18, 19];

/// What all threads share.
#[derive(Default)]
struct Torture {
    stop: AtomicBool,
    /// Writes that were acknowledged, whosever.
    done: AtomicU64,
    adds: AtomicU64,
    unknown_adds: AtomicU64,
    /// The first thing that must not be.
    violation: Mutex<Option<String>>,
}

impl Torture {
    fn report(&self, what: String) {
        self.violation.lock().unwrap().get_or_insert(what);
        self.stop.store(true, Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Notes an error that a killed server explains, or reports it.
    fn excuse(&self, error: &Error) {
        if matches!(error, Error::Torn { .. }) {
            self.report(format!("a torn block: {error}"));
        }
    }

    /// Fills shared blocks, each with one value.
    fn fill(&self, client: &Client, mut random: fastrand::Rng) {
        while self.goes_on() {
            let block = vec![random.u8(..); BLOCK as usize];
            let at = SHARED[random.usize(..SHARED.len())] * BLOCK;
            match client.write_at(at, &block) {
                Ok(()) => drop(self.done.fetch_add(1, Relaxed)),
                Err(error) => self.excuse(&error),
            }
        }
    }

    /// Reads shared blocks: each has one value, whoever reads it and however.
    fn look(&self, client: &Client, mut random: fastrand::Rng) {
        let mut block = vec![0; BLOCK as usize];
        while self.goes_on() {
            let at = SHARED[random.usize(..SHARED.len())] * BLOCK;
            match client.read_at(at, &mut block) {
                Ok(()) if block.iter().all(|byte| *byte == block[0]) => {}
                Ok(()) => self.report(format!("the block at {at} has more than one value")),
                Err(error) => self.excuse(&error),
            }
        }
    }

    fn add(&self, client: &Client) {
        while self.goes_on() {
            match client.fetch_add(COUNTER * BLOCK, 1) {
                Ok(_) => drop((self.adds.fetch_add(1, Relaxed), self.done.fetch_add(1, Relaxed))),
                Err(error) if error.outcome() == Outcome::Unknown => drop(self.unknown_adds.fetch_add(1, Relaxed)),
                Err(error) => self.excuse(&error),
            }
        }
    }

    /// Changes a block of its own in all ways, through several connections, and knows what must be in it.
    fn keep(&self, clients: [&Client; 2], number: usize, mut random: fastrand::Rng) {
        let at = KEPT[number] * BLOCK;
        let mut model = vec![0; BLOCK as usize];
        while self.goes_on() {
            let mut after = model.clone();
            let change = Change::any(&mut random);
            change.make(&mut after);
            let outcome = change.ask(clients[random.usize(..2)], at);
            self.done.fetch_add(u64::from(outcome.is_ok()), Relaxed);
            let Some(found) = self.read_back(clients[random.usize(..2)], at) else { return };
            let allowed: &[&Vec<u8>] = match &outcome {
                Ok(()) => &[&after],
                Err(error) if error.outcome() == Outcome::Fail => &[&model],
                Err(_) => &[&model, &after],
            };
            if !allowed.contains(&&found) {
                return self.report(format!("{change:?} of the block at {at}, told {outcome:?}, and it is otherwise"));
            }
            model = found;
        }
    }

    /// The block as it is, as soon as its server answers.
    fn read_back(&self, client: &Client, at: u64) -> Option<Vec<u8>> {
        while self.goes_on() {
            match client.read_vec(at, BLOCK) {
                Ok(found) => return Some(found),
                Err(error) => self.excuse(&error),
            }
        }
        None
    }
}

/// Bytes that a message need not show.
struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes from {:?} on", self.0.len(), self.0.first())
    }
}

/// A change of one block.
#[derive(Debug)]
enum Change {
    Write { within: usize, bytes: Bytes },
    Fill { within: usize, len: usize, byte: u8 },
    Copy { from: usize, to: usize, len: usize },
    Swap { within: usize, new: u64 },
}

impl Change {
    fn any(random: &mut fastrand::Rng) -> Change {
        let within = random.usize(..4096);
        let len = random.usize(1..=4096 - within);
        match random.u8(..8) {
            0..3 => Change::Write { within: 0, bytes: Bytes(vec![random.u8(..); 4096]) },
            3..5 => Change::Write { within, bytes: Bytes((0..len).map(|_| random.u8(..)).collect()) },
            5 => Change::Fill { within, len, byte: random.u8(..) },
            6 => Change::Copy { from: within, to: random.usize(..=4096 - len), len },
            _ => Change::Swap { within: within / 8 * 8, new: random.u64(..) },
        }
    }

    fn make(&self, block: &mut [u8]) {
        match self {
            Change::Write { within, bytes } => block[*within..][..bytes.0.len()].copy_from_slice(&bytes.0),
            Change::Fill { within, len, byte } => block[*within..][..*len].fill(*byte),
            Change::Copy { from, to, len } => block.copy_within(*from..from + len, *to),
            Change::Swap { within, new } => block[*within..][..8].copy_from_slice(&new.to_le_bytes()),
        }
    }

    fn ask(&self, client: &Client, at: u64) -> Result<(), Error> {
        match self {
            Change::Write { within, bytes } => client.write_at(at + *within as u64, &bytes.0),
            Change::Fill { within, len, byte } => client.fill(at + *within as u64, *len as u64, *byte),
            Change::Copy { from, to, len } => client.copy(at + *from as u64, at + *to as u64, *len as u64),
            Change::Swap { within, new } => client.swap(at + *within as u64, *new).map(drop),
        }
    }
}

/// What came of it.
struct Survived {
    violation: Option<String>,
    repaired: u64,
    kills: u64,
    done: u64,
}

/// Kills servers under load until that is enough, or something is wrong.
fn torture(mut cluster: Cluster, kills: u64) -> Survived {
    let mut random = fastrand::Rng::with_seed(seed());
    let (unix, tcp) = (client(&cluster, true), client(&cluster, false));
    let torture = Torture::default();
    let mut survived = Survived { violation: None, repaired: 0, kills: 0, done: 0 };
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&torture.stop);
        let (torture, unix, tcp) = (&torture, &unix, &tcp);
        for (number, client) in [unix, tcp, tcp].into_iter().enumerate() {
            let (fork, other) = (random.fork(), random.fork());
            scope.spawn(move || torture.fill(client, fork));
            scope.spawn(move || if number < 2 { torture.look(client, other) } else { torture.add(client) });
        }
        for number in 0..KEPT.len() {
            let fork = random.fork();
            scope.spawn(move || torture.keep([unix, tcp], number, fork));
        }
        while survived.kills < kills && torture.goes_on() {
            let enough = torture.done.load(Relaxed) + random.u64(5..60);
            wait_until("writers are at work", || torture.done.load(Relaxed) >= enough || !torture.goes_on());
            let victim = random.u32(..SERVERS);
            cluster.kill_server(victim);
            cluster.start_server(victim);
            let counters = cluster.client().status(victim).expect("a status").counters;
            survived.repaired += counters.repaired_blocks;
            survived.kills += 1;
        }
    });
    survived.done = torture.done.load(Relaxed);
    survived.violation = torture.violation.lock().unwrap().take().or_else(|| recount(&cluster, &torture));
    survived
}

/// Whether the counter has what was acknowledged, and no more than what may be there.
fn recount(cluster: &Cluster, torture: &Torture) -> Option<String> {
    let found = cluster.client().fetch_add(COUNTER * BLOCK, 0).expect("the counter is whole");
    let (sure, unknown) = (torture.adds.load(Relaxed), torture.unknown_adds.load(Relaxed));
    let is_right = (sure..=sure + unknown).contains(&found);
    (!is_right).then(|| format!("{sure} adds done and {unknown} unknown, and the counter says {found}"))
}

/// Servers whose copies last a while in the middle, so that a kill finds them there.
fn setup() -> Setup {
    Setup::new(SERVERS, &format!("{K}")).env("MCOMP_STRETCH_COPY_US", "300")
}

#[test]
fn killed_servers_show_no_torn_block_and_lose_no_acknowledged_write() {
    let survived = torture(setup().servers(), length("MCOMP_TEST_KILLS", 50));
    let Survived { violation, repaired, kills, done } = survived;
    eprintln!("{kills} kills under {done} writes: {repaired} blocks repaired");
    assert_eq!(violation, None, "after {kills} kills");
    assert!(repaired > 0, "no server was killed in the middle of a write, which proves nothing");
}

fn is_caught(mutant: &str) {
    let survived = torture(setup().env("MCOMP_MUTANT", mutant).servers(), 500);
    let found = survived.violation.unwrap_or_else(|| panic!("{mutant} went unnoticed in {} kills", survived.kills));
    eprintln!("{mutant}, after {} kills: {found}", survived.kills);
}

#[test]
fn a_server_that_does_old_writes_again_is_caught() {
    is_caught("redo-even");
}

#[test]
fn writers_that_leave_no_record_are_caught() {
    is_caught("no-record");
}
