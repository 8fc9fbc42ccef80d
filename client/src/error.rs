//! Why a call failed, sorted by what the caller does next.
//!
//! Every variant names the offender with its values. What matters most is [`Error::outcome`]: after
//! [`Outcome::Fail`] the call certainly had no effect and may be made again; after
//! [`Outcome::Unknown`] it may have had one. No error ever stands for a success.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mcomp_wire::{OutOfRange, Status};

/// Why a call failed. `server` is a position in mcomp.cfg and `address` what stands there.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The range does not lie in the address space. Mend the request; nothing was sent.
    #[error("address {addr} + {len} bytes is outside the address space of {size} bytes (0..{size})")]
    OutOfRange {
        /// The claimed address.
        addr: u64,
        /// The claimed length in bytes.
        len: u64,
        /// Bytes in the address space.
        size: u64,
    },
    /// An atomic's address is not a multiple of its size. Mend the request; nothing was sent.
    #[error("address {addr} is not a multiple of {align}, as an atomic of {align} bytes needs")]
    Unaligned {
        /// The claimed address.
        addr: u64,
        /// What it must be a multiple of: 8 or 16.
        align: u64,
    },
    /// More than this machine or the protocol can hold at once. Ask for less; nothing was sent.
    #[error("{len} bytes are more than one call can hold, at most {max}: ask for smaller ranges")]
    TooLarge {
        /// The bytes asked for.
        len: u64,
        /// The most that is possible.
        max: u64,
    },
    /// The options contradict each other. Mend them; nothing was sent.
    #[error("{0}")]
    Options(String),
    /// The call does not make sense for this cluster. Mend it; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// The server cannot be reached. The call had no effect.
    #[error("server {server} at {address} is unavailable: {reason}")]
    Unavailable {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// What the operating system or the server said.
        reason: String,
    },
    /// No answer in time. The call had no effect.
    #[error("server {server} at {address} did not answer within {after:?}")]
    Timeout {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The call may have had its effect, in part or whole, or none. Read before you decide.
    #[error("outcome unknown at server {server} at {address}: {reason}")]
    Unknown {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// Why its answer is missing.
        reason: String,
    },
    /// The memory was restored from a snapshot since this cluster was connected: what the program
    /// derived from the old contents may be wrong. Start over with [`Cluster::reconnect`].
    ///
    /// [`Cluster::reconnect`]: crate::Cluster::reconnect
    #[error("server {server} at {address}: the memory was restored since this program connected; reconnect to go on")]
    Fenced {
        /// The server that said so first.
        server: u32,
        /// Its address.
        address: String,
    },
    /// [`Cluster::reconnect`] was called while the call was under way, and it does not go on in the memory as it is
    /// now. Begin it again, if it still makes sense.
    ///
    /// [`Cluster::reconnect`]: crate::Cluster::reconnect
    #[error("the cluster was reconnected while this call was under way, which was meant for the memory before")]
    Reconnected,
    /// A cap of the server is reached. Try again a little later; the call had no effect.
    #[error("server {server} at {address} is busy: {message}")]
    Busy {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// Which cap.
        message: String,
    },
    /// The memory is being restored, or a restore was cut off. Try again when it is done.
    #[error("server {server} at {address} is being restored: {message}")]
    Restoring {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// The server's sentence.
        message: String,
    },
    /// A block was half-written when its server was killed. Write it whole, or restore.
    #[error("server {server} at {address}: {message}")]
    Torn {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// Which block.
        message: String,
    },
    /// The role may not ask this.
    #[error("server {server} at {address} does not permit this: {message}")]
    Denied {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// The server's sentence.
        message: String,
    },
    /// Another cluster answers there, or one with another mcomp.cfg. Mend the configuration.
    #[error("server {server} at {address} belongs to another cluster or configuration: {message}")]
    WrongCluster {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// What differs.
        message: String,
    },
    /// What answers does not speak this protocol, or not this version.
    #[error("server {server} at {address} breaks the protocol: {message}")]
    Protocol {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// What was wrong.
        message: String,
    },
    /// Bytes were damaged on their way. The call had no effect.
    #[error("server {server} at {address}: damaged in transit: {message}")]
    Corrupt {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// Which checksum.
        message: String,
    },
    /// What the servers agree on says no. The call had no effect.
    #[error("{message}")]
    Agreed {
        /// Why, as a code.
        status: Status,
        /// Why, as a sentence.
        message: String,
    },
    /// The server said no for a reason that has no variant of its own. The call had no effect.
    #[error("server {server} at {address} refused ({status}): {message}")]
    Refused {
        /// Which server.
        server: u32,
        /// Its address.
        address: String,
        /// The reason as a code.
        status: Status,
        /// The reason as a sentence.
        message: String,
    },
    /// The caller's own reader or writer failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
}

