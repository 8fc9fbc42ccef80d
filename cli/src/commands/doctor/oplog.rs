//! Can each server of this machine open its operation log, if there is to be one? One that cannot does not start.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::finding::{Finding, quoted};
use super::scene::Scene;

const OP_LOG: &str = "op_log";

/// Nothing at all when no log is configured.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let logs = scene.locals.iter().filter_map(|local| scene.config.op_log(local.id));
    logs.map(|path| judge(&path)).collect()
}

fn judge(path: &Path) -> Finding {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let may = |path: &Path, access| accessat(CWD, path, access, AtFlags::EACCESS);
    let refused = match path.metadata() {
        Ok(facts) if facts.is_dir() => Err(Errno::ISDIR),
        Ok(_) => may(path, Access::WRITE_OK),
        Err(_) => may(folder, Access::WRITE_OK | Access::EXEC_OK),
    };
    match refused {
        Ok(()) => Finding::ok(OP_LOG, path.display(), "it can be written"),
        Err(Errno::NOENT) => {
            let what = "its folder is not there, so the server does not start";
            Finding::fail(OP_LOG, path.display(), what, format!("mkdir -p {}", quoted(folder)))
        }
        Err(error) => {
            let fix = format!("ls -ld {} {}", quoted(folder), quoted(path));
            Finding::fail(
                OP_LOG,
                path.display(),
                format!("it cannot be written, so the server does not start: {error}"),
                fix,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_log_needs_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(judge(&folder.path().join("ops.log.0")).level, Level::Ok);
        assert!(!folder.path().join("ops.log.0").exists(), "nothing is made");
        let finding = judge(&folder.path().join("none/ops.log.0"));
        assert_eq!(finding.level, Level::Fail);
        assert_eq!(finding.fix, Some(format!("mkdir -p {}", quoted(&folder.path().join("none")))));
        assert_eq!(judge(folder.path()).level, Level::Fail);
    }
}
