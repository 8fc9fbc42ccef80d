//! Why there is no snapshot, or no restore: sorted by what the caller does next.

use std::io;
use std::time::Duration;

use mcomp_net::auth::SecretError;
use mcomp_net::tls::TlsError;
use mcomp_net::{CallError, ConnectError};
use mcomp_wire::Status;

use crate::file::FileError;
use crate::tally::MOST_WAITING;

/// Who says no when it is this process itself.
const MASTER: &str = "the master's snapshot process";

/// A failure of a snapshot or a restore.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// mcomp.cfg does not allow it.
    #[error("{0}")]
    Config(String),
    /// The secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificates cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A snapshot process cannot listen on its address.
    #[error("snapshot process {id} cannot listen on {address}: {source}")]
    Listen {
        /// Which one.
        id: u32,
        /// Where.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    /// A server or snapshot process does not answer. Nothing was changed.
    #[error("{who} is not available: {reason}")]
    Unavailable {
        /// Which one, and where.
        who: String,
        /// What was seen.
        reason: String,
    },
    /// A server or snapshot process, or the master, said no. Nothing was changed.
    #[error("{who} refused: {message}")]
    Refused {
        /// Which one.
        who: String,
        /// The reason as a code.
        status: Status,
        /// The reason as a sentence.
        message: String,
    },
    /// The far side broke the protocol.
    #[error("{who} answered something that makes no sense: {reason}")]
    Protocol {
        /// Which one.
        who: String,
        /// What was seen.
        reason: String,
    },
    /// A file of the snapshot.
    #[error(transparent)]
    File(#[from] FileError),
    /// The cluster could not be used. Nothing was changed.
    #[error(transparent)]
    Cluster(#[from] mcomp_client::Error),
    /// The snapshot does not fit into this cluster. Nothing was changed.
    #[error(
        "the snapshot has data up to byte {end}, and this cluster holds {space} bytes: \
         a larger k or more servers would hold it"
    )]
    DoesNotFit {
        /// One past the last byte that is not zero.
        end: u64,
        /// Bytes of the cluster.
        space: u64,
    },
    /// The snapshot's allocations do not fit into this cluster. Nothing was changed.
    #[error(
        "the snapshot has an allocation up to byte {end}, and this cluster holds {space} bytes: \
         a larger k or more servers would hold it"
    )]
    NoRoom {
        /// One past the last byte that is allocated.
        end: u64,
        /// Bytes of the cluster.
        space: u64,
    },
    /// The restore was cut off: the memory is closed until one goes through.
    #[error("the restore was cut off: {reason}; the memory stays closed until `mcomp restore` goes through")]
    CutOff {
        /// Why.
        reason: String,
    },
}

impl SnapshotError {
    /// A snapshot process would listen where others reach it, without a secret to know them by.
    pub(crate) fn exposed(id: u32, address: &str) -> SnapshotError {
        SnapshotError::Config(format!(
            "snapshot process {id} listens on {address}, which is not a loopback address, and there is no secret: \
             anybody who reaches it could read the memory. Make one with `mcomp secret create`, and name it in \
             mcomp.cfg on every machine: [security] secret_file = \"mcomp.secret\""
        ))
    }

    pub(crate) fn connect(who: impl Into<String>, error: ConnectError) -> SnapshotError {
        let who = who.into();
        match error {
            ConnectError::Refused { status, message, .. } => SnapshotError::Refused { who, status, message },
            ConnectError::Protocol { message, .. } => SnapshotError::Protocol { who, reason: message },
            error => SnapshotError::Unavailable { who, reason: error.to_string() },
        }
    }

    /// The master's own process is stopping.
    pub(crate) fn stopped() -> SnapshotError {
        let who = MASTER.to_owned();
        SnapshotError::Unavailable { who, reason: "it was stopped".to_owned() }
    }

    /// The master's own limit, as a server that reaches its own would say it.
    pub(crate) fn too_long(time_limit: Duration) -> SnapshotError {
        let message = format!("the snapshot was not done within {time_limit:?}");
        SnapshotError::Refused { who: MASTER.to_owned(), status: Status::CutLost, message }
    }

