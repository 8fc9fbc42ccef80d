//! Sessions: what makes a modifying request that is sent twice happen once.
//!
//! A client names its session in the handshake and numbers its requests upward. The connection that
//! serves a session remembers the answers of its last modifying requests; when the connection
//! breaks, the memory goes into the table and waits for the client to come back with the same name.
//! A request whose number is not above the highest one done is answered from memory.
//!
//! It leaves out: sessions that outlive the server (a new incarnation knows none, and says so in the
//! handshake), and clients that name no session.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use mcomp_net::Stream;
use mcomp_wire::{Status, limits};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

/// Broken sessions that are kept at most; then the oldest goes.
const MOST_WAITING: usize = 1024;

/// How long a client that comes back waits for the thread of its broken connection to let go.
const HANDOVER: Duration = Duration::from_secs(2);

/// The answers of one session.
///
/// Invariants: ids in `kept` rise; at most [`limits::MAX_UNANSWERED`] entries; none is above `highest`;
/// the large bodies among them hold `large_bytes`, at most [`limits::MAX_REMEMBERED_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Session {
    highest: u64,
    kept: VecDeque<(u64, Answer)>,
    large_bytes: usize,
}

/// An answer as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) body: Body,
}

/// The body of a remembered answer: small ones without an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Small([u8; SMALL], u8),
    Large(Box<[u8]>),
    /// Too large to keep.
    Dropped,
}

/// The largest answer of a single modifying request: a 16-byte compare-and-swap.
const SMALL: usize = 24;

impl Body {
    fn new(bytes: &[u8]) -> Body {
        match bytes.len() {
            0..=SMALL => {
                let mut small = [0; SMALL];
                small[..bytes.len()].copy_from_slice(bytes);
                Body::Small(small, bytes.len() as u8)
            }
            len if len <= limits::MAX_REMEMBERED_BYTES => Body::Large(bytes.into()),
            _ => Body::Dropped,
        }
    }

    fn large_len(&self) -> usize {
        match self {
            Body::Large(bytes) => bytes.len(),
            Body::Small(..) | Body::Dropped => 0,
        }
    }

    /// The bytes, unless they were too large to keep.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Body::Small(bytes, len) => Some(&bytes[..usize::from(*len)]),
            Body::Large(bytes) => Some(bytes),
            Body::Dropped => None,
        }
    }
}

impl Session {
    /// Whether request `id` was done before. Then `Some` holds its answer, if it is still known.
    pub(crate) fn done(&self, id: u64) -> Option<Option<&Answer>> {
        if id > self.highest {
            return None;
        }
        let found = self.kept.binary_search_by_key(&id, |(kept, _)| *kept);
        Some(found.ok().map(|index| &self.kept[index].1))
    }

    /// Remembers the answer of a modifying request that was just done.
    pub(crate) fn remember(&mut self, id: u64, status: Status, body: &[u8]) {
        debug_assert!(id > self.highest, "request {id} after {}", self.highest);
        if self.kept.len() == limits::MAX_UNANSWERED
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            self.large_bytes -= oldest.body.large_len();
        }
        let body = Body::new(body);
        if body.large_len() > 0 {
            self.make_room(body.large_len());
        }
        self.large_bytes += body.large_len();
        self.highest = id;
        self.kept.push_back((id, Answer { status, body }));
    }

    /// Drops the oldest large bodies until `bytes` more fit.
    #[cold]
    fn make_room(&mut self, bytes: usize) {
        for (_, answer) in &mut self.kept {
            if self.large_bytes + bytes <= limits::MAX_REMEMBERED_BYTES {
                return;
            }
            let len = answer.body.large_len();
            if len > 0 {
                answer.body = Body::Dropped;
                self.large_bytes -= len;
            }
        }
    }
}

/// The sessions of a server.
#[derive(Debug)]
pub(crate) struct Sessions {
    keep: Duration,
    /// Guards all slots. Taken alone; no IO under it but a `shutdown`, which does not block.
    table: Mutex<HashMap<Uuid, Slot>>,
    /// Signalled when a slot stops being served.
    returned: Condvar,
}

#[derive(Debug)]
enum Slot {
    /// Served by a connection, which can be shut down when its client comes back on another one.
    Served(Stream),
    /// Waiting for its client.
    Waiting { session: Session, since: Instant },
}

impl Sessions {
    pub(crate) fn new(keep: Duration) -> Sessions {
        Sessions { keep, table: Mutex::default(), returned: Condvar::new() }
    }

