//! The cluster as one memory: ranges of bytes, split over the servers that hold them.
//!
//! This file has what works on one range; atomics, copies, vectors, batches, streams and status are
//! in files of their own, all on [`Cluster`].

use std::sync::Arc;

use mcomp_config::Config;
use mcomp_net::auth::Keyring;
use mcomp_net::tls::Tls;
use mcomp_wire::meta::Fence;
use mcomp_wire::{Piece, Range, Request, Space, limits};

use crate::added::Added;
use crate::agreed::Doors;
use crate::ask::Ask;
use crate::era::Eras;
use crate::lane::Lane;
use crate::moved::Asked;
use crate::pool::{Lease, Pool};
use crate::sink::Sink;
use crate::transfer::{OnFailure, drive, single, verdict};
use crate::{Error, Options};

/// Bytes of one piece of a long read or write: as many as a frame may carry, because every frame wakes a
/// thread, and that costs more than what a smaller one saves in the cache.
pub(crate) const PIECE: u64 = limits::MAX_PAYLOAD as u64;

/// One address space over all servers. Clones share their connections; every method may be called
/// from many threads at once.
///
/// Addresses and lengths are bytes; addresses start at 0 and end before [`Cluster::size`]. All
/// methods refuse a range outside it with [`Error::OutOfRange`] before anything is sent, and do
/// nothing for a length of zero.
///
/// When a server says that the memory was restored from a snapshot ([`Error::Fenced`]), this cluster
/// and its clones refuse all further calls until [`Cluster::reconnect`]: what the program knows of
/// the old contents no longer holds.
///
/// # Errors
/// A call that changes memory over more than one block is a sequence of pieces. When one of them
/// fails and another may have been done, the error's [`outcome`](Error::outcome) is unknown, and its
/// sentence names the piece that failed. A server that cannot be reached at all is found out before
/// any piece is sent.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
    /// The era that the calls on it live in, where several of them are steps of one.
    bound: Option<u32>,
    /// What its calls show to write to guarded memory.
    fence: Option<Fence>,
}

#[derive(Debug)]
struct Inner {
    space: Space,
    replicas: u32,
    pools: Vec<Pool>,
    added: Added,
    eras: Eras,
    doors: Doors,
    asked: Asked,
}

/// A cluster is shared between threads.
const _: fn() = || {
    fn is_shared<T: Clone + Send + Sync>() {}
    is_shared::<Cluster>();
};

impl Cluster {
    /// The cluster that mcomp.cfg describes. Connects to nobody yet.
    pub fn connect(config: &Config) -> Result<Cluster, Error> {
        Cluster::with_options(Options::from_config(config))
    }

    /// The cluster that the options describe. Connects to nobody yet; fails with [`Error::Options`]
    /// when they contradict each other, or the secret or the certificates cannot be read.
    pub fn with_options(options: Options) -> Result<Cluster, Error> {
        options.check()?;
        let space = options.space;
        let keyring = options.secret_file.as_deref().map(Keyring::load).transpose();
        let keyring = keyring.map_err(|error| Error::Options(error.to_string()))?.map(Arc::new);
        let tls = options.tls.as_ref().map(|files| Tls::load(&files.ca, &files.cert, &files.key)).transpose();
        let tls = tls.map_err(|error| Error::Options(error.to_string()))?;
        let replicas = options.replicas;
        let options = Arc::new(options);
        let pool = |(server, address): (u32, &String)| {
            Pool::new(server, address.clone(), Arc::clone(&options), keyring.clone(), tls.clone())
        };
        let pools = (0..).zip(&options.servers).map(pool).collect();
        let added = Added::new(&options, keyring.clone(), tls.clone());
        Ok(Cluster {
            inner: Arc::new(Inner {
                space,
                replicas,
                pools,
                added,
                eras: Eras::new(),
                doors: Doors::default(),
                asked: Asked::default(),
            }),
            bound: None,
            fence: None,
        })
    }

    /// Starts over after [`Error::Fenced`]: closes idle connections, closes the others when their
    /// calls are done, and takes the memory as it is now. A call that is under way does not go on in it:
    /// what it still has to do fails with [`Error::Reconnected`].
    pub fn reconnect(&self) {
        let era = self.inner.eras.begin();
        self.inner.pools.iter().for_each(|pool| pool.renew(era));
    }

    /// Bytes per server and number of servers.
    pub fn space(&self) -> Space {
        self.inner.space
    }

    /// Copies of each block.
    pub fn replicas(&self) -> u32 {
        self.inner.replicas
    }

    /// Bytes in the whole address space.
    pub fn size(&self) -> u64 {
        self.inner.space.size()
    }

    /// Puts `data` at `addr`.
    pub fn write_at(&self, addr: u64, data: &[u8]) -> Result<(), Error> {
        let range = self.range_of(addr, data.len() as u64)?;
        self.spread(range, PIECE, |piece| Ask::new(0, write_of(piece, addr, data)), |_, _| Ok(()))
    }

