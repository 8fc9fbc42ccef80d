//! One thread for each other server that sends it what replicas ask and say, over a connection of its own.
//!
//! Messages may be lost: whoever misses an answer asks again. So nothing waits for a server that does not take what it is
//! sent, and there is no more memory for it than [`QUEUE_BYTES`]. Every now and then a link says that its server lives:
//! whoever is not heard of for long is asked last.

use std::collections::VecDeque;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::{ConnectError, Connection, Endpoint, is_local, unix_name};
use mcomp_wire::Kind;
use mcomp_wire::control::ServerStatus;
use mcomp_wire::meta::{Found, MembersReport, Query};
use parking_lot::{Condvar, Mutex};

use crate::reach::Reach;
use crate::shared::SERVING;

/// Bytes that may wait for a link.
const QUEUE_BYTES: usize = 8 << 20;
/// Small frames that wait leave together, in so many bytes at most; a large one leaves from where it was made.
const TOGETHER_BYTES: usize = 16 << 10;
/// How long to wait before a server that is not there is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// For a connection, and for a peer that does not take what it is sent.
const TIMEOUT: Duration = Duration::from_secs(2);
/// For a question to another server.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// A server is suspected when it was not heard of for so many times as long as usual, but not before the least.
const SUSPECT_AFTER_GAPS: u64 = 8;
const SUSPECT_AFTER_LEAST: Duration = Duration::from_millis(300);

/// All links of a server.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Option<Arc<Link>>>,
    signs: Arc<Signs>,
}

/// When each server was heard of last.
#[derive(Debug)]
struct Signs {
    began: Instant,
    /// In microseconds since it began, and how long it is between two signs, smoothed. Relaxed: they decide whom to ask
    /// first, and nothing else.
    heard: Vec<(AtomicU64, AtomicU64)>,
}

/// The link to one other server.
///
/// Whoever has something to say takes the connection out of the queue, sends without the lock what the socket takes, and
/// puts it back; what comes meanwhile goes with it. If the socket takes no more, the link's own thread goes on.
#[derive(Debug)]
struct Link {
    peer: u32,
    /// Its address in mcomp.cfg.
    first: String,
    reach: Reach,
    /// Guards what waits, and the connection while nobody sends. Taken last.
    queue: Mutex<Queue>,
    news: Condvar,
}

/// - `connected` from when a connection is there until it fails, or leads to where the server was before.
/// - The connection of this `life` is in `idle`, in `stuck`, or with who sends; one of an earlier life is of no more use.
#[derive(Debug, Default)]
struct Queue {
    /// Each with room for a header in front.
    bodies: VecDeque<Vec<u8>>,
    bytes: usize,
    connected: bool,
    life: u64,
    idle: Option<Box<Pipe>>,
    stuck: Option<Box<Pipe>>,
    /// Where the server was moved to.
    moved_to: Option<String>,
    stopped: bool,
}

/// A connection, and the frames that it has not taken.
#[derive(Debug)]
struct Pipe {
    connection: Connection,
    /// What leaves next.
    bodies: Vec<Vec<u8>>,
    frames: Vec<u8>,
    number: u64,
    life: u64,
}

impl Links {
    pub(super) fn new(config: &Config, own: u32, reach: &Reach) -> Links {
        let link = |peer: u32| {
            let first = config.servers()[peer as usize].address.to_string();
            let (queue, news) = (Mutex::default(), Condvar::new());
            Arc::new(Link { peer, first, reach: reach.clone(), queue, news })
        };
        let links = (0..config.n()).map(|peer| (peer != own).then(|| link(peer))).collect();
        let heard = (0..config.n()).map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect();
        Links { links, signs: Arc::new(Signs { began: Instant::now(), heard }) }
    }

    /// The work of each link, and a name for its thread. `hello` makes a sign of life.
    pub(super) fn work(
        &self,
        sign: impl Fn() -> Vec<u8> + Clone + Send + 'static,
    ) -> Vec<(String, Box<dyn FnOnce() + Send>)> {
        let work = |link: &Arc<Link>| {
            let (link, sign) = (Arc::clone(link), sign.clone());
            let work: Box<dyn FnOnce() + Send> = Box::new(move || link.run(&sign));
            work
        };
        self.links.iter().flatten().map(|link| (format!("block-link-{}", link.peer), work(link))).collect()
    }

