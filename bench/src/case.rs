//! The cases of the socket groups: what is done, by how many, where. The rows of docs/performance.md.

use serde::Serialize;

use crate::peer::{Op, Peer, Transport, Work};
use crate::placement::Placement;
use crate::{mcomp, raw};

/// What belongs into one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Group {
    /// Round trips of one connection.
    Trip,
    /// Small round trips where waking a core is in the figure.
    Placed,
    /// Atomics beside a write of eight bytes.
    Atomic,
    /// Many operations under way on one connection.
    Deep,
    /// Many connections, small operations.
    Many,
    /// Many operations under way on many connections.
    ManyDeep,
    /// Large operations side by side.
    Bulk,
    /// Memory of the same machine without a socket.
    Segment,
    /// A range over three servers, end to end.
    Stream,
    /// The price of a connection that does nothing.
    Idle,
    /// From the start of a process to its first answer.
    Start,
    /// All of the memory into a file, and back.
    Snapshot,
    /// Only what has changed into a file.
    Incremental,
    /// What writers notice of a snapshot.
    Writers,
    /// What all servers have to agree on.
    Agree,
    /// Blocks that three servers keep.
    Replicas,
}

impl Group {
    /// In the order of the tables.
    pub(crate) const ALL: [Group; 16] = [
        Group::Trip,
        Group::Placed,
        Group::Atomic,
        Group::Deep,
        Group::Many,
        Group::ManyDeep,
        Group::Bulk,
        Group::Segment,
        Group::Stream,
        Group::Idle,
        Group::Start,
        Group::Snapshot,
        Group::Incremental,
        Group::Writers,
        Group::Agree,
        Group::Replicas,
    ];

    /// The first part of the names of its cases.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Group::Trip => "trip",
            Group::Placed => "placed",
            Group::Atomic => "atomic",
            Group::Deep => "deep",
            Group::Many => "many",
            Group::ManyDeep => "many-deep",
            Group::Bulk => "bulk",
            Group::Segment => "segment",
            Group::Stream => "stream",
            Group::Idle => "idle",
            Group::Start => "start",
            Group::Snapshot => "snapshot",
            Group::Incremental => "incremental",
            Group::Writers => "writers",
            Group::Agree => "agree",
            Group::Replicas => "replicas",
        }
    }

    /// The heading of its table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Group::Trip => "Round trip, one connection, one request at a time, all on one core (p50)",
            Group::Placed => "The same on two cores: waking the other one is most of it (p50)",
            Group::Atomic => "Atomics beside a write of 8 bytes, one connection, all on one core (p50)",
            Group::Deep => "64 requests under way on one connection, 8 bytes",
            Group::Many => "Many connections, one blocking thread each, one request at a time, free",
            Group::ManyDeep => "64 connections with 16 requests under way, one blocking thread each, cross",
            Group::Bulk => "8 connections, large requests, one blocking thread each, free",
            Group::Segment => "Reads of the same machine's memory without a socket, one core",
            Group::Stream => "A sequential gigabyte over three servers, one client, free",
            Group::Idle => "Idle connections: private memory of the server for each, and how many it serves at a time",
            Group::Start => "From the start of a server's process until it serves",
            Group::Snapshot => "All of the memory into a file and back, three servers full of noise, free",
            Group::Incremental => {
                "Incremental snapshots of the same memory, by the blocks that changed: in runs of a MiB, or single"
            }
            Group::Writers => "What a full snapshot of the same memory costs its writers, one client over TCP",
            Group::Agree => {
                "Allocations that three servers agree on, and puts of three nodes of etcd, logs on one disk"
            }
            Group::Replicas => "Memory that three servers keep three times, over TCP, free",
        }
    }
}

/// What is measured with every system that fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) group: Group,
    pub(crate) placement: Placement,
    pub(crate) work: Work,
    pub(crate) connections: usize,
}

impl Case {
    /// Its name on the command line and in JSON.
    pub(crate) fn id(&self) -> String {
        let Work { op, size_bytes, .. } = self.work;
        let size = size_word(size_bytes).replace(' ', "");
        match self.group {
            Group::Trip => format!("trip/{}-{size}", op.word()),
            Group::Atomic => format!("atomic/{}", op.word()),
            Group::Deep | Group::Placed => {
                format!("{}/{}-{size}-{}", self.group.word(), op.word(), self.placement.word().replace(' ', "-"))
            }
            group => format!("{}/{}-{size}-{}", group.word(), op.word(), self.connections),
        }
    }

    /// Its name in tables.
    pub(crate) fn title(&self) -> String {
        let size = size_word(self.work.size_bytes);
        let op = self.work.op.word();
        match self.group {
            Group::Trip => format!("{op} {size}"),
            Group::Atomic => {
                if self.work.op == Op::Set {
                    format!("set {size}")
                } else {
                    op.to_owned()
                }
            }
            Group::Deep | Group::Placed => format!("{op} {size}, {}", self.placement.word()),
            _ => format!("{op} {size}, {} connections", self.connections),
        }
    }

    /// Whether round trips are timed, and not their rate.
    pub(crate) fn is_trip(&self) -> bool {
        matches!(self.group, Group::Trip | Group::Placed | Group::Atomic)
    }

    /// Whether it says something about this system.
    pub(crate) fn fits(&self, peer: &dyn Peer) -> bool {
        let both_ways = self.group == Group::Trip;
        let is_plain = !peer.name().ends_with("range");
        // Buffers matter from the size of one on.
        if peer.name() == raw::SMALL_BUFFERS_NAME && self.work.size_bytes < 64 << 10 {
            return false;
        }
        if peer.name() == mcomp::SEALED_NAME && !both_ways {
            return false;
        }
        peer.does(self.work.op) && (peer.transport() == Transport::Tcp || both_ways) && (is_plain || both_ways)
    }
}

/// All cases that go through sockets.
pub(crate) fn socket_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |group, placement, op, size_bytes, depth, connections| {
        cases.push(Case { group, placement, work: Work { op, size_bytes, depth, lane: 0 }, connections });
    };
    for size_bytes in [8, 64, 4 << 10, 64 << 10, 1 << 20] {
        for op in [Op::Get, Op::Set] {
            add(Group::Trip, Placement::SameCore, op, size_bytes, 1, 1);
        }
    }
    for op in [Op::Set, Op::Add, Op::Exchange] {
        add(Group::Atomic, Placement::SameCore, op, 8, 1, 1);
    }
    for op in [Op::Get, Op::Set] {
        for placement in [Placement::SameCore, Placement::Cross] {
            add(Group::Deep, placement, op, 8, 64, 1);
        }
        for size_bytes in [8, 4 << 10] {
            for connections in [8, 64] {
                add(Group::Many, Placement::Free, op, size_bytes, 1, connections);
            }
        }
        for placement in [Placement::Cross, Placement::Free] {
            add(Group::Placed, placement, op, 8, 1, 1);
        }
        add(Group::ManyDeep, Placement::Cross, op, 8, 16, 64);
        for size_bytes in [64 << 10, 1 << 20] {
            add(Group::Bulk, Placement::Free, op, size_bytes, 1, 8);
        }
    }
    cases
}

/// A size as people write it.
pub(crate) fn size_word(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut ids: Vec<String> = socket_cases().iter().map(Case::id).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn the_widest_case_fits_into_the_memory_of_a_server() {
        let room = |case: &Case| {
            let last = Work { lane: case.connections - 1, ..case.work };
            last.addr() + (last.size_bytes * last.depth) as u64
        };
        assert!(socket_cases().iter().map(room).max() <= Some(16 << 20));
    }
}
