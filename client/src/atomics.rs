//! Atomic operations on 8 and 16 bytes, little-endian in memory.
//!
//! Each is linearizable and happens exactly once, even when a connection breaks in between, or ends
//! in [`Error::Unknown`]. An address that is not a multiple of the size is refused before anything
//! is sent.

use mcomp_net::CallError;
use mcomp_wire::{AtomicAnswer, AtomicOp, Cas16Answer, Malformed, Request};

use crate::ask::Ask;
use crate::{Cluster, Error};

/// What a compare-exchange of 8 bytes found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Whether the new value stands there now.
    pub swapped: bool,
    /// What was there before.
    pub previous: u64,
}

/// What a compare-exchange of 16 bytes found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged16 {
    /// Whether the new value stands there now.
    pub swapped: bool,
    /// What was there before.
    pub previous: u128,
}

impl Cluster {
    /// Puts `new` at `addr` if `expected` is there. A value that differs is no error.
    pub fn compare_exchange(&self, addr: u64, expected: u64, new: u64) -> Result<Exchanged, Error> {
        let AtomicAnswer { previous, applied } = self.atomic_of(addr, AtomicOp::CompareExchange, new, expected)?;
        Ok(Exchanged { swapped: applied, previous })
    }

    /// Puts `new` at `addr`, a multiple of 16, if `expected` is there.
    pub fn compare_exchange_16(&self, addr: u64, expected: u128, new: u128) -> Result<Exchanged16, Error> {
        let server = self.home_of(addr, 16)?;
        self.ask(server, Ask::new(0, Request::Cas16 { addr, expected, new }), |body| {
            let Cas16Answer { previous, applied } = Cas16Answer::parse(body).map_err(|e| self.wrong(server, e))?;
            Ok(Exchanged16 { swapped: applied, previous })
        })
    }

    /// Adds `delta`, wrapping; what was there before.
    pub fn fetch_add(&self, addr: u64, delta: u64) -> Result<u64, Error> {
        self.atomic(addr, AtomicOp::Add, delta)
    }

    /// Bitwise and; what was there before.
    pub fn fetch_and(&self, addr: u64, mask: u64) -> Result<u64, Error> {
        self.atomic(addr, AtomicOp::And, mask)
    }

    /// Bitwise or; what was there before.
    pub fn fetch_or(&self, addr: u64, mask: u64) -> Result<u64, Error> {
        self.atomic(addr, AtomicOp::Or, mask)
    }

    /// Bitwise exclusive or; what was there before.
    pub fn fetch_xor(&self, addr: u64, mask: u64) -> Result<u64, Error> {
        self.atomic(addr, AtomicOp::Xor, mask)
    }

    /// Keeps the smaller value, unsigned; what was there before.
    pub fn fetch_min(&self, addr: u64, value: u64) -> Result<u64, Error> {
        self.atomic(addr, AtomicOp::Min, value)
    }

    /// Keeps the larger value, unsigned; what was there before.
    pub fn fetch_max(&self, addr: u64, value: u64) -> Result<u64, Error> {
        self.atomic(addr, AtomicOp::Max, value)
    }

    /// Puts `new` at `addr`; what was there before.
    pub fn swap(&self, addr: u64, new: u64) -> Result<u64, Error> {
        self.atomic(addr, AtomicOp::Swap, new)
    }

    fn atomic(&self, addr: u64, op: AtomicOp, operand: u64) -> Result<u64, Error> {
        self.atomic_of(addr, op, operand, 0).map(|answer| answer.previous)
    }

    fn atomic_of(&self, addr: u64, op: AtomicOp, operand: u64, expected: u64) -> Result<AtomicAnswer, Error> {
        let server = self.home_of(addr, 8)?;
        let ask = Ask::new(0, Request::Atomic { addr, op, operand, expected });
        self.ask(server, ask, |body| AtomicAnswer::parse(body).map_err(|error| self.wrong(server, error)))
    }

    /// The server that holds an aligned word. Servers hold whole blocks, so no word spans two.
    pub(crate) fn home_of(&self, addr: u64, align: u64) -> Result<u32, Error> {
        let range = self.range_of(addr, align)?;
        if !addr.is_multiple_of(align) {
            return Err(Error::Unaligned { addr, align });
        }
        Ok((range.addr() / self.space().k()) as u32)
    }

    /// The error for an answer of the wrong shape.
    pub(crate) fn wrong(&self, server: u32, error: Malformed) -> Error {
        self.pool(server).peer().protocol(CallError::from(error).to_string())
    }
}