    /// Servers are where these say from now on.
    pub(super) fn follow(&self, members: &MembersReport) {
        for link in self.links.iter().flatten() {
            let is_ahead = members.next(link.peer).is_some_and(|(_, next)| next == link.first);
            let member = members.members.get(&link.peer).filter(|_| is_ahead).map(|member| member.address.as_str());
            let added = link.reach.added(link.peer, members).map(String::as_str);
            link.follow(members.address(link.peer).or(member).or(added));
        }
    }

    /// Asks the others which servers there are, over connections for that alone.
    pub(super) fn ask_members(&self, is_stopping: impl Fn() -> bool) -> Option<MembersReport> {
        self.links.iter().flatten().take_while(|_| !is_stopping()).find_map(|link| {
            let mut connection = link.connect(ASK_TIMEOUT).ok()?;
            match connection.call(Kind::Query, &Query::MembersHere) {
                Ok(Found::Members(report)) => Some(report),
                _ => None,
            }
        })
    }

    /// The newest config epoch of those of the others that are there and know it.
    pub(super) fn config_epoch(&self, is_stopping: impl Fn() -> bool) -> Option<u64> {
        let reached = self.links.iter().flatten().take_while(|_| !is_stopping());
        let epochs = reached.filter_map(|link| Some(link.connect(ASK_TIMEOUT).ok()?.greeting().welcome.config_epoch));
        epochs.filter(|epoch| *epoch > 0).max()
    }

    /// Whether all others are there and have all of their memory, as they say over connections for that alone.
    pub(super) fn all_serve(&self, is_stopping: impl Fn() -> bool) -> bool {
        self.links.iter().flatten().all(|link| {
            if is_stopping() {
                return false;
            }
            let Ok(mut connection) = link.connect(ASK_TIMEOUT) else { return false };
            let status = connection.call::<_, ServerStatus>(Kind::Status, &());
            status.is_ok_and(|status| status.state == SERVING)
        })
    }

    /// Sends a body to a server, or loses it. It was begun with [`mcomp_net::begin_frame`].
    pub(super) fn send(&self, to: u32, body: Vec<u8>) {
        if let Some(Some(link)) = self.links.get(to as usize) {
            link.push(body);
        }
    }

    /// Notes a sign of life.
    pub(super) fn heard(&self, from: u32) {
        if let Some((last, gap)) = self.signs.heard.get(from as usize) {
            let now = self.signs.now();
            let since = now.saturating_sub(last.swap(now, Ordering::Relaxed));
            let smoothed = gap.load(Ordering::Relaxed);
            gap.store((smoothed * 7 + since) / 8, Ordering::Relaxed);
        }
    }

    /// Whether a server does not seem to answer at some moment.
    pub(super) fn suspects(&self, server: u32, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.signs.began).as_micros() as u64;
        self.signs.heard.get(server as usize).is_some_and(|(last, gap)| {
            let silent = now.saturating_sub(last.load(Ordering::Relaxed));
            let usual = gap.load(Ordering::Relaxed) * SUSPECT_AFTER_GAPS;
            silent > usual.max(SUSPECT_AFTER_LEAST.as_micros() as u64)
        })
    }

    pub(super) fn stop(&self) {
        for link in self.links.iter().flatten() {
            link.queue.lock().stopped = true;
            link.news.notify_all();
        }
    }
}

impl Signs {
    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

impl Link {
    /// The server is at this address, or where mcomp.cfg says.
    fn follow(&self, address: Option<&str>) {
        let mut queue = self.queue.lock();
        if queue.moved_to.as_deref() != address {
            queue.moved_to = address.map(str::to_owned);
            let closed_without_the_lock = queue.forget();
            drop(queue);
            drop(closed_without_the_lock);
            self.news.notify_one();
        }
    }

    fn push(&self, body: Vec<u8>) {
        let mut queue = self.queue.lock();
        if !queue.connected || queue.bytes + body.capacity() > QUEUE_BYTES {
            return;
        }
        queue.bytes += body.capacity();
        queue.bodies.push_back(body);
        if let Some(pipe) = queue.idle.take() {
            drop(queue);
            self.send(pipe);
        }
    }

    /// Sends what waits, until nothing does or the socket takes no more.
    fn send(&self, mut pipe: Box<Pipe>) {
        loop {
            {
                let mut queue = self.queue.lock();
                if pipe.life != queue.life {
                    drop(queue);
                    return;
                }
                if queue.bodies.is_empty() {
                    queue.idle = Some(pipe);
                    return;
                }
                queue.take_into(&mut pipe.bodies);
            }
            pipe.finish();
            match pipe.connection.send_now(&pipe.frames) {
                Ok(taken) if taken == pipe.frames.len() => pipe.frames = Vec::new(),
                Ok(taken) => {
                    pipe.frames.drain(..taken);
                    let mut queue = self.queue.lock();
                    if pipe.life == queue.life {
                        queue.stuck = Some(pipe);
                        drop(queue);
                        self.news.notify_one();
                    }
                    return;
                }
                Err(error) => return self.fail(pipe.life, &error),
            }
        }
    }

