//! A connection that sends prepared bytes and knows how long the answer is: the client of all systems
//! that are spoken to by hand.
//!
//! It is the fastest client that blocks. It checks how an answer begins, so that errors are not
//! measured as results, and leaves out everything else that a library does.

use std::io::{self, Read, Write};

use anyhow::{Context, bail};

use crate::peer::Conn;
use crate::socket::{Address, Socket};

/// How an answer to the whole request is recognised.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// So many bytes, which begin so.
    Bytes {
        /// How many.
        count: usize,
        /// How the first answer begins.
        begin: Vec<u8>,
    },
    /// So many lines, because their length varies.
    Lines(usize),
}

/// A connection and what it sends.
#[derive(Debug)]
pub(crate) struct Scripted {
    socket: Socket,
    request: Vec<u8>,
    answer: Answer,
    buffer: Vec<u8>,
}

impl Scripted {
    /// Connects.
    pub(crate) fn connect(
        address: &Address,
        request: Vec<u8>,
        answer: Answer,
        buffer_bytes: Option<usize>,
    ) -> anyhow::Result<Scripted> {
        let socket = Socket::connect(address, buffer_bytes).with_context(|| format!("cannot connect to {address}"))?;
        let room = match &answer {
            Answer::Bytes { count, .. } => *count,
            Answer::Lines(_) => 4096,
        };
        Ok(Scripted { socket, request, answer, buffer: vec![0; room] })
    }

    fn read_lines(&mut self, count: usize) -> io::Result<()> {
        let mut seen = 0;
        while seen < count {
            let received = self.socket.read(&mut self.buffer)?;
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            seen += self.buffer[..received].iter().filter(|byte| **byte == b'\n').count();
        }
        Ok(())
    }
}

impl Conn for Scripted {
    fn run(&mut self) -> anyhow::Result<()> {
        self.socket.write_all(&self.request)?;
        match &self.answer {
            Answer::Lines(count) => self.read_lines(*count)?,
            Answer::Bytes { count, begin } => {
                // An error is shorter than a result: waiting for the rest of it would take for ever.
                let mut filled = 0;
                while filled < *count {
                    let received = self.socket.read(&mut self.buffer[filled..*count])?;
                    filled += received;
                    let seen = &self.buffer[..filled.min(begin.len())];
                    if received == 0 || seen != &begin[..seen.len()] {
                        bail!("unexpected answer: {:?}", String::from_utf8_lossy(&self.buffer[..filled.min(200)]));
                    }
                }
            }
        }
        Ok(())
    }
}
