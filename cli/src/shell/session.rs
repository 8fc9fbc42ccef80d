//! The shell's side of the cluster: runs one request after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcomp_client::meta::{Allocate, Region};
use mcomp_client::{Cluster, Error, Lock, Status};
use mcomp_config::Config;
use serde::Serialize;

use super::request::Request;
use crate::commands::status::ClusterStatus;
use crate::globals::Globals;

/// What a request that went well has to say.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Nothing {},
    Data { data: String },
    Checksum { crc32: u32 },
    Exchanged { swapped: bool, value: u64 },
    Value { value: u64 },
    Status(Box<ClusterStatus>),
    Snapshot { path: String, cut: String, bytes: u64, hold_us: u64 },
    Region { addr: u64, size: u64, generation: u64, lease: Option<String>, fence: Option<u64> },
    Deadline { deadline_ms: u64 },
    Fence { fence: u64 },
}

/// One cluster, as long as the shell runs.
#[derive(Debug)]
pub(super) struct Session {
    config: Config,
    cluster: Cluster,
    /// The locks that it holds, by name. They go before the session does.
    locks: BTreeMap<String, Lock>,
    /// What the servers know this shell by, as soon as it wants something of them that takes it.
    agreed: Option<mcomp_client::Session>,
}

impl Session {
    /// Connects to nobody yet.
    pub(super) fn open(globals: &Globals) -> anyhow::Result<Session> {
        let config = globals.config()?;
        let cluster = Cluster::connect(&config)?;
        Ok(Session { config, cluster, agreed: None, locks: BTreeMap::new() })
    }

    /// Runs one request. After an error that says that the memory was restored, the next request
    /// meets the memory as it is now: who sends it has been told.
    pub(super) fn run(&mut self, request: Request) -> anyhow::Result<Answer> {
        if let Request::Snapshot { incremental } = request {
            return self.snapshot(incremental);
        }
        let answer = if is_agreed_on(&request) { self.agree(request) } else { self.ask(request) };
        if matches!(answer, Err(Error::Fenced { .. })) {
            self.cluster.reconnect();
        }
        Ok(answer?)
    }

    /// The session with the servers: a new one when they have given up the last one.
    fn agreed(&mut self) -> Result<&mcomp_client::Session, Error> {
        if self.agreed.as_ref().is_none_or(mcomp_client::Session::is_lost) {
            self.locks.clear();
            self.agreed = None;
            self.agreed = Some(self.cluster.session()?);
        }
        Ok(self.agreed.as_ref().expect("it was made"))
    }

    /// Runs a request about what the servers agree on.
    fn agree(&mut self, request: Request) -> Result<Answer, Error> {
        match request {
            Request::Alloc { size, name, lease_ms } => {
                let wish = Allocate { size, name, lease_ms, ..Allocate::default() };
                self.agreed()?.allocate(wish).map(answer_of)
            }
            Request::Free { addr } => self.agreed()?.free(addr, None).map(|_| Answer::Nothing {}),
            Request::Realloc { addr, size } => self.agreed()?.resize(addr, size, None).map(answer_of),
            Request::Renew { lease, lease_ms } => {
                let lease = self.agreed()?.renew(lease, lease_ms)?;
                Ok(Answer::Deadline { deadline_ms: lease.deadline_ms })
            }
            // It ends now: no deadline is left.
            Request::Release { lease } => self.agreed()?.release(lease).map(|_| Answer::Deadline { deadline_ms: 0 }),
            Request::Lock { name, wait_ms } => {
                let lock = self.agreed()?.lock(&name, Duration::from_millis(wait_ms))?;
                let fence = lock.fence().number;
                self.locks.insert(name, lock);
                Ok(Answer::Fence { fence })
            }
            Request::Unlock { name } => {
                let message = format!("this shell does not hold {name:?}");
                let lock = self.locks.remove(&name);
                let lock = lock.ok_or(Error::Agreed { status: Status::NotFound, message })?;
                let fence = lock.fence().number;
                lock.unlock().map(|()| Answer::Fence { fence })
            }
            _ => unreachable!("`run` hands on what is agreed on"),
        }
    }

    fn ask(&self, request: Request) -> Result<Answer, Error> {
        let cluster = &self.cluster;
        let nothing = |()| Answer::Nothing {};
        match request {
            Request::Read { addr, len } => {
                let bytes = cluster.read_vec(addr, len)?;
                Ok(Answer::Data { data: STANDARD.encode(bytes) })
            }
            Request::Write { addr, data, fence: None } => cluster.write_at(addr, &data).map(nothing),
            Request::Write { addr, data, fence: Some(fence) } => {
                cluster.fenced(fence).write_at(addr, &data).map(nothing)
            }
            Request::Fill { addr, len, byte } => cluster.fill(addr, len, byte).map(nothing),
            Request::Copy { from, to, len } => cluster.copy(from, to, len).map(nothing),
            Request::Checksum { addr, len } => cluster.checksum(addr, len).map(|crc32| Answer::Checksum { crc32 }),
            Request::Cas { addr, old, new } => {
                let exchanged = cluster.compare_exchange(addr, old, new)?;
                Ok(Answer::Exchanged { swapped: exchanged.swapped, value: exchanged.previous })
            }
            Request::Add { addr, delta } => cluster.fetch_add(addr, delta).map(|value| Answer::Value { value }),
            Request::Swap { addr, new } => cluster.swap(addr, new).map(|value| Answer::Value { value }),
            Request::Status => Ok(Answer::Status(Box::new(ClusterStatus::ask(&self.config, cluster)))),
            _ => unreachable!("`run` has taken it"),
        }
    }

    fn snapshot(&self, incremental: bool) -> anyhow::Result<Answer> {
        let created = mcomp_snapshot::create(&self.config, incremental, &mut |_| ())?;
        Ok(Answer::Snapshot {
            path: created.path,
            cut: created.cut.to_string(),
            bytes: created.memory_bytes,
            hold_us: created.hold_us,
        })
    }
}

fn answer_of(region: Region) -> Answer {
    let Region { addr, size, generation, lease, .. } = region;
    let (lease, fence) = lease.map(|lease| (lease.id.to_string(), lease.fence)).unzip();
    Answer::Region { addr, size, generation, lease, fence }
}

/// Whether a request is about what the servers agree on.
fn is_agreed_on(request: &Request) -> bool {
    use Request::{Alloc, Free, Lock, Realloc, Release, Renew, Unlock};
    matches!(
        request,
        Alloc { .. } | Free { .. } | Realloc { .. } | Renew { .. } | Release { .. } | Lock { .. } | Unlock { .. }
    )
}
