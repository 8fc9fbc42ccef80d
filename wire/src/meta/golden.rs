//! The bytes of each word of the metadata, once: what docs/protocol.md says, and what logs on disk hold.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    Allocate, Answer, Ask, Command, ConsensusReport, Found, Lease, LockReport, Member, MembersReport, Owner, Query,
    Region, Seat, SpaceReport, Told,
};
use crate::Shape;
use crate::control::{decode, encode};

/// An id that is 16 times the same byte, and how it is written.
const ID: Uuid = Uuid::from_bytes([7; 16]);
const ID_BYTES: &[u8] = &[16, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];

/// The value has these bytes, given in parts, and these bytes are that value.
fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, parts: &[&[u8]]) {
    let bytes = parts.concat();
    assert_eq!(encode(value), bytes, "{value:?}");
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
}

fn a_lease() -> Lease {
    Lease { id: ID, fence: 300, deadline_ms: 2000, remaining_ms: 5, shared: true }
}

const LEASE_BYTES: &[&[u8]] = &[ID_BYTES, &[0xac, 2], &[0xd0, 0x0f], &[5], &[1]];

fn a_region() -> Region {
    Region {
        addr: 4096,
        size: 100,
        capacity: 112,
        generation: 9,
        name: Some("a".into()),
        owner: Owner::Session(ID),
        lease: Some(a_lease()),
        notes: vec![("k".into(), "v".into())],
        created_ms: 3,
    }
}

fn region_bytes() -> Vec<u8> {
    let head: &[&[u8]] = &[&[0x80, 0x20], &[100], &[112], &[9], &[1, 1, b'a'], &[0], ID_BYTES, &[1]];
    let tail: &[&[u8]] = &[&[1, 1, b'k', 1, b'v'], &[3]];
    [head.concat(), LEASE_BYTES.concat(), tail.concat()].concat()
}

#[test]
fn golden_ask() {
    let ask = Ask { session: ID, number: 300, settled: 2, command: Command::KeepAlive };
    same(&ask, &[ID_BYTES, &[0xac, 2], &[2], &[1]]);
}

#[test]
fn golden_commands() {
    same(&Command::Open { token: ID, ttl_ms: 10_000 }, &[&[0], ID_BYTES, &[0x90, 0x4e]]);
    same(&Command::KeepAlive, &[&[1]]);
    same(&Command::Close, &[&[2]]);
    same(
        &Command::Allocate(Allocate { size: 300, ..Allocate::default() }),
        &[&[3], &[0xac, 2], &[0], &[0], &[0], &[0], &[0]],
    );
    let notes = vec![("k".into(), "v".into())];
    let (name, avoid) = (Some("ab".into()), vec![1, 300]);
    let full = Allocate { size: 1, name, lease_ms: Some(500), shared: true, notes, avoid };
    same(
        &Command::Allocate(full),
        &[&[3], &[1], &[1, 2, b'a', b'b'], &[1, 0xf4, 3], &[1], &[1, 1, b'k', 1, b'v'], &[2, 1, 0xac, 2]],
    );
    same(&Command::Free { addr: 4096, generation: None }, &[&[4], &[0x80, 0x20], &[0]]);
    same(&Command::Free { addr: 16, generation: Some(9) }, &[&[4], &[16], &[1, 9]]);
    same(&Command::Resize { addr: 16, size: 200, generation: Some(9) }, &[&[5], &[16], &[0xc8, 1], &[1, 9]]);
    same(&Command::Replace { from: 16, to: 32 }, &[&[6], &[16], &[32]]);
    same(&Command::Renew { lease: ID, lease_ms: 500 }, &[&[7], ID_BYTES, &[0xf4, 3]]);
    same(&Command::Release { lease: ID }, &[&[8], ID_BYTES]);
    same(&Command::Transfer { lease: ID, to: ID }, &[&[9], ID_BYTES, ID_BYTES]);
    same(&Command::Acquire { name: "l".into(), permits: 2, wait_ms: 500 }, &[&[10], &[1, b'l'], &[2], &[0xf4, 3]]);
    same(&Command::Unlock { name: "l".into() }, &[&[11], &[1, b'l']]);
    same(&Command::Arrive { name: "b".into(), parties: 3, wait_ms: 0 }, &[&[12], &[1, b'b'], &[3], &[0]]);
    same(&Command::Collect, &[&[13]]);
    let part = Command::Reset { part: 7, last: true, regions: vec![a_region()] };
    same(&part, &[&[14], &[7], &[1], &[1], &region_bytes()]);
    let join = Command::Join { server: 2, memory: ID, seat: 300, address: "h:1".into() };
    same(&join, &[&[15], &[2], ID_BYTES, &[0xac, 2], &[3], b"h:1"]);
    same(&Command::Move { server: 2, address: None }, &[&[16], &[2], &[0]]);
    same(&Command::Move { server: 2, address: Some("h:1".into()) }, &[&[16], &[2], &[1, 3], b"h:1"]);
    same(
        &Command::Grow { server: 3, address: "h:1".into(), replicas: 5, epoch: 300 },
        &[&[17], &[3, 3], b"h:1", &[5, 0xac, 2]],
    );
    let received =
        Command::Received { server: 3, memory: ID, shape: Shape { n: 300, step: 1 }, replicas: 5, epoch: 300 };
    same(&received, &[&[18], &[3], ID_BYTES, &[0xac, 2, 1, 5, 0xac, 2]]);
}

