//! The network among the servers of a cluster, which can be broken: each directed pair of servers has a port of its own
//! here, and what passes through it obeys the rule of the moment.
//!
//! Frames stay whole: one is handed on, kept back or lost as a whole. A rule is for what one server *says* to another,
//! on whichever connection: the answers to it obey the rule of the opposite direction, so that a cut in one direction
//! is one. It leaves out TLS, whose frames it could not see, and clients, which reach every server directly.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcomp_net::auth::SEAL_LEN;
use mcomp_wire::{HEADER_LEN, Header, Kind, flags};

/// What becomes of what one server says to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It arrives.
    Pass,
    /// It waits until the rule changes and arrives then, as it does when a network loses packets and TCP sends them
    /// again.
    Hold,
    /// It is lost, and the connection stays open.
    Lose,
    /// It arrives, and once more behind what comes after it.
    Repeat,
    /// Connections are closed, and new ones too.
    Refuse,
    /// It arrives this much later, or up to twice.
    Delay(Duration),
}

/// The network. Dropping it closes all connections and ends its threads.
#[derive(Debug)]
pub(crate) struct Network {
    shared: Arc<Shared>,
    ports: Vec<Vec<SocketAddr>>,
    acceptors: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Where the servers listen.
    servers: Vec<String>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// By who speaks and who listens.
    rules: Vec<Vec<Rule>>,
    /// Both ends of every connection, and whose it is.
    sockets: Vec<(usize, usize, TcpStream)>,
    stopped: bool,
}

impl Network {
    /// A network without faults among servers that listen here.
    pub(crate) fn among(servers: Vec<String>) -> Network {
        let n = servers.len();
        let rules = vec![vec![Rule::Pass; n]; n];
        let state = Mutex::new(State { rules, sockets: Vec::new(), stopped: false });
        let shared = Arc::new(Shared { servers, state, changed: Condvar::new() });
        let mut network = Network { shared, ports: Vec::new(), acceptors: Vec::new() };
        for from in 0..n {
            let ports = (0..n).map(|to| network.listen(from, to)).collect();
            network.ports.push(ports);
        }
        network
    }

    fn listen(&mut self, from: usize, to: usize) -> SocketAddr {
        let ip = self.shared.servers[to].rsplit_once(':').expect("an address has a port").0;
        let listener = TcpListener::bind(format!("{ip}:0")).expect("a port of the network");
        let shared = Arc::clone(&self.shared);
        let port = listener.local_addr().expect("it is bound");
        self.acceptors.push(std::thread::spawn(move || shared.accept(from, to, &listener)));
        port
    }

    /// Where server `from` reaches server `to`.
    pub(crate) fn address(&self, from: u32, to: u32) -> String {
        self.ports[from as usize][to as usize].to_string()
    }

    /// What becomes from now on of what `from` says to `to`.
    pub(crate) fn rule(&self, from: u32, to: u32, rule: Rule) {
        let mut state = self.shared.lock();
        state.rules[from as usize][to as usize] = rule;
        if rule == Rule::Refuse {
            state.close(|one, other| (one, other) == (from as usize, to as usize));
        }
        self.shared.changed.notify_all();
    }

