//! Bodies of data requests, and the bodies of the answers that a client and a master parse.

use mcomp_snapshot::file::{Codec, EncodedChunk, MAX_CHUNK_BYTES};
use mcomp_wire::{
    AtomicAnswer, AtomicOp, Batch, Cas16Answer, Chunk, Kind, Malformed, Ranges, Request, Status, emit_answer_item,
    emit_item, limits,
};
use uuid::Uuid;

use crate::Seed;

/// A request: its kind in the first byte, then its body. One that is accepted has no other form, and neither
/// its answer nor the memory that it touches is larger than the protocol allows.
pub fn request(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let Ok(request) = Request::parse(*kind, body) else { return };
    assert_eq!(request.kind() as u8, *kind);
    let mut emitted = Vec::new();
    request.emit(&mut emitted);
    assert_eq!(emitted, body);
    check_sizes(&request);
    if let Request::Batch(batch) = request {
        assert!(batch.len() <= limits::MAX_BATCH && batch.requests().count() == batch.len());
        assert_eq!(batch.requests().any(|one| one.modifies()), request.modifies());
        batch.requests().for_each(|one| check_sizes(&one));
    }
}

fn check_sizes(request: &Request<'_>) {
    // The headers of a batch's items are beside the payload, and so are the sentences of those that are refused.
    let items = if let Request::Batch(batch) = request { batch.len() } else { 0 };
    let payload = request.answer_len() - 8 * items as u64;
    assert!(payload <= limits::MAX_PAYLOAD as u64, "{payload} bytes of answer");
    assert!(8 * items + limits::MAX_BATCH_SENTENCES + limits::MAX_MESSAGE <= limits::MAX_OVERHEAD);
    assert!(request.touched_len() <= limits::MAX_SPAN, "{} bytes touched", request.touched_len());
    match request {
        Request::Write { data, .. } | Request::Compare { data, .. } => assert!(data.len() <= limits::MAX_PAYLOAD),
        Request::ReadV(ranges) => check_ranges(ranges),
        Request::WriteV(ranges, data) => {
            check_ranges(ranges);
            assert_eq!(ranges.total(), data.len());
        }
        _ => {}
    }
}

fn check_ranges(ranges: &Ranges<'_>) {
    assert!(ranges.iter().len() <= limits::MAX_RANGES && ranges.total() <= limits::MAX_PAYLOAD);
    assert_eq!(ranges.iter().map(|(_, len)| len).sum::<u64>(), ranges.total() as u64);
}

/// The seeds of [`request`].
pub fn request_seeds() -> Vec<Seed> {
    let mut list = Vec::new();
    Ranges::emit(&[(0, 3), (4095, 2), (1 << 40, 0)], &mut list);
    let ranges = Ranges::parse(&list).expect("a list of ranges").0;
    let mut items = Vec::new();
    let atomic = Request::Atomic { addr: 8, op: AtomicOp::CompareExchange, operand: 2, expected: 1 };
    for item in [Request::Read { addr: 1, len: 2 }, atomic, Request::WriteV(ranges, b"abcde")] {
        emit_item(&item, &mut items);
    }
    let mut largest = Vec::new();
    emit_item(&Request::Read { addr: 0, len: limits::MAX_PAYLOAD as u64 }, &mut largest);
    let requests = [
        ("read", Request::Read { addr: 4096, len: limits::MAX_PAYLOAD as u64 }),
        ("write", Request::Write { addr: 1, data: b"text" }),
        ("fill", Request::Fill { addr: 0, len: limits::MAX_SPAN, byte: 0xff }),
        ("copy", Request::Copy { from: 1, to: 2, len: 3 }),
        ("compare", Request::Compare { addr: 1, data: b"text" }),
        ("checksum", Request::Checksum { addr: 0, len: 4096 }),
        ("atomic", atomic),
        ("cas16", Request::Cas16 { addr: 16, expected: 1, new: u128::MAX }),
        ("readv", Request::ReadV(ranges)),
        ("writev", Request::WriteV(ranges, b"abcde")),
        ("batch", Request::Batch(Batch::parse(&items).expect("a batch"))),
        ("batch_of_the_largest", Request::Batch(Batch::parse(&largest).expect("a batch"))),
    ];
    requests.map(|(name, request)| (name, with_kind(&request))).to_vec()
}

fn with_kind(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = vec![request.kind() as u8];
    request.emit(&mut bytes);
    bytes
}

