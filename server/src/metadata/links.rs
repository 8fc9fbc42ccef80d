//! One thread for each other server that sends it messages, over a connection of its own.
//!
//! What cannot be sent soon is dropped, and the node is told: it knows what to do about it. A link that breaks is made
//! again, and what waited for the old connection is dropped with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use mcomp_config::Config;
use mcomp_consensus::PeerMessage;
use mcomp_net::auth::Keyring;
use mcomp_net::tls::Tls;
use mcomp_net::{Connection, Endpoint, Timeouts, Trust};
use mcomp_wire::control::Hello;
use mcomp_wire::meta::PeerPart;
use mcomp_wire::{Kind, Role, limits};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use super::Input;

/// Messages that may wait for a link.
const QUEUE: usize = 1024;
/// How long to wait before a server that is not there is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// For a connection, and for a peer that does not take what it is sent.
const TIMEOUT: Duration = Duration::from_secs(2);

/// All links of a server.
#[derive(Clone, Debug)]
pub(super) struct Links {
    links: Arc<Vec<Arc<Link>>>,
}

/// How servers know each other.
#[derive(Clone, Debug)]
pub(crate) struct PeerTrust {
    pub(crate) keyring: Option<Arc<Keyring>>,
    pub(crate) tls: Option<Tls>,
}

/// The link to one other server.
#[derive(Debug)]
struct Link {
    peer: u32,
    own: u32,
    endpoint: Endpoint,
    hello: Hello,
    trust: PeerTrust,
    driver: SyncSender<Input>,
    /// Guards what waits. Taken alone.
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<PeerMessage>,
    /// Whether there is a connection: without one nothing waits.
    connected: bool,
    stopped: bool,
}

impl Links {
    pub(super) fn new(config: &Config, own: u32, driver: SyncSender<Input>, trust: PeerTrust) -> Links {
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
            let (trust, driver) = (trust.clone(), driver.clone());
            let (queue, news) = (Mutex::default(), Condvar::new());
            Arc::new(Link { peer, own, endpoint, hello, trust, driver, queue, news })
        };
        Links { links: Arc::new((0..config.n()).filter(|peer| *peer != own).map(link).collect()) }
    }

    /// The work of each link, and a name for its thread.
    pub(super) fn work(&self) -> Vec<(String, Box<dyn FnOnce() + Send>)> {
        let work = |link: &Arc<Link>| {
            let link = Arc::clone(link);
            let work: Box<dyn FnOnce() + Send> = Box::new(move || link.run());
            work
        };
        self.links.iter().map(|link| (format!("meta-link-{}", link.peer), work(link))).collect()
    }

    /// Hands messages to their links.
    pub(super) fn send(&self, messages: Vec<(u32, PeerMessage)>) {
        for (to, message) in messages {
            if let Some(link) = self.links.iter().find(|link| link.peer == to) {
                link.push(message);
            }
        }
    }

    pub(super) fn stop(&self) {
        for link in self.links.iter() {
            link.queue.lock().stopped = true;
            link.news.notify_all();
        }
    }
}

impl Link {
    fn push(&self, message: PeerMessage) {
        let mut queue = self.queue.lock();
        if queue.connected && queue.messages.len() < QUEUE {
            queue.messages.push_back(message);
            self.news.notify_one();
        } else if message.has_image() {
            drop(queue);
            self.lost();
        }
    }

    fn run(&self) {
        while !self.queue.lock().stopped {
            let timeouts = Timeouts { connect: TIMEOUT, request: TIMEOUT };
            let trust = Trust { keyring: self.trust.keyring.as_deref(), tls: self.trust.tls.as_ref() };
            match Connection::open(&self.endpoint, &self.hello, timeouts, trust) {
                Ok(connection) => {
                    // A system that cannot do so serves all the same, and notices later that a network is well again.
                    let _ = connection.stream().set_unconfirmed(TIMEOUT);
                    self.serve(connection);
                }
                Err(error) => tracing::debug!(peer = self.peer, %error, "no link"),
            }
            self.pause();
        }
    }

    /// Sends what comes, until the connection breaks.
    fn serve(&self, mut connection: Connection) {
        self.queue.lock().connected = true;
        let _ = self.driver.try_send(Input::Connected(self.peer));
        while let Some(message) = self.next() {
            if let Err(error) = self.send(&mut connection, &message) {
                tracing::debug!(peer = self.peer, %error, "link lost");
                break;
            }
        }
        let mut queue = self.queue.lock();
        queue.connected = false;
        queue.messages.clear();
        drop(queue);
        self.lost();
    }

    fn next(&self) -> Option<PeerMessage> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopped {
                return None;
            }
            match queue.messages.pop_front() {
                Some(message) => return Some(message),
                None => self.news.wait(&mut queue),
            }
        }
    }

    fn send(&self, connection: &mut Connection, message: &PeerMessage) -> Result<(), mcomp_net::CallError> {
        let bytes = message.encode();
        let mut parts = bytes.chunks(limits::MAX_PEER_PART).peekable();
        let mut body = Vec::with_capacity(bytes.len().min(limits::MAX_PEER_PART) + PeerPart::OVERHEAD);
        while let Some(part) = parts.next() {
            body.clear();
            PeerPart { from: self.own, more: parts.peek().is_some(), bytes: part }.emit(&mut body);
            connection.start(Kind::Peer, &body)?;
        }
        Ok(())
    }

    fn lost(&self) {
        // A driver that has too much to do finds out by itself.
        let _ = self.driver.try_send(Input::Unreachable(self.peer));
    }

    fn pause(&self) {
        let mut queue = self.queue.lock();
        if !queue.stopped {
            self.news.wait_for(&mut queue, PAUSE);
        }
    }
}
