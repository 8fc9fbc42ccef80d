//! A chain as a flat image: the memory, byte for byte, N times k of them.
//!
//! Zeros are skipped where the target can be sparse. An image at a path appears there whole or not at
//! all, like a snapshot; unlike one it replaces a file of the same name, as `-o` is expected to.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{CWD, OFlags};

use super::chunk::is_zero;
use super::dir::parent_of;
use super::error::io_error;
use super::runs::Contents;
use super::temp::{Publish, TempFile};
use super::{BLOCK_BYTES, Chain, Dir, FileError, Progress, calls};

impl Chain {
    /// Writes the memory to a sparse file at `path`; a file that is there is replaced once the image
    /// is whole. What is there and is no file, a pipe or a device, is written to instead. Progress is
    /// in bytes of memory.
    ///
    /// # Errors
    ///
    /// [`FileError::Bad`] when a chunk is damaged, [`FileError::Io`] when the image cannot be
    /// written. Then there is no new file at `path`, but for one case: when all went well and the
    /// folder cannot be synced, the image is there, and may be gone after a power cut.
    pub fn export(&self, path: impl AsRef<Path>, progress: Progress<'_>) -> Result<(), FileError> {
        let path = path.as_ref();
        match path.metadata() {
            Ok(facts) if !facts.is_file() => {
                let out = calls::open(CWD, path, OFlags::WRONLY).map_err(io_error("open", path))?;
                self.export_stream(&mut File::from(out), path, progress)
            }
            // Behind a link, the file is replaced and the link stays.
            Ok(_) => self.export_to(&path.canonicalize().map_err(io_error("resolve", path))?, progress),
            Err(_) => self.export_to(path, progress),
        }
    }

    /// Writes the memory to a stream, zeros included: for a pipe. `path` names the stream in errors.
    /// Progress is in bytes of memory.
    ///
    /// # Errors
    ///
    /// As [`Chain::export`]; what was written before the error stays written.
    pub fn export_stream(&self, out: &mut dyn Write, path: &Path, progress: Progress<'_>) -> Result<(), FileError> {
        let total = self.meta().space_bytes();
        let mut at = 0;
        let mut runs = self.runs();
        while let Some(run) = runs.next_run()? {
            write_zeros(out, run.address - at, path)?;
            at = run.end();
            match run.contents {
                Contents::Data(bytes) => out.write_all(bytes).map_err(io_error("write", path))?,
                Contents::Zero(bytes) => write_zeros(out, bytes, path)?,
            }
            progress(at, total);
        }
        write_zeros(out, total - at, path)?;
        out.flush().map_err(io_error("write", path))?;
        progress(total, total);
        Ok(())
    }

    fn export_to(&self, path: &Path, progress: Progress<'_>) -> Result<(), FileError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let no_name = || io_error("export to", path)(io::Error::from(io::ErrorKind::InvalidFilename));
        let name = name.ok_or_else(no_name)?;
        let temp = TempFile::create(&Dir::open(parent_of(path))?)?;
        self.export_into(temp.file(), path, progress)?;
        temp.publish(name, Publish::Replace)
    }

    /// Writes the memory into an empty file, leaving holes for zeros.
    fn export_into(&self, file: &File, path: &Path, progress: Progress<'_>) -> Result<(), FileError> {
        let total = self.meta().space_bytes();
        calls::set_len(file, total).map_err(io_error("extend", path))?;
        let mut runs = self.runs();
        while let Some(run) = runs.next_run()? {
            if let Contents::Data(bytes) = run.contents {
                write_non_zero(file, run.address, bytes).map_err(io_error("write", path))?;
            }
            progress(run.end(), total);
        }
        progress(total, total);
        Ok(())
    }
}

/// Writes the stretches of blocks that are not zero.
fn write_non_zero(file: &File, address: u64, bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    for blocks in bytes.chunks(BLOCK_BYTES as usize).collect::<Vec<_>>().chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let end = at + blocks.iter().map(|block| block.len()).sum::<usize>();
        if !is_zero(blocks[0]) {
            calls::write_all_at(file, &bytes[at..end], address + at as u64)?;
        }
        at = end;
    }
    Ok(())
}

fn write_zeros(out: &mut dyn Write, bytes: u64, path: &Path) -> Result<(), FileError> {
    let mut zeros = io::Read::take(io::repeat(0), bytes);
    io::copy(&mut zeros, out).map(drop).map_err(io_error("write", path))
}
