//! What servers agree on: the words of clients, the messages of servers, the entries of the log, and whole states.
//!
//! A command of a client goes into the log as it is and is applied by every server, so no command may make the state
//! break an invariant; and an image that was believed is a state like any other.

use std::collections::BTreeMap;

use mcomp_consensus::{Compaction, Node, Peer, PeerMessage, Recovered, Settings};
use mcomp_meta::{Entry, Stamp, State};
use mcomp_wire::control::{Await, decode, encode};
use mcomp_wire::meta::{Allocate, Answer, Ask, Command, Fence, Found, Owner, PeerPart, Query, Region, Told};
use mcomp_wire::{Shape, Space};
use uuid::Uuid;

use crate::Seed;
use crate::control::check;

/// The space of all states here: three servers of 64 KiB.
fn space() -> Space {
    Space::new(64 << 10, 3).expect("a small space")
}

/// A command, a question, or the answer to one: the first byte says which, and the body follows.
pub fn agreed_word(data: &[u8]) {
    const CHECKS: &[fn(&[u8])] = &[
        |body| _ = check::<Ask>(body),
        |body| _ = check::<Told>(body),
        |body| _ = check::<Query>(body),
        |body| _ = check::<Found>(body),
        |body| _ = check::<Await>(body),
    ];
    let Some((which, body)) = data.split_first() else { return };
    CHECKS[usize::from(*which) % CHECKS.len()](body);
}

/// The seeds of [`agreed_word`].
pub fn agreed_word_seeds() -> Vec<Seed> {
    let word = |which: u8, body: Vec<u8>| [&[which][..], &body].concat();
    let state = a_state();
    let questions = [
        ("regions", Query::Regions { from: 0 }),
        ("named", Query::Named { name: "table".into() }),
        ("space", Query::Space),
        ("locks", Query::Locks { from: String::new() }),
        ("consensus", Query::Consensus),
        ("members", Query::Members),
        ("members_here", Query::MembersHere),
    ];
    let mut seeds: Vec<Seed> =
        questions.iter().map(|(name, query)| (*name, word(3, encode(&state.query(query))))).collect();
    seeds.extend(a_story().into_iter().filter_map(|(name, entry)| Some((name, word(0, encode(&entry.ask?))))));
    seeds.push(("told", word(1, encode(&Told { index: 300, answer: Answer::Locked { id: id(1), fence: 9 } }))));
    seeds.push(("query", word(2, encode(&Query::Leased { lease: id(4) }))));
    seeds.push(("await", word(4, encode(&Await { index: 300 }))));
    seeds
}

/// What stands before a body: a fence, or the head of a part of a peer's message. Each has one form.
pub fn fence(data: &[u8]) {
    if let Ok((fence, rest)) = Fence::parse(data) {
        assert_eq!([&fence.emit()[..], rest].concat(), data);
    }
    if let Ok(part) = PeerPart::parse(data) {
        let mut emitted = Vec::new();
        part.emit(&mut emitted);
        assert_eq!(emitted, data);
    }
}

/// The seeds of [`fence`].
pub fn fence_seeds() -> Vec<Seed> {
    let mut part = Vec::new();
    PeerPart { from: 2, seat: 1, more: true, bytes: b"a part" }.emit(&mut part);
    let fence = Fence { id: id(1), number: 772 }.emit();
    vec![("fence", [&fence[..], &[0; 8], b"hi"].concat()), ("fence_alone", fence.to_vec()), ("part", part)]
}

/// A message between servers: who speaks (a server in the low four bits, its seat in the others) and to whom, then the
/// message.
pub fn peer_message(data: &[u8]) {
    let &[from, to, ref bytes @ ..] = data else { return };
    let from = Peer { server: (from & 0x0f).into(), seat: (from >> 4).into() };
    let Ok(message) = PeerMessage::decode(bytes, from, to.into()) else { return };
    let again = message.encode();
    assert!(again.len() <= bytes.len(), "{} bytes became {}", bytes.len(), again.len());
    assert_eq!(PeerMessage::decode(&again, from, to.into()), Ok(message));
}

