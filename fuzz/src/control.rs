//! Control bodies: the handshake, and every other message.
//!
//! Numbers in them can be written in more bytes than they need, so bytes do not come back; the message does,
//! and what is decoded is never longer than what came.

use std::fmt::Debug;

use mcomp_wire::control::{
    ByteCounters, Challenge, Counters, CutEnd, CutPrepare, CutPrepared, CutRelease, CutReleased, CutSettle, CutSwitch,
    Hello, Prove, RestoreAbort, RestoreBegin, RestoreEnd, ServerStatus, SnapshotCollect, SnapshotCollected,
    SnapshotCounters, SnapshotCreate, SnapshotCreated, SnapshotProgress, SnapshotterStatus, Welcome, decode, encode,
    features,
};
use mcomp_wire::{BLOCK_SIZE, Role, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::Seed;

/// The first body that a server sees.
pub fn hello(data: &[u8]) {
    let Some(hello) = check::<Hello>(data) else { return };
    assert!(hello.cluster.len() + hello.auth.len() <= data.len());
}

/// The seeds of [`hello`].
pub fn hello_seeds() -> Vec<Seed> {
    let longest = Hello { cluster: "x".repeat(limits::MAX_CLUSTER_NAME), auth: vec![0xa5; 128], ..a_hello() };
    let admin = Hello { role: Role::Admin, session: Uuid::nil(), features: 0, ..a_hello() };
    vec![("client", encode(&a_hello())), ("admin", encode(&admin)), ("longest", encode(&longest))]
}

/// The first body that a client sees.
pub fn welcome(data: &[u8]) {
    let Some(welcome) = check::<Welcome>(data) else { return };
    assert!(welcome.auth.len() <= data.len());
}

/// The seeds of [`welcome`].
pub fn welcome_seeds() -> Vec<Seed> {
    let again = Welcome { resumed: true, auth: vec![0x5a; 64], ..a_welcome() };
    vec![("welcome", encode(&a_welcome())), ("resumed", encode(&again))]
}

macro_rules! messages {
    ($($word:literal $message:ty = $sample:expr,)*) => {
        /// Any other message: the first byte says which, and the body follows.
        pub fn message(data: &[u8]) {
            const CHECKS: &[fn(&[u8])] = &[$(|body| _ = check::<$message>(body),)*];
            let Some((which, body)) = data.split_first() else { return };
            CHECKS[usize::from(*which) % CHECKS.len()](body);
        }

        /// The seeds of [`message`]: one of each.
        pub fn message_seeds() -> Vec<Seed> {
            let samples: Vec<Seed> = vec![$(($word, encode::<$message>(&$sample)),)*];
            (0..).zip(samples).map(|(which, (word, body))| (word, [&[which][..], &body].concat())).collect()
        }
    };
}

messages! {
    "nothing" () = (),
    "challenge" Challenge = Challenge { nonce: [7; 32], keys: vec![[1; 8], [2; 8]] },
    "prove" Prove = Prove { key: [1; 8], proof: [9; 32] },
    "server_status" ServerStatus = a_status(),
    "cut_prepare" CutPrepare = CutPrepare { cut: ID },
    "cut_prepared" CutPrepared = CutPrepared { epoch: 4, segment: ID, config_epoch: 300, is_whole: true },
    "cut_switch" CutSwitch = CutSwitch { cut: ID, epoch: 5 },
    "cut_settle" CutSettle = CutSettle { cut: ID, homes: vec![0, 300] },
    "cut_release" CutRelease = CutRelease { cut: ID },
    "cut_released" CutReleased = CutReleased { held_us: 1234 },
    "cut_end" CutEnd = CutEnd { cut: ID, failure: Some("the disk is full".into()) },
    "restore_begin" RestoreBegin = RestoreBegin { restore: ID },
    "restore_end" RestoreEnd = RestoreEnd { restore: ID, config_epoch: 300 },
    "restore_abort" RestoreAbort = RestoreAbort { restore: ID },
    "snapshot_create" SnapshotCreate = SnapshotCreate { incremental: true },
    "snapshot_progress" SnapshotProgress = SnapshotProgress { done: 1 << 20, total: 1 << 30 },
    "snapshot_created" SnapshotCreated = a_snapshot(),
    "snapshot_collect" SnapshotCollect = SnapshotCollect { cut: ID, epoch: 5, segment: ID, since: 3, level: -7, home: 1 },
    "snapshot_collected" SnapshotCollected = SnapshotCollected { chunks: 1000 },
    "snapshotter_status" SnapshotterStatus = a_snapshotter(),
}

const ID: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

/// The message of a body, if it is one.
pub(crate) fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> Option<T> {
    let message: T = decode(body).ok()?;
    let again = encode(&message);
    assert!(again.len() <= body.len(), "{} bytes became {}: {message:?}", body.len(), again.len());
    assert_eq!(decode::<T>(&again).as_ref(), Ok(&message));
    Some(message)
}

pub(crate) fn a_hello() -> Hello {
    Hello {
        cluster: "demo".into(),
        role: Role::Client,
        server: 1,
        k: 64 << 20,
        n: 3,
        session: ID,
        features: features::CHECKSUM,
        auth: Vec::new(),
    }
}

pub(crate) fn a_welcome() -> Welcome {
    Welcome {
        server: 1,
        block_size: BLOCK_SIZE as u32,
        config_epoch: 1,
        incarnation: 1_800_000_000_000,
        segment: ID,
        features: features::CHECKSUM,
        resumed: false,
        auth: Vec::new(),
    }
}

pub(crate) fn a_status() -> ServerStatus {
    let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(word, count)| ((*word).into(), *count)).collect();
    let counters = Counters {
        ops: counts(&[("read", 5), ("write", 300)]),
        bytes: ByteCounters { read: 1 << 40, written: 1 },
        rejected: counts(&[("malformed", 2)]),
        snapshot: SnapshotCounters { ok: 1, aborted: 1, last_error: "the hold ran out".into() },
        repaired_blocks: 0,
        torn_blocks: 1,
    };
    ServerStatus { id: 1, state: "serving".into(), pid: 4711, k: 64 << 20, counters, ..Default::default() }
}

fn a_snapshotter() -> SnapshotterStatus {
    SnapshotterStatus {
        id: 1,
        master: true,
        ok: 9,
        rejected: [("bad_frame".to_owned(), 3)].into(),
        ..Default::default()
    }
}

fn a_snapshot() -> SnapshotCreated {
    SnapshotCreated {
        cut: ID,
        name: "demo-20260102T030405.678Z-full-01020304.mcs".into(),
        path: "/var/lib/mcomp/demo-20260102T030405.678Z-full-01020304.mcs".into(),
        full: true,
        memory_bytes: 1 << 30,
        file_bytes: 1 << 20,
        hold_us: 900,
        took_us: 3_000_000,
    }
}
