//! One connection: requests in, answers out, one after the other, with a deadline on everything that the peer does.
//!
//! Promises
//! - A head, from its first byte (or from the connection's) to its last; a body; the taking of an answer; the silence
//!   between two requests: each has a deadline. Who misses one is cut off, and so are the bytes of who sends too many.
//! - No more than a head and a body of the greatest size is held, and nothing is allocated for a length that is only
//!   claimed.

use std::io::{self, Read, Write};

use mcomp_net::{Phase, Stream, Watch};

use super::Shared;
use super::answer::Answer;
use super::head::{HEAD_BYTES_MAX, Head, Unfit};
use super::problem::Problem;

/// Bytes that are received at once.
const PIECE: usize = 64 << 10;

/// One connection and what was received on it.
struct Conversation<'a> {
    stream: Stream,
    watch: Watch,
    shared: &'a Shared,
    /// Received and not used yet: the beginning of a request.
    received: Vec<u8>,
}

/// What is said to a request.
struct Said {
    answer: Answer,
    /// Whether the one who asked wants no body.
    head_only: bool,
    keep_alive: bool,
}

/// Answers one request after the other until either side has enough.
pub(super) fn run(stream: Stream, shared: &Shared) -> io::Result<()> {
    let watch = shared.watchdog.watch(&stream, Phase::Handshake);
    let mut conversation = Conversation { stream, watch, shared, received: Vec::new() };
    while !shared.is_stopping() {
        let said = match conversation.head()? {
            None => return Ok(()),
            Some(Ok(head)) => conversation.exchange(&head)?,
            Some(Err(unfit)) => Said::last(&Problem::of_unfit(unfit), false),
        };
        let keep_alive = said.keep_alive && !shared.is_stopping();
        conversation.send(&said.answer.bytes(said.head_only, keep_alive))?;
        if !keep_alive {
            conversation.stream.linger();
            return Ok(());
        }
        conversation.watch.enter(if conversation.received.is_empty() { Phase::Request } else { Phase::Handshake });
    }
    Ok(())
}

impl Said {
    /// A refusal after which nobody knows where the next request begins.
    fn last(problem: &Problem, head_only: bool) -> Said {
        Said { answer: problem.answer(), head_only, keep_alive: false }
    }
}

impl Conversation<'_> {
    /// The next head; none if the peer leaves before it is whole.
    fn head(&mut self) -> io::Result<Option<Result<Head, Unfit>>> {
        loop {
            match Head::parse(&self.received) {
                Ok(None) => {}
                Ok(Some(head)) => {
                    self.received.drain(..head.len);
                    return Ok(Some(Ok(head)));
                }
                Err(unfit) => return Ok(Some(Err(unfit))),
            }
            let was_silent = self.received.is_empty();
            if self.receive(HEAD_BYTES_MAX - self.received.len())? == 0 {
                return Ok(None);
            }
            if was_silent {
                self.watch.enter(Phase::Handshake);
            }
        }
    }

    /// What is said to a head, and to the body that follows it.
    fn exchange(&mut self, head: &Head) -> io::Result<Said> {
        let head_only = head.method == "HEAD";
        let len = head.body_len.unwrap_or(0);
        let route = match self.shared.door.admit(head) {
            Ok(route) => route,
            Err(problem) if len == 0 => {
                return Ok(Said { answer: problem.answer(), head_only, keep_alive: head.keep_alive });
            }
            // Its body is on its way, and is not looked at.
            Err(problem) => return Ok(Said::last(&problem, head_only)),
        };
        let body = self.body(head, usize::try_from(len).expect("a length that was admitted"))?;
        // How long the servers may take is the client's matter.
        self.watch.enter(Phase::Idle);
        let answer = self.shared.door.answer(&route, head, &body);
        Ok(Said { answer, head_only, keep_alive: head.keep_alive })
    }

    /// The `len` bytes after a head.
    fn body(&mut self, head: &Head, len: usize) -> io::Result<Vec<u8>> {
        if head.waits_for_continue && self.received.len() < len {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.watch.enter(Phase::Frame);
        while self.received.len() < len {
            if self.receive(len - self.received.len())? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.received.split_off(len);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    /// Receives at most `most` bytes behind the others; none at the end.
    fn receive(&mut self, most: usize) -> io::Result<usize> {
        let before = self.received.len();
        self.received.resize(before + most.min(PIECE), 0);
        let received = loop {
            match self.stream.read(&mut self.received[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        self.received.truncate(before + *received.as_ref().unwrap_or(&0));
        received
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.watch.enter(Phase::Write);
        self.stream.write_all(bytes)
    }
}