/// The seeds of [`peer_message`]: one of each kind that three servers say to each other.
pub fn peer_message_seeds() -> Vec<Seed> {
    const NAMES: [&str; 13] = [
        "other",
        "append",
        "appended",
        "vote",
        "voted",
        "image",
        "heartbeat",
        "heard",
        "read",
        "readable",
        "pre_vote",
        "pre_voted",
        "time_out",
    ];
    let ask = Ask { session: id(1), number: 2, settled: 1, command: Command::Collect };
    let mut said = BTreeMap::from([("forward", [&[1, 0][..], &PeerMessage::Forward(ask).encode()].concat())]);
    for (from, to, message) in a_conversation() {
        let bytes = message.encode();
        let name = if bytes[0] == 0 { NAMES[usize::from(bytes[1])] } else { "has_log" };
        said.entry(name).or_insert_with(|| [&[from as u8, to as u8][..], &bytes].concat());
    }
    said.into_iter().collect()
}

/// What three servers say until one leads, has decided something, and has given its state to one that came late.
fn a_conversation() -> Vec<(u32, u32, PeerMessage)> {
    let compaction = Compaction { log_bytes: 200, kept_entries: 0 };
    let node = |id: u32| {
        let settings = Settings { id, space: space(), quarantine_ms: 0, spread: false, compaction };
        let mut random = fastrand::Rng::with_seed(id.into());
        Node::new(settings, Recovered::default(), Box::new(move || random.u128(..))).expect("a node")
    };
    let mut nodes: Vec<Node> = (0..3).map(node).collect();
    let (mut said, mut on_the_way) = (Vec::new(), Vec::new());
    for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))).filter(|(from, to)| from != to) {
        nodes[from as usize].connected(Peer::first(to));
    }
    for round in 0..200u64 {
        for node in &mut nodes {
            node.set_time(round * 100);
            node.tick();
            node.read(round);
            let command = Command::Open { token: Uuid::from_u128(round.into()), ttl_ms: 10_000 };
            node.submit(Ask { session: Uuid::nil(), number: 0, settled: 0, command });
        }
        for (from, node) in (0..).zip(&mut nodes) {
            while let Some(ready) = node.ready() {
                let advanced = node.advance().expect("its own bytes");
                on_the_way.extend(
                    ready.send.into_iter().chain(advanced.send).map(|(to, message)| (from, to.server, message)),
                );
            }
        }
        for (from, to, message) in on_the_way.drain(..) {
            // One server hears nothing for a while, and needs the whole state then.
            let is_away = (30..100).contains(&round) && (from == 2 || to == 2);
            if !is_away {
                nodes[to as usize].receive(Peer::first(from), message.clone()).expect("its own bytes");
            }
            said.push((from, to, message));
        }
    }
    said
}

/// Entries of a log, applied one after the other: the state holds together, and comes back from its image.
pub fn agreed_entries(data: &[u8]) {
    let Ok(entries) = decode::<Vec<Entry>>(data) else { return };
    let mut state = State::new(space());
    for (index, entry) in (1..).zip(entries.into_iter().take(32)) {
        state.apply(index, entry);
        state.assert_invariants();
    }
    let image = state.image();
    let again = State::from_image(&image, space()).expect("an image of our own");
    assert_eq!(again.image(), image);
}

/// The seeds of [`agreed_entries`]: every command once, in a story that makes sense.
pub fn agreed_entries_seeds() -> Vec<Seed> {
    let entries: Vec<Entry> = a_story().into_iter().map(|(_, entry)| entry).collect();
    let beginning = encode(&entries[..4].to_vec());
    vec![("story", encode(&entries)), ("beginning", beginning), ("nothing", encode(&Vec::<Entry>::new()))]
}

/// The whole state: what is believed holds together, has one form, and lives on until all of it has run out.
pub fn agreed_image(data: &[u8]) {
    let Ok(mut state) = State::from_image(data, space()) else { return };
    state.assert_invariants();
    let image = state.image();
    assert_eq!(State::from_image(&image, space()).expect("an image of our own").image(), image);
    // Counters that are used up are those of another world: a log does not come there.
    if state.index() < u64::MAX - 1 && state.serial() < u64::MAX / 2 {
        let stamp = Stamp { now_ms: u64::MAX, ..Stamp::default() };
        state.apply(state.index() + 1, Entry { stamp, ask: None });
        state.assert_invariants();
        assert_eq!(state.next_due_ms(), None);
    }
}

