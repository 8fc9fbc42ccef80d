//! One thread for each other server that sends it messages, over a connection of its own; two for one that moves.
//!
//! What cannot be sent soon is dropped, and the node is told: it knows what to do about it. A link that breaks is made
//! again, and what waited for the old connection is dropped with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use mcomp_config::Config;
use mcomp_consensus::{Peer, PeerMessage};
use mcomp_net::{CallError, Connection, Endpoint};
use mcomp_wire::meta::{MembersReport, PeerPart};
use mcomp_wire::{Kind, limits};
use parking_lot::{Condvar, Mutex};

use super::Input;
use crate::reach::Reach;
use crate::server::Spawn;

/// Messages that may wait for a link.
const QUEUE: usize = 1024;
/// How long to wait before a server that is not there is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// For a connection, and for a peer that does not take what it is sent.
const TIMEOUT: Duration = Duration::from_secs(2);

/// All links of a server: one to each other server in each seat that it has or is to have.
#[derive(Clone, Debug)]
pub(super) struct Links {
    ground: Arc<Ground>,
    state: Arc<Mutex<State>>,
    spawn: Spawn,
}

/// What all links have in common.
#[derive(Debug)]
struct Ground {
    own: u32,
    reach: Reach,
    /// Of mcomp.cfg, by server.
    addresses: Vec<String>,
    driver: SyncSender<Input>,
}

/// Which links there are. Its lock is taken before that of a link.
#[derive(Debug, Default)]
struct State {
    links: Vec<Arc<Link>>,
    threads: Vec<JoinHandle<()>>,
    /// What they follow, if all of them could be begun.
    followed: Option<MembersReport>,
    stopped: bool,
}

/// The link to one other server.
#[derive(Debug)]
struct Link {
    peer: Peer,
    address: String,
    ground: Arc<Ground>,
    /// Guards what waits. Taken after that of the links.
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// With the seat that this server had.
    messages: VecDeque<(u16, PeerMessage)>,
    /// Whether there is a connection: without one nothing waits.
    connected: bool,
    stopped: bool,
}

impl Links {
    /// None yet.
    pub(super) fn new(config: &Config, own: u32, driver: SyncSender<Input>, reach: Reach, spawn: Spawn) -> Links {
        let addresses = config.servers().iter().map(|server| server.address.to_string()).collect();
        let ground = Arc::new(Ground { own, reach, addresses, driver });
        Links { ground, state: Arc::default(), spawn }
    }

    /// Has links to where the other servers are and are to be, and no others.
    pub(super) fn follow(&self, members: &MembersReport) {
        if self.state.lock().followed.as_ref() == Some(members) {
            return;
        }
        let mut wanted: Vec<(Peer, &str)> = Vec::new();
        for (server, first) in (0..).zip(&self.ground.addresses).filter(|(server, _)| *server != self.ground.own) {
            let seat = members.seat(server);
            let member = members.members.get(&server).map(|member| &member.address);
            // A mcomp.cfg may be ahead of what is agreed on: where a server is to be, it is not yet.
            let is_ahead = members.next(server).is_some_and(|(_, next)| next == first);
            let added = self.ground.reach.added(server, members);
            let first = member.filter(|_| is_ahead).or(added).unwrap_or(first);
            wanted.push((Peer { server, seat }, members.address(server).unwrap_or(first)));
            wanted.extend(members.next(server).map(|(seat, address)| (Peer { server, seat }, address)));
        }
        let mut state = self.state.lock();
        if state.stopped {
            return;
        }
        state.links.retain(|link| {
            let stays = wanted.contains(&(link.peer, &link.address));
            if !stays {
                link.stop();
            }
            stays
        });
        state.threads.retain(|thread| !thread.is_finished());
        for (peer, address) in &wanted {
            if state.links.iter().all(|link| link.peer != *peer) {
                self.begin(&mut state, *peer, address);
            }
        }
        state.followed = (state.links.len() == wanted.len()).then(|| members.clone());
    }