    /// Puts `byte` into all of `addr..addr + len`.
    pub fn fill(&self, addr: u64, len: u64, byte: u8) -> Result<(), Error> {
        let range = self.range_of(addr, len)?;
        let make = |Piece { addr, len, .. }| Ask::new(0, Request::Fill { addr, len, byte });
        self.spread(range, limits::MAX_SPAN, make, |_, _| Ok(()))
    }

    /// The address of the first byte from `addr` on that differs from `data`, if one does. The bytes
    /// stay on the servers.
    pub fn compare(&self, addr: u64, data: &[u8]) -> Result<Option<u64>, Error> {
        let range = self.range_of(addr, data.len() as u64)?;
        let mut first = None;
        let make = |piece: Piece| {
            let at = (piece.addr - addr) as usize;
            let data = &data[at..at + piece.len as usize];
            Ask::new(piece.addr, Request::Compare { addr: piece.addr, data })
        };
        self.spread(range, PIECE, make, |tag, body| {
            let index = u64_of(body);
            if index != u64::MAX {
                let found = tag.saturating_add(index);
                first = Some(first.map_or(found, |first: u64| first.min(found)));
            }
            Ok(())
        })?;
        Ok(first)
    }

    /// CRC-32 (IEEE 802.3) of `addr..addr + len`, computed by the servers. 0 for no bytes.
    pub fn checksum(&self, addr: u64, len: u64) -> Result<u32, Error> {
        let range = self.range_of(addr, len)?;
        let mut sums = Vec::new();
        let make = |Piece { addr, len, .. }| Ask::new(addr, Request::Checksum { addr, len });
        self.spread(range, limits::MAX_SPAN, make, |tag, body| {
            sums.push((tag, u32_of(body)));
            Ok(())
        })?;
        // Servers answer side by side; a checksum of a whole is made from its pieces in order.
        sums.sort_unstable();
        let lens = range.pieces(limits::MAX_SPAN).map(|piece| piece.len);
        let mut whole = crc32fast::Hasher::new();
        for ((_, sum), len) in sums.into_iter().zip(lens) {
            whole.combine(&crc32fast::Hasher::new_with_initial_len(sum, len));
        }
        Ok(whole.finalize())
    }

    /// Turns a claim into a range, unless the memory behind it is another now.
    pub(crate) fn range_of(&self, addr: u64, len: u64) -> Result<Range, Error> {
        self.era()?;
        Ok(self.inner.space.check(addr, len)?)
    }

    /// The era that a call lives in which begins now. Refuses to go on after a restore.
    pub(crate) fn era(&self) -> Result<u32, Error> {
        let era = self.inner.eras.current().map_err(|server| {
            let address = self.pool(server).peer().address.clone();
            Error::Fenced { server, address }
        })?;
        if self.bound.is_some_and(|bound| bound != era) { Err(Error::Reconnected) } else { Ok(era) }
    }

    /// A handle for the steps of one call: none of them happens in another era than the others.
    pub(crate) fn bound(&self) -> Result<Cluster, Error> {
        let bound = Some(self.era()?);
        Ok(Cluster { inner: Arc::clone(&self.inner), bound, fence: self.fence })
    }

    /// A handle for calls that show this fence.
    pub(crate) fn with_fence(&self, fence: Option<Fence>) -> Cluster {
        Cluster { inner: Arc::clone(&self.inner), bound: self.bound, fence }
    }

    /// The connections for what the servers agree on.
    pub(crate) fn doors(&self) -> &Doors {
        &self.inner.doors
    }

    /// When it was asked last where the servers are.
    pub(crate) fn asked(&self) -> &Asked {
        &self.inner.asked
    }

    /// Refuses what was learned in `era` if there is another now.
    pub(crate) fn check_era(&self, era: u32) -> Result<(), Error> {
        if self.inner.eras.is_still(era) { Ok(()) } else { Err(Error::Reconnected) }
    }

    /// Whether its calls show a fence: then servers have to be asked for everything, as only they look at it.
    #[inline]
    pub(crate) fn shows_fence(&self) -> bool {
        self.fence.is_some()
    }

    /// The connections to one server.
    pub(crate) fn pool(&self, server: u32) -> &Pool {
        let listed = self.inner.pools.get(server as usize);
        listed.or_else(|| self.inner.added.pool(server)).expect("only servers that are known are asked")
    }

    /// What is known of servers that mcomp.cfg does not list.
    pub(crate) fn added(&self) -> &Added {
        &self.inner.added
    }

    /// The connections to a server whose id comes from the caller.
    pub(crate) fn pool_of(&self, server: u32) -> Result<&Pool, Error> {
        let n = self.inner.space.n();
        self.inner.pools.get(server as usize).ok_or_else(|| {
            Error::Usage(format!("there is no server {server}: this cluster has servers 0 to {}", n - 1))
        })
    }

