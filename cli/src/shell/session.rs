//! The shell's side of the cluster: runs one request after the other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcomp_client::{Cluster, Error};
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
}

/// One cluster, as long as the shell runs.
#[derive(Debug)]
pub(super) struct Session {
    config: Config,
    cluster: Cluster,
}

impl Session {
    /// Connects to nobody yet.
    pub(super) fn open(globals: &Globals) -> anyhow::Result<Session> {
        let config = globals.config()?;
        let cluster = Cluster::connect(&config)?;
        Ok(Session { config, cluster })
    }

    /// Runs one request. After an error that says that the memory was restored, the next request
    /// meets the memory as it is now: who sends it has been told.
    pub(super) fn run(&self, request: Request) -> anyhow::Result<Answer> {
        if let Request::Snapshot { incremental } = request {
            return self.snapshot(incremental);
        }
        let answer = self.ask(request);
        if matches!(answer, Err(Error::Fenced { .. })) {
            self.cluster.reconnect();
        }
        Ok(answer?)
    }

    fn ask(&self, request: Request) -> Result<Answer, Error> {
        let cluster = &self.cluster;
        let nothing = |()| Answer::Nothing {};
        match request {
            Request::Read { addr, len } => {
                let bytes = cluster.read_vec(addr, len)?;
                Ok(Answer::Data { data: STANDARD.encode(bytes) })
            }
            Request::Write { addr, data } => cluster.write_at(addr, &data).map(nothing),
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
            Request::Snapshot { .. } => unreachable!("`run` has taken it"),
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
