//! Does the login manager take the memory away? With `RemoveIPC=yes`, its usual setting, systemd-logind removes all
//! of an ordinary user's files in /dev/shm when that user's last session ends, served or not. PostgreSQL's manual
//! warns of the same.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::finding::Finding;
use super::scene::Scene;

const REMOVE_IPC: &str = "remove_ipc";

/// The highest id of a system user, whose files are left alone, as is root's.
const SYSTEM_USER_MAX: u32 = 999;

/// Where its settings are, in rising order of strength; drop-ins of all come after the file.
const FOLDERS: [&str; 4] = ["usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd"];

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let subject = "systemd-logind";
    if scene.locals.is_empty() {
        return vec![Finding::skipped(REMOVE_IPC, subject, "no server of the file is on this machine")];
    }
    vec![judge(subject, Path::new("/"), geteuid().as_raw())]
}

fn judge(subject: &str, root: &Path, user: u32) -> Finding {
    match () {
        // Its folder of users is there while it runs.
        () if !root.join("run/systemd/users").is_dir() => Finding::ok(REMOVE_IPC, subject, "it does not run here"),
        () if user <= SYSTEM_USER_MAX => {
            Finding::ok(REMOVE_IPC, subject, format!("it leaves the segments of user {user}, a system user, alone"))
        }
        () if !removes(root) => Finding::ok(REMOVE_IPC, subject, "RemoveIPC=no: it leaves segments alone"),
        () if lingers(root, user) => {
            Finding::ok(REMOVE_IPC, subject, format!("user {user} lingers, so it leaves the segments alone"))
        }
        () => {
            let what = format!("RemoveIPC=yes: it removes the segments of user {user} when that user logs out");
            Finding::warn(REMOVE_IPC, subject, what, format!("loginctl enable-linger {user}"))
        }
    }
}

/// What its settings say. A commented line shows what it was built with; without any it is yes.
fn removes(root: &Path) -> bool {
    let texts: Vec<String> = settings(root).iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let last = |key: &str| {
        let assignments = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once('='));
        assignments.filter(|(name, _)| name.trim() == key).filter_map(|(_, value)| truth(value.trim())).next_back()
    };
    last("RemoveIPC").or_else(|| last("#RemoveIPC")).unwrap_or(true)
}

/// A truth value as systemd writes it.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// Its files of settings, the strongest last.
fn settings(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder).join("logind.conf")).collect();
    let mut drop_ins: Vec<PathBuf> = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(root.join(folder).join("logind.conf.d")).into_iter().flatten().flatten();
        drop_ins.extend(entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "conf")));
    }
    drop_ins.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    files.extend(drop_ins);
    files
}

/// Whether the user's manager runs without a session, as `loginctl enable-linger` sets it.
fn lingers(root: &Path, user: u32) -> bool {
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then_some(name)
    });
    name.is_some_and(|name| root.join("var/lib/systemd/linger").join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    /// A machine whose login manager runs, with these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("run/systemd/users/1000", "")].iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn level(files: &[(&str, &str)], user: u32) -> Level {
        judge("systemd-logind", machine(files).path(), user).level
    }

    #[test]
    fn the_last_setting_counts_and_a_comment_shows_the_default() {
        assert_eq!(level(&[], 1000), Level::Warn);
        assert_eq!(level(&[("etc/systemd/logind.conf", "[Login]\n#RemoveIPC=no\n")], 1000), Level::Ok);
        let both =
            [("etc/systemd/logind.conf", "RemoveIPC=yes\n"), ("etc/systemd/logind.conf.d/x.conf", "RemoveIPC = off")];
        assert_eq!(level(&both, 1000), Level::Ok);
        let both = [
            ("usr/lib/systemd/logind.conf.d/b.conf", "RemoveIPC=1"),
            ("etc/systemd/logind.conf.d/a.conf", "RemoveIPC=0"),
        ];
        assert_eq!(level(&both, 1000), Level::Warn, "drop-ins count in the order of their names");
    }

    #[test]
    fn system_users_and_those_who_linger_are_left_alone() {
        assert_eq!(level(&[], 0), Level::Ok);
        assert_eq!(level(&[], 999), Level::Ok);
        let passwd = ("etc/passwd", "root:x:0:0::/:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n");
        assert_eq!(level(&[passwd, ("var/lib/systemd/linger/ana", "")], 1000), Level::Ok);
        assert_eq!(level(&[passwd, ("var/lib/systemd/linger/bob", "")], 1000), Level::Warn);
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(judge("systemd-logind", nothing.path(), 1000).level, Level::Ok);
    }
}
