//! One thread for each other server that sends it what replicas ask and say, over a connection of its own.
//!
//! Messages may be lost: whoever misses an answer asks again. So nothing waits for a server that does not take what it is
//! sent, and there is no more memory for it than [`QUEUE_BYTES`]. Every now and then a link says that its server lives:
//! whoever is not heard of for long is asked last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::{Connection, Endpoint, Timeouts, Trust, begin_frame};
use mcomp_wire::control::Hello;
use mcomp_wire::{Kind, Role};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::metadata::PeerTrust;

/// Bytes that may wait for a link.
const QUEUE_BYTES: usize = 8 << 20;
/// Bytes that leave in one system call, if so many wait.
const SEND_BYTES: usize = 256 << 10;
/// How long to wait before a server that is not there is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// For a connection, and for a peer that does not take what it is sent.
const TIMEOUT: Duration = Duration::from_secs(2);
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
#[derive(Debug)]
struct Link {
    peer: u32,
    endpoint: Endpoint,
    hello: Hello,
    trust: PeerTrust,
    /// Guards what waits. Taken last.
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    bodies: VecDeque<Vec<u8>>,
    bytes: usize,
    connected: bool,
    stopped: bool,
}

impl Links {
    pub(super) fn new(config: &Config, own: u32, trust: &PeerTrust) -> Links {
        let link = |peer: u32| {
            let hello = Hello {
                cluster: config.name().to_owned(),
                role: Role::Node,
                server: peer,
                k: config.k(),
                n: config.n(),
                session: Uuid::nil(),
                features: 0,
                auth: Vec::new(),
            };
            let endpoint = Endpoint::Tcp(config.servers()[peer as usize].address.to_string());
            let (queue, news) = (Mutex::default(), Condvar::new());
            Arc::new(Link { peer, endpoint, hello, trust: trust.clone(), queue, news })
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

    /// Sends a body to a server, or loses it.
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

    /// Whether a server does not seem to answer.
    pub(super) fn suspects(&self, server: u32) -> bool {
        self.signs.heard.get(server as usize).is_some_and(|(last, gap)| {
            let silent = self.signs.now().saturating_sub(last.load(Ordering::Relaxed));
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
    fn push(&self, body: Vec<u8>) {
        let mut queue = self.queue.lock();
        if queue.connected && queue.bytes + body.len() <= QUEUE_BYTES {
            queue.bytes += body.len();
            queue.bodies.push_back(body);
            let was_empty = queue.bodies.len() == 1;
            drop(queue);
            if was_empty {
                self.news.notify_one();
            }
        }
    }

    fn run(&self, sign: &impl Fn() -> Vec<u8>) {
        while !self.queue.lock().stopped {
            let timeouts = Timeouts { connect: TIMEOUT, request: TIMEOUT };
            let trust = Trust { keyring: self.trust.keyring.as_deref(), tls: self.trust.tls.as_ref() };
            match Connection::open(&self.endpoint, &self.hello, timeouts, trust) {
                Ok(connection) => {
                    // A system that cannot do so notices later that a network is well again.
                    let _ = connection.stream().set_unconfirmed(TIMEOUT);
                    self.serve(connection, sign);
                }
                Err(error) => tracing::debug!(peer = self.peer, %error, "no link for blocks"),
            }
            self.pause();
        }
    }

    /// Sends what comes, until the connection breaks.
    fn serve(&self, mut connection: Connection, sign: &impl Fn() -> Vec<u8>) {
        self.queue.lock().connected = true;
        let (mut frames, mut number) = (Vec::new(), 0);
        while let Some(mut bodies) = self.next() {
            if bodies.is_empty() {
                bodies.push(sign());
            }
            frames.clear();
            for body in bodies {
                number += 1;
                let header = connection.header(Kind::Replicas, number);
                let at = begin_frame(&mut frames);
                frames.extend_from_slice(&body);
                connection.finish_frame(&mut frames, at, header);
            }
            if let Err(error) = connection.send_frames(&frames) {
                tracing::debug!(peer = self.peer, %error, "link for blocks lost");
                break;
            }
            frames.shrink_to(2 * SEND_BYTES);
        }
        let mut queue = self.queue.lock();
        queue.connected = false;
        queue.bodies.clear();
        queue.bytes = 0;
    }

    /// Some of what waits; nothing when a sign of life is due, and none when it is over.
    fn next(&self) -> Option<Vec<Vec<u8>>> {
        let mut queue = self.queue.lock();
        if queue.bodies.is_empty() && !queue.stopped {
            self.news.wait_for(&mut queue, HEARTBEAT);
        }
        if queue.stopped {
            return None;
        }
        let (mut bodies, mut bytes) = (Vec::new(), 0);
        while bytes < SEND_BYTES
            && let Some(body) = queue.bodies.pop_front()
        {
            bytes += body.len();
            bodies.push(body);
        }
        queue.bytes -= bytes;
        Some(bodies)
    }

    fn pause(&self) {
        let mut queue = self.queue.lock();
        if !queue.stopped {
            self.news.wait_for(&mut queue, PAUSE);
        }
    }
}
