//! Deadlines that cost the hot path one store.
//!
//! A connection thread that waits for its peer says so by storing one word: what it waits for, and
//! a number that changes with every wait. The watchdog's own thread looks at all words a few times
//! per deadline and keeps the time: a word that stands for longer than its limit belongs to a peer
//! that trickles or does not read, and its socket is shut down, which wakes the thread. So no clock
//! is read and no socket option is set for a request. The price: a deadline is met up to a quarter
//! late, and never more than a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::Stream;

/// What a connection thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// For the next request: for as long as the peer likes.
    Idle = 0,
    /// For the first frame.
    Handshake = 1,
    /// For the rest of a frame.
    Frame = 2,
    /// For the peer to take an answer.
    Write = 3,
    /// For the next request, where a peer may not be silent for ever.
    Request = 4,
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Idle, Phase::Handshake, Phase::Frame, Phase::Write, Phase::Request];

    fn of(word: u64) -> Phase {
        Phase::ALL[(word & PHASE_MASK) as usize % Phase::ALL.len()]
    }
}

/// Where the phase stands in a connection's word; the number of the wait stands above it.
const PHASE_BITS: u32 = 3;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;

/// How long each phase may last.
#[derive(Clone, Copy, Debug)]
pub struct WatchdogLimits {
    /// From accept to a complete handshake.
    pub handshake: Duration,
    /// From the first byte of a frame to its last.
    pub frame: Duration,
    /// For one write of answers.
    pub write: Duration,
    /// From an answer to the next request, for connections that enter [`Phase::Request`].
    pub request: Duration,
}

/// The watchdog of a process: one thread for all its connections.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    limits: WatchdogLimits,
    /// Guards the set of watched connections. Taken alone; no socket call under it but `shutdown`,
    /// which does not block.
    watched: Mutex<HashMap<u64, Watched>>,
    next: AtomicU64,
    /// Set once, under `watched`, when the thread has to end.
    stop: AtomicBool,
    wake: Condvar,
}

#[derive(Debug)]
struct Watched {
    word: Arc<Word>,
    stream: Stream,
    seen: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct Word {
    /// The number of the wait, and its phase. Relaxed: it orders nothing, and the watchdog looks again anyway.
    value: AtomicU64,
    /// Which phase was overdue, plus one; zero for none. Relaxed: read after `shutdown` woke us.
    overdue: AtomicU64,
}

/// A connection's handle: says what it waits for. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    word: Arc<Word>,
    count: u64,
    id: u64,
    shared: Arc<Shared>,
}

impl Watchdog {
    /// Starts the thread.
    pub fn start(limits: WatchdogLimits) -> std::io::Result<Watchdog> {
        let shared = Arc::new(Shared {
            limits,
            watched: Mutex::default(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            wake: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("watchdog".into()).stack_size(128 << 10).spawn(move || of_thread.run())?;
        Ok(Watchdog { shared, thread: Some(thread) })
    }

    /// Watches a connection, which begins in `phase`.
    pub fn watch(&self, stream: &Stream, phase: Phase) -> Watch {
        // Relaxed: the number only has to be unique.
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let word = Arc::new(Word::default());
        let watch = Watch { word: Arc::clone(&word), count: 0, id, shared: Arc::clone(&self.shared) };
        word.value.store(phase as u64, Ordering::Relaxed);
        let watched = Watched { word, stream: stream.handle(), seen: phase as u64, since: Instant::now() };
        self.shared.watched.lock().insert(id, watched);
        watch
    }

    /// Ends the reading of every watched connection: their threads wake up, and what they have to say is still sent.
    pub fn finish_reading_all(&self) {
        for watched in self.shared.watched.lock().values() {
            watched.stream.finish_reading();
        }
    }

    /// Shuts down every watched connection: their threads wake up and end.
    pub fn shutdown_all(&self) {
        for watched in self.shared.watched.lock().values() {
            watched.stream.shutdown();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let guard = self.shared.watched.lock();
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(guard);
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watch {
    /// Says what this thread waits for from now on.
    pub fn enter(&mut self, phase: Phase) {
        self.count += 1;
        self.word.value.store(self.count << PHASE_BITS | phase as u64, Ordering::Relaxed);
    }

    /// The phase that lasted too long, if the watchdog cut this connection off.
    pub fn overdue(&self) -> Option<Phase> {
        let overdue = self.word.overdue.load(Ordering::Relaxed);
        overdue.checked_sub(1).map(Phase::of)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.watched.lock().remove(&self.id);
    }
}

impl Shared {
    fn run(&self) {
        let mut watched = self.watched.lock();
        while !self.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            for one in watched.values_mut() {
                one.look(now, &self.limits);
            }
            self.wake.wait_for(&mut watched, self.limits.interval());
        }
    }
}

impl WatchdogLimits {
    fn interval(&self) -> Duration {
        let shortest = self.handshake.min(self.frame).min(self.write).min(self.request);
        (shortest / 8).clamp(Duration::from_millis(5), Duration::from_millis(500))
    }

    fn of(&self, word: u64) -> Option<Duration> {
        match Phase::of(word) {
            Phase::Idle => None,
            Phase::Handshake => Some(self.handshake),
            Phase::Frame => Some(self.frame),
            Phase::Write => Some(self.write),
            Phase::Request => Some(self.request),
        }
    }
}

impl Watched {
    fn look(&mut self, now: Instant, limits: &WatchdogLimits) {
        let word = self.word.value.load(Ordering::Relaxed);
        if word != self.seen {
            (self.seen, self.since) = (word, now);
            return;
        }
        if limits.of(word).is_some_and(|limit| now - self.since >= limit) {
            self.word.overdue.store((word & PHASE_MASK) + 1, Ordering::Relaxed);
            self.stream.shutdown();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_the_overdue_are_cut_off() {
        let limit = Duration::from_millis(40);
        let limits = WatchdogLimits { handshake: limit, frame: limit, write: limit, request: limit };
        let watchdog = Watchdog::start(limits).unwrap();
        let (_keep, idle) = UnixStream::pair().unwrap();
        let mut idle = Stream::from(idle);
        let idle_watch = watchdog.watch(&idle, Phase::Idle);
        for phase in Phase::ALL.into_iter().filter(|&phase| phase != Phase::Idle) {
            let (_keep, slow) = UnixStream::pair().unwrap();
            let mut slow = Stream::from(slow);
            let mut watch = watchdog.watch(&slow, Phase::Idle);
            watch.enter(phase);
            assert_eq!(slow.read(&mut [0]).unwrap(), 0, "cut off: the blocked read sees the end");
            assert_eq!(watch.overdue(), Some(phase));
        }
        assert_eq!(idle_watch.overdue(), None);
        watchdog.shutdown_all();
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    }
}
