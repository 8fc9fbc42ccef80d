//! What a snapshot says about itself: whose memory, which cut, since when.
//!
//! These are the facts of the header and of the server section as values, and the rules that make
//! them a snapshot, alone ([`Meta::check`]) and on top of a parent ([`Meta::check_parent`]). The
//! bytes are the business of `header`.

use uuid::Uuid;

use super::error::{Fault, Part, ensure};
use super::name::Name;
use super::{BLOCK_BYTES, FileError};

/// The most servers that a snapshot describes.
pub const MAX_SERVERS: usize = 256;

/// The most bytes in a cluster's name.
pub const MAX_CLUSTER_BYTES: usize = 48;

/// The first moment that has no four-digit year any more: 10000-01-01, in microseconds.
const YEAR_10000_US: i64 = 253_402_300_800_000_000;

/// The facts about one snapshot.
///
/// Invariants, once [`Meta::check`] has passed:
/// - `cluster` is 1 to 48 characters of `a-z 0-9 _ -` and starts with a letter or a digit;
/// - there are 1 to 256 servers; `k_bytes` is a positive multiple of 4096; their product is below 2^63;
/// - `cut` is not nil, and `parent`, if any, is another cut of an earlier epoch;
/// - a full snapshot has `change_from_epoch` 0 in every server record; in an incremental one it is
///   at most the server's own `cut_epoch`;
/// - `created_us` lies in the years 1970 to 9999.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The cluster whose memory this is.
    pub cluster: String,
    /// Bytes that each server lends.
    pub k_bytes: u64,
    /// One record a server, in address order: server `i` holds bytes `i*k` to `(i+1)*k`.
    pub servers: Vec<ServerRecord>,
    /// The identity of the cut, random.
    pub cut: Uuid,
    /// The snapshot that this one builds on; none when it is full.
    pub parent: Option<Parent>,
    /// The epoch that the cut began: the file holds every write of an earlier epoch and none of this one.
    pub cut_epoch: u64,
    /// The configuration under which the cut was made.
    pub config_epoch: u64,
    /// When the cut was made: UTC, microseconds since 1970.
    pub created_us: i64,
}

/// The snapshot that an incremental one builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its cut id.
    pub cut: Uuid,
    /// Its cut epoch.
    pub epoch: u64,
}

/// What one server contributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerRecord {
    /// The segment that was copied. Change epochs mean nothing across two segments.
    pub segment: Uuid,
    /// Every block whose change epoch is this or a later one is in the file; 0 in a full snapshot.
    pub change_from_epoch: u64,
    /// The epoch that the cut began on this server.
    pub cut_epoch: u64,
}

impl Meta {
    /// The number of servers, N.
    pub fn n(&self) -> usize {
        self.servers.len()
    }

    /// The size of the whole memory, N times k, in bytes.
    ///
    /// # Panics
    ///
    /// When the product exceeds a u64, which [`Meta::check`] rules out.
    pub fn space_bytes(&self) -> u64 {
        self.checked_space_bytes().expect("N times k was checked")
    }

    /// Whether the file stands alone.
    pub fn is_full(&self) -> bool {
        self.parent.is_none()
    }

