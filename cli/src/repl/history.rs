//! Where the lines of the REPL are remembered: a file of its user alone, and no file where none can be had.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// How many lines are remembered.
pub(super) const LINES_MAX: usize = 1000;

/// The file, in a folder that is there.
pub(super) fn file() -> Option<PathBuf> {
    let path = path_of(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path.parent()?);
    made.is_ok().then_some(path)
}

/// As the XDG Base Directory Specification has it: a path that is not absolute counts as none.
fn path_of(state: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let state = state.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".local/state")))?;
    Some(state.join("mcomp/history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stands_where_the_user_keeps_such_things() {
        for (state, home, path) in [
            (Some("/s"), Some("/h"), Some("/s/mcomp/history")),
            (None, Some("/h"), Some("/h/.local/state/mcomp/history")),
            (Some(""), Some("/h"), Some("/h/.local/state/mcomp/history")),
            (Some("here"), Some("/h"), Some("/h/.local/state/mcomp/history")),
            (Some("/s"), None, Some("/s/mcomp/history")),
            (None, None, None),
            (None, Some("here"), None),
        ] {
            assert_eq!(
                path_of(state.map(Into::into), home.map(Into::into)),
                path.map(Into::into),
                "{state:?} {home:?}"
            );
        }
    }
}
