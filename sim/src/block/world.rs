//! The servers of one block, and what happens to them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use mcomp_quorum::mutant::{self, Mutant};
use mcomp_quorum::{
    Ask, Asked, Coordinator, Copy, Effect, Incarnation, Outcome, Place, Refill, Register, Replica, Replied, Set, answer,
};

use super::Tally;
use super::client::{Client, Next};
use super::history::History;
use super::object::{Fields, Wish};

/// How long there are faults, in microseconds.
const FAULTY_US: u64 = 2_000_000;
/// How long it may take until everything is served after a majority healed.
const HEALED_US: u64 = 4_000_000;
/// Operations that nobody waits for any more. Each of them doubles what there is to think about.
const MOST_UNKNOWN: u64 = 6;
/// Operations of each client.
const WISHES: u32 = 14;

pub(super) type Value = Register<Fields>;

#[derive(Clone, Debug)]
pub(super) enum Message {
    Ask(Asked<Fields>),
    Reply(Replied<Fields>),
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver {
        from: u8,
        to: u8,
        epoch: u64,
        attempt: u64,
        message: Message,
    },
    /// A client's request arrives.
    Request {
        client: usize,
        number: u64,
        wish: Wish,
        of: u8,
    },
    /// Its answer arrives.
    Answer {
        client: usize,
        number: u64,
        outcome: Outcome<Fields>,
    },
    Timeout {
        client: usize,
        number: u64,
        tries: u32,
    },
    Begin {
        client: usize,
    },
    /// A coordinator goes on after a lost round.
    Retry {
        server: u8,
        life: u64,
    },
    /// Time goes by for a server.
    Tick {
        server: u8,
    },
    /// A server hears of an epoch.
    Learn {
        server: u8,
        epoch: u64,
    },
    Restart {
        server: u8,
        keeps: bool,
    },
    Fault,
}

pub(super) struct Server {
    /// Which replica it is, or was.
    pub(super) me: u8,
    pub(super) is_up: bool,
    pub(super) life: u64,
    pub(super) epoch: u64,
    pub(super) incarnation: Incarnation,
    pub(super) copy: Copy<Value>,
    pub(super) coordinator: Coordinator<Fields>,
    pub(super) refill: Option<Refill<Value>>,
    /// Nobody hears it, it hears nobody.
    pub(super) is_mute: bool,
    pub(super) is_deaf: bool,
}

pub(super) struct World {
    /// How many there are.
    pub(super) replicas: u8,
    pub(super) rng: Rng,
    pub(super) now_us: u64,
    pub(super) sequence: u64,
    pub(super) events: BinaryHeap<Reverse<(u64, u64)>>,
    pub(super) bodies: Vec<Option<Event>>,
    /// The replicas, and behind them those whose place another one took and who have not heard of it.
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) epoch: u64,
    pub(super) last_incarnation: u16,
    /// One message in so many is lost, and in so many doubled.
    pub(super) loses: u32,
    pub(super) doubles: u32,
    pub(super) delay_us: u64,
    /// Whether servers have their places taken: not in each history, as much else does not happen then.
    pub(super) moves: bool,
    pub(super) healed: bool,
    /// Servers that stay as they are when the others heal.
    pub(super) broken: Set,
    pub(super) tally: Tally,
}

