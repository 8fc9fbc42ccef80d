//! Standard output, on which a reader may leave at any time.

use std::fmt;
use std::io::{self, IsTerminal, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// Whether the person at the terminal has seen enough of what a command prints. Relaxed: it orders nothing.
static HUSHED: AtomicBool = AtomicBool::new(false);

/// From now on, stdout takes nothing, as if its reader were gone; or takes everything again.
pub(crate) fn hush(yes: bool) {
    HUSHED.store(yes, Ordering::Relaxed);
}

/// The reader of stdout is gone, as after `| head`. It is what an [`io::Error`] of [`Stdout`] holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of stdout is gone")
    }
}

impl std::error::Error for ReaderGone {}

/// Standard output, held until it is dropped. Its errors name it. It keeps nothing back: what is written goes out at
/// once or not at all, so that nothing of a dump that was stopped comes out behind the next prompt.
#[derive(Debug)]
pub(crate) struct Stdout(StdoutLock<'static>);

impl Stdout {
    pub(crate) fn lock() -> Stdout {
        Stdout(io::stdout().lock())
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match HUSHED.load(Ordering::Relaxed) {
            true => Err(mark(io::ErrorKind::BrokenPipe.into())),
            false => rustix::io::write(&self.0, bytes).map_err(|errno| mark(errno.into())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn mark(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        // Its callers try again.
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, format!("cannot write to stdout: {error}")),
    }
}

/// A JSON answer of success: `"outcome": "ok"` and the fields of an object.
#[derive(Debug, Serialize)]
pub(crate) struct Done<T> {
    outcome: &'static str,
    #[serde(flatten)]
    fields: T,
}

impl<T: Serialize> Done<T> {
    pub(crate) fn with(fields: T) -> Done<T> {
        Done { outcome: "ok", fields }
    }
}

/// Prints one line, at once.
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    Stdout::lock().write_all(format!("{text}\n").as_bytes())
}

/// Prints one line of JSON, at once.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Stdout::lock().write_all(&bytes)
}