    /// Takes session `id` for the connection `stream`; `true` if it was known. `None` when another
    /// connection does not let go of it.
    pub(crate) fn take(&self, id: Uuid, stream: Stream) -> Option<(Session, bool)> {
        let deadline = Instant::now() + HANDOVER;
        let mut table = self.table.lock();
        self.sweep(&mut table);
        while let Some(Slot::Served(old)) = table.get(&id) {
            old.shutdown();
            if self.returned.wait_until(&mut table, deadline).timed_out() {
                return None;
            }
        }
        match table.insert(id, Slot::Served(stream)) {
            Some(Slot::Waiting { session, .. }) => Some((session, true)),
            _ => Some((Session::default(), false)),
        }
    }

    /// Gives a session back. `finished`: its client left on purpose.
    pub(crate) fn give_back(&self, id: Uuid, session: Session, finished: bool) {
        let mut table = self.table.lock();
        if finished {
            table.remove(&id);
        } else {
            table.insert(id, Slot::Waiting { session, since: Instant::now() });
        }
        drop(table);
        self.returned.notify_all();
    }

    /// Forgets what is too old, and the oldest of what is too many.
    fn sweep(&self, table: &mut HashMap<Uuid, Slot>) {
        let now = Instant::now();
        let keep = self.keep;
        table.retain(|_, slot| !matches!(slot, Slot::Waiting { since, .. } if now - *since > keep));
        let waiting = |(id, slot): (&Uuid, &Slot)| match slot {
            Slot::Waiting { since, .. } => Some((*since, *id)),
            Slot::Served(_) => None,
        };
        let count = table.iter().filter_map(waiting).count();
        if count >= MOST_WAITING
            && let Some((_, oldest)) = table.iter().filter_map(waiting).min()
        {
            table.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn stream() -> Stream {
        UnixStream::pair().unwrap().0.into()
    }

    #[test]
    fn a_second_try_finds_the_first_answer() {
        let mut session = Session::default();
        session.remember(3, Status::Ok, b"first");
        session.remember(9, Status::Torn, &[0; 100]);
        session.remember(10, Status::Ok, &[0; limits::MAX_REMEMBERED_BYTES + 1]);
        assert_eq!(session.done(11), None);
        assert_eq!(session.done(3).unwrap().unwrap().body.bytes(), Some(&b"first"[..]));
        assert_eq!(session.done(9).unwrap().unwrap().status, Status::Torn);
        assert_eq!(session.done(10).unwrap().unwrap().body.bytes(), None);
        assert_eq!(session.done(4), Some(None), "never seen, yet below the highest: not to be done now");
    }

    #[test]
    fn a_full_window_is_remembered() {
        let mut session = Session::default();
        let window = limits::MAX_UNANSWERED as u64;
        (1..=window + 1).for_each(|id| session.remember(id, Status::Ok, &id.to_le_bytes()));
        assert_eq!(session.done(1), Some(None));
        assert!((2..=window + 1).all(|id| session.done(id).unwrap().is_some()));
    }

    #[test]
    fn large_answers_share_one_bound() {
        let mut session = Session::default();
        let half = vec![7; limits::MAX_REMEMBERED_BYTES / 2];
        (1..=3).for_each(|id| session.remember(id, Status::Ok, &half));
        let bytes = |id| session.done(id).unwrap().unwrap().body.bytes();
        assert_eq!((bytes(1), bytes(2), bytes(3)), (None, Some(&half[..]), Some(&half[..])));
        (4..=200).for_each(|id| session.remember(id, Status::Ok, b""));
        assert_eq!(session.large_bytes, 0, "they left with the window");
    }

    #[test]
    fn a_broken_session_waits_for_its_client() {
        let sessions = Sessions::new(Duration::from_secs(60));
        let id = Uuid::from_u128(1);
        let (mut session, resumed) = sessions.take(id, stream()).unwrap();
        assert!(!resumed);
        session.remember(1, Status::Ok, b"x");
        sessions.give_back(id, session, false);
        let (session, resumed) = sessions.take(id, stream()).unwrap();
        assert!(resumed && session.done(1).is_some());
        sessions.give_back(id, session, true);
        assert!(!sessions.take(id, stream()).unwrap().1);
    }

    #[test]
    fn an_old_session_is_forgotten() {
        let sessions = Sessions::new(Duration::ZERO);
        let (mut session, _) = sessions.take(Uuid::from_u128(1), stream()).unwrap();
        session.remember(1, Status::Ok, b"x");
        sessions.give_back(Uuid::from_u128(1), session, false);
        assert!(!sessions.take(Uuid::from_u128(1), stream()).unwrap().1);
    }
}
