//! What servers say to each other about the metadata, in a codec of our own.
//!
//! Raft's own codec never sees a byte from a socket, nor one from disk. A message from a peer is believed as far as its shape and its
//! sender go: nodes prove that they are nodes (`net`), and lying ones are outside of what mcomp tolerates.

use mcomp_wire::control;
use mcomp_wire::meta::Ask;
use raft::eraftpb;
use serde::{Deserialize, Serialize};

use crate::persist::{Image, LogEntry};
use crate::voters::{Peer, VoterChange, Voters};

/// One message from one server to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// For the Raft engine.
    Raft(Box<RaftMessage>),
    /// A command for whoever leads.
    Forward(Ask),
    /// Whether the sender has a log: said when a connection begins, and to a leader who thinks otherwise.
    HasLog(bool),
}

/// A message of the Raft engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMessage {
    kind: u8,
    to: u64,
    from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    entries: Vec<LogEntry>,
    commit: u64,
    commit_term: u64,
    image: Option<Image>,
    request_image: u64,
    reject: bool,
    reject_hint: u64,
    context: Vec<u8>,
    priority: i64,
}

/// Why bytes are no message of this peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message about the metadata makes no sense: {0}")]
pub struct Garbled(String);

impl PeerMessage {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        control::encode(self)
    }

    /// Reads the bytes of [`PeerMessage::encode`], sent by `from` to server `to`, whatever its seat.
    pub fn decode(bytes: &[u8], from: Peer, to: u32) -> Result<PeerMessage, Garbled> {
        let message: PeerMessage = control::decode(bytes).map_err(|error| Garbled(error.to_string()))?;
        match &message {
            PeerMessage::Raft(raft) => raft.check(from, to).map(|()| message),
            _ => Ok(message),
        }
    }

    /// Whether only who leads says so. It names the seat of the server that it is for; whatever else is said to a server is
    /// for it in whatever seat.
    pub fn is_of_leader(&self) -> bool {
        matches!(self, PeerMessage::Raft(message) if message.is_of_leader())
    }

    /// Whether it carries the whole state, and may be large.
    pub fn has_image(&self) -> bool {
        matches!(self, PeerMessage::Raft(message) if message.image.is_some())
    }
}

const APPEND: u8 = 1;
const IMAGE: u8 = 5;
const HEARTBEAT: u8 = 6;
/// Their entries are no entries of the log.
const READ_INDEX: u8 = 8;
const READ_INDEX_ANSWER: u8 = 9;

/// The kinds that travel between servers, and their numbers on the wire.
const KINDS: [(u8, eraftpb::MessageType); 12] = [
    (APPEND, eraftpb::MessageType::MsgAppend),
    (2, eraftpb::MessageType::MsgAppendResponse),
    (3, eraftpb::MessageType::MsgRequestVote),
    (4, eraftpb::MessageType::MsgRequestVoteResponse),
    (IMAGE, eraftpb::MessageType::MsgSnapshot),
    (HEARTBEAT, eraftpb::MessageType::MsgHeartbeat),
    (7, eraftpb::MessageType::MsgHeartbeatResponse),
    (READ_INDEX, eraftpb::MessageType::MsgReadIndex),
    (READ_INDEX_ANSWER, eraftpb::MessageType::MsgReadIndexResp),
    (10, eraftpb::MessageType::MsgRequestPreVote),
    (11, eraftpb::MessageType::MsgRequestPreVoteResponse),
    (12, eraftpb::MessageType::MsgTimeoutNow),
];

impl RaftMessage {
    pub(crate) fn to(&self) -> u64 {
        self.to
    }

    pub(crate) fn is_of_leader(&self) -> bool {
        matches!(self.kind, APPEND | IMAGE | HEARTBEAT)
    }

