//! Servers that are moved: the vote passes from one machine to another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mcomp_meta::Ticket;
use mcomp_meta::mutant::{self, Mutant};
use mcomp_wire::meta::{Allocate, Answer, Ask, Command};
use mcomp_wire::{Shape, Space};
use uuid::Uuid;

use crate::{Compaction, Node, Peer, PeerMessage, Persist, Recovered, Settings, TICK_MS};

/// A machine: a server's process, if it runs, and its disk.
struct Machine {
    server: u32,
    /// Servers of its mcomp.cfg.
    listed: u32,
    node: Option<Node>,
    disk: Recovered,
}

/// Machines, and which of them is reached under which name.
struct Cluster {
    machines: Vec<Machine>,
    at: BTreeMap<Peer, usize>,
    now_ms: u64,
    compaction: Compaction,
    number: u64,
    told: BTreeMap<Ticket, Answer>,
}

impl Cluster {
    fn new(compaction: Compaction) -> Cluster {
        let at = (0..3).map(|server| (Peer::first(server), server as usize)).collect();
        let mut cluster =
            Cluster { machines: Vec::new(), at, now_ms: 1000, compaction, number: 0, told: BTreeMap::new() };
        for server in 0..3 {
            cluster.add(server);
        }
        for to in 0..3 {
            for from in (0..3).filter(|from| *from != to) {
                cluster.node(to).connected(Peer::first(from as u32));
            }
        }
        cluster.until("there is a leader", |cluster| cluster.leader().is_some());
        (0..3).for_each(|server| cluster.done_by(Some(server as usize), join(server, u128::from(server) + 1, 0)));
        cluster
    }

    /// A new machine for a server.
    fn add(&mut self, server: u32) -> usize {
        let at = self.machines.len();
        let listed = 3.max(1 + server);
        self.machines.push(Machine { server, listed, node: None, disk: Recovered::default() });
        self.start(at);
        at
    }

