//! Ctrl-C while a command runs. While a line is typed it is a key like others, see [`super::editor`].
//!
//! Promises
//! - The first one stops what the command prints, so that a long dump gives the prompt back at once. A command that
//!   waits for servers goes on waiting, within its time: what it does is not left in doubt without need.
//! - The second one ends the REPL with exit code 2, and says that the outcome is not known.
//!
//! A write and a restore have last words of their own, and end the REPL with the first one.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::iterator::{Handle, Signals};

use crate::exit::{Exit, Failure};
use crate::kept::Kept;
use crate::output;

/// No command runs.
const IDLE: u8 = 0;
/// One runs.
const BUSY: u8 = 1;
/// One runs that was asked to stop.
const HUSHED: u8 = 2;

/// Catches Ctrl-C until it is dropped.
pub(super) struct Interrupts {
    state: Arc<AtomicU8>,
    handle: Handle,
}

impl Interrupts {
    /// A REPL that is ended leaves the session of `kept`.
    pub(super) fn catch(kept: &Arc<Kept>) -> Result<Interrupts, Failure> {
        let failed = |error: io::Error| Failure::io("listen for signals", &error);
        let mut signals = Signals::new([SIGINT]).map_err(failed)?;
        let (handle, state, kept) = (signals.handle(), Arc::new(AtomicU8::new(IDLE)), Arc::downgrade(kept));
        let seen = Arc::clone(&state);
        let listen = move || {
            for _ in signals.forever() {
                match seen.compare_exchange(BUSY, HUSHED, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => output::hush(true),
                    Err(HUSHED) => end(kept.upgrade()),
                    // Somebody else than the terminal sent it: there, Ctrl-C is a key now.
                    Err(_) => {}
                }
            }
        };
        std::thread::Builder::new().name("interrupts".into()).spawn(listen).map_err(failed)?;
        Ok(Interrupts { state, handle })
    }

    /// A command runs from now on, until the end of what is returned.
    pub(super) fn expect(&self) -> Busy<'_> {
        self.state.store(BUSY, Ordering::Relaxed);
        Busy(self)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// As long as a command runs.
pub(super) struct Busy<'a>(&'a Interrupts);

impl Busy<'_> {
    /// The command is done. Whether it was asked to stop.
    pub(super) fn end(self) -> bool {
        let state = self.0.state.swap(IDLE, Ordering::Relaxed);
        output::hush(false);
        state == HUSHED
    }
}

fn end(kept: Option<Arc<Kept>>) {
    let _ = writeln!(io::stderr(), "\nmcomp: left before the answer came: what the command did is not known");
    // The command may use it; then the servers give it up by themselves.
    if let Some(kept) = kept {
        kept.leave_soon();
    }
    std::process::exit(i32::from(Exit::UNKNOWN.code()));
}
