//! How a command ends: the exit codes, and the verdict on every error of ours.
//!
//! Promises
//! - The codes are a contract with scripts; this file is the only one that knows their numbers.
//! - Every error has a stable word, an outcome and a sentence, the same on stderr, in `--json` and
//!   in the shell. The outcome is "unknown" when memory may have changed, never a wrong "fail".
//! - A reader of stdout that went away, as `head` does, is no error.
//!
//! An error that no line of this file knows counts as a bug.

use std::fmt;
use std::io;

use mcomp_client::Outcome;
use mcomp_config::ConfigError;
use mcomp_net::auth::SecretError;
use mcomp_net::tls::TlsError;
use mcomp_server::{Corrupt, MetadataError, StartError};
use mcomp_shm::ShmError;
use mcomp_snapshot::SnapshotError;
use mcomp_snapshot::file::FileError;

use crate::output::ReaderGone;

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    /// Done, and the answer is yes where there was a question.
    pub(crate) const DONE: Exit = Exit(0);
    /// Done, and the answer is no: it differs, the swap was lost, nothing was found.
    pub(crate) const NEGATIVE: Exit = Exit(1);
    /// It may have had its effect, or a part of it, or none.
    pub(crate) const UNKNOWN: Exit = Exit(2);
    /// The command line or the request is wrong.
    pub(crate) const USAGE: Exit = Exit(64);
    /// Bytes are damaged.
    pub(crate) const BAD_DATA: Exit = Exit(65);
    /// A server or a quorum is not available.
    pub(crate) const UNAVAILABLE: Exit = Exit(69);
    /// A bug in mcomp.
    pub(crate) const BUG: Exit = Exit(70);
    /// The memory of the cluster is full.
    pub(crate) const FULL: Exit = Exit(73);
    /// A file of this machine cannot be read or written.
    pub(crate) const LOCAL_IO: Exit = Exit(74);
    /// Fenced or busy: try again.
    pub(crate) const TRY_AGAIN: Exit = Exit(75);
    /// It speaks another protocol or version.
    pub(crate) const VERSION: Exit = Exit(76);
    /// Not permitted.
    pub(crate) const NOT_PERMITTED: Exit = Exit(77);
    /// The configuration is wrong.
    pub(crate) const CONFIG: Exit = Exit(78);

    /// The code that a library or a child process chose.
    pub(crate) fn from_code(code: u8) -> Exit {
        Exit(code)
    }

    /// The number.
    pub(crate) fn code(self) -> u8 {
        self.0
    }
}

/// An error that the command line itself finds, ready to be told.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    kind: &'static str,
    text: String,
}

impl Failure {
    /// `text` names the value and the way out; `kind` is the stable word. With [`Exit::UNKNOWN`]
    /// the outcome is unknown, with any other certainly nothing happened.
    pub(crate) fn new(exit: Exit, kind: &'static str, text: impl Into<String>) -> Failure {
        Failure { exit, kind, text: text.into() }
    }

    /// The request is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Exit::USAGE, "usage", text)
    }

    /// The bytes of `name` would go on behind the end of the memory, `room` bytes after `addr`.
    pub(crate) fn too_long(name: &str, addr: u64, room: u64) -> Failure {
        let text = format!("{name} is longer than the {room} bytes from address {addr} to the end of the memory");
        Failure::new(Exit::USAGE, "out_of_range", text)
    }

    /// The machine refused to do `what`, such as "open image.bin".
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Failure {
        Failure::new(Exit::LOCAL_IO, "io", format!("cannot {what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// What to say about an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How the command ends.
    pub(crate) exit: Exit,
    /// The stable word.
    pub(crate) kind: &'static str,
    /// Whether memory may have changed.
    pub(crate) unknown: bool,
    /// One sentence: what was being done, and what went wrong.
    pub(crate) sentence: String,
}

impl Verdict {
    /// Judges by the outermost error that is known. What surrounds it is told before it; what
    /// caused it is left out, because the errors of our libraries name their causes themselves.
    pub(crate) fn of(error: &anyhow::Error) -> Verdict {
        let mut told: Vec<String> = Vec::new();
        for cause in error.chain() {
            told.push(cause.to_string());
            if let Some((exit, kind)) = judge(cause) {
                let unknown = exit == Exit::UNKNOWN;
                return Verdict { exit, kind, unknown, sentence: told.join(": ") };
            }
        }
        Verdict { exit: Exit::BUG, kind: "bug", unknown: false, sentence: told.join(": ") }
    }

    /// "fail" or "unknown".
    pub(crate) fn outcome(&self) -> &'static str {
        if self.unknown { "unknown" } else { "fail" }
    }
}

/// Whether an error only says that nobody reads stdout any more.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let by_client = match cause.downcast_ref::<mcomp_client::Error>() {
            Some(mcomp_client::Error::Io { source, .. }) => Some(&**source),
            _ => None,
        };
        let inner = by_client.or_else(|| cause.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
        cause.is::<ReaderGone>() || inner.is_some_and(|inner| inner.is::<ReaderGone>())
    })
}