    /// Borrows a connection to a server. All servers come out of a restore with one epoch; so when a server
    /// that was not talked to before has another one than those that were, they are asked whether there was a
    /// restore since. A server with new memory differs, too, and is nothing to worry about.
    pub(crate) fn checkout(&self, server: u32, era: u32) -> Result<Lease<'_>, Error> {
        let pool = self.pool(server);
        let mut lease = pool.checkout(era)?;
        lease.show(self.fence);
        if !pool.is_proven() {
            let epoch = lease.welcome().config_epoch;
            for other in &self.inner.pools {
                if let Some(known) = other.epoch().filter(|known| *known != epoch) {
                    other.check_epoch(known)?;
                }
            }
            pool.set_proven(&lease);
        }
        Ok(lease)
    }

    /// One request to one server.
    pub(crate) fn ask<T>(
        &self,
        server: u32,
        ask: Ask<'_>,
        take: impl FnOnce(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut take, mut taken) = (Some(take), None);
        self.ask_for(server, ask, &mut |_, _, body: &[u8]| {
            let take = take.take().expect("one request has one answer");
            taken = Some(take(body)?);
            Ok(())
        })?;
        Ok(taken.expect("what was answered was delivered"))
    }

    /// One request to one server, whose answer goes to `sink`.
    pub(crate) fn ask_for(&self, server: u32, ask: Ask<'_>, sink: &mut impl Sink) -> Result<(), Error> {
        if self.replicas() > 1 {
            return self.ask_replicas(server, ask, false, sink);
        }
        let era = self.era()?;
        let answer = self.checkout(server, era).and_then(|lease| single(lease, ask, sink));
        self.note(era, answer)
    }

    /// One request for each piece of a range, to all servers side by side.
    fn spread<'a>(
        &self,
        range: Range,
        max: u64,
        make: impl Fn(Piece) -> Ask<'a>,
        mut deliver: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut pieces = range.pieces(max);
        let Some(first) = pieces.next() else { return Ok(()) };
        if pieces.next().is_none() {
            let ask = make(first);
            let tag = ask.tag;
            return self.ask(first.server, ask, |body| deliver(tag, body));
        }
        let space = self.inner.space;
        let shares = range.pieces(space.k()).map(|share| {
            let of_server = space.check(share.addr, share.len).expect("a piece of a range lies inside its space");
            (share.server, of_server.pieces(max).map(&make))
        });
        self.run(shares, &mut |_, tag, body: &[u8]| deliver(tag, body))
    }

    /// Drives one lane for each share. The shares come in rising order of server.
    pub(crate) fn run<'a, W: Iterator<Item = Ask<'a>>>(
        &self,
        shares: impl Iterator<Item = (u32, W)>,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        if self.replicas() > 1 {
            return self.run_replicated(shares, sink);
        }
        let era = self.era()?;
        // All connections first: a server that is down is found out before anything is sent.
        let lanes: Result<Vec<_>, Error> =
            shares.map(|(server, work)| Ok(Lane::new(self.checkout(server, era)?, work))).collect();
        let mut lanes = self.note(era, lanes)?;
        drive(&mut lanes, OnFailure::StopAll, sink);
        self.note_failures(era, &lanes);
        verdict(&lanes)
    }

    /// Remembers that the memory was restored, if that is what a lane failed of.
    pub(crate) fn note_failures<'a, W: Iterator<Item = Ask<'a>>>(&self, era: u32, lanes: &[Lane<'_, 'a, W>]) {
        for failure in lanes.iter().filter_map(Lane::failure) {
            self.note_failure(era, failure);
        }
    }

    /// Remembers that the memory was restored, if that is what a call failed of.
    pub(crate) fn note<T>(&self, era: u32, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| self.note_failure(era, error))
    }

    fn note_failure(&self, era: u32, error: &Error) {
        if let Error::Fenced { server, .. } = error {
            self.inner.eras.end(era, *server);
        }
    }
}

/// The write of the piece of `data` (which belongs at `addr`) that one server holds.
fn write_of(piece: Piece, addr: u64, data: &[u8]) -> Request<'_> {
    let at = (piece.addr - addr) as usize;
    Request::Write { addr: piece.addr, data: &data[at..at + piece.len as usize] }
}

/// `len` zero bytes, or the error that says that this machine has no room for them.
pub(crate) fn zeros(len: u64) -> Result<Vec<u8>, Error> {
    let too_large = Error::TooLarge { len, max: isize::MAX as u64 };
    let Ok(len) = usize::try_from(len) else { return Err(too_large) };
    // A trial: the allocation below gets memory that the system has zeroed, but aborts when there is none.
    if Vec::<u8>::new().try_reserve_exact(len).is_err() {
        return Err(too_large);
    }
    Ok(vec![0; len])
}

/// The number in an answer whose length was checked.
fn u64_of(body: &[u8]) -> u64 {
    u64::from_le_bytes(body.try_into().expect("the answer's length was checked"))
}

/// The number in an answer whose length was checked.
fn u32_of(body: &[u8]) -> u32 {
    u32::from_le_bytes(body.try_into().expect("the answer's length was checked"))
}
