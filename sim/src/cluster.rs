//! The cluster and its events.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use fastrand::Rng;
use mcomp_consensus::{Advanced, Compaction, Node, Peer, PeerMessage, Persist, Settings, TICK_MS};
use mcomp_wire::Space;
use mcomp_wire::meta::{Ask, Owner};

use crate::client::Client;
use crate::disk::Disk;
use crate::network::{Link, Weather};
use crate::oracle::{CLOCK_ERROR, Oracle, ensure};

/// How a history ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything heals.
    Safety,
    /// A majority heals, and the rest stays as broken as it is.
    Liveness,
}

/// What has happened, so that a run can show that it was no idle one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answers that clients got.
    pub answers: u64,
    /// Servers that crashed.
    pub crashes: u64,
    /// Servers that came back without their disk.
    pub lost_disks: u64,
    /// Reads that were found to be up to date.
    pub reads: u64,
    /// Links that were cut.
    pub cuts: u64,
    /// Changes of the leader.
    pub leaders: u64,
    /// States that a server got as a whole.
    pub images: u64,
}

/// How long a history has faults.
const FAULTY_MS: u64 = 6000;
/// How long it may take until everything is served after it healed: elections, and every lease and session, with a
/// broken server that goes on leading for a while.
const HEALED_MS: u64 = 60_000;

#[derive(Debug)]
struct Server {
    node: Option<Node>,
    disk: Disk,
    /// Counts restarts: events of an earlier life are dropped.
    life: u64,
    inbox: VecDeque<Input>,
    /// What the disk is writing.
    writing: Option<Persist>,
    /// Its clock: what it says now, and how fast it goes.
    clock: (f64, f64),
    disk_ms: u64,
    is_broken: bool,
}

#[derive(Clone, Debug)]
enum Input {
    Tick,
    Due,
    Message(u32, PeerMessage),
    Connected(u32),
    Unreachable(u32),
    Submit(Ask),
    Read(u64),
}

#[derive(Clone, Debug)]
enum Event {
    Tick { server: usize, life: u64 },
    Due { server: usize, life: u64 },
    Deliver { from: usize, to: usize, connection: u64, bytes: Vec<u8> },
    Written { server: usize, life: u64 },
    Client(usize),
    Fault,
}

struct Cluster {
    mode: Mode,
    rng: Rng,
    now_ms: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    bodies: Vec<Option<Event>>,
    servers: Vec<Server>,
    links: Vec<Vec<Link>>,
    clients: Vec<Client>,
    /// For each client, the servers that it asked what it asks now.
    asked: Vec<Vec<usize>>,
    /// What was acknowledged when a read began.
    reads: Vec<u64>,
    oracle: Oracle,
    tally: Tally,
    healed: bool,
    leader: Option<usize>,
}

/// Runs the history of a seed. An error says what was wrong, and how to see it again.
pub fn run(seed: u64, mode: Mode) -> Result<Tally, String> {
    let mut cluster = Cluster::new(seed, mode);
    cluster.run().map_err(|wrong| format!("seed {seed}, {mode:?}, at {} ms: {wrong}", cluster.now_ms))
}

impl Cluster {
    fn new(seed: u64, mode: Mode) -> Cluster {
        let mut rng = Rng::with_seed(seed);
        let n = [1, 3, 3, 3, 4, 5][rng.usize(..6)];
        let server = |_| Server {
            node: None,
            disk: Disk::default(),
            life: 0,
            inbox: VecDeque::new(),
            writing: None,
            clock: (0.0, 1.0),
            disk_ms: 1,
            is_broken: false,
        };
        let clients = 1 + rng.usize(..4);
        // A restore ends all that there was: not in every history, so that the others come to something.
        let restores = seed.is_multiple_of(4);
        let mut cluster = Cluster {
            mode,
            now_ms: 0,
            events: BinaryHeap::new(),
            bodies: Vec::new(),
            servers: (0..n).map(server).collect(),
            links: vec![vec![Link::new(); n]; n],
            clients: (0..clients).map(|_| Client::new(restores)).collect(),
            asked: vec![Vec::new(); clients],
            reads: Vec::new(),
            oracle: Oracle::default(),
            tally: Tally::default(),
            healed: false,
            leader: None,
            rng,
        };
        for server in 0..n {
            let error = 1.0 + (cluster.rng.f64() * 2.0 - 1.0) * CLOCK_ERROR;
            cluster.servers[server].clock = (cluster.rng.f64() * 1e6, error);
            cluster.start(server);
        }
        for client in 0..clients {
            cluster.at(client as u64, Event::Client(client));
        }
        cluster.at(200, Event::Fault);
        cluster
    }