/// The example in docs/protocol.md.
#[test]
fn golden_example() {
    let command = Command::Allocate(Allocate { size: 300, ..Allocate::default() });
    let ask = Ask { session: ID, number: 1, settled: 0, command };
    same(&ask, &[ID_BYTES, &[1, 0, 3, 0xac, 2, 0, 0, 0, 0, 0]]);
    let (name, lease, notes) = (None, None, Vec::new());
    let (size, capacity, owner) = (300, 304, Owner::Session(ID));
    let region = Region { addr: 0, size, capacity, generation: 1, name, owner, lease, notes, created_ms: 100 };
    let told = Told { index: 3, answer: Answer::Region(Box::new(region)) };
    same(&told, &[&[3, 2, 0, 0xac, 2, 0xb0, 2, 1], &[0, 0], ID_BYTES, &[0, 0, 0x64]]);
}

#[test]
fn golden_owners() {
    same(&Owner::Session(ID), &[&[0], ID_BYTES]);
    same(&Owner::Cluster, &[&[1]]);
    same(&Owner::Nobody, &[&[2]]);
}

#[test]
fn golden_answers() {
    same(&Told { index: 300, answer: Answer::Done }, &[&[0xac, 2], &[0]]);
    same(&Answer::Done, &[&[0]]);
    same(&Answer::Session { id: ID, ttl_ms: 500 }, &[&[1], ID_BYTES, &[0xf4, 3]]);
    same(&Answer::Region(Box::new(a_region())), &[&[2], &region_bytes()]);
    same(&Answer::Lease(a_lease()), &[&[3], &LEASE_BYTES.concat()]);
    same(&Answer::Freed { regions: 1, bytes: 300 }, &[&[4], &[1], &[0xac, 2]]);
    same(&Answer::Locked { id: ID, fence: 300 }, &[&[5], ID_BYTES, &[0xac, 2]]);
    same(&Answer::Passed { round: 300 }, &[&[6], &[0xac, 2]]);
}

#[test]
fn golden_queries() {
    same(&Query::Regions { from: 300 }, &[&[0], &[0xac, 2]]);
    same(&Query::At { addr: 300 }, &[&[1], &[0xac, 2]]);
    same(&Query::Named { name: "a".into() }, &[&[2], &[1, b'a']]);
    same(&Query::Leased { lease: ID }, &[&[3], ID_BYTES]);
    same(&Query::Space, &[&[4]]);
    same(&Query::Locks { from: String::new() }, &[&[5], &[0]]);
    same(&Query::Consensus, &[&[6]]);
    same(&Query::Members, &[&[7]]);
    same(&Query::MembersHere, &[&[8]]);
}

#[test]
fn golden_found() {
    let regions = Found::Regions { regions: vec![a_region()], next: Some(300) };
    same(&regions, &[&[0], &[1], &region_bytes(), &[1, 0xac, 2]]);
    same(&Found::Region(Some(Box::new(a_region()))), &[&[1], &[1], &region_bytes()]);
    same(&Found::Region(None), &[&[1], &[0]]);
    let space = SpaceReport {
        size: 300,
        asked: 1,
        taken: 2,
        quarantined: 3,
        largest_free: 4,
        regions: 5,
        leases: 6,
        sessions: 7,
        servers: vec![(8, 9), (300, 10)],
    };
    same(&Found::Space(space), &[&[2], &[0xac, 2], &[1, 2, 3, 4, 5, 6, 7], &[2, 8, 9, 0xac, 2, 10]]);
    let lock = LockReport { name: "l".into(), permits: 2, barrier: true, holders: vec![(ID, 300)], waiting: 4 };
    let locks = Found::Locks { locks: vec![lock], next: Some("m".into()) };
    same(&locks, &[&[3], &[1], &[1, b'l'], &[2], &[1], &[1], ID_BYTES, &[0xac, 2], &[4], &[1, 1, b'm']]);
    let report =
        ConsensusReport { leader: Some(1), term: 2, committed: 300, applied: 4, now_ms: 5, voters: vec![0, 1, 2] };
    let member = Member { memory: ID, incarnation: 300, is_heir: true, address: "h:1".into() };
    let seat = Seat { number: 1, address: Some("h:1".into()), next: Some((3, "i:2".into())), last: 300 };
    let members = MembersReport {
        epoch: 4,
        members: [(2, member)].into(),
        seats: [(2, seat)].into(),
        shape: Shape { n: 300, step: 1 },
        added: [(3, "j:3".into())].into(),
    };
    same(
        &Found::Members(members),
        &[
            &[5, 4],
            &[1, 2],
            ID_BYTES,
            &[0xac, 2, 1, 3],
            b"h:1",
            &[1, 2, 1, 1, 3],
            b"h:1",
            &[1, 3, 3],
            b"i:2",
            &[0xac, 2],
            &[0xac, 2, 1],
            &[1, 3, 3],
            b"j:3",
        ],
    );
    same(&Found::Consensus(report), &[&[4], &[1, 1], &[2], &[0xac, 2], &[4], &[5], &[3, 0, 1, 2]]);
}