/// The answer to a batch: its items tile it, and are no more than a batch has.
pub fn batch_answer(data: &[u8]) {
    let Ok(batch) = Batch::parse_answer(data) else { return };
    assert!(batch.len() <= limits::MAX_BATCH && batch.is_empty() == data.is_empty());
    let mut emitted = Vec::new();
    for item in batch.items() {
        emitted.extend_from_slice(&[item.kind, 0]);
        emitted.extend_from_slice(&item.status.to_le_bytes());
        emitted.extend_from_slice(&(item.body.len() as u32).to_le_bytes());
        emitted.extend_from_slice(item.body);
        let _ = Status::from_wire(item.status).word();
    }
    assert_eq!(emitted, data);
}

/// The seeds of [`batch_answer`].
pub fn batch_answer_seeds() -> Vec<Seed> {
    let mut answers = Vec::new();
    let mut answer = |kind, status, body: &[u8]| {
        emit_answer_item(kind, &mut answers, |out| {
            out.extend_from_slice(body);
            status
        });
    };
    answer(Kind::Read, Status::Ok, b"what was there");
    answer(Kind::Write, Status::Ok, b"");
    answer(Kind::Atomic, Status::Ok, &AtomicAnswer { previous: 7, applied: true }.emit());
    answer(Kind::Fill, Status::OutOfRange, b"address 9 is outside");
    vec![("answers", answers), ("none", Vec::new())]
}

/// The answers of atomics: each has one form.
pub fn atomic_answer(data: &[u8]) {
    if let Ok(answer) = AtomicAnswer::parse(data) {
        assert_eq!(answer.emit(), data);
    }
    if let Ok(answer) = Cas16Answer::parse(data) {
        assert_eq!(answer.emit(), data);
    }
}

/// The seeds of [`atomic_answer`].
pub fn atomic_answer_seeds() -> Vec<Seed> {
    vec![
        ("applied", AtomicAnswer { previous: 7, applied: true }.emit().to_vec()),
        ("lost", AtomicAnswer { previous: u64::MAX, applied: false }.emit().to_vec()),
        ("cas16_applied", Cas16Answer { previous: 7, applied: true }.emit().to_vec()),
        ("cas16_lost", Cas16Answer { previous: u128::MAX, applied: false }.emit().to_vec()),
    ]
}

/// A chunk on its way to the master: it has one form, and becomes a chunk of a file only with a shape that
/// one can have.
pub fn chunk(data: &[u8]) {
    let chunk = match Chunk::parse(data) {
        Ok(chunk) => chunk,
        Err(error) => return assert!(!matches!(error, Malformed::Trailing(_)), "the rest is what is stored"),
    };
    assert_eq!([&chunk.emit_head()[..], chunk.stored].concat(), data);
    assert!(chunk.stored.len() <= limits::MAX_PAYLOAD && chunk.length as usize <= limits::MAX_PAYLOAD);
    let Some(codec) = Codec::from_number(chunk.codec) else { return };
    let stored = chunk.stored.to_vec();
    let Ok(encoded) = EncodedChunk::from_parts(chunk.addr, chunk.length, codec, chunk.crc, stored) else { return };
    check_chunk(encoded.address(), encoded.length(), codec, encoded.stored().len() as u32);
}

/// The shape of a chunk, as `docs/snapshot.md` has it.
pub(crate) fn check_chunk(address: u64, length: u32, codec: Codec, stored: u32) {
    assert!(address.is_multiple_of(4096) && length.is_multiple_of(4096), "{length} bytes at {address}");
    assert!((4096..=MAX_CHUNK_BYTES).contains(&length), "{length} bytes");
    let stored_by_codec = match codec {
        Codec::Raw => length..=length,
        Codec::Zstd => 1..=length - 1,
        Codec::Zero => 0..=0,
    };
    assert!(stored_by_codec.contains(&stored), "{stored} bytes stored as {codec:?} for {length}");
}

/// The seeds of [`chunk`].
pub fn chunk_seeds() -> Vec<Seed> {
    let noise: Vec<u8> = (0..4096u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let seed = |addr, memory: &[u8]| {
        let encoded = EncodedChunk::encode(Uuid::from_u128(7), addr, memory, 1).expect("a chunk");
        let (length, crc, codec) = (encoded.length(), encoded.crc(), encoded.codec() as u8);
        let chunk = Chunk { addr, length, crc, codec, stored: encoded.stored() };
        [&chunk.emit_head()[..], chunk.stored].concat()
    };
    vec![("zero", seed(0, &[0; 8192])), ("zstd", seed(4096, &[5; 4096])), ("raw", seed(1 << 30, &noise))]
}