    /// Between servers of different sides this rule goes for both directions, and within a side everything passes.
    pub(crate) fn split(&self, sides: &[&[u32]], rule: Rule) {
        let side_of = |id: u32| sides.iter().position(|side| side.contains(&id)).expect("each server is on a side");
        let n = self.ports.len() as u32;
        for (from, to) in (0..n).flat_map(|from| (0..n).map(move |to| (from, to))) {
            self.rule(from, to, if side_of(from) == side_of(to) { Rule::Pass } else { rule });
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.split(&[&(0..self.ports.len() as u32).collect::<Vec<_>>()], Rule::Pass);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopped = true;
            state.close(|_, _| true);
            self.shared.changed.notify_all();
        }
        // Each sits in accept, and sees that it is over when somebody comes.
        self.ports.iter().flatten().for_each(|port| drop(TcpStream::connect(port)));
        for acceptor in self.acceptors.drain(..) {
            // Who panicked has said so.
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn close(&mut self, whose: impl Fn(usize, usize) -> bool) {
        self.sockets.retain(|(from, to, socket)| {
            let closes = whose(*from, *to);
            if closes {
                // The far side may have done so already.
                let _ = socket.shutdown(Shutdown::Both);
            }
            !closes
        });
    }
}

impl Shared {
    fn accept(self: Arc<Shared>, from: usize, to: usize, listener: &TcpListener) {
        std::thread::scope(|scope| {
            while let Ok((near, _)) = listener.accept() {
                if !self.keep(from, to, &near) {
                    if self.lock().stopped {
                        return;
                    }
                    continue;
                }
                let shared = &self;
                scope.spawn(move || shared.connect(from, to, &near));
            }
        });
    }

    /// Notes a connection. Whether it may be.
    fn keep(&self, from: usize, to: usize, socket: &TcpStream) -> bool {
        let mut state = self.lock();
        if state.stopped || state.rules[from][to] == Rule::Refuse {
            return false;
        }
        // Those that both sides have left are noted no longer than until the next one comes.
        state.sockets.retain(|(_, _, socket)| socket.peer_addr().is_ok());
        state.sockets.push((from, to, socket.try_clone().expect("a handle")));
        true
    }

    /// Hands on what `from` says on a connection that it has opened. The first frame that arrives opens the way to `to`.
    fn connect(&self, from: usize, to: usize, near: &TcpStream) {
        let mut frames = Frames::of(near);
        let first = std::iter::from_fn(|| frames.next()).find(|_| self.arrives(from, to));
        let Some(first) = first else { return };
        let far = TcpStream::connect(&self.servers[to]).ok().filter(|far| self.keep(from, to, far));
        let Some(far) = far else {
            let _ = near.shutdown(Shutdown::Both);
            return;
        };
        for socket in [near, &far] {
            socket.set_nodelay(true).expect("an option of a socket");
        }
        std::thread::scope(|scope| {
            scope.spawn(|| self.hand_on(to, from, Frames::of(&far), near));
            if (&far).write_all(&first).is_ok() {
                self.hand_on(from, to, frames, &far);
            }
        });
    }

    /// Hands on what `from` says to `to`, until one of them closes; that it does is something it says too.
    fn hand_on(&self, from: usize, to: usize, mut frames: Frames<'_>, mut far: &TcpStream) {
        let mut before: Option<Vec<u8>> = None;
        while let Some(some) = frames.next() {
            if !self.arrives(from, to) {
                continue;
            }
            // A connection with seals would not take it again, and a handshake is said once.
            let again = before.take().filter(|_| self.lock().rules[from][to] == Rule::Repeat);
            if far.write_all(&some).is_err() || again.is_some_and(|again| far.write_all(&again).is_err()) {
                break;
            }
            before = is_of_replicas(&some).then_some(some);
        }
        self.end_arrives(from, to);
        for socket in [frames.socket, far] {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits for as long as the rule says. Whether what is said arrives.
    fn arrives(&self, from: usize, to: usize) -> bool {
        self.waits(from, to, |rule| rule == Rule::Lose)
    }

    /// Waits until it can be told that a connection has ended.
    fn end_arrives(&self, from: usize, to: usize) {
        self.waits(from, to, |_| false);
    }

    fn waits(&self, from: usize, to: usize, is_lost: impl Fn(Rule) -> bool) -> bool {
        let mut state = self.lock();
        let begun = Instant::now();
        loop {
            let rule = state.rules[from][to];
            if is_lost(rule) && !state.stopped {
                return false;
            }
            let left = match rule {
                Rule::Pass | Rule::Refuse | Rule::Repeat => Duration::ZERO,
                Rule::Hold | Rule::Lose => Duration::MAX,
                Rule::Delay(delay) => delay.saturating_sub(begun.elapsed()),
            };
            if state.stopped || left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left).expect("no thread has failed").0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread has failed")
    }
}

/// Whether it is what replicas say about blocks, which may come twice: other messages rely on TCP.
fn is_of_replicas(frames: &[u8]) -> bool {
    let header = frames.first_chunk::<HEADER_LEN>().and_then(|bytes| Header::parse(bytes).ok());
    header.is_some_and(|header| header.kind == Kind::Replicas as u8 && header.flags & flags::SEALED == 0)
}

/// What comes over a connection, cut between frames.
struct Frames<'a> {
    socket: &'a TcpStream,
    bytes: Vec<u8>,
}

impl Frames<'_> {
    fn of(socket: &TcpStream) -> Frames<'_> {
        Frames { socket, bytes: Vec::new() }
    }

    /// One whole frame or several, as they come; none at the end.
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut some = [0; 64 << 10];
        loop {
            let whole = self.whole_bytes();
            if whole > 0 {
                let rest = self.bytes.split_off(whole);
                return Some(std::mem::replace(&mut self.bytes, rest));
            }
            let count = self.socket.read(&mut some).ok().filter(|count| *count > 0)?;
            self.bytes.extend_from_slice(&some[..count]);
        }
    }

    /// How many bytes belong to frames that have come whole.
    fn whole_bytes(&self) -> usize {
        let mut at = 0;
        while let Some(header) = self.bytes[at..].first_chunk::<HEADER_LEN>() {
            let header = Header::parse(header).expect("servers speak in frames");
            let seal = if header.flags & flags::SEALED == 0 { 0 } else { SEAL_LEN };
            let end = at + HEADER_LEN + header.length as usize + seal;
            if end > self.bytes.len() {
                break;
            }
            at = end;
        }
        at
    }
}