    fn at(&mut self, in_ms: u64, event: Event) {
        self.events.push(Reverse((self.now_ms + in_ms, self.bodies.len() as u64)));
        self.bodies.push(Some(event));
    }

    fn run(&mut self) -> Result<Tally, String> {
        while let Some(Reverse((at_ms, body))) = self.events.pop() {
            self.now_ms = self.now_ms.max(at_ms);
            if !self.healed && self.now_ms >= FAULTY_MS {
                self.heal();
            }
            let event = self.bodies[body as usize].take().expect("an event happens once");
            self.happen(event)?;
            if self.healed && self.is_quiet() {
                return self.end();
            }
            ensure(self.now_ms < FAULTY_MS + HEALED_MS, || self.describe())?;
        }
        Err("nothing happens any more".to_owned())
    }

    fn describe(&self) -> String {
        let servers: Vec<String> =
            self.servers.iter().map(|s| format!("{:?}, broken: {}", s.node, s.is_broken)).collect();
        format!("it does not come to rest: {servers:#?}, {:?}, {:?}", self.links, self.clients)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Tick { server, life } if self.lives(server, life) => {
                // A tick of a slow clock comes late.
                let tick_ms = (TICK_MS as f64 / self.servers[server].clock.1) as u64;
                self.at(tick_ms, Event::Tick { server, life });
                self.input(server, Input::Tick)?;
            }
            Event::Due { server, life } if self.lives(server, life) => self.input(server, Input::Due)?,
            Event::Deliver { from, to, connection, bytes } => {
                let link = &self.links[from][to];
                if link.connection == connection && !link.weather.cut && self.servers[to].node.is_some() {
                    let message =
                        PeerMessage::decode(&bytes, Peer::first(from as u32), to as u32).map_err(|e| e.to_string())?;
                    self.input(to, Input::Message(from as u32, message))?;
                }
            }
            Event::Written { server, life } if self.lives(server, life) => self.written(server)?,
            Event::Client(client) => self.client(client)?,
            Event::Fault => self.fault(),
            _ => {}
        }
        Ok(())
    }

    fn lives(&self, server: usize, life: u64) -> bool {
        self.servers[server].node.is_some() && self.servers[server].life == life
    }

    /// What a server hears waits while its disk writes.
    fn input(&mut self, server: usize, input: Input) -> Result<(), String> {
        self.servers[server].inbox.push_back(input);
        self.work(server)
    }

    fn work(&mut self, at: usize) -> Result<(), String> {
        while self.servers[at].writing.is_none() && self.servers[at].node.is_some() {
            let local_ms = self.local_ms(at);
            let server = &mut self.servers[at];
            let node = server.node.as_mut().expect("it lives");
            node.set_time(local_ms);
            while let Some(input) = server.inbox.pop_front() {
                match input {
                    Input::Tick => node.tick(),
                    Input::Due => node.propose_due(),
                    Input::Message(from, message) => {
                        node.receive(Peer::first(from), message).map_err(|e| e.to_string())?;
                    }
                    Input::Connected(peer) => node.connected(Peer::first(peer)),
                    Input::Unreachable(peer) => node.unreachable(Peer::first(peer)),
                    Input::Submit(ask) => node.submit(ask),
                    Input::Read(read) => node.read(read),
                }
            }
            let Some(ready) = node.ready() else { break };
            let (life, disk_ms) = (server.life, server.disk_ms);
            let is_slow = ready.persist.must_sync && disk_ms > 0;
            server.writing = Some(ready.persist);
            self.send(at, ready.send);
            if is_slow {
                self.at(disk_ms, Event::Written { server: at, life });
                return Ok(());
            }
            self.written(at)?;
        }
        self.wait_for_due(at);
        Ok(())
    }

    fn wait_for_due(&mut self, at: usize) {
        let server = &self.servers[at];
        let due = server.node.as_ref().and_then(Node::next_due_local_ms);
        if let Some(due_ms) = due {
            let in_ms = due_ms.saturating_sub(self.local_ms(at)).min(TICK_MS);
            if in_ms < TICK_MS {
                self.at(in_ms.max(1), Event::Due { server: at, life: self.servers[at].life });
            }
        }
    }

    fn written(&mut self, at: usize) -> Result<(), String> {
        let local_ms = self.local_ms(at);
        let server = &mut self.servers[at];
        server.disk.write(server.writing.take().expect("it was writing"));
        let node = server.node.as_mut().expect("it lives");
        node.set_time(local_ms);
        let advanced = node.advance().map_err(|error| error.to_string())?;
        self.oracle.look_at(node)?;
        if node.leads() && self.leader != Some(at) {
            self.leader = Some(at);
            self.tally.leaders += 1;
        }
        self.tally.images += u64::from(advanced.is_new_state);
        self.hear(at, &advanced)?;
        self.send(at, advanced.send);
        self.work(at)
    }

    fn hear(&mut self, at: usize, advanced: &Advanced) -> Result<(), String> {
        for (ticket, told) in &advanced.told {
            self.oracle.told(*ticket, told)?;
            let asker = self.clients.iter().position(|client| client.ticket() == Some(*ticket));
            if let Some(client) = asker.filter(|client| self.asked[*client].contains(&at)) {
                self.clients[client].told(told, &mut self.oracle)?;
                self.asked[client].clear();
                self.tally.answers += 1;
            }
        }
        for (index, effect) in &advanced.effects {
            self.oracle.effect(*index, effect, self.now_ms)?;
        }
        let index = self.servers[at].node.as_ref().expect("it lives").state().index();
        for read in &advanced.readable {
            let acknowledged = self.reads[*read as usize];
            ensure(index >= acknowledged, || format!("a read found {index}, and {acknowledged} was acknowledged"))?;
            self.tally.reads += 1;
        }
        Ok(())
    }

    fn send(&mut self, from: usize, messages: Vec<(Peer, PeerMessage)>) {
        for (to, message) in messages {
            let to = to.server as usize;
            let link = &mut self.links[from][to];
            match link.send(self.now_ms, &mut self.rng) {
                Some(at_ms) => {
                    let connection = link.connection;
                    let bytes = message.encode();
                    self.at(at_ms - self.now_ms, Event::Deliver { from, to, connection, bytes });
                }
                None => {
                    let inbox = &mut self.servers[from].inbox;
                    inbox.push_back(Input::Unreachable(to as u32));
                    inbox.push_back(Input::Connected(to as u32));
                }
            }
        }
    }

    fn client(&mut self, client: usize) -> Result<(), String> {
        let in_ms = self.rng.u64(5..150);
        self.at(in_ms, Event::Client(client));
        let at = self.rng.usize(..self.servers.len());
        if self.servers[at].node.is_none() {
            return Ok(());
        }
        if self.rng.u32(..4) == 0 {
            self.reads.push(self.oracle.acknowledged);
            return self.input(at, Input::Read(self.reads.len() as u64 - 1));
        }
        let Some(ask) = self.clients[client].ask(self.now_ms, &mut self.rng, &mut self.oracle) else { return Ok(()) };
        if !self.asked[client].contains(&at) {
            self.asked[client].push(at);
        }
        self.input(at, Input::Submit(ask))
    }

    fn local_ms(&self, at: usize) -> u64 {
        let (offset, rate) = self.servers[at].clock;
        (offset + self.now_ms as f64 * rate) as u64
    }

    fn start(&mut self, at: usize) {
        let (id, n) = (at as u32, self.servers.len() as u32);
        let space = Space::new(64 << 10, n).expect("a small space");
        let compaction = Compaction { log_bytes: 3000, kept_entries: 5 };
        let settings = Settings { id, space, quarantine_ms: 100, spread: false, compaction };
        let mut random = Rng::with_seed(self.rng.u64(..));
        let server = &mut self.servers[at];
        let node = Node::new(settings, server.disk.content(), Box::new(move || random.u128(..)));
        server.node = Some(node.expect("what a node has written it can read"));
        server.life += 1;
        let life = server.life;
        for peer in (0..n as usize).filter(|peer| *peer != at) {
            for (from, to) in [(at, peer), (peer, at)] {
                self.links[from][to].connection += 1;
            }
            self.servers[at].inbox.push_back(Input::Connected(peer as u32));
            self.servers[peer].inbox.push_back(Input::Connected(id));
        }
        let in_ms = self.rng.u64(0..TICK_MS);
        self.at(in_ms, Event::Tick { server: at, life });
    }

    fn crash(&mut self, at: usize) {
        let keeps = self.rng.bool();
        let server = &mut self.servers[at];
        if server.node.take().is_none() {
            return;
        }
        if let Some(persist) = server.writing.take()
            && self.rng.bool()
        {
            server.disk.write(persist);
        }
        server.disk.crash(keeps);
        server.inbox.clear();
        self.tally.crashes += 1;
    }

    fn fault(&mut self) {
        if self.healed {
            return;
        }
        let in_ms = self.rng.u64(50..800);
        self.at(in_ms, Event::Fault);
        let n = self.servers.len();
        let at = self.rng.usize(..n);
        match self.rng.u32(..9) {
            0 | 1 => self.crash(at),
            2..=4 => {
                if let Some(dead) = self.servers.iter().position(|server| server.node.is_none()) {
                    self.start(dead);
                }
            }
            5 => self.storm(at),
            6 => self.lose_disk(at),
            7 => self.servers[at].disk_ms = self.rng.u64(0..120),
            _ => self.calm(),
        }
    }

    /// Links to and from a server go wrong, in one or both directions.
    fn storm(&mut self, at: usize) {
        for peer in 0..self.servers.len() {
            for (from, to) in [(at, peer), (peer, at)] {
                let most = [2, 50, 600][self.rng.usize(..3)];
                let weather = Weather {
                    cut: self.rng.u32(..3) == 0,
                    delay_ms: (0, most),
                    breaks: [0, 0, 20][self.rng.usize(..3)],
                };
                self.tally.cuts += u64::from(weather.cut);
                self.links[from][to].weather = weather;
            }
        }
    }

    fn calm(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.weather = Weather::FAIR;
        }
    }

    /// A disk is lost, with everything on it: only while all others have theirs and are up, or too much is gone.
    fn lose_disk(&mut self, at: usize) {
        let n = self.servers.len();
        let all_joined = self.servers.iter().all(|server| server.node.is_some() && server.disk.content().joined);
        if n < 3 || !all_joined {
            return;
        }
        self.crash(at);
        self.servers[at].disk = Disk::default();
        self.tally.lost_disks += 1;
        self.start(at);
    }

    fn heal(&mut self) {
        self.healed = true;
        let n = self.servers.len();
        // A server that never had a log, or has lost it, does not vote: what is left must be a majority that does.
        let voters = self.servers.iter().filter(|server| server.disk.content().joined).count();
        let stay_broken = if self.mode == Mode::Liveness { voters.saturating_sub(n / 2 + 1) } else { 0 };
        let mut order: Vec<usize> = (0..n).collect();
        self.rng.shuffle(&mut order);
        order.sort_by_key(|at| self.servers[*at].disk.content().joined);
        let (healthy, broken) = order.split_at(n - stay_broken);
        for &at in broken {
            self.servers[at].is_broken = true;
            if self.rng.bool() {
                self.crash(at);
            }
        }
        for from in 0..n {
            for to in 0..n {
                let is_healthy = |at: usize| healthy.contains(&at);
                if is_healthy(from) && is_healthy(to) {
                    self.links[from][to].weather = Weather::FAIR;
                } else {
                    self.links[from][to].weather.cut |= self.rng.bool();
                }
            }
        }
        for &at in healthy {
            self.servers[at].disk_ms = 1;
            if self.servers[at].node.is_none() {
                self.start(at);
            }
        }
        self.clients.iter_mut().for_each(|client| client.leaves = true);
    }

    /// Whether every client has given back what it had, all that runs out has run out, and all who can know it do.
    fn is_quiet(&self) -> bool {
        let healthy =
            || self.servers.iter().filter(|server| !server.is_broken).filter_map(|server| server.node.as_ref());
        let Some(index) = healthy().map(|node| node.state().index()).max() else { return false };
        let is_at_rest = |node: &Node| node.state().index() == index && node.state().next_due_ms().is_none();
        // A broken server that leads may go on to do so for a majority, and keep another one in the dark.
        let rest = match self.mode {
            Mode::Safety => healthy().all(is_at_rest),
            Mode::Liveness => healthy().any(is_at_rest),
        };
        // Servers that have just come back do not know yet what is committed.
        rest && index >= self.oracle.certain() && self.clients.iter().all(Client::is_done)
    }

    fn end(&mut self) -> Result<Tally, String> {
        let mut images = Vec::new();
        for node in self.servers.iter().filter(|server| !server.is_broken).filter_map(|server| server.node.as_ref()) {
            node.state().assert_invariants();
            images.push((node.state().index(), node.state().image()));
        }
        images.sort_unstable();
        let differ = images.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1);
        ensure(!differ, || "servers have come to different states".into())?;
        let newest = self.servers.iter().filter(|server| !server.is_broken).filter_map(|server| server.node.as_ref());
        let newest = newest.max_by_key(|node| node.state().index()).expect("a healthy server");
        let left: Vec<_> = newest.state().all_regions().collect();
        let leaked = left.iter().find(|region| matches!(region.owner, Owner::Session(_)) || region.lease.is_some());
        ensure(leaked.is_none(), || format!("leaked: {leaked:?}"))?;
        self.oracle.found(left.iter())?;
        let answered = self.clients.iter().map(|client| client.answered).sum::<u64>();
        ensure(answered == self.tally.answers && answered > 0, || "nobody was answered".to_owned())?;
        Ok(self.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tables_are_restored() {
        let resets = (1..=50).map(|times| {
            let mut cluster = Cluster::new(4 * times, Mode::Safety);
            cluster.run().unwrap_or_else(|wrong| panic!("seed {}: {wrong}", 4 * times));
            cluster.oracle.resets
        });
        let resets: u64 = resets.sum();
        assert!(resets > 50, "only {resets} page tables were put in force");
    }
}
