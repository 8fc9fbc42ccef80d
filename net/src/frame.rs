//! Frames in and out of byte buffers.
//!
//! An [`Inbox`] receives as much as the socket has in one system call and hands out every complete
//! frame of it, so that a burst of pipelined requests costs one `recv`. Answers are built in a plain
//! `Vec<u8>` with [`begin_frame`] and [`finish_frame`], so that the answers of a burst leave in one
//! `send` and a body is written straight behind its header.

use std::io::{self, Read};
use std::ops::Range;

use mcomp_wire::{FrameError, HEADER_LEN, Header, Kind, Status, flags, limits};

/// Bytes of the buffer of a connection that sends small frames.
const SMALL: usize = 16 << 10;

/// Received bytes, and the frames in them.
///
/// Invariants: `start <= end <= buffer.len()`; `pending` is the parsed header at `start`, if one was
/// parsed and its body is not complete.
#[derive(Debug)]
pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    pending: Option<Header>,
    max_body: usize,
}

/// A complete, checked frame that still lies in its [`Inbox`].
#[derive(Clone, Debug)]
pub struct Received {
    /// Its header.
    pub header: Header,
    body: Range<usize>,
}

impl Inbox {
    /// An empty inbox that refuses bodies above `max_body`.
    pub fn new(max_body: usize) -> Inbox {
        Inbox { buffer: Vec::new(), start: 0, end: 0, pending: None, max_body }
    }

    /// Changes the largest body that is accepted from now on.
    pub fn set_max_body(&mut self, max_body: usize) {
        self.max_body = max_body;
    }

    /// Takes the next complete frame out of what was received, if there is one.
    pub fn take(&mut self) -> Result<Option<Received>, FrameError> {
        let header = match self.pending {
            Some(header) => header,
            None => match self.buffer[self.start..self.end].first_chunk::<HEADER_LEN>() {
                None => return Ok(None),
                Some(bytes) => {
                    let header = Header::parse(bytes)?;
                    header.check_length(self.max_body)?;
                    header
                }
            },
        };
        let body = self.start + HEADER_LEN..self.start + HEADER_LEN + header.length as usize;
        if body.end > self.end {
            self.pending = Some(header);
            return Ok(None);
        }
        header.check_body(&self.buffer[body.clone()])?;
        self.pending = None;
        self.start = body.end;
        Ok(Some(Received { header, body }))
    }

    /// The body of the frame that [`Inbox::take`] returned last.
    pub fn body(&self, frame: &Received) -> &[u8] {
        &self.buffer[frame.body.clone()]
    }

    /// The header of the frame that [`Inbox::take`] found incomplete last, if it was there.
    pub fn pending(&self) -> Option<&Header> {
        self.pending.as_ref()
    }

    /// Gives up the pending frame: puts what has come of its body at the front of `target`, which takes all of it,
    /// and returns how much that is. The rest is for the caller to receive.
    ///
    /// # Panics
    /// When no frame is pending, or `target` has not the length of its body.
    pub fn hand_over(&mut self, target: &mut [u8]) -> usize {
        let header = self.pending.take().expect("a pending frame");
        assert_eq!(header.length as usize, target.len(), "the length of a body");
        let body = &self.buffer[self.start + HEADER_LEN..self.end];
        target[..body.len()].copy_from_slice(body);
        let count = body.len();
        (self.start, self.end) = (0, 0);
        count
    }

    /// Whether a frame has begun and is not complete.
    pub fn is_mid_frame(&self) -> bool {
        self.start < self.end
    }

    /// Bytes by which [`Inbox::fill`] makes a large buffer of this one, or a larger one, for the pending frame.
    pub fn growth(&self) -> usize {
        self.roomy().saturating_sub(self.buffer.len().max(SMALL))
    }

    /// Bytes that the buffer holds on to beyond a small connection's.
    pub fn grown(&self) -> usize {
        self.buffer.len().saturating_sub(SMALL)
    }

    /// Gives a grown buffer back, if nothing unread lies in it.
    pub fn shrink(&mut self) {
        if self.start == self.end && self.buffer.len() > SMALL {
            *self = Inbox::new(self.max_body);
        }
    }

