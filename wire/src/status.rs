//! The status of an answer: what came of the request, sorted by what the caller does next.

macro_rules! statuses {
    ($($(#[$meta:meta])* $variant:ident = $number:literal $text:literal,)*) => {
        /// The status of an answer. Any other than `Ok` has a sentence as its body, and means that
        /// the request had no effect. The exception is [`Status::ResultLost`]: it had one before.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Status { $($(#[$meta])* $variant = $number,)* }

        impl Status {
            /// Every status, in numeric order.
            pub const ALL: &'static [Status] = &[$(Status::$variant,)*];

            /// The status with this number on the wire. Unknown numbers are `Internal`: a newer
            /// server refused for a reason that this side has no word for.
            pub fn from_wire(number: u16) -> Status {
                match number { $($number => Status::$variant,)* _ => Status::Internal }
            }

            /// The stable word for it in logs, counters and JSON.
            pub fn word(self) -> &'static str {
                match self { $(Status::$variant => $text,)* }
            }
        }
    };
}

statuses! {
    /// Done.
    Ok = 0 "ok",
    /// The body does not have the shape of its kind. Mend the client.
    Malformed = 1 "malformed",
    /// An address or length outside this server's range. Mend the request.
    OutOfRange = 2 "out_of_range",
    /// An atomic's address is not a multiple of its size. Mend the request.
    Unaligned = 3 "unaligned",
    /// More than a maximum of the protocol. Split the request.
    TooLarge = 4 "too_large",
    /// No such kind, or not served here.
    UnknownKind = 5 "unknown_kind",
    /// A cap is reached (connections, buffers, another cut or restore). Try again.
    Busy = 6 "busy",
    /// The request's config epoch is not the server's. The memory was restored since: start over.
    Fenced = 7 "fenced",
    /// A restore is under way or was cut off; memory is closed until it is done.
    Restoring = 8 "restoring",
    /// A block was half-written when its server was killed; write it whole or restore.
    Torn = 9 "torn",
    /// Another cluster, or another mcomp.cfg than the server's.
    WrongCluster = 10 "wrong_cluster",
    /// The peers share no protocol version.
    Version = 11 "version",
    /// The role may not ask this.
    Denied = 12 "denied",
    /// The server's memory or the snapshot's shadow area cannot be had.
    Full = 13 "full",
    /// The cut is no longer the current one, or its hold ran out.
    CutLost = 14 "cut_lost",
    /// A server or snapshot process that is needed does not answer.
    Unavailable = 15 "unavailable",
    /// A checksum does not match.
    Checksum = 16 "checksum",
    /// The operation was done before; its answer is no longer kept.
    ResultLost = 17 "result_lost",
    /// A file could not be read or written.
    LocalIo = 18 "local_io",
    /// A file's content is not valid.
    BadData = 19 "bad_data",
    /// A bug on the server's side.
    Internal = 20 "internal",
    /// The server's last word before it stops: no request of this connection without an answer was done.
    Stopping = 21 "stopping",
    /// There is no such allocation, name or lock.
    NotFound = 22 "not_found",
    /// There is no such lease, or it has run out.
    NoLease = 23 "no_lease",
    /// The name is taken.
    Exists = 24 "exists",
    /// The session has ended or run out. Begin another one.
    NoSession = 25 "no_session",
    /// Somebody else holds the lock, or not all have come to the barrier.
    Locked = 26 "locked",
    /// A value that makes no sense: mend the request.
    Invalid = 27 "usage",
    /// The memory is under a lease whose fence was not shown, or the lease or lock of the fence has ended.
    Guarded = 28 "guarded",
    /// Of replicated memory: it may have been done, or may be yet. The same name again finds out.
    Unknown = 29 "unknown",
    /// Of replicated memory: it was not done now, and may have been done before, for all that is known. The clock of the
    /// block stands before the sentence: who asked nobody else asks again under a greater number.
    Forgotten = 30 "forgotten",
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for &status in Status::ALL {
            assert_eq!(Status::from_wire(status as u16), status);
        }
        assert_eq!(Status::from_wire(60_000), Status::Internal);
    }
}
