//! What a parent of processes waits for, in one channel: its children, the signals it gets itself, and
//! what it is asked over the control socket.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use signal_hook::iterator::{Handle, Signals};

use super::control::Call;

/// Something happened. Process ids are those of children, which are not used again before the child
/// was reaped, and an exit is the last event of a child.
#[derive(Debug)]
pub(crate) enum Event {
    /// A child has printed its first line.
    Ready {
        /// Its process id.
        pid: u32,
        /// The line.
        line: String,
    },
    /// A child is gone, and reaped.
    Exited {
        /// What its process id was.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// The process to which it has handed over, if it said so.
        successor: Option<u32>,
    },
    /// Somebody asks for something over the control socket.
    Called(Call),
    /// This process was asked to stop.
    Asked {
        /// By which signal.
        signal: i32,
    },
}

/// The channel of events. Dropping it gives the signals up.
#[derive(Debug)]
pub(crate) struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    /// The first signal, 0 before. Relaxed: it says only that, and nothing else depends on it.
    asked: Arc<AtomicI32>,
    signals: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Events {
    /// Takes `signals` from now on, in a thread of its own.
    pub(crate) fn listen(signals: &[i32]) -> io::Result<Events> {
        let mut signals = Signals::new(signals)?;
        let (sender, receiver) = channel();
        let asked = Arc::new(AtomicI32::new(0));
        let handle = signals.handle();
        let forward = {
            let (sender, asked) = (sender.clone(), Arc::clone(&asked));
            move || {
                for signal in signals.forever() {
                    let _ = asked.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
                    // Nobody listens any more: then the process is ending anyway.
                    let _ = sender.send(Event::Asked { signal });
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(forward)?;
        Ok(Events { sender, receiver, asked, signals: handle, thread: Some(thread) })
    }

    /// The signal that asked this process to stop, if one did.
    pub(crate) fn asked(&self) -> Option<i32> {
        Some(self.asked.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// The next event.
    pub(crate) fn next(&self) -> Event {
        self.receiver.recv().expect("this struct holds a sender")
    }

    /// The next event, if it comes before `deadline`.
    pub(crate) fn next_before(&self, deadline: Instant) -> Option<Event> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.receiver.recv_timeout(left) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("this struct holds a sender"),
        }
    }

    /// A place for a thread to put events.
    pub(crate) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.signals.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