    fn start(&mut self, at: usize) {
        let Machine { server, listed, disk, .. } = &self.machines[at];
        let space = Space::new(4096, *listed).unwrap();
        let settings = Settings { id: *server, space, quarantine_ms: 0, spread: false, compaction: self.compaction };
        let mut number = at as u128 * 1_000_003 + u128::from(self.now_ms);
        let random = move || {
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d_1405_7b7e_f767_814f).wrapping_add(1);
            number >> 64
        };
        let mut node = Node::new(settings, disk.clone(), Box::new(random)).unwrap();
        node.set_time(self.now_ms);
        self.machines[at].node = Some(node);
    }

    fn kill(&mut self, at: usize) {
        self.machines[at].node = None;
    }

    fn node(&mut self, at: usize) -> &mut Node {
        self.machines[at].node.as_mut().expect("it runs")
    }

    fn leader(&self) -> Option<usize> {
        self.machines.iter().position(|machine| machine.node.as_ref().is_some_and(Node::leads))
    }

    /// A tenth of a second, and everything that is said in it.
    fn step(&mut self) {
        self.now_ms += TICK_MS;
        for machine in &mut self.machines {
            if let Some(node) = &mut machine.node {
                node.set_time(self.now_ms);
                node.tick();
            }
        }
        let mut letters = VecDeque::new();
        for _ in 0..LETTERS {
            for machine in &mut self.machines {
                let Some(node) = &mut machine.node else { continue };
                while let Some(ready) = node.ready() {
                    keep(&mut machine.disk, ready.persist);
                    let advanced = node.advance().unwrap();
                    let done = advanced.told.into_iter().filter_map(|(ticket, told)| Some((ticket, told.ok()?.answer)));
                    self.told.extend(done);
                    let sent = ready.send.into_iter().chain(advanced.send);
                    letters.extend(sent.map(|(to, message)| (node.peer(), to, message.encode())));
                }
            }
            let Some((from, to, bytes)) = letters.pop_front() else { return };
            if from.server == to.server {
                // They go by different configurations, each of which says that it is at the server's address itself.
                continue;
            }
            let Some(machine) = self.at.get(&to).map(|at| &mut self.machines[*at]) else { continue };
            let Some(node) = &mut machine.node else { continue };
            let message = PeerMessage::decode(&bytes, from, to.server).unwrap();
            node.receive(from, message).unwrap();
        }
        panic!("they talk for ever");
    }

    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Cluster) -> bool) {
        for _ in 0..300 {
            if is_so(self) {
                return;
            }
            self.step();
        }
        panic!("not in 30 seconds: {what}");
    }

    /// Has a command done, in a session of its own: it is handed in until there is an answer.
    fn done(&mut self, command: Command) {
        self.done_by(None, command);
    }

    /// The same, handed in at one machine, or at whoever leads.
    fn done_by(&mut self, at: Option<usize>, command: Command) {
        self.number += 1;
        let open = Command::Open { token: Uuid::from_u128(self.number.into()), ttl_ms: 10_000 };
        let Answer::Session { id, .. } = self.answer(None, Uuid::nil(), open) else {
            panic!("a session was asked for")
        };
        self.answer(at, id, command);
    }

    fn answer(&mut self, at: Option<usize>, session: Uuid, command: Command) -> Answer {
        let ask = Ask { session, number: 1, settled: 0, command };
        let ticket = Ticket::of(&ask);
        self.until(&format!("{:?} is done", ask.command), |cluster| {
            if let Some(at) = at.or(cluster.leader()) {
                cluster.node(at).submit(ask.clone());
                cluster.step();
            }
            cluster.told.contains_key(&ticket)
        });
        self.told[&ticket].clone()
    }

    /// Who votes, as every machine that runs and votes sees it, if they agree.
    fn voters(&mut self) -> Option<BTreeSet<Peer>> {
        let seen = self.machines.iter().filter_map(|machine| {
            let voters = machine.node.as_ref()?.voters();
            let ids = |ids: &[u64]| ids.iter().filter_map(|id| Peer::of_raft_id(*id)).collect::<BTreeSet<Peer>>();
            let own = machine.node.as_ref()?.peer();
            ids(&voters.voters).contains(&own).then(|| (ids(&voters.voters), voters.outgoing.is_empty()))
        });
        let seen: BTreeSet<_> = seen.collect();
        match seen.into_iter().collect::<Vec<_>>().as_slice() {
            [(voters, true)] => Some(voters.clone()),
            _ => None,
        }
    }

    /// Moves a server to a new machine, which is told where it is from the outside, as links are.
    fn replace(&mut self, server: u32, seat: u16) -> usize {
        self.done(Command::Move { server, address: Some(format!("h:{}", 100 * server + u32::from(seat))) });
        let (peer, at) = (Peer { server, seat }, self.add(server));
        self.at.insert(peer, at);
        self.until("the new machine has the log", |cluster| {
            cluster.node(at).peer() == peer && cluster.node(at).state().members().next(server).is_some()
        });
        self.done_by(Some(at), join(server, u128::from(seat) * 100, seat));
        let wanted = self.seated();
        self.until("the vote has passed", |cluster| cluster.voters().as_ref() == Some(&wanted));
        at
    }

    /// Adds a server, and goes through the steps; whoever runs is killed between them, in turn, and comes back.
    fn grow(&mut self, kills: bool) -> usize {
        let server = self.machines.len() as u32;
        let at = self.add(server);
        self.at.insert(Peer::first(server), at);
        let epoch = self.epoch();
        self.done(Command::Grow { server, address: "h:9".into(), replicas: 3, epoch });
        for (step, receiver) in [(1, server), (2, 0)] {
            if kills {
                let leader = self.leader().expect("there is one");
                self.kill(leader);
                self.until("another one leads", |cluster| cluster.leader().is_some());
                self.start(leader);
            }
            let memory = self.members_of(receiver).unwrap_or_else(|| {
                self.done_by(None, join(receiver, u128::from(receiver) + 1, 0));
                self.members_of(receiver).expect("it has joined")
            });
            let shape = Shape { n: server, step };
            self.until("the step has begun", |cluster| cluster.shape() == Some(shape));
            let epoch = self.epoch();
            self.done(Command::Received { server: receiver, memory, shape, replicas: 3, epoch });
        }
        let wanted = self.seated();
        self.until("it votes", |cluster| cluster.voters().as_ref() == Some(&wanted));
        at
    }

    /// The memory of a server, as whoever leads knows it.
    fn members_of(&mut self, server: u32) -> Option<Uuid> {
        self.until("there is a leader", |cluster| cluster.leader().is_some());
        let leader = self.leader().expect("there is one");
        self.node(leader).state().members().members.get(&server).map(|member| member.memory)
    }

    fn epoch(&mut self) -> u64 {
        self.until("there is a leader", |cluster| cluster.leader().is_some());
        let leader = self.leader().expect("there is one");
        self.node(leader).state().members().epoch
    }

    fn shape(&mut self) -> Option<Shape> {
        let leader = self.leader()?;
        Some(self.node(leader).state().members().shape)
    }

    /// All that run have come to the same state.
    fn agree(&mut self) {
        self.until("they agree", |cluster| {
            let images = cluster.machines.iter().filter_map(|machine| Some(machine.node.as_ref()?.state().image()));
            images.collect::<BTreeSet<_>>().len() == 1
        });
    }

    fn seated(&mut self) -> BTreeSet<Peer> {
        let leader = self.leader().expect("there is a leader");
        let members = self.node(leader).state().members().clone();
        (0..members.shape.servers()).map(|server| Peer { server, seat: members.seat(server) }).collect()
    }
}