    /// When the cut was made.
    pub fn created(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.created_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// The name of the file that holds this snapshot.
    pub fn name(&self) -> Name {
        Name::of(self)
    }

    /// Refuses facts that no snapshot can have; the error names the value.
    pub fn check(&self) -> Result<(), FileError> {
        self.faults().map_err(Fault::given)
    }

    /// The same, for facts whose origin the caller adds.
    pub(super) fn faults(&self) -> Result<(), Fault> {
        check_cluster(&self.cluster)?;
        self.check_space()?;
        self.check_time()?;
        self.check_cut()?;
        self.servers.iter().enumerate().try_for_each(|(id, server)| self.check_server(id, server))
    }

    /// Says why `parent` cannot be the snapshot that this one builds on.
    pub(super) fn check_parent(&self, parent: &Meta) -> Result<(), String> {
        let claimed = self.parent.map(|p| (p.cut, p.epoch));
        if claimed != Some((parent.cut, parent.cut_epoch)) {
            return Err(format!("its parent is {claimed:?}, not cut {} of epoch {}", parent.cut, parent.cut_epoch));
        }
        if self.cluster != parent.cluster {
            return Err(format!("it is of cluster {:?}, its parent of {:?}", self.cluster, parent.cluster));
        }
        if (self.n(), self.k_bytes) != (parent.n(), parent.k_bytes) {
            return Err(format!(
                "it has {} servers of {} bytes, its parent {} of {}",
                self.n(),
                self.k_bytes,
                parent.n(),
                parent.k_bytes
            ));
        }
        let mut pairs = self.servers.iter().zip(&parent.servers).enumerate();
        pairs.try_for_each(|(id, (mine, theirs))| check_server_parent(id, mine, theirs))
    }

    fn checked_space_bytes(&self) -> Option<u64> {
        self.k_bytes.checked_mul(self.n() as u64)
    }

    fn check_space(&self) -> Result<(), Fault> {
        let (n, k) = (self.n(), self.k_bytes);
        ensure((1..=MAX_SERVERS).contains(&n), Part::Header, || format!("{n} servers, and 1 to {MAX_SERVERS} can be"))?;
        ensure(k > 0 && k.is_multiple_of(BLOCK_BYTES), Part::Header, || {
            format!("k is {k} bytes, which is not a positive multiple of {BLOCK_BYTES}")
        })?;
        // File offsets are signed, so an exported image must stay below 2^63.
        let fits = self.checked_space_bytes().is_some_and(|bytes| i64::try_from(bytes).is_ok());
        ensure(fits, Part::Header, || format!("{n} servers of {k} bytes are 2^63 bytes or more"))
    }

    fn check_time(&self) -> Result<(), Fault> {
        ensure((0..YEAR_10000_US).contains(&self.created_us), Part::Header, || {
            format!("created {} us after 1970, which is not in the years 1970 to 9999", self.created_us)
        })
    }

    fn check_cut(&self) -> Result<(), Fault> {
        ensure(!self.cut.is_nil(), Part::Header, || "the cut id is zero".into())?;
        let Some(parent) = self.parent else { return Ok(()) };
        ensure(!parent.cut.is_nil() && parent.cut != self.cut, Part::Header, || {
            format!("cut {} cannot have the parent {}", self.cut, parent.cut)
        })?;
        ensure(parent.epoch < self.cut_epoch, Part::Header, || {
            format!("the parent's epoch {} is not before the cut's {}", parent.epoch, self.cut_epoch)
        })
    }

    fn check_server(&self, id: usize, server: &ServerRecord) -> Result<(), Fault> {
        let (from, cut) = (server.change_from_epoch, server.cut_epoch);
        let right = if self.is_full() { from == 0 } else { from <= cut };
        ensure(right, Part::Servers, || format!("server {id} has changes from epoch {from} to its cut epoch {cut}"))
    }
}

fn check_cluster(name: &str) -> Result<(), Fault> {
    ensure(is_cluster(name), Part::Header, || {
        format!(
            "the cluster name {name:?} is not 1 to {MAX_CLUSTER_BYTES} of a-z 0-9 _ - starting with a letter or digit"
        )
    })
}

/// Whether a cluster can have this name, which is part of the names of files and of segments.
pub(super) fn is_cluster(name: &str) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= MAX_CLUSTER_BYTES
        && bytes.first().is_some_and(plain)
        && bytes.iter().all(|b| plain(b) || matches!(b, b'-' | b'_'))
}

/// A child holds what changed since its parent only when both speak of the same segment, and when
/// the child looked back at least to the parent's cut.
fn check_server_parent(id: usize, child: &ServerRecord, parent: &ServerRecord) -> Result<(), String> {
    if child.segment != parent.segment {
        return Err(format!("server {id} has segment {}, in the parent {}", child.segment, parent.segment));
    }
    if child.change_from_epoch > parent.cut_epoch || child.cut_epoch < parent.cut_epoch {
        return Err(format!(
            "server {id} has the changes of epochs {} to {}, its parent's cut is {}",
            child.change_from_epoch, child.cut_epoch, parent.cut_epoch
        ));
    }
    Ok(())
}
