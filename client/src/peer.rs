//! One server as errors name it, and what each failure of a call to it means for the caller.

use std::io;
use std::time::Duration;

use mcomp_net::{CallError, ConnectError};
use mcomp_wire::{FrameError, Status};

use crate::Error;

/// One server as errors name it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Position in mcomp.cfg.
    pub(crate) server: u32,
    /// What stands there.
    pub(crate) address: String,
}

impl Peer {
    /// The error for an answer that says no.
    pub(crate) fn refused(&self, status: Status, message: String) -> Error {
        let Peer { server, address } = self.clone();
        match status {
            Status::Busy => Error::Busy { server, address, message },
            Status::Fenced => Error::Fenced { server, address },
            Status::Restoring => Error::Restoring { server, address, message },
            Status::Torn => Error::Torn { server, address, message },
            Status::WrongCluster => Error::WrongCluster { server, address, message },
            Status::Denied => Error::Denied { server, address, message },
            Status::Unavailable | Status::Stopping => Error::Unavailable { server, address, reason: message },
            Status::Checksum => Error::Corrupt { server, address, message },
            Status::ResultLost | Status::Unknown | Status::Forgotten => {
                Error::Unknown { server, address, reason: message }
            }
            // This library checks and splits before it sends, so the two sides disagree on the rules.
            Status::Malformed
            | Status::OutOfRange
            | Status::Unaligned
            | Status::TooLarge
            | Status::UnknownKind
            | Status::Version => Error::Protocol { server, address, message: format!("{status}: {message}") },
            _ => Error::Refused { server, address, status, message },
        }
    }

    /// The error for a call without an answer. `at_stake`: a request that may change memory was sent.
    pub(crate) fn unanswered(&self, error: CallError, at_stake: bool, timeout: Duration) -> Error {
        let Peer { server, address } = self.clone();
        if at_stake {
            let reason = match error {
                CallError::TimedOut(_) => format!("no answer within {timeout:?}"),
                error => error.to_string(),
            };
            return Error::Unknown { server, address, reason };
        }
        match error {
            CallError::TimedOut(_) => Error::Timeout { server, address, after: timeout },
            CallError::Lost(source) => Error::Unavailable { server, address, reason: source.to_string() },
            CallError::Frame(error @ FrameError::BodyChecksum { .. }) => {
                Error::Corrupt { server, address, message: error.to_string() }
            }
            CallError::Refused { status, message } => self.refused(status, message),
            error => Error::Protocol { server, address, message: error.to_string() },
        }
    }

    /// The error for a connection that was not made.
    pub(crate) fn unreached(&self, error: ConnectError, after: Duration) -> Error {
        let Peer { server, address } = self.clone();
        match error {
            ConnectError::Unreachable { source, .. } => match source.kind() {
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Error::Timeout { server, address, after },
                _ => Error::Unavailable { server, address, reason: source.to_string() },
            },
            ConnectError::Refused { status, message, .. } => self.refused(status, message),
            error => Error::Protocol { server, address, message: error.to_string() },
        }
    }

    /// The error for a call that none of the replicas has done.
    pub(crate) fn without_majority(&self, last: &Error) -> Error {
        let Peer { server, address } = self.clone();
        let reason = format!("no majority of the replicas of its blocks has answered in time; lastly: {last}");
        Error::Unavailable { server, address, reason }
    }

    /// The error for a call whose effect cannot be known.
    pub(crate) fn unknown(&self, reason: impl Into<String>) -> Error {
        Error::Unknown { server: self.server, address: self.address.clone(), reason: reason.into() }
    }

    /// The error for an answer of the wrong shape.
    pub(crate) fn protocol(&self, message: impl Into<String>) -> Error {
        Error::Protocol { server: self.server, address: self.address.clone(), message: message.into() }
    }

    /// The same failure, of a call that had already changed something elsewhere.
    pub(crate) fn in_part(&self, error: Error) -> Error {
        match error {
            unknown @ Error::Unknown { .. } => unknown,
            error => self.unknown(format!("{error}; another part of the same call was done")),
        }
    }
}

#[cfg(test)]
mod tests {
    use mcomp_wire::OutOfRange;

    use super::*;
    use crate::Outcome;

    fn peer() -> Peer {
        Peer { server: 3, address: "10.0.0.3:7401".into() }
    }

    #[test]
    fn every_status_becomes_an_error_that_names_the_server() {
        for &status in Status::ALL {
            let error = peer().refused(status, "because".into());
            let text = error.to_string();
            assert!(text.contains('3') && text.contains("10.0.0.3:7401"), "{status}: {text}");
            let is_unknown = matches!(status, Status::ResultLost | Status::Unknown | Status::Forgotten);
            assert_eq!(error.outcome() == Outcome::Unknown, is_unknown, "{status}");
        }
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let code = |status| peer().refused(status, String::new()).exit_code();
        assert_eq!(code(Status::Busy), 75);
        assert_eq!(code(Status::Fenced), 75);
        assert_eq!(code(Status::Restoring), 75);
        assert_eq!(code(Status::Torn), 65);
        assert_eq!(code(Status::Denied), 77);
        assert_eq!(code(Status::WrongCluster), 76);
        assert_eq!(code(Status::Full), 73);
        assert_eq!(code(Status::ResultLost), 2);
        assert_eq!(Error::from(OutOfRange { addr: 1, len: 2, size: 3 }).exit_code(), 64);
    }

    #[test]
    fn what_was_sent_decides_between_fail_and_unknown() {
        let second = Duration::from_secs(1);
        let timeout = |at_stake| peer().unanswered(CallError::TimedOut(second), at_stake, second);
        assert_eq!((timeout(false).kind(), timeout(false).exit_code()), ("timeout", 124));
        assert_eq!((timeout(true).kind(), timeout(true).exit_code()), ("unknown", 2));
        let busy = peer().refused(Status::Busy, "cap".into());
        assert_eq!(peer().in_part(busy).outcome(), Outcome::Unknown);
    }
}