/// The exit code and the word of one error, if it is known here.
fn judge(error: &(dyn std::error::Error + 'static)) -> Option<(Exit, &'static str)> {
    if let Some(error) = error.downcast_ref::<Failure>() {
        return Some((error.exit, error.kind));
    }
    if let Some(error) = error.downcast_ref::<mcomp_client::Error>() {
        return Some(of_client(error));
    }
    if let Some(error) = error.downcast_ref::<SnapshotError>() {
        return Some(of_snapshot(error));
    }
    if let Some(error) = error.downcast_ref::<FileError>() {
        return Some(of_file(error));
    }
    if error.is::<ConfigError>() {
        return Some((Exit::CONFIG, "config"));
    }
    if let Some(error) = error.downcast_ref::<SecretError>() {
        return Some(of_secret(error));
    }
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(of_tls(error));
    }
    if let Some(error) = error.downcast_ref::<StartError>() {
        return Some(of_start(error));
    }
    if let Some(error) = error.downcast_ref::<ShmError>() {
        return Some(of_shm(error));
    }
    error.downcast_ref::<io::Error>().map(of_io)
}

fn of_client(error: &mcomp_client::Error) -> (Exit, &'static str) {
    match error.outcome() {
        Outcome::Unknown => (Exit::UNKNOWN, error.kind()),
        Outcome::Fail => (Exit::from_code(error.exit_code()), error.kind()),
    }
}

fn of_snapshot(error: &SnapshotError) -> (Exit, &'static str) {
    match error.outcome_unknown() {
        true => (Exit::UNKNOWN, error.kind()),
        false => (Exit::from_code(error.exit_code()), error.kind()),
    }
}

fn of_file(error: &FileError) -> (Exit, &'static str) {
    match error {
        FileError::Io { .. } => (Exit::LOCAL_IO, "io"),
        FileError::Bad { .. } | FileError::Chain { .. } => (Exit::BAD_DATA, "bad_data"),
        FileError::Unproved { .. } => (Exit::NOT_PERMITTED, "denied"),
        FileError::NotFound { .. } => (Exit::NEGATIVE, "not_found"),
        FileError::Refused { .. } => (Exit::USAGE, "usage"),
        _ => (Exit::BUG, "bug"),
    }
}

fn of_secret(error: &SecretError) -> (Exit, &'static str) {
    if error.is_io() { (Exit::LOCAL_IO, "io") } else { (Exit::CONFIG, "config") }
}

fn of_tls(error: &TlsError) -> (Exit, &'static str) {
    if error.is_io() { (Exit::LOCAL_IO, "io") } else { (Exit::CONFIG, "config") }
}

fn of_start(error: &StartError) -> (Exit, &'static str) {
    match error {
        // Nothing is full: what the process may do and what mcomp.cfg wants do not fit together.
        StartError::NoSuchServer { .. } | StartError::FileSize { .. } => (Exit::CONFIG, "config"),
        StartError::Segment(error) => of_shm(error),
        StartError::Held { .. } => (Exit::TRY_AGAIN, "busy"),
        StartError::Impostor { .. } => (Exit::NOT_PERMITTED, "denied"),
        StartError::Listen { source, .. } => match source.kind() {
            io::ErrorKind::AddrInUse => (Exit::TRY_AGAIN, "busy"),
            io::ErrorKind::PermissionDenied => (Exit::NOT_PERMITTED, "denied"),
            _ => (Exit::CONFIG, "config"),
        },
        StartError::OpLog { .. } => (Exit::LOCAL_IO, "io"),
        StartError::Metadata(MetadataError::Corrupt { source: Corrupt::Space { .. }, .. }) => (Exit::CONFIG, "config"),
        StartError::Metadata(MetadataError::Corrupt { .. }) => (Exit::BAD_DATA, "bad_data"),
        StartError::Metadata(_) => (Exit::LOCAL_IO, "io"),
        StartError::Secret(error) => of_secret(error),
        StartError::Tls(error) => of_tls(error),
        StartError::Exposed { .. } | StartError::ExposedHttp { .. } => (Exit::CONFIG, "config"),
        StartError::Thread(_) => (Exit::TRY_AGAIN, "busy"),
        _ => (Exit::BUG, "bug"),
    }
}

