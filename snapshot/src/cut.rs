//! The cut across all servers, as the master sees it.
//!
//! Prepare everyone, switch everyone, release everyone; each step is sent to all before any answer
//! is awaited. Between switch and release the servers hold their answers, so nothing but messages
//! happens there. A cut that is dropped without [`Cut::end`] is given up at every server that can
//! still be reached; at the others it ends when its connection closes.

use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::auth::Keyring;
use mcomp_net::tls::Tls;
use mcomp_net::{CallError, Connection, Endpoint, Timeouts, Trust};
use mcomp_shm::mutant;
use mcomp_wire::control::{
    self, CutEnd, CutPrepare, CutPrepared, CutRelease, CutReleased, CutSettle, CutSwitch, Hello,
};
use mcomp_wire::{Kind, Role, Status, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::SnapshotError;
use crate::file::FileKeys;

/// How long a server may take to find memory for its shadow area.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);

/// A cut in progress.
#[derive(Debug)]
pub(crate) struct Cut {
    id: Uuid,
    epoch: u64,
    servers: Vec<Party>,
    /// For the blocks of each server, in order, from where they are copied.
    sources: Vec<Source>,
    hold: Duration,
    open: bool,
    /// How long all servers together may take to answer, but for the first step.
    timeout: Duration,
}

/// Where the blocks of one server are copied, and what was said there when the cut was prepared.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) server: u32,
    pub(crate) prepared: CutPrepared,
}

/// One server's connection.
#[derive(Debug)]
struct Party {
    id: u32,
    name: String,
    connection: Connection,
}

impl Cut {
    /// Cuts all servers of the cluster at one instant; of replicated memory, those that can be reached. Blocks are to
    /// be copied only where `can_copy` says so.
    pub(crate) fn make(config: &Config, id: Uuid, can_copy: impl Fn(u32) -> bool) -> Result<Cut, SnapshotError> {
        let (servers, timeout) = (connect(config)?, config.client().timeout);
        let mut cut = Cut { id, epoch: 0, servers, sources: Vec::new(), hold: Duration::ZERO, open: true, timeout };
        let cutting = cut.cut_all(config, can_copy);
        if let Err(error) = cutting {
            cut.end(Some(&error.to_string()));
            return Err(error);
        }
        Ok(cut)
    }

    fn cut_all(&mut self, config: &Config, can_copy: impl Fn(u32) -> bool) -> Result<(), SnapshotError> {
        let (id, timeout) = (self.id, self.timeout);
        let prepared: Vec<CutPrepared> = self.ask_all(Kind::CutPrepare, &CutPrepare { cut: id }, PREPARE_TIMEOUT)?;
        self.epoch = next_epoch(prepared.iter().map(|prepared| prepared.epoch));
        let parties: Vec<Source> = self.servers.iter().map(|party| party.id).zip(prepared).map(Source::of).collect();
        self.sources = sources(config, &parties, can_copy)?;
        let began = Instant::now();
        let switch = CutSwitch { cut: id, epoch: self.epoch };
        self.ask_all::<_, ()>(Kind::CutSwitch, &switch, timeout)?;
        if config.replicas() > 1 {
            self.settle(timeout)?;
        }
        let released: Vec<CutReleased> = self.ask_all(Kind::CutRelease, &CutRelease { cut: id }, timeout)?;
        let longest = released.iter().map(|released| released.held_us).max();
        self.hold = Duration::from_micros(longest.unwrap_or(0));
        tracing::debug!(cut = %id, epoch = self.epoch, held = ?self.hold, took = ?began.elapsed(), "cut");
        Ok(())
    }

    /// Has the blocks that are to be copied brought up to date, each server those that it keeps.
    fn settle(&mut self, timeout: Duration) -> Result<(), SnapshotError> {
        let (cut, mut sent) = (self.id, Vec::new());
        for party in &mut self.servers {
            let of_party = (0..).zip(&self.sources).filter(|(_, source)| source.server == party.id);
            let homes: Vec<u32> = of_party.map(|(home, _)| home).collect();
            if !homes.is_empty() {
                let body = control::encode(&CutSettle { cut, homes });
                party
                    .connection
                    .start(Kind::CutSettle, &body)
                    .map_err(|error| SnapshotError::call(&party.name, error))?;
                sent.push(party);
            }
        }
        // Every answer is taken, so that the connections stay usable for the end of the cut.
        let answers: Vec<Result<(), SnapshotError>> = answers::<()>(sent, timeout).collect();
        answers.into_iter().collect()
    }

