//! Gathering the chunks of all servers into one file.
//!
//! One thread per snapshot process receives, one writes. Between them stands a short queue: the
//! master's memory does not grow with the cluster, and a slow disk slows the copies down, never the
//! servers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use mcomp_config::Config;
use mcomp_net::{CallError, Connection, Endpoint, Stream};
use mcomp_wire::control::{self, SnapshotCollect, SnapshotProgress};
use mcomp_wire::{Chunk, Kind, Role};

use crate::SnapshotError;
use crate::cut::{hello, timeouts};
use crate::file::{Codec, EncodedChunk, Writer};

/// Chunks that wait for the disk at most, from all servers together.
const QUEUE: usize = 16;

/// How often a writer without work looks whether it should stop.
const LOOK: Duration = Duration::from_millis(100);

/// A connection to the snapshot process of one server.
#[derive(Debug)]
pub(crate) struct Copier {
    name: String,
    server: usize,
    connection: Connection,
}

/// What a receiving thread has to say.
enum Event {
    Chunk(EncodedChunk),
    Progress { server: usize, progress: SnapshotProgress },
    Failed(SnapshotError),
}

impl Copier {
    /// Connects to all snapshot processes, so that one that is down is known before the cut.
    pub(crate) fn connect_all(config: &Config) -> Result<Vec<Copier>, SnapshotError> {
        (0..config.n()).map(|id| Copier::connect(config, id)).collect()
    }

    fn connect(config: &Config, id: u32) -> Result<Copier, SnapshotError> {
        let address = snapshot_address(config, id)?;
        let name = format!("snapshot process {id} ({address})");
        match Connection::open(&Endpoint::Tcp(address), &hello(config, id, Role::Node), timeouts(config)) {
            Ok(connection) => Ok(Copier { name, server: id as usize, connection }),
            Err(error) => Err(SnapshotError::connect(name, error)),
        }
    }

    fn handle(&self) -> Result<Stream, SnapshotError> {
        let cloned = self.connection.stream().try_clone();
        cloned.map_err(|error| SnapshotError::call(&self.name, error.into()))
    }

    /// Receives until the last frame. Ends early when nobody takes what it receives.
    fn receive(mut self, request: &SnapshotCollect, events: &SyncSender<Event>) {
        if let Err(error) = self.receive_all(request, events) {
            // Nobody listens only when another failure came first.
            let _ = events.send(Event::Failed(SnapshotError::call(&self.name, error)));
        }
    }

    fn receive_all(&mut self, request: &SnapshotCollect, events: &SyncSender<Event>) -> Result<(), CallError> {
        self.connection.start(Kind::SnapshotCollect, &control::encode(request))?;
        loop {
            let server = self.server;
            let (header, body) = self.connection.next_answer()?;
            let event = match Kind::from_wire(header.kind) {
                Some(Kind::SnapshotChunk) => Event::Chunk(read_chunk(body)?),
                Some(Kind::SnapshotProgress) => Event::Progress { server, progress: control::decode(body)? },
                Some(Kind::SnapshotCollect) => return Ok(()),
                _ => return Err(CallError::Answer(format!("unexpected frame: {header}"))),
            };
            if events.send(event).is_err() {
                return Ok(());
            }
        }
    }
}

/// Has every copier copy its segment, and writes what comes.
pub(crate) fn gather(
    copiers: Vec<Copier>,
    requests: &[SnapshotCollect],
    writer: &mut Writer,
    stopping: &AtomicBool,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<(), SnapshotError> {
    let handles: Vec<Stream> = copiers.iter().map(Copier::handle).collect::<Result<_, _>>()?;
    let (sender, events) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        for (copier, request) in copiers.into_iter().zip(requests) {
            let sender = sender.clone();
            let name = format!("receive-{}", copier.server);
            std::thread::Builder::new()
                .name(name)
                .stack_size(256 << 10)
                .spawn_scoped(scope, move || copier.receive(request, &sender))
                .map_err(SnapshotError::Thread)?;
        }
        drop(sender);
        let written = write_all(events, requests.len(), writer, stopping, progress);
        // After a failure the others must not go on waiting for their peers.
        handles.iter().for_each(Stream::shutdown);
        written
    })
}

fn write_all(
    events: Receiver<Event>,
    servers: usize,
    writer: &mut Writer,
    stopping: &AtomicBool,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<(), SnapshotError> {
    let mut by_server = vec![SnapshotProgress { done: 0, total: 0 }; servers];
    loop {
        match events.recv_timeout(LOOK) {
            Ok(Event::Chunk(chunk)) => writer.append(&chunk)?,
            Ok(Event::Progress { server, progress: one }) => {
                by_server[server] = one;
                progress(sum(&by_server));
            }
            Ok(Event::Failed(error)) => return Err(error),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // Relaxed: a flag, looked at again soon.
        if stopping.load(Ordering::Relaxed) {
            return Err(SnapshotError::stopped());
        }
    }
}

/// All servers together. The numbers are the peers', so they may be anything.
fn sum(by_server: &[SnapshotProgress]) -> SnapshotProgress {
    let sum = |part: fn(&SnapshotProgress) -> u64| by_server.iter().map(part).fold(0, u64::saturating_add);
    SnapshotProgress { done: sum(|one| one.done), total: sum(|one| one.total) }
}

fn read_chunk(body: &[u8]) -> Result<EncodedChunk, CallError> {
    let chunk = Chunk::parse(body)?;
    let unknown = || CallError::Answer(format!("chunk codec {}", chunk.codec));
    let codec = Codec::from_number(chunk.codec).ok_or_else(unknown)?;
    EncodedChunk::from_parts(chunk.addr, chunk.length, codec, chunk.crc, chunk.stored.to_vec())
        .map_err(|error| CallError::Answer(error.to_string()))
}

/// Where the snapshot process of a server is.
pub(crate) fn snapshot_address(config: &Config, id: u32) -> Result<String, SnapshotError> {
    let entry = config.server(id).map_err(|error| SnapshotError::Config(error.to_string()))?;
    match &entry.snapshot {
        Some(address) => Ok(address.to_string()),
        None => Err(SnapshotError::Config(format!(
            "server {id} has no snapshot process in mcomp.cfg: add `snapshot = \"host:port\"` to its [[server]]"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_peers_do_not_overflow() {
        let one = SnapshotProgress { done: 1, total: u64::MAX };
        let all = sum(&[one.clone(), one]);
        assert_eq!((all.done, all.total), (2, u64::MAX));
    }
}
