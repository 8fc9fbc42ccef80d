//! Bodies of control messages: postcard of these structs, in this field order.
//!
//! Fields are never added, removed or re-ordered within a protocol version. [`encode`] and [`decode`]
//! are the only doors: decoding refuses trailing bytes, and the frame's length was checked before.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Malformed, Role};

/// Feature bits of [`Hello`] and [`Welcome`].
pub mod features {
    /// Bodies carry CRC-32.
    pub const CHECKSUM: u32 = 1 << 0;
}

/// The first body on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster's name; another one is refused.
    pub cluster: String,
    /// Who speaks.
    pub role: Role,
    /// The server or snapshot process that the sender means to reach.
    pub server: u32,
    /// Bytes per server in the sender's mcomp.cfg.
    pub k: u64,
    /// Servers in the sender's mcomp.cfg; 0 when that is of no importance to it.
    pub n: u32,
    /// Names the sender across connections: with the request id it makes the operation's id. Zero
    /// when the sender never retries.
    pub session: Uuid,
    /// What the sender would like; see [`features`].
    pub features: u32,
    /// [`NONCE_LEN`] random bytes if the sender has a secret, otherwise nothing.
    pub auth: Vec<u8>,
}

/// Bytes of a nonce of the handshake.
pub const NONCE_LEN: usize = 32;

/// What a key is called in one handshake: a hash under it of the client's nonce.
pub type KeyId = [u8; 8];

/// The answer to [`Hello`] of a server that has a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Random bytes.
    pub nonce: [u8; NONCE_LEN],
    /// The keys that are accepted for the role of the client, at most two.
    pub keys: Vec<KeyId>,
}

/// What a client answers to a [`Challenge`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prove {
    /// Which of the keys.
    pub key: KeyId,
    /// A hash under that key of the frames of [`Hello`] and [`Challenge`].
    pub proof: [u8; 32],
}

/// The answer to [`Hello`], or to [`Prove`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The server's id.
    pub server: u32,
    /// Bytes per block.
    pub block_size: u32,
    /// The epoch that data requests must carry; 0 of a replica with new memory, which does not know it yet.
    pub config_epoch: u64,
    /// Grows with every start of the server: a change means that unanswered requests are unknown.
    pub incarnation: u64,
    /// The segment; another id means other memory.
    pub segment: Uuid,
    /// What both sides will do; a subset of what was asked.
    pub features: u32,
    /// Whether the session was known: then a retry finds its first answer.
    pub resumed: bool,
    /// Empty.
    pub auth: Vec<u8>,
}

/// What a server is and has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Position in mcomp.cfg.
    pub id: u32,
    /// `serving`, or `restoring`.
    pub state: String,
    /// Operating-system process.
    pub pid: u32,
    /// Grows with every start.
    pub incarnation: u64,
    /// Grows with every restore.
    pub config_epoch: u64,
    /// Grows with every cut.
    pub cut_epoch: u64,
    /// Milliseconds since the server started to serve.
    pub uptime_ms: u64,
    /// Bytes lent.
    pub k: u64,
    /// Bytes in blocks that were ever written.
    pub bytes_used: u64,
    /// Open connections.
    pub connections: u64,
    /// Connections that can be open at a time: as configured, or as many as the process may open files for.
    pub max_connections: u64,
    /// See the struct.
    pub counters: Counters,
}

/// Counts since the server started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests done, by kind.
    pub ops: BTreeMap<String, u64>,
    /// Payload bytes.
    pub bytes: ByteCounters,
    /// Requests, connections and frames refused, by cause.
    pub rejected: BTreeMap<String, u64>,
    /// Cuts.
    pub snapshot: SnapshotCounters,
    /// Blocks found half-written at start and made whole.
    pub repaired_blocks: u64,
    /// Blocks found half-written at start and not yet made whole: reads of them are refused.
    pub torn_blocks: u64,
}

/// Payload bytes moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteCounters {
    /// Given to clients.
    pub read: u64,
    /// Taken from clients.
    pub written: u64,
}

/// Cuts that this server took part in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCounters {
    /// Ended with a published snapshot.
    pub ok: u64,
    /// Ended without.
    pub aborted: u64,
    /// Why the last one was aborted; empty when none was.
    pub last_error: String,
}

/// `CutPrepare`: join the cut and allocate the shadow area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutPrepare {
    /// Names the cut in every later message.
    pub cut: Uuid,
}

/// The answer to [`CutPrepare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutPrepared {
    /// The epoch before the cut; the new one must be greater on every server.
    pub epoch: u64,
    /// The segment that takes part.
    pub segment: Uuid,
    /// The epoch of the memory's contents.
    pub config_epoch: u64,
    /// Whether all blocks that it keeps are there; of replicated memory some may be lost.
    pub is_whole: bool,
}

/// `CutSwitch`: begin the epoch and hold answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutSwitch {
    /// The cut.
    pub cut: Uuid,
    /// Its epoch.
    pub epoch: u64,
}

/// `CutSettle`, of replicated memory: every server has switched. The blocks of these servers are to be copied from here:
/// afterwards they are what a majority of their replicas holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutSettle {
    /// The cut.
    pub cut: Uuid,
    /// Servers of which this one keeps a copy.
    pub homes: Vec<u32>,
}