/// Runs the history of a seed, and thinks about it for `patience` at most. An error says what was wrong, and how to see
/// it again.
pub fn run(seed: u64, patience: Duration) -> Result<Tally, String> {
    let mut world = World::new(seed);
    let ended = world.run().and_then(|()| world.history.check(patience));
    ended.map_err(|wrong| format!("seed {seed}, at {} us: {wrong}", world.now_us))?;
    Ok(world.tally)
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let replicas = if rng.u32(..4) == 0 { 5 } else { 3 };
        let server = |me: u8| {
            let incarnation = Incarnation(u16::from(me) + 1);
            let place = Place { me, replicas, incarnation };
            Server {
                me,
                is_up: true,
                life: 0,
                epoch: 0,
                incarnation,
                copy: Copy::new(Register::new(Fields::default())),
                coordinator: Coordinator::new(place, 0),
                refill: None,
                is_mute: false,
                is_deaf: false,
            }
        };
        let servers = (0..replicas).map(server).collect();
        let clients = (0..rng.u64(2..6)).map(|session| Client::new(session, WISHES)).collect();
        let (loses, doubles) = ([0, 50, 10][rng.usize(..3)], [0, 50, 8][rng.usize(..3)]);
        let delay_us = [300, 3000, 30_000][rng.usize(..3)];
        let moves = rng.u32(..3) == 0;
        World {
            replicas,
            rng,
            now_us: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            bodies: Vec::new(),
            servers,
            clients,
            history: History::default(),
            epoch: 0,
            last_incarnation: u16::from(replicas),
            loses,
            doubles,
            delay_us,
            moves,
            healed: false,
            broken: Set::default(),
            tally: Tally::default(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for client in 0..self.clients.len() {
            self.after(1000, Event::Begin { client });
        }
        for server in 0..self.replicas {
            self.after(10_000, Event::Tick { server });
        }
        self.after(100_000, Event::Fault);
        while !self.is_done() {
            let Some(Reverse((at, which))) = self.events.pop() else { return Err("nothing happens any more".into()) };
            self.now_us = at;
            if self.now_us > FAULTY_US && !self.healed {
                self.heal();
            }
            if self.now_us > FAULTY_US + HEALED_US {
                return Err(format!("no end after it healed, but for {:?}: {:?}", self.broken, self.clients));
            }
            let event = self.bodies[which as usize].take().expect("an event happens once");
            self.happen(event);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(|client| client.left == 0 && client.asked.is_none())
    }

    pub(super) fn place(&self, server: u8) -> Place {
        let Server { me, incarnation, .. } = self.servers[usize::from(server)];
        Place { me, replicas: self.replicas, incarnation }
    }

    pub(super) fn after(&mut self, us: u64, event: Event) {
        self.events.push(Reverse((self.now_us + us, self.sequence)));
        self.sequence += 1;
        self.bodies.push(Some(event));
    }

    /// A while, mostly short and sometimes long.
    fn while_us(&mut self) -> u64 {
        let most = if self.rng.u32(..20) == 0 { self.delay_us * 20 } else { self.delay_us };
        self.rng.u64(10..most)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin { client } => self.begin(client),
            Event::Request { client, number, wish, of } => self.request(client, number, wish, of),
            Event::Answer { client, number, outcome } => self.answered(client, number, outcome),
            Event::Timeout { client, number, tries } => self.timed_out(client, number, tries),
            Event::Deliver { from, to, epoch, attempt, message } => self.deliver(from, to, epoch, attempt, message),
            Event::Retry { server, life } => {
                let at = &mut self.servers[usize::from(server)];
                if at.is_up && at.life == life {
                    at.coordinator.retry(&mut at.copy);
                    self.drive(server);
                }
            }
            Event::Tick { server } => self.tick(server),
            Event::Learn { server, epoch } => self.learn(server, epoch),
            Event::Restart { server, keeps } => self.restart(server, keeps),
            Event::Fault => self.fault(),
        }
    }

    // What clients do.

    fn begin(&mut self, client: usize) {
        if self.clients[client].left == 0 {
            return;
        }
        // Mostly the home.
        let of = if self.rng.u32(..4) == 0 { self.rng.u8(..self.replicas) } else { 0 };
        let (now, rng) = (self.now_us, &mut self.rng);
        self.clients[client].begin(now, of, rng);
        self.ask(client);
    }

    /// Sends what a client wants to the replica that is its turn.
    fn ask(&mut self, client: usize) {
        let asked = self.clients[client].asked.expect("it has begun");
        let delay_us = self.while_us();
        let (number, wish, of, tries) = (asked.number, asked.wish, asked.of, asked.tries);
        if self.loses == 0 || self.rng.u32(..self.loses) > 0 {
            self.after(delay_us, Event::Request { client, number, wish, of });
        }
        let patience_us = self.rng.u64(20_000..150_000);
        self.after(patience_us, Event::Timeout { client, number, tries });
        self.tally.retries += u64::from(tries > 1);
    }

    fn request(&mut self, client: usize, number: u64, wish: Wish, of: u8) {
        let id = self.clients[client].id(number);
        // A client may not have heard either that another one took its place.
        let mut before = (self.replicas..self.servers.len() as u8).filter(|at| self.servers[usize::from(*at)].me == of);
        let before = before.next_back().filter(|_| !self.healed && self.rng.u32(..4) == 0);
        let of = before.unwrap_or(of);
        let server = &mut self.servers[usize::from(of)];
        if !server.is_up || server.is_deaf {
            return;
        }
        let ticket = (client as u64) << 32 | number;
        match wish {
            Wish::Read => server.coordinator.read(&mut server.copy, ticket),
            _ => server.coordinator.write(&mut server.copy, ticket, id, wish),
        }
        self.drive(of);
    }

    fn answered(&mut self, client: usize, number: u64, outcome: Outcome<Fields>) {
        match self.clients[client].told(number, outcome) {
            None => {}
            Some(Ok(told)) => self.end(client, Some(told)),
            Some(Err(Next::GiveUp)) => self.end(client, None),
            Some(Err(Next::Drop)) => {
                self.clients[client].asked = None;
                self.after(1000, Event::Begin { client });
            }
            Some(Err(Next::Ask(_))) => self.ask(client),
        }
    }

    fn timed_out(&mut self, client: usize, number: u64, tries: u32) {
        let replicas = self.replicas;
        if !matches!(&self.clients[client].asked, Some(asked) if asked.number == number && asked.tries == tries) {
            return;
        }
        let may_give_up = self.tally.unknown < MOST_UNKNOWN;
        match self.clients[client].timed_out(replicas, may_give_up) {
            Next::Ask(_) => self.ask(client),
            Next::GiveUp | Next::Drop => self.end(client, None),
        }
    }

    fn end(&mut self, client: usize, told: Option<super::object::Told>) {
        let asked = self.clients[client].asked.take().expect("what ends has begun");
        let is_known = told.is_some();
        self.tally.answers += u64::from(is_known);
        self.tally.unknown += u64::from(!is_known);
        // A read of which nothing is known says nothing.
        if is_known || asked.wish != Wish::Read {
            self.history.saw(client, asked.asked_at, self.now_us, asked.wish, told);
        }
        let pause_us = if self.healed { 1000 } else { self.rng.u64(100..200_000) };
        self.after(pause_us, Event::Begin { client });
    }

    // What servers do.

    /// Does what a coordinator says.
    pub(super) fn drive(&mut self, me: u8) {
        let at = usize::from(me);
        for effect in self.servers[at].coordinator.take_effects() {
            match effect {
                Effect::Send { to, attempt, ask } => {
                    for to in to.iter() {
                        self.send(me, to, attempt, Message::Ask(ask.clone()));
                    }
                }
                Effect::Done(ticket, outcome) => {
                    let (client, number) = ((ticket >> 32) as usize, ticket & u64::from(u32::MAX));
                    let delay_us = self.while_us();
                    if !self.servers[at].is_mute && (self.loses == 0 || self.rng.u32(..self.loses) > 0) {
                        self.after(delay_us, Event::Answer { client, number, outcome });
                    }
                }
                Effect::BackOff => {
                    self.tally.lost_rounds += 1;
                    let (life, pause_us) = (self.servers[at].life, self.rng.u64(100..20_000));
                    self.after(pause_us, Event::Retry { server: me, life });
                }
            }
        }
    }

    fn send(&mut self, from: u8, to: u8, attempt: u64, message: Message) {
        let server = &self.servers[usize::from(from)];
        if server.is_mute || self.loses > 0 && self.rng.u32(..self.loses) == 0 {
            return;
        }
        let (epoch, from) = (server.epoch, server.me);
        let copies = 1 + u32::from(self.doubles > 0 && self.rng.u32(..self.doubles) == 0);
        for _ in 0..copies {
            let delay_us = self.while_us();
            self.after(delay_us, Event::Deliver { from, to, epoch, attempt, message: message.clone() });
        }
    }

    fn deliver(&mut self, from: u8, to: u8, epoch: u64, attempt: u64, message: Message) {
        let is_for = |server: &Server| {
            let is_of_now = server.epoch == epoch || mutant::active() == Mutant::AnyEpoch;
            server.me == to && server.is_up && !server.is_deaf && is_of_now
        };
        let all = (0..self.servers.len() as u8).filter(|at| is_for(&self.servers[usize::from(*at)]));
        for at in all.collect::<Vec<u8>>() {
            self.hear(at, from, attempt, message.clone());
        }
    }

    fn hear(&mut self, at: u8, from: u8, attempt: u64, message: Message) {
        let server = &mut self.servers[usize::from(at)];
        match message {
            Message::Ask(ask) => {
                if let Some(reply) = answer(&mut server.copy, ask) {
                    self.send(at, from, attempt, Message::Reply(reply));
                }
            }
            Message::Reply(reply @ mcomp_quorum::Reply::Shown(..)) => {
                if let Some(refill) = &mut server.refill
                    && refill.heard(&mut server.copy, from, reply)
                {
                    server.refill = None;
                    self.tally.refills += 1;
                }
            }
            Message::Reply(reply) => {
                server.coordinator.heard(&mut server.copy, from, attempt, reply);
                self.drive(at);
            }
        }
    }

    fn tick(&mut self, me: u8) {
        let place = self.place(me);
        let pause_us = self.rng.u64(10_000..40_000);
        self.after(pause_us, Event::Tick { server: me });
        let server = &mut self.servers[usize::from(me)];
        if !server.is_up {
            return;
        }
        server.coordinator.resend(&mut server.copy);
        if server.refill.is_some() {
            for to in place.others().iter() {
                self.send(me, to, 0, Message::Ask(Ask::Show));
            }
        }
        self.drive(me);
    }

    fn learn(&mut self, me: u8, epoch: u64) {
        let place = self.place(me);
        let server = &mut self.servers[usize::from(me)];
        if !server.is_up || server.epoch >= epoch {
            return;
        }
        if me >= self.replicas {
            // Another one has taken its place.
            server.is_up = false;
            return;
        }
        server.epoch = epoch;
        server.coordinator.start_over();
        server.refill = (!server.copy.votes()).then(|| Refill::new(place));
        self.drive(me);
    }
}
