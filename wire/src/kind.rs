//! What a frame asks for, who asks, and the atomic operations.
//!
//! Numbers are fixed for ever once released; a new one is added, none is re-used.

use serde::{Deserialize, Serialize};

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $number,)* }

        impl $name {
            /// Every value, in numeric order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The value with this number on the wire, if there is one.
            pub fn from_wire(number: u8) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }

            /// The stable word for it in logs, counters and JSON.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

numbered! {
    /// The kind of a frame.
    Kind {
        /// An answer to bytes that were not a request; the connection closes after it.
        Error = 0x00 "error",
        /// First frame on a connection: who I am, what I can do.
        Hello = 0x01 "hello",
        /// Last frame of a client that leaves on purpose: its session can be forgotten. No answer.
        Bye = 0x02 "bye",
        /// Answer to a hello: this server wants a proof of a key.
        Challenge = 0x03 "challenge",
        /// The proof; answered as a hello is without a secret.
        Prove = 0x04 "prove",
        /// Bytes of one range.
        Read = 0x10 "read",
        /// Put bytes at an address.
        Write = 0x11 "write",
        /// Put one byte everywhere in a range.
        Fill = 0x12 "fill",
        /// Copy inside one server.
        Copy = 0x13 "copy",
        /// Find the first byte that differs from the ones sent.
        Compare = 0x14 "compare",
        /// CRC-32 of a range.
        Checksum = 0x15 "checksum",
        /// An 8-byte atomic; see [`AtomicOp`].
        Atomic = 0x16 "atomic",
        /// A 16-byte compare-and-swap.
        Cas16 = 0x17 "cas16",
        /// Bytes of many ranges.
        ReadV = 0x18 "readv",
        /// Put bytes at many addresses.
        WriteV = 0x19 "writev",
        /// Many requests in one frame.
        Batch = 0x1a "batch",
        /// What the server is and has counted.
        Status = 0x20 "status",
        /// From another process of the same user and machine: stop in good order, I take your segment over.
        Handover = 0x21 "handover",
        /// Snapshot: allocate the shadow area, join cut `id`.
        CutPrepare = 0x30 "cut_prepare",
        /// Snapshot: begin the new epoch, hold answers.
        CutSwitch = 0x31 "cut_switch",
        /// Snapshot: every server has switched, let answers go.
        CutRelease = 0x32 "cut_release",
        /// Snapshot: copied or given up, free the shadow area.
        CutEnd = 0x33 "cut_end",
        /// Snapshot of replicated memory: every server has switched, bring the blocks of these servers up to date.
        CutSettle = 0x34 "cut_settle",
        /// Restore: refuse everyone else until the end.
        RestoreBegin = 0x38 "restore_begin",
        /// Restore: all is written, open again under a new config epoch.
        RestoreEnd = 0x39 "restore_end",
        /// Restore: nothing was written, open again as it was.
        RestoreAbort = 0x3a "restore_abort",
        /// To the master's snapshot process: make a snapshot.
        SnapshotCreate = 0x40 "snapshot_create",
        /// To a snapshot process: copy your segment as of a cut.
        SnapshotCollect = 0x41 "snapshot_collect",
        /// To a snapshot process: what you are and have done.
        SnapshotStatus = 0x42 "snapshot_status",
        /// In the answer to a create or collect: how far it is.
        SnapshotProgress = 0x43 "snapshot_progress",
        /// In the answer to a collect: one encoded chunk.
        SnapshotChunk = 0x44 "snapshot_chunk",
        /// A command about the metadata: an [`crate::meta::Ask`], answered by a [`crate::meta::Told`].
        Command = 0x50 "command",
        /// A question about the metadata: a [`crate::meta::Query`], answered by a [`crate::meta::Found`].
        Query = 0x51 "query",
        /// Wait until this server's memory is what the metadata said at an index.
        Await = 0x52 "await",
        /// From server to server, without an answer: a part of a message about the metadata.
        Peer = 0x60 "peer",
        /// From server to server, without an answer: what replicas ask each other about blocks, and say.
        Replicas = 0x61 "replicas",
    }
}

impl Kind {
    /// Whether the request reads or writes cluster memory.
    pub fn is_data(self) -> bool {
        (Kind::Read..=Kind::Batch).contains(&self)
    }
}

numbered! {
    /// Who speaks. Without a secret the role is a claim that keeps honest programs apart; with one, each has its key.
    Role {
        /// A program that uses the memory.
        Client = 1 "client",
        /// A snapshot process or another server.
        Node = 2 "node",
        /// An operator's command.
        Admin = 3 "admin",
    }
}

numbered! {
    /// What an atomic does to its 8 bytes. Arithmetic wraps; `min` and `max` compare unsigned.
    AtomicOp {
        /// Put `operand` if `expected` is there.
        CompareExchange = 1 "cas",
        /// Add `operand`.
        Add = 2 "add",
        /// Put `operand`.
        Swap = 3 "swap",
        /// Bitwise and.
        And = 4 "and",
        /// Bitwise or.
        Or = 5 "or",
        /// Bitwise exclusive or.
        Xor = 6 "xor",
        /// The smaller of both.
        Min = 7 "min",
        /// The larger of both.
        Max = 8 "max",
    }
}

impl AtomicOp {
    /// The value after the operation, or `None` when a compare-and-swap is lost.
    pub fn apply(self, current: u64, operand: u64, expected: u64) -> Option<u64> {
        Some(match self {
            AtomicOp::CompareExchange if current != expected => return None,
            AtomicOp::CompareExchange | AtomicOp::Swap => operand,
            AtomicOp::Add => current.wrapping_add(operand),
            AtomicOp::And => current & operand,
            AtomicOp::Or => current | operand,
            AtomicOp::Xor => current ^ operand,
            AtomicOp::Min => current.min(operand),
            AtomicOp::Max => current.max(operand),
        })
    }
}

impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
        let number = u8::deserialize(deserializer)?;
        Role::from_wire(number).ok_or_else(|| serde::de::Error::custom("unknown role"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_wire(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_wire(0xff), None);
    }

    #[test]
    fn atomics_do_what_they_say() {
        assert_eq!(AtomicOp::CompareExchange.apply(5, 9, 5), Some(9));
        assert_eq!(AtomicOp::CompareExchange.apply(5, 9, 6), None);
        assert_eq!(AtomicOp::Add.apply(u64::MAX, 2, 0), Some(1));
        assert_eq!(AtomicOp::Swap.apply(1, 2, 0), Some(2));
        assert_eq!(AtomicOp::And.apply(6, 3, 0), Some(2));
        assert_eq!(AtomicOp::Or.apply(6, 3, 0), Some(7));
        assert_eq!(AtomicOp::Xor.apply(6, 3, 0), Some(5));
        assert_eq!(AtomicOp::Min.apply(6, 3, 0), Some(3));
        assert_eq!(AtomicOp::Max.apply(6, 3, 0), Some(6));
    }
}