fn join(server: u32, memory: u128, seat: u16) -> Command {
    Command::Join { server, memory: Uuid::from_u128(memory), seat, address: format!("first:{}", 1 + server) }
}

fn keep(disk: &mut Recovered, persist: Persist) {
    if let Some(image) = persist.image {
        match persist.forget_up_to {
            Some(up_to) => disk.entries.retain(|entry| entry.index > up_to),
            None => disk.entries.clear(),
        }
        disk.image = Some(image);
    }
    if let Some(first) = persist.entries.first() {
        disk.entries.retain(|entry| entry.index < first.index);
        disk.entries.extend(persist.entries.iter().cloned());
    }
    disk.hard_state = persist.hard_state.unwrap_or(disk.hard_state);
    disk.joined |= persist.joined;
    disk.seat = persist.seat.unwrap_or(disk.seat);
}

/// More than there are in a step.
const LETTERS: usize = 10_000;
const LONG: Compaction = Compaction { log_bytes: 1 << 20, kept_entries: 0 };
const SHORT: Compaction = Compaction { log_bytes: 1, kept_entries: 0 };

#[test]
fn every_server_is_replaced_in_turn_and_the_old_machines_are_of_no_use_any_more() {
    for compaction in [LONG, SHORT] {
        let mut cluster = Cluster::new(compaction);
        // The leader last: its own vote passes, too.
        let leader = cluster.leader().unwrap() as u32;
        for server in (1..=3).map(|n| (leader + n) % 3) {
            cluster.replace(server, 1);
        }
        let moved: BTreeSet<Peer> = (0..3).map(|server| Peer { server, seat: 1 }).collect();
        assert_eq!(cluster.voters(), Some(moved));
        (0..3).for_each(|old| cluster.kill(old));
        cluster.done(Command::Collect);
        (0..3).for_each(|new| cluster.kill(3 + new));
        (0..3).for_each(|old| cluster.start(old));
        (0..100).for_each(|_| cluster.step());
        assert_eq!(cluster.leader(), None, "who was replaced leads nobody");
        // Who was replaced does not take the place back either, once somebody is there who decides.
        (0..3).for_each(|new| cluster.start(3 + new));
        cluster.until("there is a leader", |cluster| cluster.leader().is_some());
        let ask = |server| Ask { session: Uuid::nil(), number: 0, settled: 0, command: join(server, 55, 0) };
        let leader = cluster.leader().expect("there is one");
        cluster.node(leader).receive(Peer::first(0), PeerMessage::Forward(ask(0))).unwrap();
        (0..10).for_each(|_| cluster.step());
        assert!(!cluster.told.contains_key(&Ticket::of(&ask(0))), "its place is taken");
    }
}

#[test]
fn a_dead_server_is_replaced_and_another_may_die_after_it() {
    for compaction in [LONG, SHORT] {
        let mut cluster = Cluster::new(compaction);
        let dead = cluster.leader().unwrap();
        cluster.kill(dead);
        let new = cluster.replace(dead as u32, 1);
        cluster.kill((dead + 1) % 3);
        cluster.done(Command::Collect);
        // What stands on its disk says which seat it has.
        cluster.kill(new);
        cluster.start(new);
        assert_eq!(cluster.node(new).peer(), Peer { server: dead as u32, seat: 1 });
        cluster.done(Command::Collect);
    }
}

