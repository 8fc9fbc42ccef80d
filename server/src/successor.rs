//! The taking side of a hand-over: a server that finds its segment served asks for it.
//!
//! The one that has it is asked over its Unix socket, and only if this one could serve the segment and listen on its
//! address: nobody is asked to stop for a successor that cannot be one. Then its end is awaited, which the kernel
//! tells. Every wait has a limit, and a process that does not answer is not taken for dead: it may be frozen, and its
//! segment is as it left it.

use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mcomp_net::auth::Keyring;
use mcomp_net::{
    CallError, ConnectError, Connection, Endpoint, PeerProcess, Timeouts, Trust, is_local, own_user, unix_name,
};
use mcomp_shm::{Opened, Segment, ShmError, Spec};
use mcomp_wire::control::Hello;
use mcomp_wire::{Kind, Role, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use uuid::Uuid;

use crate::StartError;

/// What the other server gets for each answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// What it gets to end, once it has agreed: more than its own patience with its clients.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Takes the segment of `spec` over from the process that serves it on `address`, of a cluster of `k` bytes each.
pub(crate) fn take_over(
    spec: &Spec,
    k: u64,
    address: &str,
    holder: Holder,
    keyring: Option<&Keyring>,
) -> Result<(Segment, Opened), StartError> {
    check_address(spec.id, address)?;
    let mut connection = holder.connect(spec, k, address, keyring)?;
    let end = holder.end(&connection)?;
    // The answer leaves before the server stops, and says that it will.
    connection.call::<_, ()>(Kind::Handover, &()).map_err(|error| holder.keeps(holder.why_not_agreed(&error)))?;
    tracing::info!(pid = holder.pid, "the running server hands over");
    let deadline = Instant::now() + END_PATIENCE;
    if let Some(end) = end {
        wait_readable(&end, deadline);
    }
    let opened = open_until(spec, deadline).map_err(|error| match error {
        ShmError::Busy { .. } => holder.keeps(format!("it agreed to, and has not ended within {END_PATIENCE:?}")),
        error => error.into(),
    });
    // Until here it has told the other server that there still is a successor.
    drop(connection);
    opened
}

/// The process that serves a segment.
pub(crate) struct Holder {
    pub(crate) path: PathBuf,
    pub(crate) pid: u32,
}

impl Holder {
    fn keeps(&self, why: String) -> StartError {
        StartError::Held { path: self.path.clone(), pid: self.pid, why }
    }

    /// A connection to it, in the highest role there is.
    fn connect(&self, spec: &Spec, k: u64, address: &str, keyring: Option<&Keyring>) -> Result<Connection, StartError> {
        let endpoint = Endpoint::Unix(unix_name(&spec.cluster, spec.id, address));
        let hello = Hello {
            cluster: spec.cluster.clone(),
            role: Role::Admin,
            server: spec.id,
            k,
            // It may know better than mcomp.cfg does.
            n: 0,
            session: Uuid::nil(),
            features: 0,
            auth: Vec::new(),
        };
        let timeouts = Timeouts { connect: ANSWER_PATIENCE, request: ANSWER_PATIENCE };
        let opened = Connection::open(&endpoint, &hello, timeouts, Trust { keyring, tls: None });
        opened.map_err(|error| self.keeps(self.why_not_greeted(&error)))
    }

    /// What tells the end of its process, if the kernel can. Another user's is not believed to be the server.
    fn end(&self, connection: &Connection) -> Result<Option<OwnedFd>, StartError> {
        let peer = PeerProcess::of(connection.stream()).map_err(|error| self.keeps(error.to_string()))?;
        if !peer.is_own_user() {
            let (path, pid, theirs, ours) = (self.path.clone(), self.pid, peer.user, own_user());
            return Err(StartError::Impostor { path, pid, theirs, ours });
        }
        let is_other = peer.pid != std::process::id();
        let pid = Pid::from_raw(peer.pid.cast_signed()).filter(|_| is_other);
        Ok(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    fn why_not_greeted(&self, error: &ConnectError) -> String {
        let pid = self.pid;
        let silent = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock];
        match error {
            ConnectError::Unreachable { source, .. } if silent.contains(&source.kind()) => self.silence(),
            ConnectError::Unreachable { .. } => format!("{error}; {}", self.stop_it()),
            ConnectError::Protocol { .. } | ConnectError::Refused { status: Status::Version, .. } => {
                format!("it is of another version ({error}); {}", self.stop_it())
            }
            error => format!("{error}; wait until it can, or stop it with `kill {pid}`"),
        }
    }

    fn why_not_agreed(&self, error: &CallError) -> String {
        match error {
            CallError::TimedOut(_) => self.silence(),
            CallError::Refused { status: Status::UnknownKind, .. } => {
                format!("it is of a version that cannot; {}", self.stop_it())
            }
            CallError::Refused { status: Status::Busy, .. } => {
                format!("{error}; try again when that is done, or stop it with `kill {}`", self.pid)
            }
            error => format!("{error}; {}", self.stop_it()),
        }
    }

    fn silence(&self) -> String {
        let pid = self.pid;
        format!(
            "it does not answer within {ANSWER_PATIENCE:?}; if it is frozen, `kill -CONT {pid}` lets it go on, and \
             `kill {pid}` stops it in good order then"
        )
    }

    fn stop_it(&self) -> String {
        format!("stop it with `kill {}`, then start this one again", self.pid)
    }
}

/// Fails if this machine cannot listen on the address: that is better known before anybody is asked to stop.
pub(crate) fn check_address(id: u32, address: &str) -> Result<(), StartError> {
    let listen = |source| StartError::Listen { id, endpoint: Endpoint::Tcp(address.to_owned()), source };
    let mut found = address.to_socket_addrs().map_err(listen)?;
    match found.any(|one| one.ip().is_unspecified() || is_local(one.ip())) {
        true => Ok(()),
        false => Err(listen(Errno::ADDRNOTAVAIL.into())),
    }
}

/// Waits for an event of a descriptor, or for the deadline.
fn wait_readable(descriptor: &OwnedFd, deadline: Instant) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("the patience is a few seconds");
        match poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            // Whatever it was: the lock says whether the segment is free.
            _ => return,
        }
    }
}

/// Opens the segment. One that is still served is looked at again until the deadline.
fn open_until(spec: &Spec, deadline: Instant) -> Result<(Segment, Opened), ShmError> {
    loop {
        match Segment::open(spec) {
            Err(ShmError::Busy { .. }) if Instant::now() < deadline => {}
            done => return done,
        }
    }
}