    fn fail(&self, life: u64, error: &mcomp_net::CallError) {
        tracing::debug!(peer = self.peer, %error, "link for blocks lost");
        let mut queue = self.queue.lock();
        let closed_without_the_lock = (life == queue.life).then(|| queue.forget());
        drop(queue);
        drop(closed_without_the_lock);
        self.news.notify_one();
    }

    fn run(&self, sign: &impl Fn() -> Vec<u8>) {
        while !self.queue.lock().stopped {
            let life = self.queue.lock().life;
            match self.connect(TIMEOUT) {
                Ok(connection) => {
                    {
                        let mut queue = self.queue.lock();
                        if queue.life != life {
                            // It leads to where the server was before.
                            continue;
                        }
                        queue.idle = Some(Box::new(Pipe {
                            connection,
                            bodies: Vec::new(),
                            frames: Vec::new(),
                            number: 0,
                            life,
                        }));
                        queue.connected = true;
                    }
                    self.serve(sign);
                    let _closed_without_the_lock = self.queue.lock().forget();
                }
                Err(error) => tracing::debug!(peer = self.peer, %error, "no link for blocks"),
            }
            self.pause();
        }
    }

    fn connect(&self, timeout: Duration) -> Result<Connection, ConnectError> {
        let address = self.queue.lock().moved_to.clone().unwrap_or_else(|| self.first.clone());
        // A server of this machine is reached with less work.
        let unix = Endpoint::Unix(unix_name(self.reach.cluster(), self.peer, &address));
        let near = address.to_socket_addrs().is_ok_and(|mut found| found.any(|one| is_local(one.ip())));
        let mut endpoints = near.then_some(unix).into_iter().chain([Endpoint::Tcp(address)]);
        let mut open = || endpoints.next().map(|endpoint| self.reach.open(&endpoint, self.peer, timeout));
        let first = open().expect("a server has an address");
        // What another way says counts more than that this one is not there.
        if first.is_ok() { first } else { open().unwrap_or(first) }
    }

    /// Says that this server lives, and sends what sockets did not take, until the connection breaks.
    fn serve(&self, sign: &impl Fn() -> Vec<u8>) {
        loop {
            let mut queue = self.queue.lock();
            if queue.connected && queue.stuck.is_none() && !queue.stopped {
                self.news.wait_for(&mut queue, HEARTBEAT);
            }
            if queue.stopped || !queue.connected {
                return;
            }
            let stuck = queue.stuck.take();
            drop(queue);
            match stuck {
                None => self.push(sign()),
                Some(mut pipe) => match pipe.connection.send_frames(&pipe.frames) {
                    Ok(()) => {
                        pipe.frames = Vec::new();
                        self.send(pipe);
                    }
                    Err(error) => return self.fail(pipe.life, &error),
                },
            }
        }
    }

    fn pause(&self) {
        let mut queue = self.queue.lock();
        if !queue.stopped {
            self.news.wait_for(&mut queue, PAUSE);
        }
    }
}

impl Pipe {
    /// Makes frames of the bodies, the first one where it stands.
    fn finish(&mut self) {
        for mut body in self.bodies.drain(..) {
            self.number += 1;
            let header = self.connection.header(Kind::Replicas, self.number);
            self.connection.finish_frame(&mut body, 0, header);
            match self.frames.is_empty() {
                true => self.frames = body,
                false => self.frames.extend_from_slice(&body),
            }
        }
    }
}

impl Queue {
    /// Takes what leaves next: one body, and more of them if they are small.
    fn take_into(&mut self, bodies: &mut Vec<Vec<u8>>) {
        let mut taken = 0;
        while let Some(body) = self.bodies.pop_front_if(|body| taken == 0 || taken + body.len() <= TOGETHER_BYTES) {
            taken += body.len();
            self.bytes -= body.capacity();
            bodies.push(body);
        }
    }

    /// There is no connection: what waits is lost.
    #[must_use]
    fn forget(&mut self) -> [Option<Box<Pipe>>; 2] {
        self.connected = false;
        self.life += 1;
        self.bodies.clear();
        self.bytes = 0;
        [self.idle.take(), self.stuck.take()]
    }
}