/// Whether a failed call may have changed memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It certainly had no effect.
    Fail,
    /// It may have had one.
    Unknown,
}

impl Error {
    /// The stable word for it in JSON and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::OutOfRange { .. } => "out_of_range",
            Error::Unaligned { .. } => "unaligned",
            Error::TooLarge { .. } => "too_large",
            Error::Options(_) => "config",
            Error::Usage(_) => "usage",
            Error::Unavailable { .. } => "unavailable",
            Error::Timeout { .. } => "timeout",
            Error::Unknown { .. } => "unknown",
            Error::Fenced { .. } | Error::Reconnected => "fenced",
            Error::Busy { .. } => "busy",
            Error::Restoring { .. } => "restoring",
            Error::Torn { .. } => "torn",
            Error::Denied { .. } => "denied",
            Error::WrongCluster { .. } => "wrong_cluster",
            Error::Protocol { .. } => "protocol",
            Error::Corrupt { .. } => "checksum",
            Error::Agreed { status: Status::Guarded, .. } | Error::Refused { status: Status::Guarded, .. } => "fenced",
            Error::Agreed { status, .. } | Error::Refused { status, .. } => status.word(),
            Error::Io { .. } => "io",
        }
    }

    /// Whether the failed call may have changed memory.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::Unknown { .. } => Outcome::Unknown,
            _ => Outcome::Fail,
        }
    }

    /// The exit code of a command that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Unknown { .. } => 2,
            Error::OutOfRange { .. } | Error::Unaligned { .. } | Error::TooLarge { .. } | Error::Usage(_) => 64,
            Error::Torn { .. } | Error::Corrupt { .. } => 65,
            Error::Unavailable { .. } => 69,
            Error::Io { .. } => 74,
            Error::Fenced { .. } | Error::Reconnected | Error::Busy { .. } | Error::Restoring { .. } => 75,
            Error::Protocol { .. } | Error::WrongCluster { .. } => 76,
            Error::Denied { .. } => 77,
            Error::Options(_) => 78,
            Error::Timeout { .. } => 124,
            Error::Agreed { status, .. } | Error::Refused { status, .. } => match status {
                Status::NotFound | Status::Exists | Status::Locked => 1,
                Status::Invalid | Status::OutOfRange | Status::TooLarge => 64,
                Status::BadData => 65,
                Status::Unavailable => 69,
                Status::Full => 73,
                Status::LocalIo => 74,
                Status::CutLost | Status::Guarded | Status::Fenced | Status::NoLease | Status::NoSession => 75,
                Status::Restoring => 75,
                Status::Malformed | Status::UnknownKind => 76,
                Status::Denied => 77,
                _ => 70,
            },
        }
    }
}

impl From<OutOfRange> for Error {
    fn from(OutOfRange { addr, len, size }: OutOfRange) -> Error {
        Error::OutOfRange { addr, len, size }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::OutOfRange { .. } | Error::Unaligned { .. } | Error::TooLarge { .. } => io::ErrorKind::InvalidInput,
            Error::Options(_) | Error::Usage(_) => io::ErrorKind::InvalidInput,
            Error::Unavailable { .. } => io::ErrorKind::NotConnected,
            Error::Timeout { .. } => io::ErrorKind::TimedOut,
            Error::Denied { .. } => io::ErrorKind::PermissionDenied,
            Error::Torn { .. } | Error::Corrupt { .. } | Error::Protocol { .. } => io::ErrorKind::InvalidData,
            Error::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