/// The seeds of [`agreed_image`].
pub fn agreed_image_seeds() -> Vec<Seed> {
    vec![("new", State::new(space()).image()), ("used", a_state().image())]
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A state with one of everything: the story without its end.
fn a_state() -> State {
    let mut state = State::new(space());
    let entries = a_story().into_iter().map(|(_, entry)| entry);
    for (index, entry) in (1..).zip(entries.take(11)) {
        state.apply(index, entry);
    }
    state
}

/// Entries with names; each one's random bits are its place.
fn a_story() -> Vec<(&'static str, Entry)> {
    let plain = |size| Allocate { size, ..Allocate::default() };
    let notes = vec![("for".to_owned(), "nobody".to_owned())];
    let named = Allocate { size: 5000, name: Some("table".into()), notes: notes.clone(), ..Allocate::default() };
    let leased = Allocate { size: 100, lease_ms: Some(900), shared: true, ..Allocate::default() };
    let lock = |wait_ms| Command::Acquire { name: "lock".into(), permits: 1, wait_ms };
    let region = Region {
        addr: 4096,
        size: 100,
        capacity: 112,
        generation: 9,
        name: Some("table".into()),
        owner: Owner::Cluster,
        lease: None,
        notes,
        created_ms: 3,
    };
    // Sessions 1 and 2 are opened by the first two entries; the lease is that of entry 4, the first plain run of entry 5.
    let story = [
        ("open", 0, Command::Open { token: id(8), ttl_ms: 1000 }),
        ("open_another", 0, Command::Open { token: id(9), ttl_ms: 60_000 }),
        ("allocate_named", 1, Command::Allocate(named)),
        ("allocate_leased", 1, Command::Allocate(leased)),
        ("allocate", 1, Command::Allocate(plain(9000))),
        ("allocate_another", 1, Command::Allocate(plain(9000))),
        ("lock", 1, lock(0)),
        ("lock_later", 2, lock(500)),
        ("arrive", 2, Command::Arrive { name: "barrier".into(), parties: 2, wait_ms: 500 }),
        ("transfer", 1, Command::Transfer { lease: id(4), to: id(2) }),
        ("keep_alive", 1, Command::KeepAlive),
        ("renew", 2, Command::Renew { lease: id(4), lease_ms: 500 }),
        ("resize", 1, Command::Resize { addr: 0, size: 300, generation: None }),
        ("replace", 1, Command::Replace { from: 0, to: 8192 }),
        ("free", 1, Command::Free { addr: 8192, generation: None }),
        ("unlock", 1, Command::Unlock { name: "lock".into() }),
        ("release", 2, Command::Release { lease: id(4) }),
        ("close", 1, Command::Close),
        ("collect", 2, Command::Collect),
        ("reset_begins", 2, Command::Reset { part: 0, last: false, regions: vec![region] }),
        ("reset_ends", 2, Command::Reset { part: 1, last: true, regions: Vec::new() }),
        ("join", 0, Command::Join { server: 1, memory: id(77), seat: 0, address: "one:7001".into() }),
        ("open_again", 0, Command::Open { token: id(10), ttl_ms: 60_000 }),
        ("move", 23, Command::Move { server: 1, address: Some("10.0.0.9:7001".into()) }),
        ("join_moved", 0, Command::Join { server: 1, memory: id(78), seat: 1, address: "10.0.0.9:7001".into() }),
        ("grow", 23, Command::Grow { server: 3, address: "10.0.0.10:7001".into(), replicas: 3, epoch: 2 }),
        ("join_added", 0, Command::Join { server: 3, memory: id(79), seat: 0, address: "10.0.0.10:7001".into() }),
        (
            "received",
            0,
            Command::Received { server: 3, memory: id(79), shape: Shape { n: 3, step: 1 }, replicas: 3, epoch: 4 },
        ),
    ];
    let entries = (1..).zip(story).map(|(at, (name, session, command))| {
        let stamp = Stamp { now_ms: at * 50, random: id(at.into()), quarantine_ms: 100, spread: at % 2 == 0 };
        let ask = Some(Ask { session: id(session), number: at, settled: at - 1, command });
        (name, Entry { stamp, ask })
    });
    entries.collect()
}