    /// Names the cut.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// The epoch that began with the cut: the snapshot holds what was written before it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The longest time for which a server held answers.
    pub(crate) fn hold(&self) -> Duration {
        self.hold
    }

    /// From where the blocks of each server are to be copied, in order.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Ends the cut: the servers free their shadow areas. `failure` says why there is no snapshot.
    pub(crate) fn end(mut self, failure: Option<&str>) {
        self.end_all(failure);
    }

    fn end_all(&mut self, failure: Option<&str>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let body = control::encode(&CutEnd {
            cut: self.id,
            failure: failure.map(|failure| limits::cut_message(failure).to_owned()),
        });
        let mut asked = Vec::new();
        for party in &mut self.servers {
            // A server that is gone ends the cut by itself when it notices, or when it starts again.
            if party.connection.start(Kind::CutEnd, &body).is_ok() {
                asked.push(party);
            }
        }
        for answer in answers::<()>(asked, self.timeout) {
            if let Err(error) = answer {
                tracing::debug!(%error, "the end of the cut was not acknowledged");
            }
        }
    }

    /// Sends to all, then waits for all, no longer than `timeout`. The first failure counts, but every answer is
    /// taken, so that the connections stay usable for the end of the cut.
    fn ask_all<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        kind: Kind,
        request: &Q,
        timeout: Duration,
    ) -> Result<Vec<A>, SnapshotError> {
        let body = control::encode(request);
        let mut failure = None;
        let mut sent = Vec::with_capacity(self.servers.len());
        for party in &mut self.servers {
            if kind == Kind::CutSwitch && !sent.is_empty() {
                mutant::stretch_switch();
            }
            match party.connection.start(kind, &body) {
                Ok(_) => sent.push(party),
                Err(error) => {
                    failure.get_or_insert(SnapshotError::call(&party.name, error));
                }
            }
        }
        let mut taken = Vec::with_capacity(sent.len());
        for answer in answers(sent, timeout) {
            match answer {
                Ok(answer) => taken.push(answer),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(taken), Err)
    }
}

impl Source {
    fn of((server, prepared): (u32, CutPrepared)) -> Source {
        Source { server, prepared }
    }
}

/// Where the blocks of each server are copied: at the first of its replicas that has them whole, and whose snapshot
/// process is there. Of each most replicas have to take part, or others might go on without them.
fn sources(config: &Config, parties: &[Source], can_copy: impl Fn(u32) -> bool) -> Result<Vec<Source>, SnapshotError> {
    let (n, replicas) = (config.n(), config.replicas());
    let of = |home: u32| {
        let server = |replica: u32| (home + replica) % n;
        let present = (0..replicas).filter_map(|replica| parties.iter().find(|party| party.server == server(replica)));
        if present.clone().count() as u32 <= replicas / 2 {
            return Err(missing(format!("no majority of the servers that keep the memory of server {home} is there")));
        }
        let source = present.clone().find(|party| party.prepared.is_whole && can_copy(party.server));
        source.cloned().ok_or_else(|| {
            missing(format!("no server whose snapshot process is there has all the memory of server {home}"))
        })
    };
    (0..n).map(of).collect()
}

fn missing(reason: String) -> SnapshotError {
    SnapshotError::Unavailable { who: "a part of the memory".to_owned(), reason }
}

impl Party {
    fn answer<A: DeserializeOwned>(&mut self, deadline: Instant) -> Result<A, CallError> {
        self.connection.set_request_timeout(deadline.saturating_duration_since(Instant::now()))?;
        let (_, body) = self.connection.next_answer()?;
        Ok(control::decode(body)?)
    }
}

/// Takes an answer of each, with one deadline for all: two frozen servers take no longer than one.
fn answers<A: DeserializeOwned>(
    parties: Vec<&mut Party>,
    timeout: Duration,
) -> impl Iterator<Item = Result<A, SnapshotError>> {
    let deadline = Instant::now() + timeout;
    parties.into_iter().map(move |party| {
        party.answer(deadline).map_err(|error| match error {
            // What was left of it for this one says nothing to anybody.
            CallError::TimedOut(_) => SnapshotError::call(&party.name, CallError::TimedOut(timeout)),
            error => SnapshotError::call(&party.name, error),
        })
    })
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.end_all(Some("the snapshot was given up"));
    }
}

