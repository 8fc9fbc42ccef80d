//! Why a server does not start.

use std::io;
use std::path::PathBuf;

use mcomp_net::Endpoint;
use mcomp_net::auth::SecretError;
use mcomp_net::tls::TlsError;
use mcomp_shm::ShmError;

use crate::metadata::MetadataError;
use crate::preflight;

/// Why a server does not start. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The id is not in mcomp.cfg.
    #[error("server {id} does not exist: mcomp.cfg has servers 0 to {last}")]
    NoSuchServer {
        /// As asked.
        id: u32,
        /// The highest there is.
        last: u32,
    },
    /// The segment cannot be had.
    #[error(transparent)]
    Segment(#[from] ShmError),
    /// Another process serves the segment, and keeps it.
    #[error("{path} is being served by process {pid}, which does not hand it over: {why}", path = path.display())]
    Held {
        /// The segment's file.
        path: PathBuf,
        /// The process.
        pid: u32,
        /// What it said, and the way out.
        why: String,
    },
    /// Another process serves the segment, and another user listens where it should.
    #[error("{path} is being served by process {pid}, and its Unix socket is held by user {theirs}, while this is user {ours}: stop process {pid} with `kill {pid}`, and find out what that user runs", path = path.display())]
    Impostor {
        /// The segment's file.
        path: PathBuf,
        /// The process that serves it.
        pid: u32,
        /// The user that holds the socket.
        theirs: u32,
        /// The user of this process.
        ours: u32,
    },
    /// The address cannot be listened on.
    #[error("server {id} cannot listen on {endpoint}: {source}")]
    Listen {
        /// Which server.
        id: u32,
        /// Where.
        endpoint: Endpoint,
        /// What the operating system said.
        source: io::Error,
    },
    /// The process may not make a file as large as the segment.
    #[error("{}", preflight::file_size_sentence(*needed_bytes, *limit_bytes))]
    FileSize {
        /// What the segment takes, its shadow area included.
        needed_bytes: u64,
        /// What the process may have.
        limit_bytes: u64,
    },
    /// The operation log cannot be opened.
    #[error("the operation log {path} cannot be opened: {source}", path = path.display())]
    OpLog {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log of the metadata cannot be had.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificates cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Others could reach it, and it has no secret to know its clients by.
    #[error(
        "server {id} listens on {address}, which is not a loopback address, and there is no secret: anybody who \
         reaches it could read and change the memory. Make one with `mcomp secret create`, and name it in mcomp.cfg \
         on every machine: [security] secret_file = \"mcomp.secret\""
    )]
    Exposed {
        /// Which server.
        id: u32,
        /// Where.
        address: String,
    },
    /// Others could read its metrics, and it has no secret that says that it is meant for others.
    #[error(
        "server {id} answers HTTP on {address}, which is not a loopback address, and there is no secret: anybody who \
         reaches it could read its metrics. Write http = \"127.0.0.1:PORT\", or make a secret with `mcomp secret create`"
    )]
    ExposedHttp {
        /// Which server.
        id: u32,
        /// Where.
        address: String,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
}
