//! What a check has found, and how to mend it.

use std::fmt::Display;
use std::path::Path;

use rustix::process::geteuid;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It may fail, or not do what one expects.
    Warn,
    /// It will fail.
    Fail,
    /// Nothing to be said about it here, for the reason that is given.
    Skipped,
}

impl Level {
    /// The word for people and machines alike.
    pub(super) fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
            Level::Skipped => "skipped",
        }
    }
}

/// What a check has found about one subject.
///
/// - Its names are a contract: fields are never renamed, and `check` is a word that stays.
/// - `fix` is there exactly when the level is [`Level::Warn`] or [`Level::Fail`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The check, such as "shm".
    pub(super) check: &'static str,
    /// How bad it is.
    pub(super) level: Level,
    /// What it is about: a file, a process, a limit.
    pub(super) subject: String,
    /// What is the case, with its values.
    pub(super) what: String,
    /// A command or an edit that mends it.
    pub(super) fix: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub(super) fn ok(check: &'static str, subject: impl Display, what: impl Display) -> Finding {
        Finding::new(check, Level::Ok, subject, what, None)
    }

    /// There was nothing to check, because of `what`.
    pub(super) fn skipped(check: &'static str, subject: impl Display, what: impl Display) -> Finding {
        Finding::new(check, Level::Skipped, subject, what, None)
    }

    /// It may fail; `fix` prevents that.
    pub(super) fn warn(check: &'static str, subject: impl Display, what: impl Display, fix: impl Display) -> Finding {
        Finding::new(check, Level::Warn, subject, what, Some(fix.to_string()))
    }

    /// It will fail; `fix` prevents that.
    pub(super) fn fail(check: &'static str, subject: impl Display, what: impl Display, fix: impl Display) -> Finding {
        Finding::new(check, Level::Fail, subject, what, Some(fix.to_string()))
    }

    fn new(
        check: &'static str,
        level: Level,
        subject: impl Display,
        what: impl Display,
        fix: Option<String>,
    ) -> Finding {
        Finding { check, level, subject: subject.to_string(), what: what.to_string(), fix }
    }
}

/// A command that only root may run, as this user has to type it.
pub(super) fn as_root(command: impl Display) -> String {
    match geteuid().is_root() {
        true => command.to_string(),
        false => format!("sudo {command}"),
    }
}

/// The command that writes `value` to a file of the kernel, which only root may.
pub(super) fn set_kernel_file(file: &Path, value: u64) -> String {
    format!("echo {value} | {}", as_root(format_args!("tee {}", quoted(file))))
}

/// A path as a shell reads it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A size as people compare them: three digits that count. [`mcomp_config::format_size`] is for exact ones.
pub(super) fn about(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let at = (bytes.max(1).ilog2() / 10) as usize;
    let number = bytes as f64 / (1u64 << (10 * at)) as f64;
    let digits = usize::from(at > 0 && number < 100.0 && number.fract() > 0.0);
    format!("{number:.digits$} {}", units[at])
}

/// "server 3", or "servers 0, 1, 2".
pub(super) fn servers(ids: &[u32]) -> String {
    let list: Vec<String> = ids.iter().map(u32::to_string).collect();
    format!("server{} {}", if ids.len() == 1 { "" } else { "s" }, list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(quoted(Path::new("/dev/shm/mcomp.demo.0")), "/dev/shm/mcomp.demo.0");
        assert_eq!(quoted(Path::new("/a b/$x")), "'/a b/$x'");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
    }

    #[test]
    fn sizes_have_three_digits_that_count() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (200 << 20, "200 MiB")];
        for (bytes, text) in cases.into_iter().chain([(u64::MAX, "16 EiB"), ((5 << 30) + 1, "5.0 GiB")]) {
            assert_eq!(about(bytes), text);
        }
    }

    #[test]
    fn ids_are_listed() {
        assert_eq!((servers(&[3]), servers(&[0, 1])), ("server 3".to_owned(), "servers 0, 1".to_owned()));
    }
}
