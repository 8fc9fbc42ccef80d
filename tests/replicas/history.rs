//! Clients that read, write, patch, swap and add on a few hot blocks, and what they were told.
//!
//! Each block is judged on its own by a checker for linearizability. What is not known to have been done may have been
//! done at any time since, or never. No verdict in time is a failure.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mcomp_client::{Cluster as Client, Error, Outcome};
use porcupine_rs::{CheckResult, Model, Operation};

use super::BLOCK;
use super::plague::{Plague, beside_plague};
use crate::harness::Cluster;

const CLIENTS: usize = 8;
const BLOCKS: u64 = 6;
/// Words of a block that clients use, at the beginning of it.
const WORDS: usize = 4;

/// The words of a block.
type Words = [u64; WORDS];

/// What a client wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Read,
    Write(Words),
    Patch(usize, u64),
    Add(usize, u64),
    Swap { at: usize, expected: u64, new: u64 },
}

/// A wish, and what was told: the words that were read, or what an atomic found. Nothing when nobody knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    wish: Wish,
    told: Option<Words>,
}

/// The block as one thread would have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequential;

impl Model for Sequential {
    type State = Words;
    type Op = Seen;
    type Metadata = ();

    fn init() -> Words {
        [0; WORDS]
    }

    fn step(state: &Words, seen: &Seen) -> (bool, Words) {
        let mut next = *state;
        let mut answer = [0; WORDS];
        match seen.wish {
            Wish::Read => answer = *state,
            Wish::Write(words) => next = words,
            Wish::Patch(at, word) => next[at] = word,
            Wish::Add(at, delta) => {
                answer[0] = state[at];
                next[at] = state[at].wrapping_add(delta);
            }
            Wish::Swap { at, expected, new } => {
                answer[0] = state[at];
                if state[at] == expected {
                    next[at] = new;
                }
            }
        }
        (seen.told.is_none_or(|told| told == answer), next)
    }
}

/// What was seen of one block.
#[derive(Debug, Default)]
pub(super) struct Book(Vec<Operation<Sequential>>);

impl Book {
    /// Whether one memory could have given these answers.
    pub(super) fn check(&self) -> Result<(), String> {
        match porcupine_rs::check_operations_timeout(&self.0, Duration::from_secs(120)) {
            CheckResult::Ok => Ok(()),
            verdict => Err(format!("{} operations are {verdict:?}", self.0.len())),
        }
    }
}

/// Has clients at work among plagues until they have done so much, and returns what they saw of each block.
pub(super) fn record(cluster: &mut Cluster, most: u64, seed: u64) -> Vec<Book> {
    let began = Instant::now();
    let books: Vec<Mutex<Book>> = (0..BLOCKS).map(|_| Mutex::default()).collect();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| cluster.client()).collect();
    let part = clients[0].size() / 3;
    let (done, unknown) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = |client: usize, stop: &AtomicBool| {
        let mut random = fastrand::Rng::with_seed(seed ^ client as u64);
        while !stop.load(Relaxed) {
            let block = random.u64(..BLOCKS);
            let addr = (block % 3) * part + (block / 3) * BLOCK;
            let wish = any_wish(&mut random, (client as u64) << 32 | done.load(Relaxed));
            let call_time = began.elapsed().as_nanos() as i64;
            let told = ask(&clients[client], addr, wish);
            let now = began.elapsed().as_nanos() as i64;
            done.fetch_add(1, Relaxed);
            let (told, return_time) = match told {
                Ok(told) => (Some(told), now),
                Err(error) if error.outcome() == Outcome::Unknown => (None, i64::MAX),
                Err(_) => continue,
            };
            unknown.fetch_add(told.is_none().into(), Relaxed);
            let client_id = Some(client as u32);
            let op = Seen { wish, told };
            let mut book = books[block as usize].lock().expect("nobody panicked");
            book.0.push(Operation { client_id, call_time, return_time, op, metadata: None });
        }
    };
    let kinds = [Plague::Kill, Plague::Freeze, Plague::Cut, Plague::Cut, Plague::Lose];
    let plagues = beside_plague(cluster, CLIENTS, &work, &|| done.load(Relaxed), most, seed, &kinds);
    eprintln!("{} operations, {} of unknown outcome, {plagues:?}", done.load(Relaxed), unknown.load(Relaxed));
    books.into_iter().map(|book| book.into_inner().expect("nobody panicked")).collect()
}

fn any_wish(random: &mut fastrand::Rng, word: u64) -> Wish {
    let at = random.usize(..WORDS);
    match random.u8(..10) {
        0..4 => Wish::Read,
        4 => Wish::Write([word; WORDS]),
        5 | 6 => Wish::Patch(at, word),
        7 | 8 => Wish::Add(at, random.u64(1..9)),
        _ => Wish::Swap { at, expected: random.u64(..4), new: word },
    }
}

fn ask(client: &Client, addr: u64, wish: Wish) -> Result<Words, Error> {
    let word = |at: usize| addr + 8 * at as u64;
    let found = |previous: u64| [previous, 0, 0, 0];
    match wish {
        Wish::Read => {
            let mut bytes = [0; 8 * WORDS];
            client.read_at(addr, &mut bytes)?;
            Ok(std::array::from_fn(|at| u64::from_le_bytes(bytes[8 * at..][..8].try_into().expect("eight bytes"))))
        }
        Wish::Write(words) => client.write_at(addr, &words.map(u64::to_le_bytes).concat()).map(|()| [0; WORDS]),
        Wish::Patch(at, new) => client.write_at(word(at), &new.to_le_bytes()).map(|()| [0; WORDS]),
        Wish::Add(at, delta) => client.fetch_add(word(at), delta).map(found),
        Wish::Swap { at, expected, new } => {
            client.compare_exchange(word(at), expected, new).map(|told| found(told.previous))
        }
    }
}
