//! The temporary file of a snapshot with a buffer before it, and the disk close behind.
//!
//! Unlike a `BufWriter` it writes nothing when dropped: after a failed write there is nothing left to save.
//! What was written is brought to the disk a window at a time, beside the writing, and leaves the cache
//! then: nobody reads it soon. So the rest of the file is written into pages that are at hand (fresh ones
//! took half the time of a large file), and the last sync is short.

use std::io;
use std::thread::{Builder, JoinHandle};

use super::error::io_error;
use super::temp::{Publish, TempFile};
use super::{Dir, FileError, calls, fault};

/// Bytes gathered before they are written.
const BUFFER_BYTES: u64 = 1 << 20;

/// Bytes of one window. The file is at most two of them ahead of the disk.
const WINDOW_BYTES: u64 = 32 << 20;

/// A file in the making.
///
/// Invariant: what lies before `settled_bytes` is on the disk, once `settling` has ended without an error.
#[derive(Debug)]
pub(super) struct Out {
    /// Dropped before the file: its lock ends with its last handle, which is not to be the thread's.
    settling: Settling,
    temp: TempFile,
    buffer: Vec<u8>,
    written_bytes: u64,
    settled_bytes: u64,
}

/// The thread that brings a window to the disk, if one does; awaited when dropped.
#[derive(Debug, Default)]
struct Settling(Option<JoinHandle<io::Result<()>>>);

impl Out {
    pub(super) fn create(dir: &Dir) -> Result<Out, FileError> {
        let temp = TempFile::create(dir)?;
        Ok(Out { settling: Settling::default(), temp, buffer: Vec::new(), written_bytes: 0, settled_bytes: 0 })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() as u64 >= fault::shrunk(BUFFER_BYTES) { self.flush() } else { Ok(()) }
    }

    /// Makes all of it durable under its final name.
    pub(super) fn publish(mut self, name: &str) -> Result<(), FileError> {
        self.flush()?;
        self.await_settled()?;
        self.temp.publish(name, Publish::New)
    }

    fn flush(&mut self) -> Result<(), FileError> {
        calls::write_all(self.temp.file(), &self.buffer).map_err(io_error("write", &self.temp.path()))?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written_bytes - self.settled_bytes >= fault::shrunk(WINDOW_BYTES) { self.settle() } else { Ok(()) }
    }

    /// Begins to bring the window to the disk, when the one before it is there.
    fn settle(&mut self) -> Result<(), FileError> {
        self.await_settled()?;
        let (start, end) = (self.settled_bytes, self.written_bytes);
        let cannot = |error| io_error("sync", &self.temp.path())(error);
        let file = self.temp.file().try_clone().map_err(cannot)?;
        let thread = Builder::new().name("settle".into()).stack_size(128 << 10);
        self.settling.0 = Some(thread.spawn(move || calls::settle(&file, start, end)).map_err(cannot)?);
        self.settled_bytes = end;
        Ok(())
    }

    fn await_settled(&mut self) -> Result<(), FileError> {
        self.settling.end().map_err(io_error("sync", &self.temp.path()))
    }
}

impl Settling {
    fn end(&mut self) -> io::Result<()> {
        self.0.take().map_or(Ok(()), |thread| thread.join().expect("syncing does not panic"))
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        // The file is given up, or all is well already.
        let _ = self.end();
    }
}
