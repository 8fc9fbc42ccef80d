//! What all measured systems have in common: a server process, and connections that do one kind of
//! work over and over.
//!
//! A connection is made for one piece of [`Work`] and prepares it, so that a measured call is only
//! what a program would do between having its data and having its answer.

use std::fmt;

use serde::Serialize;

/// How a client reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// TCP over loopback.
    Tcp,
    /// A Unix socket.
    Unix,
    /// The server's shared memory, without asking it.
    Segment,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Unix => "Unix",
            Transport::Segment => "segment",
        })
    }
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Reads.
    Get,
    /// Writes.
    Set,
    /// Adds to eight bytes and gets what was there.
    Add,
    /// Replaces eight bytes if they are what was expected.
    Exchange,
}

impl Op {
    /// How it is called in tables and names of cases.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Set => "set",
            Op::Add => "add",
            Op::Exchange => "cas",
        }
    }
}

/// What one connection does in one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// What.
    pub(crate) op: Op,
    /// Bytes of each operation.
    pub(crate) size_bytes: usize,
    /// Operations that are sent before the first answer is waited for.
    pub(crate) depth: usize,
    /// Which connection this is: each has memory of its own.
    pub(crate) lane: usize,
}

impl Work {
    /// Where the memory of this connection begins.
    pub(crate) fn addr(&self) -> u64 {
        let room = (self.size_bytes * self.depth).next_multiple_of(4096);
        (self.lane * room) as u64
    }
}

/// One connection to a server.
pub(crate) trait Conn: Send {
    /// Does the work once and waits for all its answers.
    fn run(&mut self) -> anyhow::Result<()>;
}

/// A system that is measured: one server process, one way to it, one way to use it.
pub(crate) trait Peer {
    /// The column of the table, such as `Redis`.
    fn name(&self) -> &str;

    /// The way to it.
    fn transport(&self) -> Transport;

    /// The process that serves.
    fn pid(&self) -> u32;

    /// Whether it has such an operation.
    fn does(&self, op: Op) -> bool;

    /// Connects, ready to do this work.
    fn connect(&self, work: Work) -> anyhow::Result<Box<dyn Conn>>;

    /// Name and transport.
    fn label(&self) -> String {
        format!("{} {}", self.name(), self.transport())
    }
}
