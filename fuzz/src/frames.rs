//! Frame headers, and frames out of a stream that comes in pieces.

use std::io::{self, IoSliceMut, Read};

use mcomp_net::{Around, Inbox, begin_frame, error_frame, finish_frame};
use mcomp_wire::{FrameError, HEADER_LEN, Header, Kind, Request, Status, body_checksum, flags, limits};

use crate::Seed;

/// A header, as it is and with its checksum mended: one that is accepted has no other form.
pub fn header(data: &[u8]) {
    let Some((bytes, body)) = data.split_first_chunk::<HEADER_LEN>() else { return };
    check_header(bytes, body);
    let mut sealed = *bytes;
    seal(&mut sealed);
    check_header(&sealed, body);
}

fn check_header(bytes: &[u8; HEADER_LEN], body: &[u8]) {
    match Header::parse(bytes) {
        Ok(header) => {
            assert_eq!(header.emit(), *bytes);
            assert!(header.length as usize <= limits::MAX_BODY, "{header}");
            assert_eq!(header.check_length(0).is_ok(), header.length == 0);
            let _ = (header.check_request(false), header.check_request(true), header.check_body(body));
            let mended = header.for_body(body, true);
            assert_eq!(mended.check_body(body), Ok(()));
            assert_eq!(Header::parse(&mended.emit()), Ok(mended));
        }
        Err(error) => assert_ne!(error.status(), Status::Ok, "{error}"),
    }
}

/// The seeds of [`header`].
pub fn header_seeds() -> Vec<Seed> {
    let request = Header { kind: Kind::Write as u8, request_id: 7, config_epoch: 3, ..Header::default() };
    let answer = Header { flags: flags::ANSWER | flags::MORE, status: 6, cut_epoch: 9, ..request };
    let longest = Header { length: limits::MAX_BODY as u32, ..request };
    let with_body = |header: Header, body: &[u8]| [&header.for_body(body, true).emit()[..], body].concat();
    vec![
        ("request", with_body(request, b"body")),
        ("answer", with_body(answer, b"")),
        ("longest", longest.emit().to_vec()),
        ("too_long", Header { length: limits::MAX_BODY as u32 + 1, ..request }.emit().to_vec()),
    ]
}

