//! The snapshot process: listens, serves each connection on a thread, and, as the master, keeps the
//! schedule.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::{Endpoint, Listener, Phase, Stream, Watchdog, WatchdogLimits, error_frame, is_open_to_others};
use mcomp_wire::{Kind, Status};
use parking_lot::{Condvar, Mutex};

use crate::SnapshotError;
use crate::cut::keyring;
use crate::gather::snapshot_address;
use crate::master::{Master, Wanted};
use crate::service::{MOST_COPIES, Peer, Service};
use crate::tally::{Places, Tally};

/// Connections at a time. The master and a few operators are all that come.
pub const MOST_CONNECTIONS: usize = 64;

/// How long a stopping process waits for its connection threads.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A running snapshot process. Dropping it stops it.
#[derive(Debug)]
pub struct Snapshotter {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    service: Arc<Service>,
    watchdog: Watchdog,
    stopping: AtomicBool,
    /// Open connections. Taken alone, for a count.
    open: Mutex<usize>,
    /// Signalled when a connection closes, and when the process stops.
    changed: Condvar,
}

impl Snapshotter {
    /// Listens on the snapshot address of server `id`, and serves from threads of its own.
    pub fn start(config: &Config, id: u32) -> Result<Snapshotter, SnapshotError> {
        let address = snapshot_address(config, id)?;
        let keyring = keyring(config)?;
        if keyring.is_none() && is_open_to_others(&address) {
            return Err(SnapshotError::exposed(id, &address));
        }
        let listener = Listener::bind(&Endpoint::Tcp(address.clone()))
            .map(Arc::new)
            .map_err(|source| SnapshotError::Listen { id, address, source })?;
        let limits = config.limits();
        let watchdog_limits = WatchdogLimits {
            handshake: limits.handshake_timeout,
            frame: limits.frame_timeout,
            // The master takes chunks as fast as its disk; the snapshot's own limit ends that wait.
            write: config.snapshot().time_limit,
        };
        let master = (config.snapshot().master == id).then(|| Master::new(config.clone()));
        let shared = Arc::new(Shared {
            service: Arc::new(Service {
                config: config.clone(),
                id,
                keyring,
                tally: Tally::default(),
                copies: Places::new(MOST_COPIES),
                master,
            }),
            watchdog: Watchdog::start(watchdog_limits).map_err(SnapshotError::Thread)?,
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut snapshotter = Snapshotter { shared, listener, threads: Vec::new() };
        snapshotter.spawn_threads(config).map_err(SnapshotError::Thread)?;
        Ok(snapshotter)
    }

    /// Whether this one consolidates.
    pub fn is_master(&self) -> bool {
        self.shared.service.master.is_some()
    }

    /// Stops: a snapshot in progress is given up, open connections are closed. False when a thread
    /// did not end in time.
    pub fn stop(&mut self) -> bool {
        if self.shared.stopping.swap(true, Ordering::Relaxed) {
            return true;
        }
        if let Some(master) = &self.shared.service.master {
            master.stop();
        }
        self.listener.close();
        self.shared.watchdog.shutdown_all();
        let drained = self.shared.wait_until_none();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
        drained
    }

    fn spawn_threads(&mut self, config: &Config) -> std::io::Result<()> {
        let (listener, shared) = (Arc::clone(&self.listener), Arc::clone(&self.shared));
        self.threads.push(spawn("accept", move || shared.accept(&listener))?);
        if let Some(every) = config.snapshot().every.filter(|_| self.is_master()) {
            let shared = Arc::clone(&self.shared);
            self.threads.push(spawn("schedule", move || shared.keep_schedule(every))?);
        }
        Ok(())
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        // Relaxed: a hint to leave a loop whose socket was closed.
        self.stopping.load(Ordering::Relaxed)
    }

    fn accept(self: &Arc<Shared>, listener: &Listener) {
        // A refused peer's socket lives until the next one comes: closed at once, with its handshake
        // unread, it would take the refusal back.
        let mut _lingering = None;
        while !self.is_stopping() {
            match listener.accept() {
                Ok(stream) => _lingering = self.admit(stream),
                Err(error) if self.is_stopping() => tracing::debug!(%error, "listener closed"),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    // Out of descriptors, most likely: it would fail again at once.
                    self.pause(Duration::from_millis(50));
                }
            }
        }
    }

    /// Serves the connection on a thread of its own, or refuses it and gives its socket back.
    fn admit(self: &Arc<Shared>, mut stream: Stream) -> Option<Stream> {
        let mut open = self.open.lock();
        let is_full = *open >= MOST_CONNECTIONS;
        if !is_full {
            *open += 1;
        }
        drop(open);
        if is_full {
            let mut out = Vec::new();
            error_frame(&mut out, Kind::Hello as u8, 0, Status::Busy, "all connections are taken: try again");
            // Nothing is owed to a peer that is gone.
            let _ = stream.write_all(&out);
            stream.finish_writing();
            return Some(stream);
        }
        let counted = Counted(Arc::clone(self));
        let watch = self.watchdog.watch(&stream, Phase::Handshake);
        // A stop shuts down every connection that is watched by then; this one may have come a moment later.
        if self.is_stopping() {
            return None;
        }
        let peer = Peer::new(stream, watch, Arc::clone(&self.service));
        let spawned = spawn("peer", move || {
            let _counted = counted;
            peer.run();
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "a connection could not be served");
        }
        None
    }

    /// Makes a snapshot every `every`, counted from the beginning of the last one.
    fn keep_schedule(&self, every: Duration) {
        let mut next = Instant::now() + every;
        loop {
            let mut open = self.open.lock();
            while !self.is_stopping() && Instant::now() < next {
                self.changed.wait_until(&mut open, next);
            }
            drop(open);
            let (false, Some(master)) = (self.is_stopping(), &self.service.master) else { return };
            next = Instant::now() + every;
            // It is counted and logged there; the schedule goes on.
            let _ = master.create(Wanted::Scheduled, &self.service.tally, &mut |_| {});
        }
    }

    fn pause(&self, duration: Duration) {
        let mut open = self.open.lock();
        if !self.is_stopping() {
            self.changed.wait_for(&mut open, duration);
        }
    }

    fn wait_until_none(&self) -> bool {
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut open = self.open.lock();
        self.changed.notify_all();
        while *open > 0 {
            if self.changed.wait_until(&mut open, deadline).timed_out() {
                return *open == 0;
            }
        }
        true
    }
}

/// A connection's place in the count.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.open.lock() -= 1;
        self.0.changed.notify_all();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(512 << 10).spawn(work)
}
