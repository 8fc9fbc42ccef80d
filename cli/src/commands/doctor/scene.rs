//! What all checks look at: the configuration, and what this machine and the cluster say about it. It is gathered
//! once, so that all findings are about one moment.

use std::net::IpAddr;
use std::path::Path;

use mcomp_client::Cluster;
use mcomp_config::{Config, ServerEntry};
use mcomp_net::auth::{Keyring, SecretError};
use mcomp_shm::{Found, Listed, ShmError, Sizes, Spec, list, look};
use mcomp_snapshot::file::{Entry, FileError, Folder};

use super::finding::quoted;
use crate::commands::status::ClusterStatus;

/// The configuration and the world.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) config: Config,
    /// The servers of the configuration that are on this machine, by id.
    pub(super) locals: Vec<Local>,
    /// The secret that the configuration names, or why it cannot be had.
    pub(super) secret: Result<Option<Keyring>, SecretError>,
    /// What every process of the cluster says.
    pub(super) status: ClusterStatus,
    /// The cluster's segments on this machine, or why they cannot be listed.
    pub(super) segments: Result<Vec<Listed>, String>,
    /// The snapshot folder and what is in it, or why it cannot be read.
    pub(super) snapshots: Result<(Folder, Vec<Entry>), FileError>,
    /// The flags with which another command finds the same configuration, as a shell reads them.
    pub(super) flags: String,
    /// Whether to tell about other clusters too.
    pub(super) verbose: bool,
}

/// A server that belongs to this machine.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) id: u32,
    pub(super) entry: ServerEntry,
    /// What its segment takes.
    pub(super) sizes: Sizes,
    /// What its next start would find.
    pub(super) found: Result<Found, ShmError>,
    /// Bytes that its segment takes now, 0 when there is none.
    pub(super) allocated_bytes: u64,
    /// The process that serves it and answers.
    pub(super) server_pid: Option<u32>,
    /// The snapshot process that answers.
    pub(super) snapshotter_pid: Option<u32>,
}

impl Local {
    /// Whether a server that starts now finds memory that it can take over, or runs already.
    pub(super) fn has_memory(&self) -> bool {
        self.server_pid.is_some() || matches!(self.found, Ok(Found::Served { .. } | Found::Left { .. }))
    }

    /// The process that holds the segment, also one that does not answer.
    pub(super) fn holder(&self) -> Option<u32> {
        match self.found {
            Ok(Found::Served { pid }) => Some(pid),
            _ => None,
        }
    }
}

impl Scene {
    /// Looks at everything. Fails when the configuration describes no possible segment. `is_local` is
    /// [`is_local_ip`](mcomp_config::is_local_ip) outside of tests.
    pub(super) fn look(
        config: Config,
        data: Option<&Path>,
        verbose: bool,
        is_local: impl Fn(IpAddr) -> bool,
    ) -> anyhow::Result<Scene> {
        let secret = config.secret_file().map(Keyring::load).transpose();
        let status = match &secret {
            Ok(_) => ask(&config)?,
            // Nobody answers who does not prove a key, so nobody is asked.
            Err(error) => ClusterStatus::unasked(&config, &error.to_string()),
        };
        let segments = list(config.name()).map_err(|error| error.to_string());
        let mut locals = Vec::new();
        for id in config.server_ids_local(is_local) {
            let replicas = config.replicas();
            let k_bytes = config.k() * u64::from(replicas);
            let spec = Spec { cluster: config.name().to_owned(), id, n: config.n(), k_bytes, registers: replicas > 1 };
            let listed = segments.iter().flatten().find(|listed| listed.id == id);
            let snapshotter = status.snapshotters.iter().find(|process| process.id == id);
            locals.push(Local {
                id,
                entry: config.server(id)?.clone(),
                sizes: spec.sizes()?,
                found: look(&spec),
                allocated_bytes: listed.map_or(0, |listed| listed.allocated_bytes),
                server_pid: status.servers[id as usize].said.as_ref().ok().map(|said| said.pid),
                snapshotter_pid: snapshotter.and_then(|process| Some(process.said.as_ref().ok()?.pid)),
            });
        }
        let snapshots = Folder::open(&config.snapshot().dir).and_then(|folder| {
            let entries = folder.list()?;
            Ok((folder, entries))
        });
        let data = data.map_or(String::new(), |data| format!(" --data {}", quoted(data)));
        let flags = format!("--config {}{data}", quoted(config.path()));
        Ok(Scene { config, locals, secret, status, segments, snapshots, flags, verbose })
    }

    /// The server of this id, if it belongs to this machine.
    pub(super) fn local(&self, id: u32) -> Option<&Local> {
        self.locals.iter().find(|local| local.id == id)
    }

    /// The ids of the servers of this machine.
    pub(super) fn local_ids(&self) -> Vec<u32> {
        self.locals.iter().map(|local| local.id).collect()
    }

    /// Whether snapshots are made without being asked for.
    pub(super) fn is_scheduled(&self) -> bool {
        self.config.snapshot().every.is_some()
    }
}

/// What every process says; nothing where no certificate of ours can be shown to it, which is a finding of its own.
fn ask(config: &Config) -> Result<ClusterStatus, mcomp_client::Error> {
    match Cluster::connect(config) {
        Ok(cluster) => Ok(ClusterStatus::ask(config, &cluster)),
        Err(error) if config.tls().is_some() => Ok(ClusterStatus::unasked(config, &error.to_string())),
        Err(error) => Err(error),
    }
}
