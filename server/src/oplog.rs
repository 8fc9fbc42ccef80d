//! The optional operation log: one line per data request.
//!
//! Connection threads hand finished lines to one writer thread, so that none of them waits for the
//! disk unless the disk is slower than the requests for longer than the queue is deep. A log that
//! cannot be written is reported once and then left alone: the memory is worth more than its log.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcomp_wire::{Request, Status};

use crate::memory;

/// Lines that wait for the disk at most; then requests wait.
const QUEUE: usize = 64 << 10;

/// An open log.
#[derive(Debug)]
pub(crate) struct OpLog {
    lines: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl OpLog {
    /// Opens `path` for appending.
    pub(crate) fn open(path: &Path) -> io::Result<OpLog> {
        let file = File::options().create(true).append(true).open(path)?;
        let (lines, received) = sync_channel(QUEUE);
        let path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("op-log".into())
            .stack_size(128 << 10)
            .spawn(move || write_lines(&path, file, &received))?;
        Ok(OpLog { lines: Some(lines), thread: Some(thread) })
    }

    /// Logs one request.
    pub(crate) fn log(&self, connection: u64, request: &Request<'_>, status: Status, took: Duration) {
        let (read, written) = memory::payload(request);
        let addr = memory::address(request).map_or_else(|| "-".to_owned(), |addr| addr.to_string());
        let line = format!(
            "{} conn={connection} op={} addr={addr} len={} status={status} us={}\n",
            unix_micros(),
            request.kind(),
            read.max(written),
            took.as_micros()
        );
        if let Some(lines) = &self.lines {
            // It fails only when the writer gave up, which it has reported.
            let _ = lines.send(line);
        }
    }
}

impl Drop for OpLog {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_lines(path: &Path, file: File, lines: &Receiver<String>) {
    if let Err(error) = try_write_lines(file, lines) {
        tracing::error!(path = %path.display(), %error, "the operation log ends here");
    }
}

fn try_write_lines(file: File, lines: &Receiver<String>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    while let Ok(line) = lines.recv() {
        out.write_all(line.as_bytes())?;
        while let Ok(line) = lines.try_recv() {
            out.write_all(line.as_bytes())?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Seconds since 1970 with six decimals.
fn unix_micros() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:06}", now.as_secs(), now.subsec_micros())
}