    /// Too many snapshots wait for their turn.
    pub(crate) fn long_line() -> SnapshotError {
        let message = format!("{MOST_WAITING} snapshots wait for their turn already: try again later");
        SnapshotError::Refused { who: MASTER.to_owned(), status: Status::Busy, message }
    }

    pub(crate) fn call(who: impl Into<String>, error: CallError) -> SnapshotError {
        let who = who.into();
        match error {
            CallError::Refused { status, message } => SnapshotError::Refused { who, status, message },
            CallError::TimedOut(_) | CallError::Lost(_) => {
                SnapshotError::Unavailable { who, reason: error.to_string() }
            }
            error => SnapshotError::Protocol { who, reason: error.to_string() },
        }
    }

    /// A stable word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            SnapshotError::Config(_) => "config",
            SnapshotError::Secret(error) if error.is_io() => "io",
            SnapshotError::Tls(error) if error.is_io() => "io",
            SnapshotError::Secret(_) | SnapshotError::Tls(_) => "config",
            SnapshotError::Listen { .. } => "listen",
            SnapshotError::Thread(_) => "busy",
            SnapshotError::Unavailable { .. } => "unavailable",
            SnapshotError::Refused { status, .. } => status.word(),
            SnapshotError::Protocol { .. } => "protocol",
            SnapshotError::File(FileError::Io { .. }) => "io",
            SnapshotError::File(FileError::Unproved { .. }) => "denied",
            SnapshotError::File(FileError::NotFound { .. }) => "not_found",
            SnapshotError::File(FileError::Bad { .. } | FileError::Chain { .. }) => "bad_data",
            SnapshotError::File(_) => "usage",
            SnapshotError::Cluster(error) => error.kind(),
            SnapshotError::DoesNotFit { .. } | SnapshotError::NoRoom { .. } => "full",
            SnapshotError::CutOff { .. } => "unknown",
        }
    }

    /// Whether memory may have been changed.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, SnapshotError::CutOff { .. })
    }

    /// The exit code of a command that ends with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            SnapshotError::Config(_) => 78,
            SnapshotError::Secret(error) if error.is_io() => 74,
            SnapshotError::Tls(error) if error.is_io() => 74,
            SnapshotError::Secret(_) | SnapshotError::Tls(_) => 78,
            SnapshotError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => 75,
            SnapshotError::Listen { .. } => 78,
            SnapshotError::Thread(_) => 75,
            SnapshotError::Unavailable { .. } => 69,
            SnapshotError::Refused { status, .. } => refused_exit_code(*status),
            SnapshotError::Protocol { .. } => 76,
            SnapshotError::File(FileError::Io { .. }) => 74,
            SnapshotError::File(FileError::Unproved { .. }) => 77,
            SnapshotError::File(FileError::NotFound { .. }) => 1,
            SnapshotError::File(FileError::Bad { .. } | FileError::Chain { .. }) => 65,
            SnapshotError::File(_) => 64,
            SnapshotError::Cluster(error) => error.exit_code(),
            SnapshotError::DoesNotFit { .. } | SnapshotError::NoRoom { .. } => 73,
            SnapshotError::CutOff { .. } => 2,
        }
    }

    /// The status that carries it over the network.
    pub(crate) fn status(&self) -> Status {
        match self {
            SnapshotError::Unavailable { .. } => Status::Unavailable,
            SnapshotError::Refused { status, .. } => *status,
            SnapshotError::File(FileError::Io { .. }) => Status::LocalIo,
            SnapshotError::File(_) => Status::BadData,
            SnapshotError::Thread(_) => Status::Busy,
            _ => Status::Internal,
        }
    }
}

fn refused_exit_code(status: Status) -> u8 {
    match status {
        Status::Busy | Status::Fenced | Status::Restoring | Status::CutLost => 75,
        Status::Unavailable => 69,
        Status::Full => 73,
        Status::LocalIo => 74,
        Status::BadData | Status::Torn | Status::Checksum => 65,
        Status::Denied => 77,
        Status::WrongCluster | Status::Version | Status::UnknownKind | Status::Malformed => 76,
        _ => 70,
    }
}