    fn begin(&self, state: &mut State, peer: Peer, address: &str) {
        let (queue, news) = (Mutex::default(), Condvar::new());
        let ground = Arc::clone(&self.ground);
        let link = Arc::new(Link { peer, address: address.to_owned(), ground, queue, news });
        let work = Arc::clone(&link);
        match (self.spawn)(&format!("meta-link-{}", peer.server), Box::new(move || work.run())) {
            Ok(thread) => {
                state.threads.push(thread);
                state.links.push(link);
            }
            // It is tried again with the next entry.
            Err(error) => tracing::error!(%error, peer = peer.server, "no thread for a link"),
        }
    }

    /// Hands messages of this server, which is `own`, to their links.
    pub(super) fn send(&self, own: Peer, messages: Vec<(Peer, PeerMessage)>) {
        let state = self.state.lock();
        for (to, message) in messages {
            let exact = state.links.iter().find(|link| link.peer == to);
            // Who has just come does not know yet who else was moved.
            let any = || state.links.iter().find(|link| link.peer.server == to.server && !message.is_of_leader());
            if let Some(link) = exact.or_else(any) {
                link.push(own.seat, message);
            }
        }
    }

    /// Ends all of them, and waits for that.
    pub(super) fn stop(&self) {
        let threads = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.links.drain(..).for_each(|link| link.stop());
            std::mem::take(&mut state.threads)
        };
        for thread in threads {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

impl Link {
    fn stop(&self) {
        self.queue.lock().stopped = true;
        self.news.notify_all();
    }

    fn push(&self, seat: u16, message: PeerMessage) {
        let mut queue = self.queue.lock();
        if queue.connected && queue.messages.len() < QUEUE {
            queue.messages.push_back((seat, message));
            self.news.notify_one();
        } else if message.has_image() {
            drop(queue);
            self.lost();
        }
    }

    fn run(&self) {
        let endpoint = Endpoint::Tcp(self.address.clone());
        while !self.queue.lock().stopped {
            match self.ground.reach.open(&endpoint, self.peer.server, TIMEOUT) {
                Ok(connection) => {
                    self.serve(connection);
                }
                Err(error) => tracing::debug!(peer = ?self.peer, %error, "no link"),
            }
            self.pause();
        }
    }

    /// Sends what comes, until the connection breaks.
    fn serve(&self, mut connection: Connection) {
        self.queue.lock().connected = true;
        let _ = self.ground.driver.try_send(Input::Connected(self.peer));
        while let Some((seat, message)) = self.next() {
            if let Err(error) = self.send(&mut connection, seat, &message) {
                tracing::debug!(peer = ?self.peer, %error, "link lost");
                break;
            }
        }
        let mut queue = self.queue.lock();
        queue.connected = false;
        queue.messages.clear();
        drop(queue);
        self.lost();
    }

    fn next(&self) -> Option<(u16, PeerMessage)> {
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

    fn send(&self, connection: &mut Connection, seat: u16, message: &PeerMessage) -> Result<(), CallError> {
        let bytes = message.encode();
        let mut parts = bytes.chunks(limits::MAX_PEER_PART).peekable();
        let mut body = Vec::with_capacity(bytes.len().min(limits::MAX_PEER_PART) + PeerPart::OVERHEAD);
        while let Some(part) = parts.next() {
            body.clear();
            PeerPart { from: self.ground.own, seat, more: parts.peek().is_some(), bytes: part }.emit(&mut body);
            connection.start(Kind::Peer, &body)?;
        }
        Ok(())
    }

    fn lost(&self) {
        // A driver that has too much to do finds out by itself.
        let _ = self.ground.driver.try_send(Input::Unreachable(self.peer));
    }

    fn pause(&self) {
        let mut queue = self.queue.lock();
        if !queue.stopped {
            self.news.wait_for(&mut queue, PAUSE);
        }
    }
}
