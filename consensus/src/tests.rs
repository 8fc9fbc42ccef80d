//! Single nodes: what they write down, and what they refuse. Clusters are the simulator's, but for those that move.

mod seats;

use mcomp_wire::Space;
use mcomp_wire::meta::{Answer, Ask, Command};
use uuid::Uuid;

use super::*;

fn settings(id: u32, n: u32) -> Settings {
    let space = Space::new(4096, n).unwrap();
    Settings { id, space, quarantine_ms: 0, spread: false, compaction: Compaction::default() }
}

fn node(settings: Settings, recovered: Recovered) -> Node {
    let mut number = 0;
    let random = Box::new(move || {
        number += 1;
        number
    });
    Node::new(settings, recovered, random).unwrap()
}

/// Does everything that is ready, and keeps what is to be kept.
fn work(node: &mut Node, disk: &mut Recovered) -> Advanced {
    let mut all = Advanced::default();
    while let Some(ready) = node.ready() {
        disk.entries.extend(ready.persist.entries);
        disk.hard_state = ready.persist.hard_state.unwrap_or(disk.hard_state);
        disk.joined |= ready.persist.joined;
        let mut advanced = node.advance().unwrap();
        all.send.extend(ready.send.into_iter().chain(advanced.send));
        all.told.append(&mut advanced.told);
        all.effects.append(&mut advanced.effects);
        all.readable.append(&mut advanced.readable);
    }
    all
}

fn open() -> Ask {
    let command = Command::Open { token: Uuid::from_u128(9), ttl_ms: 1000 };
    Ask { session: Uuid::nil(), number: 0, settled: 0, command }
}

#[test]
fn one_server_alone_answers_without_waiting_for_time() {
    let (mut node, mut disk) = (node(settings(0, 1), Recovered::default()), Recovered::default());
    work(&mut node, &mut disk);
    assert!(node.leads());
    node.submit(open());
    node.read(7);
    let done = work(&mut node, &mut disk);
    assert!(matches!(done.told[0].1.as_ref().unwrap().answer, Answer::Session { .. }));
    assert_eq!(done.readable, [7]);
    assert!(disk.joined);
}

#[test]
fn a_log_that_an_image_does_not_make_shorter_is_left_alone() {
    let compaction = Compaction { log_bytes: 100, kept_entries: 1000 };
    let mut node = node(Settings { compaction, ..settings(0, 1) }, Recovered::default());
    work(&mut node, &mut Recovered::default());
    for number in 1..=100 {
        node.submit(Ask { session: Uuid::nil(), number, settled: 0, command: Command::Collect });
    }
    let mut is_busy = |_: &u32| node.ready().map(|_| node.advance().unwrap()).is_some();
    assert!((0..1000).take_while(&mut is_busy).count() < 1000, "it does not come to rest");
}

#[test]
fn a_restart_comes_to_the_same_state() {
    let (mut first, mut disk) = (node(settings(0, 1), Recovered::default()), Recovered::default());
    work(&mut first, &mut disk);
    first.submit(open());
    work(&mut first, &mut disk);
    let mut second = node(settings(0, 1), disk.clone());
    work(&mut second, &mut disk);
    assert_eq!(second.state().serial(), first.state().serial());
    assert_eq!(second.state().next_due_ms(), first.state().next_due_ms());
}

/// What the memory was told once holds at once after a restart, whoever else is there: a fence that was refused is
/// refused again.
#[test]
fn what_was_applied_once_is_applied_again_before_anybody_is_asked() {
    let (mut first, mut disk) = (node(settings(0, 1), Recovered::default()), Recovered::default());
    work(&mut first, &mut disk);
    first.submit(open());
    work(&mut first, &mut disk);
    let applied = first.state().index();
    assert!(applied > 0);
    // Of three now, of whom nobody else is there, and the disk does not know what was committed.
    disk.hard_state.commit = 0;
    let alone = |recovered: Recovered| {
        let mut node = node(settings(0, 3), recovered);
        work(&mut node, &mut Recovered::default());
        node.state().index()
    };
    let space = settings(0, 3).space;
    assert_eq!(disk.log_id(space).unwrap(), first.state().log_id());
    assert_eq!(alone(disk.clone()), 0);
    disk.was_applied_up_to(applied);
    assert_eq!(alone(disk.clone()), applied);
    disk.was_applied_up_to(applied + 100);
    assert_eq!(disk.hard_state.commit, applied, "not beyond what is there");
}

#[test]
fn a_server_without_a_log_neither_votes_nor_asks_for_votes() {
    let (mut node, mut disk) = (node(settings(0, 3), Recovered::default()), Recovered::default());
    for _ in 0..100 {
        node.tick();
    }
    assert!(work(&mut node, &mut disk).send.is_empty());
    node.receive(Peer::first(1), PeerMessage::HasLog(false)).unwrap();
    for _ in 0..100 {
        node.tick();
    }
    assert!(work(&mut node, &mut disk).send.is_empty(), "most are not all");
    node.receive(Peer::first(2), PeerMessage::HasLog(false)).unwrap();
    for _ in 0..100 {
        node.tick();
    }
    let sent = work(&mut node, &mut disk).send;
    assert!(sent.iter().any(|(_, message)| matches!(message, PeerMessage::Raft(_))), "it asks for votes: {sent:?}");
}

#[test]
fn a_gap_in_the_log_is_refused() {
    let entry = |index| LogEntry { index, term: 1, data: Vec::new(), change: None };
    let recovered = Recovered { entries: vec![entry(1), entry(3)], joined: true, ..Recovered::default() };
    let error = Node::new(settings(0, 1), recovered, Box::new(|| 0)).unwrap_err();
    assert!(error.to_string().contains("entry 3 stands where 2 belongs"), "{error}");
}

#[test]
fn a_message_is_from_who_sent_it_and_for_who_gets_it() {
    let (mut node, mut disk) = (node(settings(0, 3), Recovered::default()), Recovered::default());
    for peer in [1, 2] {
        node.receive(Peer::first(peer), PeerMessage::HasLog(false)).unwrap();
    }
    for _ in 0..20 {
        node.tick();
    }
    let (to, message) = work(&mut node, &mut disk).send.into_iter().find(|(to, _)| to.server == 2).unwrap();
    let bytes = message.encode();
    assert_eq!(PeerMessage::decode(&bytes, Peer::first(0), to.server).unwrap(), message);
    assert!(PeerMessage::decode(&bytes, Peer::first(1), to.server).is_err(), "in the name of another one");
    let moved = Peer { server: 0, seat: 1 };
    assert!(PeerMessage::decode(&bytes, moved, to.server).is_err(), "in the name of another seat");
    assert!(PeerMessage::decode(&bytes, Peer::first(0), 1).is_err(), "for another one");
    for at in 0..bytes.len() {
        // Whatever is wrong, it is an error or a message.
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let _ = PeerMessage::decode(&damaged, Peer::first(0), to.server);
        assert!(PeerMessage::decode(&bytes[..at], Peer::first(0), to.server).is_err());
    }
}