    /// Receives once, blocking until something is there. `Ok(0)` is the end of the stream.
    ///
    /// Of what comes behind a large frame nothing is taken with it: the next one would begin in the middle of the
    /// buffer and have to be moved.
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        let most = match self.pending {
            Some(_) if self.wanted() > SMALL => self.start + self.wanted() - self.end,
            _ => SMALL.min(self.buffer.len() - self.end),
        };
        loop {
            match stream.read(&mut self.buffer[self.end..self.end + most]) {
                Ok(received) => {
                    self.end += received;
                    return Ok(received);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The buffer length that the pending frame needs.
    fn wanted(&self) -> usize {
        self.pending.map_or(SMALL, |header| HEADER_LEN + header.length as usize)
    }

    /// The length that the buffer grows to for it: whole powers of two up to the largest frame, so that a
    /// stream of growing frames grows it once or twice.
    fn roomy(&self) -> usize {
        let wanted = self.wanted();
        if wanted <= self.buffer.len() {
            return self.buffer.len();
        }
        let most = HEADER_LEN + self.max_body.max(SMALL);
        wanted.next_power_of_two().min(most).max(wanted)
    }

    /// Moves the unread rest to the front when the frame would not fit behind it, and grows.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let (wanted, roomy) = (self.wanted(), self.roomy());
        self.buffer.resize(roomy, 0);
        if self.end == self.buffer.len() || self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

/// Leaves room for a header at the end of `out`; the body is appended behind it.
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    at
}

/// Writes the header of the frame begun at `at`, whose body is everything behind it.
pub fn finish_frame(out: &mut [u8], at: usize, header: Header, checksum: bool) {
    let (head, body) = out[at..].split_at_mut(HEADER_LEN);
    head.copy_from_slice(&header.for_body(body, checksum).emit());
}

/// Appends a whole answer that says why there is none.
pub fn error_frame(out: &mut Vec<u8>, kind: u8, request_id: u64, status: Status, message: &str) {
    let at = begin_frame(out);
    let cut = message.floor_char_boundary(limits::MAX_MESSAGE);
    out.extend_from_slice(&message.as_bytes()[..cut]);
    let flags = flags::ANSWER;
    finish_frame(out, at, Header { kind, flags, request_id, status: status as u16, ..Header::default() }, false);
}

impl Received {
    /// The frame's kind, if this version knows it.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_wire(self.header.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let at = begin_frame(&mut out);
        out.extend_from_slice(body);
        finish_frame(&mut out, at, Header { kind: 0x11, request_id: id, ..Header::default() }, true);
        out
    }

    /// Gives its bytes out in pieces of the given size.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(buffer.len()).min(self.0.len());
            (&self.0[..most]).read(buffer).inspect(|&read| self.0 = &self.0[read..])
        }
    }

    #[test]
    fn frames_arrive_whole_however_they_are_cut() {
        let sizes = [0, 1, 100, 16 << 10, 70_000, 3, 1 << 20, 5];
        let bytes: Vec<u8> = (0u64..).zip(sizes).flat_map(|(id, size)| frame(id, &vec![id as u8; size])).collect();
        for step in [7, 48, 4096, 1 << 21] {
            let mut inbox = Inbox::new(limits::MAX_BODY);
            let mut stream = Trickle(&bytes, step);
            for (id, size) in (0u64..).zip(sizes) {
                let got = loop {
                    match inbox.take().unwrap() {
                        Some(got) => break got,
                        None => assert_ne!(inbox.fill(&mut stream).unwrap(), 0, "ended before frame {id}"),
                    }
                };
                assert_eq!(got.header.request_id, id);
                assert_eq!(inbox.body(&got), vec![id as u8; size]);
            }
            assert!(!inbox.is_mid_frame());
        }
    }

    #[test]
    fn what_the_buffer_takes_is_known_before() {
        let sizes = [10, 20_000, 600_000, 70_000, limits::MAX_BODY];
        let bytes: Vec<u8> = (0u64..).zip(sizes).flat_map(|(id, size)| frame(id, &vec![0; size])).collect();
        let mut inbox = Inbox::new(limits::MAX_BODY);
        let mut stream = &bytes[..];
        let mut taken = 0;
        loop {
            while inbox.take().unwrap().is_some() {
                taken += 1;
            }
            let announced = inbox.grown() + inbox.growth();
            if inbox.fill(&mut stream).unwrap() == 0 {
                break;
            }
            assert_eq!(inbox.grown(), announced, "after {taken} frames");
        }
        assert_eq!(taken, sizes.len());
    }

    #[test]
    fn a_long_body_is_refused_before_it_is_allocated() {
        let mut inbox = Inbox::new(512);
        let bytes = frame(1, &[0; 513]);
        inbox.fill(&mut &bytes[..]).unwrap();
        assert!(matches!(inbox.take(), Err(FrameError::TooLong { length: 513, max: 512 })));
        assert_eq!(inbox.grown(), 0);
    }
}