#[test]
fn leaders_die_in_the_middle_of_a_change_and_it_goes_on() {
    for steps in 0..12 {
        let mut cluster = Cluster::new(if steps % 2 == 0 { LONG } else { SHORT });
        let server = (cluster.leader().unwrap() as u32 + 1) % 3;
        cluster.done(Command::Move { server, address: Some("h:1".into()) });
        let (peer, at) = (Peer { server, seat: 1 }, cluster.add(server));
        cluster.at.insert(peer, at);
        cluster.until("it has the log", |cluster| cluster.node(at).state().members().next(server).is_some());
        cluster.done_by(Some(at), join(server, 77, 1));
        (0..steps / 3).for_each(|_| cluster.step());
        if let Some(leader) = cluster.leader() {
            cluster.kill(leader);
            (0..steps).for_each(|_| cluster.step());
            cluster.start(leader);
        }
        cluster.until("there is a leader", |cluster| cluster.leader().is_some());
        let wanted = cluster.seated();
        assert!(wanted.contains(&peer));
        cluster.until("the vote has passed", |cluster| cluster.voters().as_ref() == Some(&wanted));
    }
}

#[test]
fn a_move_that_is_given_up_leaves_no_listener() {
    let mut cluster = Cluster::new(LONG);
    let server = (cluster.leader().unwrap() as u32 + 1) % 3;
    cluster.done(Command::Move { server, address: Some("h:1".into()) });
    let listeners = |cluster: &mut Cluster| cluster.leader().map(|at| cluster.node(at).voters().learners.len());
    cluster.until("the new seat listens", |cluster| listeners(cluster) == Some(1));
    cluster.done(Command::Move { server, address: None });
    cluster.until("it does not any more", |cluster| listeners(cluster) == Some(0));
}

/// Each of these mistakes has to turn one of the stories above red.
#[test]
fn known_wrong_versions_are_noticed() {
    let every = every_server_is_replaced_in_turn_and_the_old_machines_are_of_no_use_any_more;
    for wrong in [Mutant::OneSeat, Mutant::LeadsOn, Mutant::AnySeat] {
        let ended = mutant::with(wrong, || catch_unwind(AssertUnwindSafe(every)));
        assert!(ended.is_err(), "{wrong:?} is not noticed");
    }
}

#[test]
fn servers_are_added_and_know_what_the_others_know() {
    for (compaction, kills) in [(LONG, false), (SHORT, false), (LONG, true), (SHORT, true)] {
        let mut cluster = Cluster::new(compaction);
        let wish = Allocate { size: 8000, name: Some("before".into()), ..Allocate::default() };
        cluster.done(Command::Allocate(wish));
        let fourth = cluster.grow(kills);
        let fifth = cluster.grow(kills);
        cluster.agree();
        assert_eq!(cluster.shape(), Some(Shape { n: 5, step: 0 }));
        // Three of five are enough, and two that were there at first are not.
        (0..2).for_each(|old| cluster.kill(old));
        cluster.until("there is a leader", |cluster| cluster.leader().is_some());
        cluster.done(Command::Allocate(Allocate { size: 3 * 4096, ..Allocate::default() }));
        cluster.agree();
        [fourth, fifth].into_iter().for_each(|new| cluster.kill(new));
        (0..2).for_each(|old| cluster.start(old));
        cluster.until("there is a leader", |cluster| cluster.leader().is_some());
        cluster.kill(2);
        (0..100).for_each(|_| cluster.step());
        assert_eq!(cluster.leader(), None, "two of five decide nothing");
        [fourth, fifth].into_iter().for_each(|new| cluster.start(new));
        cluster.until("there is a leader", |cluster| cluster.leader().is_some());
        cluster.agree();
    }
}

/// A server lost its log, and has a mcomp.cfg that lists one that is not added yet: it must not take the log for one that
/// began with four.
#[test]
fn who_has_no_log_learns_how_many_servers_there_are() {
    let story = || {
        let mut cluster = Cluster::new(Compaction { kept_entries: 1024, ..LONG });
        let victim = (cluster.leader().expect("there is one") + 1) % 3;
        cluster.kill(victim);
        let machine = &mut cluster.machines[victim];
        (machine.disk, machine.listed) = (Recovered::default(), 4);
        cluster.start(victim);
        cluster.done(Command::Allocate(Allocate { size: 8000, ..Allocate::default() }));
        cluster.agree();
        assert_eq!(cluster.shape(), Some(Shape { n: 3, step: 0 }));
        let wanted = cluster.seated();
        cluster.until("it votes", |cluster| cluster.voters().as_ref() == Some(&wanted));
    };
    story();
    let ended = mutant::with(Mutant::LongMemory, || catch_unwind(AssertUnwindSafe(story)));
    assert!(ended.is_err(), "it is not noticed");
}
