//! The executable of the children, by a name that outlives an upgrade.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The path of this executable, for later: found once, because the kernel has no name for a file that was replaced.
///
/// It is the name that this process was called by, if that leads here. Installations that switch a symbolic link from
/// one version to the next are followed that way.
pub(super) fn path() -> io::Result<PathBuf> {
    let real = env::current_exe()?;
    let called = env::args_os().next().map(PathBuf::from).and_then(|name| resolve(&name));
    let leads_here = |path: &PathBuf| path.canonicalize().is_ok_and(|found| found == real);
    Ok(called.filter(leads_here).unwrap_or(real))
}

/// Where a shell would have found it.
fn resolve(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return std::path::absolute(name).ok();
    }
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Fails if nothing that can be run stands at the path now.
pub(super) fn check(path: &Path) -> io::Result<()> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(access(path, Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_by_either_kind_of_name() {
        assert!(resolve(Path::new("sh")).is_some_and(|path| path.is_absolute() && path.ends_with("sh")));
        assert!(resolve(Path::new("./sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(resolve(Path::new("no-such-program-anywhere")), None);
        check(&path().unwrap()).unwrap();
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for path in ["/", "/etc/passwd", "/no/such/file"] {
            assert!(check(Path::new(path)).is_err(), "{path}");
        }
    }
}