/// `CutRelease`: every server has switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutRelease {
    /// The cut.
    pub cut: Uuid,
}

/// The answer to [`CutRelease`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutReleased {
    /// Microseconds for which answers were held.
    pub held_us: u64,
}

/// `CutEnd`: the copy is done or given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutEnd {
    /// The cut.
    pub cut: Uuid,
    /// Why it was given up; `None` when a snapshot was published.
    pub failure: Option<String>,
}

/// `RestoreBegin`: refuse data requests of everyone but this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreBegin {
    /// Names the restore.
    pub restore: Uuid,
}

/// `RestoreEnd`: open again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreEnd {
    /// The restore.
    pub restore: Uuid,
    /// The new config epoch, greater than that of any server.
    pub config_epoch: u64,
}

/// `RestoreAbort`: open again as it was, if nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreAbort {
    /// The restore.
    pub restore: Uuid,
}

/// `SnapshotCreate`: what kind of snapshot is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCreate {
    /// Only the blocks changed since the newest snapshot, if that is possible.
    pub incremental: bool,
}

/// Progress of a create or collect, in a frame of its own before the final answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// Bytes of memory looked at.
    pub done: u64,
    /// Bytes of memory in all.
    pub total: u64,
}

/// The final answer to [`SnapshotCreate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCreated {
    /// Names the cut.
    pub cut: Uuid,
    /// File name in the master's snapshot folder.
    pub name: String,
    /// The file's path on the master's machine.
    pub path: String,
    /// Whether it holds all blocks.
    pub full: bool,
    /// Memory bytes in the file.
    pub memory_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Longest hold of answers on any server, in microseconds.
    pub hold_us: u64,
    /// From request to published file, in microseconds.
    pub took_us: u64,
}

/// `SnapshotCollect`: copy the local segment as of a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCollect {
    /// The cut.
    pub cut: Uuid,
    /// Its epoch.
    pub epoch: u64,
    /// The segment that took part.
    pub segment: Uuid,
    /// Zero for all blocks, or the epoch since which a block must have changed to be sent.
    pub since: u64,
    /// zstd level; zero for no compression.
    pub level: i32,
    /// Of replicated memory: the server whose blocks are wanted, of which this one keeps a copy. Otherwise itself.
    pub home: u32,
}

/// The last frame of the answer to [`SnapshotCollect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCollected {
    /// Chunks sent.
    pub chunks: u64,
}

/// What a snapshot process is and has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotterStatus {
    /// Position in mcomp.cfg.
    pub id: u32,
    /// Whether it consolidates.
    pub master: bool,
    /// Operating-system process.
    pub pid: u32,
    /// Snapshots published.
    pub ok: u64,
    /// Snapshots given up.
    pub aborted: u64,
    /// Why the last one was given up; empty when none was.
    pub last_error: String,
    /// File name of the last one published; empty when none was.
    pub last: String,
    /// Refusals by cause, those that happened.
    pub rejected: BTreeMap<String, u64>,
}

/// To a memory server: answer when the memory is what the metadata said at an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Await {
    /// The index of an answer.
    pub index: u64,
}

/// The bytes of a control body.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_allocvec(message).expect("control messages hold nothing that postcard cannot encode")
}

/// Reads a control body, which must end where the message ends.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(Malformed::Trailing(rest.len())),
        Err(_) => Err(Malformed::Short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn golden_hello() {
        let hello = Hello {
            cluster: "demo".into(),
            role: Role::Client,
            server: 1,
            k: 16384,
            n: 3,
            session: Uuid::from_u128(0x0102),
            features: features::CHECKSUM,
            auth: Vec::new(),
        };
        let bytes = encode(&hello);
        #[rustfmt::skip]
        assert_eq!(bytes, [
            4, b'd', b'e', b'm', b'o', 1, 1, 0x80, 0x80, 1, 3,
            16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2,
            1, 0,
        ]);
        assert_eq!(decode::<Hello>(&bytes), Ok(hello));
        assert!(decode::<Hello>(&bytes[..9]).is_err());
        assert_eq!(decode::<CutRelease>(&[16; 18]), Err(Malformed::Trailing(1)));
    }

    #[test]
    fn golden_restore() {
        let restore = Uuid::from_u128(0x0102);
        let id = [16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        assert_eq!(encode(&RestoreBegin { restore }), id);
        assert_eq!(encode(&RestoreEnd { restore, config_epoch: 300 }), [&id[..], &[0xac, 2]].concat());
        assert_eq!(encode(&RestoreAbort { restore }), id);
        assert_eq!(decode::<RestoreAbort>(&id), Ok(RestoreAbort { restore }));
        let kinds = [Kind::RestoreBegin, Kind::RestoreEnd, Kind::RestoreAbort];
        assert_eq!(kinds.map(|kind| kind as u8), [0x38, 0x39, 0x3a]);
    }

    #[test]
    fn golden_handover() {
        assert_eq!(Kind::Handover as u8, 0x21);
        assert_eq!((encode(&()), decode::<()>(&[])), (Vec::new(), Ok(())));
        assert_eq!(decode::<()>(&[0]), Err(Malformed::Trailing(1)));
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, b'x'];
        assert!(decode::<Hello>(&claim).is_err());
    }
}
