//! Every maximum of the protocol, in one place.
//!
//! A server checks each of these before it allocates, loops or copies; a client stays below them by
//! splitting. They are part of the protocol: `docs/protocol.md` lists them.

/// Payload bytes of one data request or answer.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Bytes that a body may have beside its payload: addresses, counts, batch item headers.
pub const MAX_OVERHEAD: usize = 128 << 10;

/// Bytes of one frame's body.
pub const MAX_BODY: usize = MAX_PAYLOAD + MAX_OVERHEAD;

/// Bytes of a body before the handshake is done.
pub const MAX_HELLO: usize = 512;

/// Bytes of a control body (postcard) after the handshake.
pub const MAX_CONTROL: usize = 64 << 10;

/// Ranges in one vectored request.
pub const MAX_RANGES: usize = 4096;

/// Items in one batch.
pub const MAX_BATCH: usize = 4096;

/// Bytes that one fill, copy or checksum may touch, and all of one batch together; a client splits longer
/// ones. So it bounds how long one frame keeps a server busy: reads and writes have [`MAX_PAYLOAD`].
pub const MAX_SPAN: u64 = 64 << 20;

/// Bytes of all sentences in the answer of one batch: items refused beyond it have an empty body.
pub const MAX_BATCH_SENTENCES: usize = 32 << 10;

/// Bytes of the sentence in an error answer.
pub const MAX_MESSAGE: usize = 512;

/// Unanswered modifying requests a client may have on one connection: the server remembers the
/// answers of this many, so that a retry after a broken connection finds its first answer.
pub const MAX_UNANSWERED: usize = 128;

/// Bytes of large answers (above 24 bytes each) that the server remembers for one session; the oldest
/// go first. A retry whose answer is gone learns `ResultLost`.
pub const MAX_REMEMBERED_BYTES: usize = 64 << 10;

/// Bytes of a cluster name.
pub const MAX_CLUSTER_NAME: usize = 40;

/// Servers in one cluster.
pub const MAX_SERVERS: u32 = 256;
/// Copies of a block.
pub const MAX_REPLICAS: u32 = 5;

/// Bytes of the name of an allocation, a lock or a barrier.
pub const MAX_NAME: usize = 128;

/// Bytes of the address that a server is moved to: the longest name of a host, and a port.
pub const MAX_ADDRESS: usize = 253 + 6;

/// Notes of an allocation.
pub const MAX_NOTES: usize = 16;

/// Bytes of one note, its key and its value together.
pub const MAX_NOTE: usize = 256;

/// Sessions of the metadata at a time.
pub const MAX_SESSIONS: usize = 1 << 16;

/// How long a session may live without a sign of life, in milliseconds: the least and the most.
pub const SESSION_TTL_MS: std::ops::RangeInclusive<u64> = 500..=3_600_000;

/// How long a lease may be, in milliseconds: the least and the most.
pub const LEASE_MS: std::ops::RangeInclusive<u64> = 1..=30 * 86_400_000;

/// Leases at a time.
pub const MAX_LEASES: usize = 1 << 20;

/// Allocations at a time.
pub const MAX_REGIONS: usize = 1 << 24;

/// Locks, semaphores and barriers at a time.
pub const MAX_LOCKS: usize = 1 << 16;

/// Who waits for one lock, or holds one semaphore, or comes to one barrier.
pub const MAX_PARTIES: u32 = 4096;

/// How long a command may wait for a lock or a barrier, in milliseconds.
pub const MAX_WAIT_MS: u64 = 86_400_000;

/// Bytes of one part of a message from server to server.
pub const MAX_PEER_PART: usize = MAX_PAYLOAD;

/// Bytes of one message from server to server: the whole metadata at most.
pub const MAX_PEER_MESSAGE: usize = 1 << 30;

/// As much of a sentence as [`MAX_MESSAGE`] allows.
pub fn cut_message(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE)]
}

/// The sentence of an answer that says no. A peer that talks on is cut short. What is no text shows as U+FFFD, and
/// so do control characters, with which it could drive the terminal that shows it.
pub fn sentence(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_MESSAGE)]);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

const _: () = assert!(MAX_RANGES * 16 + 8 <= MAX_OVERHEAD);
const _: () = assert!(MAX_BATCH * 32 <= MAX_OVERHEAD);
// The items' own headers, of eight bytes each, are no payload in the answer of a batch; see `Batch::parse`.
const _: () = assert!(MAX_BATCH * 8 + MAX_BATCH_SENTENCES + MAX_MESSAGE <= MAX_OVERHEAD);
const _: () = assert!(MAX_BODY <= u32::MAX as usize);
