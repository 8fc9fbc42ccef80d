//! One connection to one server for a caller that needs an order of its own: a restore.
//!
//! Writes are pipelined, and control calls on the same connection come after all of them. Nothing is
//! retried: after any error the caller starts over with a new connection. It is outside the pool and
//! its cap, and keeps the config epoch of its own handshake.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mcomp_net::CallError;
use mcomp_wire::control::{self, Welcome};
use mcomp_wire::{Kind, Piece, Range, Request, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ask::Ask;
use crate::cluster::PIECE;
use crate::link::Link;
use crate::peer::Peer;
use crate::window::Window;
use crate::{Cluster, Error, Space};

/// A connection of the caller's own. After an error it is of no more use.
///
/// Invariant: `flight` is what `window` counts, oldest first.
#[derive(Debug)]
pub struct Dedicated {
    peer: Peer,
    space: Space,
    timeout: Duration,
    /// Taken only by `drop`.
    link: Option<Link>,
    flight: VecDeque<Unanswered>,
    window: Window,
}

#[derive(Debug)]
struct Unanswered {
    id: u64,
    kind: Kind,
    weights: (usize, usize),
}

impl Cluster {
    /// Opens a connection to `server` for the caller alone.
    pub fn dedicated(&self, server: u32) -> Result<Dedicated, Error> {
        let pool = self.pool_of(server)?;
        Ok(Dedicated {
            peer: pool.peer().clone(),
            space: self.space(),
            timeout: pool.timeout(),
            link: Some(pool.dedicated()?),
            flight: VecDeque::new(),
            window: Window::default(),
        })
    }
}

impl Dedicated {
    /// What the server said in the handshake: its config epoch, incarnation and segment.
    pub fn welcome(&self) -> &Welcome {
        self.link.as_ref().expect("taken only by drop").welcome()
    }

    /// Waits for all writes, then makes a control call. Its effect is unknown when it fails without
    /// an answer.
    pub fn call<Q: Serialize, A: DeserializeOwned>(&mut self, kind: Kind, request: &Q) -> Result<A, Error> {
        self.finish()?;
        let deadline = Instant::now() + self.timeout;
        let answer = self.link().control(kind, control::encode(request), deadline);
        answer.map_err(|error| match error {
            CallError::Refused { status, message } => self.peer.refused(status, message),
            error => self.peer.unanswered(error, true, self.timeout),
        })
    }

    /// Puts `data` at `addr`, all of it on this server. Returns when it is sent: a failure may be
    /// reported by a later call.
    pub fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), Error> {
        for Piece { addr: at, len, .. } in self.own(addr, data.len() as u64)?.pieces(PIECE) {
            let from = (at - addr) as usize;
            let data = &data[from..from + len as usize];
            self.send(&Ask::new(0, Request::Write { addr: at, data }))?;
        }
        Ok(())
    }

    /// Puts `byte` into all of `addr..addr + len`, all of it on this server. Returns when it is sent.
    pub fn fill(&mut self, addr: u64, len: u64, byte: u8) -> Result<(), Error> {
        for Piece { addr, len, .. } in self.own(addr, len)?.pieces(limits::MAX_SPAN) {
            self.send(&Ask::new(0, Request::Fill { addr, len, byte }))?;
        }
        Ok(())
    }

    /// Waits until everything sent so far is done.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.flush()?;
        while !self.flight.is_empty() {
            self.receive()?;
        }
        Ok(())
    }

    /// Turns a claim into a range of this server.
    fn own(&self, addr: u64, len: u64) -> Result<Range, Error> {
        let range = self.space.check(addr, len)?;
        let start = u64::from(self.peer.server) * self.space.k();
        if len > 0 && (addr < start || range.end() > start + self.space.k()) {
            let server = self.peer.server;
            return Err(Error::Usage(format!("address {addr} + {len} bytes is not all on server {server}")));
        }
        Ok(range)
    }

    fn send(&mut self, ask: &Ask<'_>) -> Result<(), Error> {
        let (request, answer) = ask.weights();
        while !self.window.admits(request, answer) {
            self.flush()?;
            self.receive()?;
        }
        let id = self.link().next_id();
        let sent = self.link().send(id, ask);
        self.window.add(request, answer);
        self.flight.push_back(Unanswered { id, kind: ask.kind, weights: (request, answer) });
        sent.map_err(|error| self.peer.unanswered(error, true, self.timeout))
    }

    fn flush(&mut self) -> Result<(), Error> {
        let flushed = self.link().flush();
        flushed.map_err(|error| self.peer.unanswered(error, true, self.timeout))
    }

    fn receive(&mut self) -> Result<(), Error> {
        let Some(Unanswered { id, kind, weights: (request, answer) }) = self.flight.pop_front() else { return Ok(()) };
        self.window.remove(request, answer);
        let deadline = Instant::now() + self.timeout;
        match self.link().receive(id, kind, deadline) {
            Ok(_) => Ok(()),
            Err(CallError::Refused { status, message }) => Err(self.peer.refused(status, message)),
            Err(error) => Err(self.peer.unanswered(error, true, self.timeout)),
        }
    }

    fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("taken only by drop")
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.close();
        }
    }
}
