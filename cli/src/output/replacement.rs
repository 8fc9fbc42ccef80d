//! A file that appears whole or not at all.
//!
//! Bytes go to a temporary name in the same folder, which takes the final name at the end. When the
//! work fails, or a signal ends it, nothing is left and an older file keeps its content. What is no
//! regular file, such as `/dev/null` or a pipe, cannot be replaced and is written directly.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

/// Tries for a temporary name that nothing has.
const NAMES_MAX: usize = 100;

/// The file while it is being written.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    /// None when the file is written directly.
    temporary: Option<Temporary>,
}

#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    target: PathBuf,
    signals: Handle,
}

impl Replacement {
    /// Opens the place for what will be `target`. A symbolic link is followed, not replaced.
    pub(crate) fn create(target: &Path) -> io::Result<Replacement> {
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let old = fs::metadata(&target).ok();
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            let file = File::options().write(true).open(&target)?;
            return Ok(Replacement { file, temporary: None });
        }
        let (file, path) = create_new_beside(&target)?;
        let signals = remove_on_signal(&path).inspect_err(|_| remove(&path))?;
        let temporary = Some(Temporary { path, target, signals });
        let replacement = Replacement { file, temporary };
        if let Some(old) = old {
            replacement.file.set_permissions(old.permissions())?;
        }
        Ok(replacement)
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        match &self.temporary {
            Some(temporary) => fs::rename(&temporary.path, &temporary.target),
            None => Ok(()),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After `finish` there is nothing at this name any more.
        remove(&self.path);
        self.signals.close();
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn create_new_beside(target: &Path) -> io::Result<(File, PathBuf)> {
    let name = target.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy().into_owned();
    let mut tries = 0;
    loop {
        let path = target.with_file_name(format!(".{name}.{:08x}.part", fastrand::u32(..)));
        match File::create_new(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < NAMES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Removes the file when a signal would end the process, and then lets the signal end it.
fn remove_on_signal(path: &Path) -> io::Result<Handle> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let path = path.to_owned();
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            remove(&path);
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(handle)
}

/// A file that is not there is as good as removed.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_old_content_stays_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        fs::write(&target, "old").unwrap();
        let mut replacement = Replacement::create(&target).unwrap();
        replacement.write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        replacement.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn nothing_is_left_of_work_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let mut replacement = Replacement::create(&folder.path().join("out")).unwrap();
        replacement.write_all(b"half").unwrap();
        drop(replacement);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn links_are_followed_and_devices_are_written_directly() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("out"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut replacement = Replacement::create(&link).unwrap();
        replacement.write_all(b"new").unwrap();
        replacement.finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");

        let mut null = Replacement::create(Path::new("/dev/null")).unwrap();
        null.write_all(b"gone").unwrap();
        null.finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