/// The epoch after the newest of all servers; where there is none after it, the servers refuse it.
pub(crate) fn next_epoch(epochs: impl Iterator<Item = u64>) -> u64 {
    epochs.max().unwrap_or(0).saturating_add(1)
}

/// Whether another cut right away may succeed: the servers were only too slow.
pub(crate) fn is_worth_retrying(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Refused { status: Status::CutLost, .. })
}

fn connect(config: &Config) -> Result<Vec<Party>, SnapshotError> {
    let party = |(id, entry): (u32, &mcomp_config::ServerEntry)| {
        let address = entry.address.to_string();
        let name = format!("server {id} ({address})");
        let connection = open(config, address, id, Role::Node, &name)?;
        Ok(Party { id, name, connection })
    };
    let opened = (0..).zip(config.servers()).map(party);
    if config.replicas() == 1 {
        return opened.collect();
    }
    // Replicas take the place of whoever is not there; whether there are enough is seen later. Nobody takes the place of
    // one that is there and means another cluster, or has grown to be one.
    let is_wrong = |error: &SnapshotError| matches!(error, SnapshotError::Refused { status: Status::WrongCluster, .. });
    opened.filter(|opened| opened.as_ref().map_or_else(is_wrong, |_| true)).collect()
}

/// A connection of a snapshot process, or of someone who asks one. The secret and the certificates are read anew for
/// each, so that new ones are used without a restart.
pub(crate) fn open(
    config: &Config,
    address: String,
    server: u32,
    role: Role,
    name: &str,
) -> Result<Connection, SnapshotError> {
    let hello = Hello {
        cluster: config.name().to_owned(),
        role,
        server,
        k: config.k(),
        n: config.n(),
        session: Uuid::nil(),
        features: 0,
        auth: Vec::new(),
    };
    let (keyring, tls) = (keyring(config)?, tls(config)?);
    let trust = Trust { keyring: keyring.as_ref(), tls: tls.as_ref() };
    let opened = Connection::open(&Endpoint::Tcp(address), &hello, timeouts(config), trust);
    opened.map_err(|error| SnapshotError::connect(name, error))
}

/// The cluster's secret, if it has one.
pub(crate) fn keyring(config: &Config) -> Result<Option<Keyring>, SnapshotError> {
    Ok(config.secret_file().map(Keyring::load).transpose()?)
}

/// The keys that snapshot files are signed with, if the cluster has a secret.
///
/// # Errors
///
/// [`SnapshotError::Secret`] when mcomp.cfg names a secret that cannot be had.
pub fn file_keys(config: &Config) -> Result<Option<FileKeys>, SnapshotError> {
    Ok(keyring(config)?.as_ref().map(FileKeys::of))
}

/// The certificates of this machine, if connections are to be secret.
fn tls(config: &Config) -> Result<Option<Tls>, SnapshotError> {
    Ok(config.tls().map(|files| Tls::load(&files.ca, &files.cert, &files.key)).transpose()?)
}

fn timeouts(config: &Config) -> Timeouts {
    Timeouts { connect: config.client().connect_timeout, request: config.client().timeout }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::FarSide;

    #[test]
    fn frozen_servers_share_one_deadline() {
        let mut far: Vec<FarSide> = (0..2).map(|_| FarSide::start(|_, _| {})).collect();
        let party = |far: &mut FarSide| Party { id: 0, name: "a server".to_owned(), connection: far.connect() };
        let mut parties: Vec<Party> = far.iter_mut().map(party).collect();
        for party in &mut parties {
            party.connection.start(Kind::CutEnd, &[]).unwrap();
        }
        let timeout = Duration::from_millis(300);
        let deadline = Instant::now() + timeout;
        let waits: Vec<Duration> = parties.iter_mut().map(|party| waited(party.answer::<()>(deadline))).collect();
        assert!(waits[1] < timeout / 2, "the second waited anew: {waits:?}");
    }

    /// How long a call was ready to wait that got no answer.
    fn waited(answer: Result<(), CallError>) -> Duration {
        match answer {
            Err(CallError::TimedOut(wait)) => wait,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_epoch_of_a_server_does_not_overflow() {
        assert_eq!(next_epoch([3, 9, 4].into_iter()), 10);
        assert_eq!(next_epoch([1, u64::MAX].into_iter()), u64::MAX);
    }
}
