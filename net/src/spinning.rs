//! Looking at a socket before sleeping on it.

use std::hint::spin_loop;
use std::io::{self, IoSliceMut, Read};
use std::time::{Duration, Instant};

use crate::{Glance, Stream};

/// A socket that is looked at for a while before a read of it sleeps. Waking a thread up costs far more than
/// a small request; who looks saves it, and keeps a core busy.
#[derive(Debug)]
pub struct Spinning<'a> {
    stream: &'a mut Stream,
    spin: Duration,
}

impl<'a> Spinning<'a> {
    /// Looks for `spin`; with zero it is a plain read.
    pub fn new(stream: &'a mut Stream, spin: Duration) -> Spinning<'a> {
        Spinning { stream, spin }
    }

    /// Looks until there is something to read, or the time is over.
    fn look(&self) {
        let until = Instant::now() + self.spin;
        while self.stream.glance() == Glance::Nothing && Instant::now() < until {
            spin_loop();
        }
    }
}

impl Read for Spinning<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.spin.is_zero() {
            self.look();
        }
        self.stream.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if !self.spin.is_zero() {
            self.look();
        }
        self.stream.read_vectored(buffers)
    }
}
