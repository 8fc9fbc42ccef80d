//! What can be wrong with a configuration. All of it is mended by the person who wrote it, never by
//! a retry, so one exit code (78) serves every variant.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::origin::Origin;

/// Why there is no configuration, or why it does not answer a question.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// None of the places holds a file.
    #[error("no configuration: looked for {}; write one there, or name one with --config", list(.looked))]
    NotFound {
        /// In the order they were tried.
        looked: Vec<PathBuf>,
    },
    /// The file is there and cannot be read.
    #[error("{}: cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The folder that holds the data (`--data`) is not there, or is no folder.
    #[error("the folder of --data, {}, cannot be used: {source}; make it first, or name another", .path.display())]
    Data {
        /// As it was given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is too long to be a configuration: a device, or a memory image.
    #[error("{}: longer than {limit_bytes} bytes, so it is no mcomp.cfg: name another with --config", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// Values are wrong: every one of them is listed, in the order of the file.
    #[error("{}", problems(.0))]
    Invalid(Vec<Problem>),
    /// The id is not one of the file.
    #[error("{} has no server {id}: its servers are 0 to {}", .path.display(), .n - 1)]
    NoSuchServer {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        id: u32,
        /// How many servers the file lists.
        n: u32,
    },
    /// No server of the file has an address of this machine.
    #[error(
        "this machine holds no server of {}, which lists {}: pass --id, or correct the addresses",
        .path.display(), .addresses.join(", ")
    )]
    NoneLocal {
        /// The file.
        path: PathBuf,
        /// The addresses of all its servers.
        addresses: Vec<String>,
    },
    /// Several servers of the file have an address of this machine.
    #[error("this machine holds servers {} of {}: pass --id", join(.ids), .path.display())]
    SeveralLocal {
        /// The file.
        path: PathBuf,
        /// The candidates.
        ids: Vec<u32>,
    },
    /// A host name has no address.
    #[error("the host of {endpoint} cannot be resolved: {source}; correct it in mcomp.cfg or in the name service")]
    Unresolved {
        /// `host:port`.
        endpoint: String,
        /// What the resolver said.
        source: io::Error,
    },
}

/// One wrong value, or one that is missing. `Display` is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where to mend it.
    pub place: Place,
    /// The dotted key, such as `cluster.k`; empty when the file is not TOML.
    pub key: String,
    /// What is wrong, with the value, and the way out.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, text } = self;
        match key.as_str() {
            "" => write!(f, "{place}: {text}"),
            // A quoted key of TOML can hold anything, also what would move a terminal's cursor.
            key => write!(f, "{place}: {}: {text}", key.escape_debug()),
        }
    }
}

/// Where a value was typed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file, at this line counted from 1; none when something is missing from it.
    File {
        /// As it was found.
        path: PathBuf,
        /// Counted from 1.
        line: Option<usize>,
    },
    /// In this environment variable.
    Variable(String),
    /// In a flag of the command line.
    Flag,
}

impl Place {
    /// Defaults are never wrong by themselves: what makes them so is missing from the file.
    pub(crate) fn new(path: PathBuf, line: Option<usize>, origin: &Origin) -> Self {
        match origin {
            Origin::Default | Origin::File => Self::File { path, line },
            Origin::Variable(name) => Self::Variable(name.clone()),
            Origin::Flag => Self::Flag,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(", ")
}

fn join(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(", ")
}

fn problems(problems: &[Problem]) -> String {
    if let [only] = problems {
        return only.to_string();
    }
    let lines: String = problems.iter().map(|p| format!("\n  {p}")).collect();
    format!("{} problems in the configuration:{lines}", problems.len())
}
