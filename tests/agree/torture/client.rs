//! A client of the torture: a real `mcomp shell` that is killed now and then, and what it believes to have.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Torture;
use super::book::{Book, Sure};
use crate::agree::{number, text};
use crate::harness::Cluster;
use crate::shell::Shell;

/// Allocations that a client has at a time.
const MOST_HELD: usize = 10;
/// Locks that they compete for.
const LOCKS: u64 = 3;
/// How long the servers keep the session of a shell.
const SESSION: Duration = Duration::from_secs(10);
/// The servers count whole milliseconds, and give one time to all that reaches them together.
const GRAIN: Duration = Duration::from_millis(20);

/// An allocation that a client was told to be its own.
pub(super) struct Mine {
    pub(super) addr: u64,
    pub(super) size: u64,
    pub(super) generation: u64,
    pub(super) lease: Option<(String, Value)>,
    /// What is in it; none when a write had no answer.
    bytes: Option<Vec<u8>>,
}

/// One client at a time, and what it has.
pub(super) struct Client<'a, 'b> {
    torture: &'a Torture<'b>,
    shell: Shell,
    random: fastrand::Rng,
    mine: Vec<Mine>,
    /// Without a lease, and with a write under way of which nothing is known: never freed, because that write may reach
    /// the memory when it is another's.
    doubtful: Vec<Mine>,
    lock: Option<(String, u64)>,
    /// The lock that it holds when it dies at last.
    last: String,
}

impl<'a, 'b> Client<'a, 'b> {
    pub(super) fn new(torture: &'a Torture<'b>, number: u64, random: fastrand::Rng) -> Client<'a, 'b> {
        let shell = start(&torture.cluster.lock().expect("it is whole"));
        Client { torture, shell, random, mine: Vec::new(), doubtful: Vec::new(), lock: None, last: last_lock(number) }
    }

    pub(super) fn run(mut self) -> Vec<Mine> {
        while self.torture.done.fetch_add(1, Relaxed) < self.torture.most {
            match self.random.u8(..20) {
                0..7 if self.mine.len() + self.doubtful.len() < MOST_HELD => self.allocate(),
                0..11 => self.free(),
                11..14 => self.renew(),
                14..19 => self.lock_or_unlock(),
                _ => self.die(),
            }
        }
        // It goes with the session, so whoever waits for it waits for that.
        let _ = self.ask(json!({"op": "lock", "name": self.last, "wait_ms": 0}));
        self.mine.append(&mut self.doubtful);
        self.mine
    }

    /// Asks, and says what came of it: the answer, or whether it may have been done all the same.
    fn ask(&mut self, request: Value) -> Result<Value, (bool, Value)> {
        let answer = self.shell.ask(request);
        match answer["outcome"].as_str() {
            Some("ok") => {
                self.torture.acknowledged.fetch_add(1, Relaxed);
                Ok(answer)
            }
            outcome => Err((outcome == Some("unknown"), answer)),
        }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.torture.book.lock().expect("nobody found anything wrong")
    }

    fn allocate(&mut self) {
        let size = if self.random.bool() { self.random.u64(1..300) } else { self.random.u64(1..9000) };
        let lease_ms = self.random.bool().then(|| self.random.u64(100..4000));
        let mut request = json!({"op": "alloc", "size": size});
        if let Some(lease_ms) = lease_ms {
            request["lease_ms"] = lease_ms.into();
        }
        let asked = Instant::now();
        let Ok(region) = self.ask(request) else { return };
        let (addr, generation) = (number(&region, "addr"), number(&region, "generation"));
        let until = lease_ms.map(|lease_ms| asked + Duration::from_millis(lease_ms) - GRAIN);
        {
            let mut book = self.book();
            book.number(generation, &region);
            book.regions.insert(generation, (addr, addr + size, Sure { since: Instant::now(), until }));
        }
        let lease = lease_ms.map(|_| (text(&region, "lease").to_owned(), region["fence"].clone()));
        if let Some((_, fence)) = &lease {
            self.book().number(fence.as_u64().expect("a number"), &region);
        }
        let mut mine = Mine { addr, size, generation, lease, bytes: Some(vec![0; size as usize]) };
        self.check(&mine);
        self.write(&mut mine);
        let is_certain = mine.bytes.is_some() || mine.lease.is_some();
        if is_certain { &mut self.mine } else { &mut self.doubtful }.push(mine);
    }

    /// Fills an allocation with random bytes.
    fn write(&mut self, mine: &mut Mine) {
        let bytes: Vec<u8> = (0..mine.size).map(|_| self.random.u8(..)).collect();
        let mut request = json!({"op": "write", "addr": mine.addr, "data": STANDARD.encode(&bytes)});
        if let Some((id, fence)) = &mine.lease {
            request["fence"] = json!({"id": id, "number": fence});
        }
        match self.ask(request) {
            Ok(_) => mine.bytes = Some(bytes),
            Err((true, _)) => mine.bytes = None,
            Err((false, answer)) => {
                let is_over = answer["kind"] == "fenced" && !self.is_mine(mine);
                assert!(is_over || is_weather(&answer), "a write to what is its own: {answer}");
            }
        }
    }

