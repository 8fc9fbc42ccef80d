//! Frames in and out of byte buffers.
//!
//! An [`Inbox`] receives as much as the socket has in one system call and hands out every complete
//! frame of it, so that a burst of pipelined requests costs one `recv`. Answers are built in a plain
//! `Vec<u8>` with [`begin_frame`] and [`finish_frame`], so that the answers of a burst leave in one
//! `send` and a body is written straight behind its header.

use std::io::{self, IoSliceMut, Read};
use std::ops::Range;

use mcomp_wire::{FrameError, HEADER_LEN, Header, Kind, Status, flags, limits};

use crate::auth::{Opener, SEAL_LEN, Sealer};

/// Bytes of the buffer of a connection that sends small frames.
const SMALL: usize = 16 << 10;

/// Bytes of the first buffer: thousands of idle connections add up.
const FIRST: usize = 4 << 10;

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
    /// Length of the last frame: the next one is likely to be as long.
    last: usize,
    /// The last receive filled all its room: more is likely to come at once.
    filled: bool,
    opener: Option<Opener>,
}

/// What [`Inbox::fill_around`] received.
#[derive(Clone, Copy, Debug)]
pub enum Around {
    /// The end of the stream.
    End,
    /// Bytes that are in the inbox now.
    Inbox,
    /// The wanted header, and the beginning of its body.
    Body {
        /// Its header.
        header: Header,
        /// How many bytes of the body are in the target.
        received: usize,
    },
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
        Inbox { buffer: Vec::new(), start: 0, end: 0, pending: None, max_body, last: 0, filled: false, opener: None }
    }

    /// Changes the largest body that is accepted from now on.
    pub fn set_max_body(&mut self, max_body: usize) {
        self.max_body = max_body;
    }

    /// From now on each frame must carry the seal that fits.
    pub fn set_opener(&mut self, opener: Opener) {
        self.opener = Some(opener);
    }

    /// Whether frames must carry seals.
    pub fn is_sealed(&self) -> bool {
        self.opener.is_some()
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
                    self.check_sealed(&header)?;
                    header
                }
            },
        };
        let body = self.start + HEADER_LEN..self.start + HEADER_LEN + header.length as usize;
        let end = body.end + self.seal_len();
        if end > self.end {
            self.pending = Some(header);
            return Ok(None);
        }
        self.check_seal(body.clone())?;
        header.check_body(&self.buffer[body.clone()])?;
        self.pending = None;
        self.last = end - self.start;
        self.start = end;
        Ok(Some(Received { header, body }))
    }

    /// The header of the next frame, as soon as it has come. Nothing of it is proved yet.
    pub fn peek(&self) -> Result<Option<Header>, FrameError> {
        let head = self.buffer[self.start..self.end].first_chunk::<HEADER_LEN>();
        head.map(Header::parse).transpose()
    }

    /// Bytes that follow each body.
    fn seal_len(&self) -> usize {
        if self.opener.is_some() { SEAL_LEN } else { 0 }
    }

    /// Refuses a frame that says of itself that it has no seal where there must be one, or the other way round.
    fn check_sealed(&self, header: &Header) -> Result<(), FrameError> {
        match (header.flags & flags::SEALED != 0, self.opener.is_some()) {
            (true, false) => Err(FrameError::Seal("was not agreed on")),
            (false, true) => Err(FrameError::Seal("is missing")),
            _ => Ok(()),
        }
    }

    /// Checks the seal behind `body`, if there must be one. All of the frame has been received.
    fn check_seal(&mut self, body: Range<usize>) -> Result<(), FrameError> {
        let Some(opener) = &mut self.opener else { return Ok(()) };
        let header = &self.buffer[body.start - HEADER_LEN..body.start];
        let seal = self.buffer[body.end..].first_chunk::<SEAL_LEN>().expect("the frame is complete");
        match opener.open(header, &self.buffer[body], seal) {
            true => Ok(()),
            false => Err(FrameError::Seal("does not fit")),
        }
    }

    /// The body of the frame that [`Inbox::take`] returned last.
    pub fn body(&self, frame: &Received) -> &[u8] {
        &self.buffer[frame.body.clone()]
    }

    /// Receives once, into `target` what seems to be the body of the next frame, and returns that frame's header if
    /// it is `wanted` and its body as long as `target`, with the number of bytes of it that have come. Everything
    /// else goes the usual way, through this inbox.
    pub fn fill_around(
        &mut self,
        stream: &mut impl Read,
        target: &mut [u8],
        wanted: impl Fn(&Header) -> bool,
    ) -> io::Result<Around> {
        debug_assert!(!self.is_mid_frame() && !self.is_sealed(), "nothing may come between the header and the target");
        let mut head = [0; HEADER_LEN];
        let received = loop {
            match stream.read_vectored(&mut [IoSliceMut::new(&mut head), IoSliceMut::new(target)]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        if received == 0 {
            return Ok(Around::End);
        }
        if received >= HEADER_LEN
            && let Ok(header) = Header::parse(&head)
            && header.length as usize == target.len()
            && self.check_sealed(&header).is_ok()
            && wanted(&header)
        {
            return Ok(Around::Body { header, received: received - HEADER_LEN });
        }
        let (head, body) = (&head[..received.min(HEADER_LEN)], &target[..received.saturating_sub(HEADER_LEN)]);
        self.put(head);
        self.put(body);
        Ok(Around::Inbox)
    }

    /// Appends bytes that were received elsewhere.
    fn put(&mut self, bytes: &[u8]) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() < self.end + bytes.len() {
            self.buffer.resize((self.end + bytes.len()).max(SMALL), 0);
        }
        self.buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
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
            *self = Inbox { opener: self.opener.take(), ..Inbox::new(self.max_body) };
        }
    }

    /// Receives once, blocking until something is there. `Ok(0)` is the end of the stream.
    ///
    /// Of what comes behind a large frame nothing is taken with it, if that can be known: the next one would begin
    /// in the middle of the buffer and have to be moved.
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        let most = match self.pending {
            Some(_) if self.wanted() > SMALL => self.start + self.wanted() - self.end,
            _ => self.last.max(SMALL).min(self.buffer.len() - self.end),
        };
        loop {
            match stream.read(&mut self.buffer[self.end..self.end + most]) {
                Ok(received) => {
                    self.end += received;
                    self.filled = received == most;
                    return Ok(received);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The buffer length that the pending frame needs, or the next burst.
    fn wanted(&self) -> usize {
        match self.pending {
            Some(header) => HEADER_LEN + header.length as usize + self.seal_len(),
            None if self.filled => SMALL,
            None => FIRST,
        }
    }

    /// The length that the buffer grows to for it: whole powers of two up to the largest frame, so that a
    /// stream of growing frames grows it once or twice.
    fn roomy(&self) -> usize {
        let wanted = self.wanted();
        if wanted <= self.buffer.len() {
            return self.buffer.len();
        }
        let most = HEADER_LEN + self.max_body.max(SMALL) + self.seal_len();
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

/// How the frames of one direction are finished: with checksums, with seals, or as they are.
///
/// Frames are finished in the order in which they are sent.
#[derive(Debug, Default)]
pub struct Finish {
    /// Whether bodies carry a checksum.
    pub checksum: bool,
    /// What seals the frames, if both sides have a key.
    pub sealer: Option<Sealer>,
}

impl Finish {
    /// Writes the header of the frame begun at `at`, whose body is everything behind it, and its seal.
    pub fn frame(&mut self, out: &mut Vec<u8>, at: usize, mut header: Header) {
        let Some(sealer) = &mut self.sealer else { return finish_frame(out, at, header, self.checksum) };
        header.flags |= flags::SEALED;
        finish_frame(out, at, header, self.checksum);
        let seal = sealer.seal(&out[at..at + HEADER_LEN], &[&out[at + HEADER_LEN..]]);
        out.extend_from_slice(&seal);
    }

    /// The seal of a frame whose header and body lie apart, if there is one; the header says so from now on.
    pub fn seal(&mut self, header: &mut Header, body: &[&[u8]]) -> Option<[u8; SEAL_LEN]> {
        let sealer = self.sealer.as_mut()?;
        header.flags |= flags::SEALED;
        Some(sealer.seal(&header.emit(), body))
    }

    /// Appends a whole answer that says why there is none, in at most `most` bytes of a sentence.
    pub fn refusal(&mut self, out: &mut Vec<u8>, request: &Header, status: Status, message: &str, most: usize) {
        let at = begin_frame(out);
        let cut = message.floor_char_boundary(most.min(limits::MAX_MESSAGE));
        out.extend_from_slice(&message.as_bytes()[..cut]);
        let (kind, request_id, flags) = (request.kind, request.request_id, flags::ANSWER);
        let header = Header { kind, flags, request_id, status: status as u16, ..Header::default() };
        let checksum = std::mem::replace(&mut self.checksum, false);
        self.frame(out, at, header);
        self.checksum = checksum;
    }
}

/// Leaves room for a header at the end of `out`; the body is appended behind it.
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    at
}

/// Writes the header of the frame begun at `at`, whose body is everything behind it. For frames without seals.
pub fn finish_frame(out: &mut [u8], at: usize, header: Header, checksum: bool) {
    let (head, body) = out[at..].split_at_mut(HEADER_LEN);
    head.copy_from_slice(&header.for_body(body, checksum).emit());
}

/// Appends a whole answer that says why there is none. For a peer that has not said anything yet.
pub fn error_frame(out: &mut Vec<u8>, kind: u8, request_id: u64, status: Status, message: &str) {
    let request = Header { kind, request_id, ..Header::default() };
    Finish::default().refusal(out, &request, status, message, limits::MAX_MESSAGE);
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

        fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            let mut all = 0;
            let most = self.1;
            for buffer in buffers {
                let room = buffer.len().min(most - all);
                all += self.read(&mut buffer[..room])?;
            }
            Ok(all)
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
    fn a_wanted_body_goes_around_and_nothing_else_does() {
        let mut bytes = frame(1, &[1; 5]);
        bytes.extend(frame(2, &[2; 70_000]));
        bytes.extend(frame(3, &[3; 70_000]));
        let mut inbox = Inbox::new(limits::MAX_BODY);
        let mut stream = Trickle(&bytes, 60_000);
        let mut target = vec![0; 70_000];
        let wants = |id| move |header: &Header| header.request_id == id;
        let around = inbox.fill_around(&mut stream, &mut target, wants(2)).unwrap();
        assert!(matches!(around, Around::Inbox), "{around:?}");
        let got = inbox.take().unwrap().unwrap();
        assert_eq!((got.header.request_id, inbox.body(&got)), (1, &[1; 5][..]));
        // The second began in the inbox, so it ends there.
        let got = loop {
            match inbox.take().unwrap() {
                Some(got) => break got,
                None => assert_ne!(inbox.fill(&mut stream).unwrap(), 0),
            }
        };
        assert_eq!((got.header.request_id, inbox.body(&got)), (2, &[2; 70_000][..]));
        assert!(!inbox.is_mid_frame());
        let around = inbox.fill_around(&mut stream, &mut target, wants(3)).unwrap();
        let Around::Body { header, received } = around else { panic!("{around:?}") };
        assert_eq!(header.request_id, 3);
        assert!(received > 0 && target[..received].iter().all(|byte| *byte == 3));
        stream.read_exact(&mut target[received..]).unwrap();
        assert_eq!(target, [3; 70_000]);
        assert!(matches!(inbox.fill_around(&mut stream, &mut target, wants(4)), Ok(Around::End)));
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
