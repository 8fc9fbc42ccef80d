//! The snapshot process: listens, serves each connection on a thread, and, as the master, keeps the
//! schedule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::tls::Tls;
use mcomp_net::{Endpoint, Listener, Places, Refusals, Watchdog, WatchdogLimits, is_open_to_others};
use parking_lot::{Condvar, Mutex};

use crate::SnapshotError;
use crate::accept::{MOST_CONNECTIONS, MOST_OF_ONE};
use crate::cut::keyring;
use crate::gather::snapshot_address;
use crate::master::{Master, Wanted};
use crate::service::{MOST_COPIES, Service};
use crate::tally::{self, Tally};

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
pub(crate) struct Shared {
    pub(crate) service: Arc<Service>,
    pub(crate) watchdog: Watchdog,
    /// For open connections.
    pub(crate) places: Arc<Places>,
    stopping: AtomicBool,
    /// Nothing but a place to wait. Taken alone.
    pause: Mutex<()>,
    /// Signalled when the process stops.
    resume: Condvar,
}

impl Snapshotter {
    /// Listens on the snapshot address of server `id`, and serves from threads of its own.
    pub fn start(config: &Config, id: u32) -> Result<Snapshotter, SnapshotError> {
        let address = snapshot_address(config, id)?;
        let keyring = keyring(config)?;
        if keyring.is_none() && is_open_to_others(&address) {
            return Err(SnapshotError::exposed(id, &address));
        }
        let tls = config.tls().map(|files| Tls::load_for(&address, &files.ca, &files.cert, &files.key)).transpose()?;
        let listener = Listener::bind_with(&Endpoint::Tcp(address.clone()), tls.as_ref());
        let listener = listener.map_err(|source| SnapshotError::Listen { id, address: address.clone(), source })?;
        // A name may stand for another address by now than a moment ago.
        if keyring.is_none() && listener.is_open_to_others() {
            return Err(SnapshotError::exposed(id, &address));
        }
        let listener = Arc::new(listener);
        let limits = config.limits();
        let watchdog_limits = WatchdogLimits {
            handshake: limits.handshake_timeout,
            frame: limits.frame_timeout,
            // The master takes chunks as fast as its disk; the snapshot's own limit ends that wait.
            write: config.snapshot().time_limit,
            // The master connects before the cut, and says what to copy when that is made.
            request: config.snapshot().time_limit,
        };
        let master = (config.snapshot().master == id).then(|| Master::new(config.clone()));
        let shared = Arc::new(Shared {
            service: Arc::new(Service {
                config: config.clone(),
                id,
                keyring,
                tally: Tally::default(),
                refusals: Refusals::default(),
                copies: tally::Places::new(MOST_COPIES),
                master,
            }),
            watchdog: Watchdog::start(watchdog_limits).map_err(SnapshotError::Thread)?,
            places: Places::new(MOST_CONNECTIONS, MOST_OF_ONE),
            stopping: AtomicBool::new(false),
            pause: Mutex::default(),
            resume: Condvar::new(),
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
        self.shared.wake();
        self.shared.watchdog.shutdown_all();
        let drained = self.shared.places.wait_until_none(STOP_PATIENCE);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
        drained
    }

    fn spawn_threads(&mut self, config: &Config) -> std::io::Result<()> {
        let (listener, shared) = (Arc::clone(&self.listener), Arc::clone(&self.shared));
        self.threads.push(spawn("accept", move || mcomp_net::accept(&listener, &*shared))?);
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
    pub(crate) fn is_stopping(&self) -> bool {
        // Relaxed: a hint to leave a loop whose socket was closed.
        self.stopping.load(Ordering::Relaxed)
    }

    /// Makes a snapshot every `every`, counted from the beginning of the last one.
    fn keep_schedule(&self, every: Duration) {
        let mut next = Instant::now() + every;
        loop {
            let mut guard = self.pause.lock();
            while !self.is_stopping() && Instant::now() < next {
                self.resume.wait_until(&mut guard, next);
            }
            drop(guard);
            let (false, Some(master)) = (self.is_stopping(), &self.service.master) else { return };
            next = Instant::now() + every;
            // It is counted and logged there; the schedule goes on.
            let _ = master.create(Wanted::Scheduled, &self.service.tally, &mut |_| {});
        }
    }

    /// Waits, unless the process stops.
    pub(crate) fn pause(&self, duration: Duration) {
        let mut guard = self.pause.lock();
        if !self.is_stopping() {
            self.resume.wait_for(&mut guard, duration);
        }
    }

    /// Ends every wait, because the process stops.
    fn wake(&self) {
        // Whoever holds the lock has looked at the flag, and waits by the time it can be taken.
        drop(self.pause.lock());
        self.resume.notify_all();
    }
}

pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(512 << 10).spawn(work)
}