fn of_shm(error: &ShmError) -> (Exit, &'static str) {
    match error {
        ShmError::Full { .. } => (Exit::FULL, "full"),
        ShmError::Busy { .. } | ShmError::Unfinished { .. } => (Exit::TRY_AGAIN, "busy"),
        ShmError::Foreign { .. } => (Exit::NOT_PERMITTED, "denied"),
        ShmError::Layout { .. } => (Exit::VERSION, "version"),
        ShmError::Mismatch { .. } | ShmError::Spec(_) => (Exit::CONFIG, "config"),
        _ => (Exit::LOCAL_IO, "io"),
    }
}

/// An error of the client keeps its own verdict when it travelled as an `io::Error`.
fn of_io(error: &io::Error) -> (Exit, &'static str) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<mcomp_client::Error>());
    inner.map_or((Exit::LOCAL_IO, "io"), of_client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn verdict(error: impl Into<anyhow::Error>) -> (u8, &'static str, &'static str) {
        let verdict = Verdict::of(&error.into());
        (verdict.exit.code(), verdict.kind, verdict.outcome())
    }

    fn server() -> (u32, String, String) {
        (1, "127.0.0.1:7402".into(), "it is gone".into())
    }

    #[test]
    fn client_errors_keep_code_word_and_outcome() {
        use mcomp_client::Error;
        let (server, address, reason) = server();
        let unavailable = Error::Unavailable { server, address: address.clone(), reason: reason.clone() };
        assert_eq!(verdict(unavailable.clone()), (69, "unavailable", "fail"));
        assert_eq!(verdict(io::Error::from(unavailable)), (69, "unavailable", "fail"));
        assert_eq!(verdict(Error::Unknown { server, address, reason }), (2, "unknown", "unknown"));
        assert_eq!(verdict(Error::OutOfRange { addr: 9, len: 1, size: 9 }), (64, "out_of_range", "fail"));
    }

    #[test]
    fn what_starts_a_server_tells_mending_from_retrying() {
        assert_eq!(verdict(StartError::NoSuchServer { id: 9, last: 2 }), (78, "config", "fail"));
        let path = std::path::PathBuf::from("/dev/shm/mcomp.demo.0");
        let busy = ShmError::Busy { path: path.clone(), pid: 7 };
        assert_eq!(verdict(StartError::Segment(busy)), (75, "busy", "fail"));
        let unfinished = ShmError::Unfinished { path: path.clone() };
        assert_eq!(verdict(StartError::Segment(unfinished)), (75, "busy", "fail"));
        let layout = ShmError::Layout { path: path.clone(), found: 1, ours: 2 };
        assert_eq!(verdict(StartError::Segment(layout)), (76, "version", "fail"));
        let too_small = StartError::FileSize { needed_bytes: 2 << 20, limit_bytes: 1 << 20 };
        assert_eq!(verdict(too_small), (78, "config", "fail"));
        let foreign = ShmError::Foreign { path, owner: 0, ours: 1000 };
        assert_eq!(verdict(foreign), (77, "denied", "fail"));
    }

    #[test]
    fn files_and_configuration_have_their_codes() {
        let folder = std::path::PathBuf::from("snapshots");
        let missing = FileError::NotFound { name: "x".into(), folder: folder.clone() };
        assert_eq!(verdict(missing), (1, "not_found", "fail"));
        let chain = FileError::Chain { path: folder, why: "its parent is missing".into() };
        assert_eq!(verdict(chain), (65, "bad_data", "fail"));
        let unproved = FileError::Unproved { path: "x.mcs".into(), why: "it is not signed".into() };
        assert_eq!(verdict(unproved), (77, "denied", "fail"));
        assert_eq!(verdict(ConfigError::NotFound { looked: Vec::new() }), (78, "config", "fail"));
        assert_eq!(verdict(io::Error::other("disk")), (74, "io", "fail"));
        assert_eq!(verdict(Failure::usage("wrong")), (64, "usage", "fail"));
        assert_eq!(verdict(anyhow::anyhow!("surprise")), (70, "bug", "fail"));
    }

    #[test]
    fn context_is_told_and_causes_are_not_told_twice() {
        let error = Err::<(), _>(Failure::io("open image.bin", &io::Error::other("it is full")));
        let error = error.context("writing to address 64").unwrap_err();
        assert_eq!(Verdict::of(&error).sentence, "writing to address 64: cannot open image.bin: it is full");
    }

    #[test]
    fn a_reader_that_left_is_seen_through_every_wrapping() {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone);
        let by_client = mcomp_client::Error::Io { what: "writing", source: std::sync::Arc::new(gone()) };
        assert!(is_reader_gone(&gone().into()));
        assert!(is_reader_gone(&by_client.into()));
        assert!(!is_reader_gone(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
    }
}