    /// A message of the engine, unless it is one that never travels.
    pub(crate) fn of(mut message: eraftpb::Message) -> Option<RaftMessage> {
        let (kind, _) = KINDS.into_iter().find(|(_, kind)| *kind == message.msg_type)?;
        let image = message.has_snapshot().then(|| image_of(message.take_snapshot()));
        Some(RaftMessage {
            kind,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.take_entries().into_iter().map(entry_of).collect(),
            commit: message.commit,
            commit_term: message.commit_term,
            image,
            request_image: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context.to_vec(),
            priority: message.priority,
        })
    }

    fn check(&self, from: Peer, to: u32) -> Result<(), Garbled> {
        let garbled = |why: String| Err(Garbled(why));
        // A read that came to a server which leads no more is handed on in the name of who asked.
        let handed_on = self.kind == READ_INDEX && self.from != 0;
        let is_for_us = Peer::of_raft_id(self.to).is_some_and(|peer| peer.server == to);
        if !is_for_us || !(handed_on || self.from == from.raft_id()) {
            return garbled(format!("from {} to {} on the connection from {from:?} to {to}", self.from, self.to));
        }
        if self.image.as_ref().is_some_and(|image| !image.voters.are_sound()) {
            return garbled("an image with voters that cannot be".to_owned());
        }
        if KINDS.iter().all(|(kind, _)| *kind != self.kind) {
            return garbled(format!("there is no kind {}", self.kind));
        }
        let mut follows = self.entries.windows(2).map(|pair| pair[0].index.checked_add(1) == Some(pair[1].index));
        let begins = self.entries.first().is_none_or(|first| {
            matches!(self.kind, READ_INDEX | READ_INDEX_ANSWER) || self.index.checked_add(1) == Some(first.index)
        });
        match begins && follows.all(|follows| follows) {
            true => Ok(()),
            false => {
                garbled(format!("{} entries after {} that do not follow each other", self.entries.len(), self.index))
            }
        }
    }

    /// The message as the engine knows it.
    pub(crate) fn into_raft(self) -> eraftpb::Message {
        let kind = KINDS.into_iter().find(|(kind, _)| *kind == self.kind).expect("its kind was checked");
        let mut message = eraftpb::Message::default();
        message.set_msg_type(kind.1);
        message.to = self.to;
        message.from = self.from;
        message.term = self.term;
        message.log_term = self.log_term;
        message.index = self.index;
        message.set_entries(self.entries.into_iter().map(into_entry).collect::<Vec<_>>().into());
        message.commit = self.commit;
        message.commit_term = self.commit_term;
        if let Some(image) = self.image {
            message.set_snapshot(into_snapshot(image));
        }
        message.request_snapshot = self.request_image;
        message.reject = self.reject;
        message.reject_hint = self.reject_hint;
        message.context = self.context.into();
        message.priority = self.priority;
        message
    }
}

pub(crate) fn entry_of(entry: eraftpb::Entry) -> LogEntry {
    let (index, term) = (entry.index, entry.term);
    match entry.entry_type {
        eraftpb::EntryType::EntryNormal => LogEntry { index, term, data: entry.data.to_vec(), change: None },
        _ => LogEntry { index, term, data: Vec::new(), change: Some(VoterChange::of_raft_bytes(&entry.data)) },
    }
}

pub(crate) fn into_entry(entry: LogEntry) -> eraftpb::Entry {
    let mut raft = eraftpb::Entry::default();
    (raft.index, raft.term) = (entry.index, entry.term);
    match entry.change {
        None => raft.data = entry.data.into(),
        Some(change) => {
            raft.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
            raft.data = change.to_raft_bytes().into();
        }
    }
    raft
}

pub(crate) fn image_of(snapshot: eraftpb::Snapshot) -> Image {
    let metadata = snapshot.get_metadata();
    let voters = Voters::of(metadata.get_conf_state());
    Image { index: metadata.index, term: metadata.term, voters, data: snapshot.data.to_vec() }
}

pub(crate) fn into_snapshot(image: Image) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (image.index, image.term);
    *metadata.mut_conf_state() = image.voters.into_conf();
    snapshot.data = image.data.into();
    snapshot
}
