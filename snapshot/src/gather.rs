//! Gathering the chunks of all servers into one file.
//!
//! One thread per snapshot process receives, one writes. Between them stands a short queue: the
//! master's memory does not grow with the cluster, and a slow disk slows the copies down, never the
//! servers.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use mcomp_config::Config;
use mcomp_net::{CallError, Connection, Stream};
use mcomp_wire::control::{self, SnapshotCollect, SnapshotCollected, SnapshotProgress};
use mcomp_wire::{Chunk, Kind, Role};

use crate::SnapshotError;
use crate::cut::{Source, open};
use crate::file::{Codec, EncodedChunk, Writer};
use crate::limit::Limit;

/// Chunks that wait for the disk at most, from all servers together.
const QUEUE: usize = 16;

/// How often a writer without work looks whether it should stop.
const LOOK: Duration = Duration::from_millis(100);

/// A connection to the snapshot process of one server.
#[derive(Debug)]
pub(crate) struct Copier {
    name: String,
    /// Whose memory it copies.
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
    /// Connects to all snapshot processes, so that one that is down is known before the cut. Where others have the same
    /// memory, they take its place.
    pub(crate) fn connect_all(config: &Config) -> Result<Vec<Option<Copier>>, SnapshotError> {
        let connect = |id| match Copier::connect(config, id) {
            Err(error) if config.replicas() > 1 => {
                tracing::warn!(%error, "a snapshot process is missing");
                Ok(None)
            }
            connected => connected.map(Some),
        };
        (0..config.n()).map(connect).collect()
    }

    /// For the memory of each server, in order, the copier that is to copy it: of those that are there, or a new one where
    /// one has more than its own to copy.
    pub(crate) fn for_sources(
        config: &Config,
        mut there: Vec<Option<Copier>>,
        sources: &[Source],
    ) -> Result<Vec<Copier>, SnapshotError> {
        let of = |(home, source): (usize, &Source)| {
            let taken = there.get_mut(source.server as usize).and_then(Option::take);
            let copier = taken.map_or_else(|| Copier::connect(config, source.server), Ok)?;
            Ok(Copier { server: home, ..copier })
        };
        sources.iter().enumerate().map(of).collect()
    }

    fn connect(config: &Config, id: u32) -> Result<Copier, SnapshotError> {
        let address = snapshot_address(config, id)?;
        let name = format!("snapshot process {id} ({address})");
        let connection = open(config, address, id, Role::Node, &name)?;
        Ok(Copier { name, server: id as usize, connection })
    }

    fn handle(&self) -> Stream {
        self.connection.stream().handle()
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
        let mut chunks = 0;
        loop {
            let server = self.server;
            let (header, body) = self.connection.next_answer()?;
            let event = match Kind::from_wire(header.kind) {
                Some(Kind::SnapshotChunk) => {
                    chunks += 1;
                    Event::Chunk(read_chunk(body)?)
                }
                Some(Kind::SnapshotProgress) => Event::Progress { server, progress: control::decode(body)? },
                Some(Kind::SnapshotCollect) => return check_count(chunks, &control::decode(body)?),
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
    limit: &Limit<'_>,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<(), SnapshotError> {
    let handles: Vec<Stream> = copiers.iter().map(Copier::handle).collect();
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
        let written = write_all(events, requests.len(), writer, limit, progress);
        // After a failure the others must not go on waiting for their peers.
        handles.iter().for_each(Stream::shutdown);
        written
    })
}

fn write_all(
    events: Receiver<Event>,
    servers: usize,
    writer: &mut Writer,
    limit: &Limit<'_>,
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
        limit.check()?;
    }
}

/// All servers together. The numbers are the peers', so they may be anything.
fn sum(by_server: &[SnapshotProgress]) -> SnapshotProgress {
    let sum = |part: fn(&SnapshotProgress) -> u64| by_server.iter().map(part).fold(0, u64::saturating_add);
    SnapshotProgress { done: sum(|one| one.done), total: sum(|one| one.total) }
}

/// A chunk that was lost on the way would be memory that the file says is zero.
fn check_count(received: u64, done: &SnapshotCollected) -> Result<(), CallError> {
    match done.chunks {
        sent if sent == received => Ok(()),
        sent => Err(CallError::Answer(format!("{received} chunks came, and {sent} were sent"))),
    }
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
    use std::sync::atomic::AtomicBool;

    use mcomp_wire::Header;
    use uuid::Uuid;

    use super::*;
    use crate::file::{Folder, Meta, ServerRecord};
    use crate::fixture::FarSide;

    /// What comes of a copy whose process sends one chunk and says that it has sent `said`.
    fn receive(said: u64) -> Option<SnapshotError> {
        let mut far = FarSide::start(move |far, request| {
            let chunk = EncodedChunk::encode(Uuid::nil(), 0, &[7; 4096], 0).unwrap();
            let head = Chunk {
                addr: chunk.address(),
                length: chunk.length(),
                crc: chunk.crc(),
                codec: chunk.codec() as u8,
                stored: chunk.stored(),
            };
            let chunk = Header { kind: Kind::SnapshotChunk as u8, flags: mcomp_wire::flags::MORE, ..request };
            far.answer(chunk, &[&head.emit_head(), head.stored].concat());
            far.answer(request, &control::encode(&SnapshotCollected { chunks: said }));
        });
        let copier = Copier { name: "a copier".into(), server: 0, connection: far.connect() };
        let (sender, events) = sync_channel(QUEUE);
        let request = SnapshotCollect { cut: Uuid::nil(), epoch: 1, segment: Uuid::nil(), since: 0, level: 0, home: 0 };
        copier.receive(&request, &sender);
        drop(sender);
        events.iter().find_map(|event| if let Event::Failed(error) = event { Some(error) } else { None })
    }

    /// Servers and snapshot processes that are alive and never done are no reason to wait for ever.
    #[test]
    fn the_master_gives_up_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open_or_create(dir.path()).unwrap();
        let segment = ServerRecord { segment: Uuid::nil(), change_from_epoch: 0, cut_epoch: 2 };
        let meta = Meta {
            cluster: "demo".into(),
            k_bytes: 4096,
            servers: vec![segment],
            cut: Uuid::from_u128(1),
            parent: None,
            cut_epoch: 2,
            config_epoch: 1,
            created_us: 0,
        };
        let mut writer = Writer::create(folder.dir(), meta).unwrap();
        let mut far = FarSide::start(|_, _| {});
        let copiers = vec![Copier { name: "a copier".into(), server: 0, connection: far.connect() }];
        let request = SnapshotCollect { cut: Uuid::nil(), epoch: 2, segment: Uuid::nil(), since: 0, level: 0, home: 0 };
        let going = AtomicBool::new(false);
        let limit = Limit::new(&going, Duration::from_millis(1));
        let given_up = gather(copiers, &[request], &mut writer, &limit, &mut |_| {}).unwrap_err();
        assert_eq!(given_up.kind(), "cut_lost", "{given_up}");
    }

    #[test]
    fn a_chunk_that_does_not_arrive_fails_the_snapshot() {
        assert!(receive(1).is_none());
        let failed = receive(2).expect("one chunk is missing").to_string();
        assert!(failed.contains("1 chunks came, and 2 were sent"), "{failed}");
    }

    #[test]
    fn numbers_of_peers_do_not_overflow() {
        let one = SnapshotProgress { done: 1, total: u64::MAX };
        let all = sum(&[one.clone(), one]);
        assert_eq!((all.done, all.total), (2, u64::MAX));
    }
}