/// A stream in pieces. However it is cut, an [`Inbox`] hands out the frames that a plain walk over the whole
/// stream finds, ends with the same error, and holds no more than it said before it received.
///
/// The first eight bytes are the sizes of the pieces, the ninth says how they are received.
pub fn inbox(data: &[u8]) {
    let Some((sizes, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((way, stream)) = rest.split_first() else { return };
    let way = Way(*way);
    let mut stream = stream.to_vec();
    if way.is_mended() {
        mend(&mut stream);
    }
    let expected = walk(&stream, way.max_body());
    let mut pieces = Pieces { rest: &stream, sizes: sizes.iter().cycle() };
    let found = if way.goes_around() {
        receive_around(&mut pieces, way.max_body(), way.target_len())
    } else {
        receive(&mut pieces, way.max_body())
    };
    assert_eq!(found, expected);
}

/// How a stream is received.
#[derive(Clone, Copy)]
struct Way(u8);

impl Way {
    /// Checksums are mended first.
    fn is_mended(self) -> bool {
        self.0 & 1 != 0
    }

    /// The most that a body may have: before the handshake, and after it.
    fn max_body(self) -> usize {
        if self.0 & 2 != 0 { limits::MAX_HELLO } else { limits::MAX_BODY }
    }

    /// Bodies of one length go to a target of the caller, as a client receives the answers to its reads.
    fn goes_around(self) -> bool {
        self.0 & 4 != 0
    }

    fn target_len(self) -> usize {
        usize::from(self.0 >> 3) * 8
    }
}

/// What a stream holds: its frames, and the error that ends it early.
type Frames = (Vec<(Header, Vec<u8>)>, Option<FrameError>);

/// The frames of a stream, by the description of the format.
fn walk(stream: &[u8], max_body: usize) -> Frames {
    let (mut frames, mut rest) = (Vec::new(), stream);
    while let Some((head, after)) = rest.split_first_chunk::<HEADER_LEN>() {
        let parsed = Header::parse(head).and_then(|header| header.check_length(max_body).map(|()| header));
        let header = match parsed {
            Ok(header) => header,
            Err(error) => return (frames, Some(error)),
        };
        if header.flags & flags::SEALED != 0 {
            return (frames, Some(FrameError::Seal("was not agreed on")));
        }
        let Some((body, after)) = after.split_at_checked(header.length as usize) else { break };
        if let Err(error) = header.check_body(body) {
            return (frames, Some(error));
        }
        frames.push((header, body.to_vec()));
        rest = after;
    }
    (frames, None)
}

fn receive(pieces: &mut Pieces<'_>, max_body: usize) -> Frames {
    let (mut inbox, mut frames) = (Inbox::new(max_body), Vec::new());
    loop {
        match inbox.take() {
            Ok(Some(frame)) => frames.push((frame.header, inbox.body(&frame).to_vec())),
            Ok(None) if fill(&mut inbox, pieces, max_body) == 0 => return (frames, None),
            Ok(None) => {}
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// As [`receive`], the way a client does: what begins with a frame whose body fits the target goes there.
fn receive_around(pieces: &mut Pieces<'_>, max_body: usize, target_len: usize) -> Frames {
    let (mut inbox, mut frames) = (Inbox::new(max_body), Vec::new());
    let mut target = vec![0; target_len];
    loop {
        match inbox.take() {
            Ok(Some(frame)) => {
                frames.push((frame.header, inbox.body(&frame).to_vec()));
                continue;
            }
            Ok(None) => {}
            Err(error) => return (frames, Some(error)),
        }
        if inbox.is_mid_frame() {
            if fill(&mut inbox, pieces, max_body) == 0 {
                return (frames, None);
            }
            continue;
        }
        let around = inbox.fill_around(pieces, &mut target, |header| header.request_id.is_multiple_of(2));
        match around.expect("pieces come without errors") {
            Around::End => return (frames, None),
            Around::Inbox => {}
            Around::Body { header, received } => {
                if pieces.read_exact(&mut target[received..]).is_err() {
                    return (frames, None);
                }
                if let Err(error) = header.check_body(&target) {
                    return (frames, Some(error));
                }
                frames.push((header, target.clone()));
            }
        }
    }
}

/// Receives once, and checks that the buffer grew as it was said to, within the limit.
fn fill(inbox: &mut Inbox, pieces: &mut Pieces<'_>, max_body: usize) -> usize {
    let announced = inbox.grown() + inbox.growth();
    let received = inbox.fill(pieces).expect("pieces come without errors");
    assert_eq!(inbox.grown(), announced);
    assert!(announced <= HEADER_LEN + max_body, "{announced} bytes for bodies of {max_body}");
    received
}

/// Gives its bytes out in pieces of given sizes: 1 to 2^15 bytes by the low bits of each.
struct Pieces<'a> {
    rest: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Pieces<'_> {
    fn next_size(&mut self) -> usize {
        let size = *self.sizes.next().expect("a cycle does not end");
        if size < 0x80 { 1 + usize::from(size) } else { 1 << (size & 15) }
    }

    fn give(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.rest.len());
        let (now, rest) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.rest = rest;
        count
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.next_size().min(buffer.len());
        Ok(self.give(&mut buffer[..most]))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let (most, mut all) = (self.next_size(), 0);
        for buffer in buffers {
            let room = buffer.len().min(most - all);
            all += self.give(&mut buffer[..room]);
        }
        Ok(all)
    }
}

/// Mends the checksums of the frames of a stream, as far as its lengths lead.
pub(crate) fn mend(stream: &mut [u8]) {
    let mut rest = stream;
    while let Some((head, after)) = rest.split_first_chunk_mut::<HEADER_LEN>() {
        let length = u32::from_le_bytes([head[32], head[33], head[34], head[35]]) as usize;
        let body_len = length.min(after.len());
        let (body, after) = after.split_at_mut(body_len);
        if u16::from_le_bytes([head[6], head[7]]) & flags::CHECKSUM != 0 {
            head[40..44].copy_from_slice(&body_checksum(body).to_le_bytes());
        }
        seal(head);
        rest = after;
    }
}

fn seal(head: &mut [u8; HEADER_LEN]) {
    let crc = crc32fast::hash(&head[..HEADER_LEN - 4]);
    head[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
}

/// A frame with this header, its length and checksum made for `body`.
pub(crate) fn frame(header: Header, body: &[u8], checksum: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let at = begin_frame(&mut out);
    out.extend_from_slice(body);
    finish_frame(&mut out, at, header, checksum);
    out
}

/// The seeds of [`inbox`].
pub fn inbox_seeds() -> Vec<Seed> {
    let mut write = Vec::new();
    Request::Write { addr: 4096, data: b"sixteen bytes it" }.emit(&mut write);
    let header = |kind: Kind, id| Header { kind: kind as u8, request_id: id, config_epoch: 1, ..Header::default() };
    let answer = |kind, id| Header { flags: flags::ANSWER, ..header(kind, id) };
    let requests = [
        frame(header(Kind::Write, 1), &write, true),
        frame(header(Kind::Status, 2), b"", true),
        frame(header(Kind::Write, 3), &write, false),
        frame(header(Kind::Bye, 4), b"", false),
    ];
    let mut answers = frame(answer(Kind::Read, 2), &[7; 32], true);
    error_frame(&mut answers, Kind::Read as u8, 3, Status::OutOfRange, "address 9 is outside");
    answers.extend(frame(answer(Kind::Read, 4), &[8; 32], true));
    let lengths = (1u8..).zip([300, 2000, 0, 700, 3000]);
    let long: Vec<u8> =
        lengths.flat_map(|(id, len)| frame(header(Kind::Write, id.into()), &vec![id; len], true)).collect();
    let seed = |sizes: [u8; 8], way: u8, stream: &[u8]| [&sizes[..], &[way], stream].concat();
    let requests = requests.concat();
    vec![
        ("byte_by_byte", seed([0; 8], 1, &requests)),
        ("in_one", seed([0x8f; 8], 1, &requests)),
        ("unmended", seed([46, 0, 1, 0x86, 9, 63, 0, 5], 0, &requests)),
        ("before_the_handshake", seed([0x8a; 8], 3, &requests)),
        ("around_the_inbox", seed([0x8a, 60, 0x8a, 20, 0x8a, 70, 0x8a, 3], 0b0010_0101, &answers)),
        ("around_in_one", seed([79, 79, 67, 79, 79, 0x8f, 79, 79], 0b0010_0101, &answers)),
        ("long_bodies", seed([0x89, 0x8a, 0x88, 0x8b, 0x89, 90, 0x8c, 0x8a], 1, &long)),
        ("cut_short", seed([31; 8], 1, &requests[..requests.len() - 30])),
    ]
}