    /// Looks whether the bytes are those of the last write, when it is certain that they are still one's own.
    fn check(&mut self, mine: &Mine) {
        let Ok(answer) = self.ask(json!({"op": "read", "addr": mine.addr, "len": mine.size})) else { return };
        if let Some(bytes) = &mine.bytes
            && self.is_mine(mine)
        {
            let found = STANDARD.decode(text(&answer, "data")).expect("base64");
            let first = found.iter().zip(bytes).position(|(found, wanted)| found != wanted);
            assert_eq!(first, None, "{} bytes at {}, generation {}", mine.size, mine.addr, mine.generation);
        }
    }

    /// Whether it is certain that nobody else has it yet.
    fn is_mine(&self, mine: &Mine) -> bool {
        self.book().regions[&mine.generation].2.until.is_none_or(|until| Instant::now() < until)
    }

    /// From now on it may be another's.
    fn unsure(&self, mine: &Mine) {
        let now = Instant::now();
        let mut book = self.book();
        let sure = &mut book.regions.get_mut(&mine.generation).expect("it was noted").2;
        sure.until = Some(sure.until.map_or(now, |until| until.min(now)));
    }

    fn free(&mut self) {
        if self.mine.is_empty() {
            return;
        }
        let mine = self.mine.swap_remove(self.random.usize(..self.mine.len()));
        self.check(&mine);
        let request = match &mine.lease {
            Some((id, _)) => json!({"op": "release", "lease": id}),
            None => json!({"op": "free", "addr": mine.addr}),
        };
        let before = self.book().regions[&mine.generation].2;
        self.unsure(&mine);
        if let Err((false, answer)) = self.ask(request) {
            let is_over = answer["kind"] == "no_lease" && before.until.is_some_and(|until| until <= Instant::now());
            assert!(is_over || is_weather(&answer), "what was acknowledged is not there: {answer}");
            if mine.lease.is_none() {
                self.book().regions.get_mut(&mine.generation).expect("it was noted").2 = before;
                self.mine.push(mine);
            }
        }
    }

    fn renew(&mut self) {
        let leased: Vec<usize> = (0..self.mine.len()).filter(|at| self.mine[*at].lease.is_some()).collect();
        let Some(&at) = self.random.choice(&leased) else { return };
        let mine = &self.mine[at];
        let (id, generation) = (mine.lease.as_ref().expect("it has one").0.clone(), mine.generation);
        let lease_ms = self.random.u64(100..4000);
        let asked = Instant::now();
        let until = asked + Duration::from_millis(lease_ms) - GRAIN;
        let renewed = self.ask(json!({"op": "renew", "lease": id, "lease_ms": lease_ms}));
        if let Err((false, answer)) = &renewed
            && answer["kind"] == "no_lease"
        {
            assert!(!self.is_mine(&self.mine[at]), "a lease ended early: {answer}");
            self.mine.swap_remove(at);
            return;
        }
        let mut book = self.torture.book.lock().expect("nobody found anything wrong");
        let sure = &mut book.regions.get_mut(&generation).expect("it was noted").2;
        match renewed {
            Ok(_) => sure.until = Some(until),
            Err((true, _)) => sure.until = sure.until.map(|before| before.min(until)),
            Err((false, answer)) => assert!(is_weather(&answer), "{answer}"),
        }
    }

    fn lock_or_unlock(&mut self) {
        if let Some((name, fence)) = self.lock.take() {
            let now = Instant::now();
            {
                let sure = &mut self.torture.book.lock().expect("nobody found anything wrong");
                let sure = &mut sure.locks.get_mut(&fence).expect("it was noted").1;
                sure.until = sure.until.map(|until| until.min(now));
            }
            let _ = self.ask(json!({"op": "unlock", "name": name}));
            return;
        }
        let which = self.random.u64(..LOCKS);
        let name = format!("lock-{which}");
        let asked = Instant::now();
        let wait_ms = self.random.u64(..300);
        if let Ok(answer) = self.ask(json!({"op": "lock", "name": name, "wait_ms": wait_ms})) {
            let fence = number(&answer, "fence");
            let mut book = self.torture.book.lock().expect("nobody found anything wrong");
            book.number(fence, &answer);
            book.locks.insert(fence, (which, Sure { since: Instant::now(), until: Some(asked + SESSION - GRAIN) }));
            drop(book);
            self.lock = Some((name, fence));
        }
    }

    /// Is killed in the middle of an allocation, and another one comes. What it had before is still there.
    fn die(&mut self) {
        self.shell.send(b"{\"op\":\"alloc\",\"size\":100}\n");
        self.shell = start(&self.torture.cluster.lock().expect("it is whole"));
        self.lock = None;
    }
}

/// An error that a server explains which is dead, frozen or new, or a session that ran out meanwhile.
fn is_weather(answer: &Value) -> bool {
    let kinds = ["unavailable", "timeout", "unknown", "busy", "no_session", "stopping"];
    answer["kind"].as_str().is_some_and(|kind| kinds.contains(&kind))
}

pub(super) fn last_lock(client: u64) -> String {
    format!("last-{client}")
}

fn start(cluster: &Cluster) -> Shell {
    Shell::start_with(cluster, &["--timeout", "2s"])
}
