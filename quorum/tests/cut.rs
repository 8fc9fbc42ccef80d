//! The exact cut of replicated blocks, model-checked before it is built.
//!
//! A master asks every server to SWITCH to the next epoch; a server keeps what it holds then, as its shadow. Every message
//! carries the epoch of its sender, and switches a receiver that is behind before anything else. Answers of operations
//! that have seen the new epoch are held. When a majority has switched, each block is looked up in their shadows: the
//! newest value there is that of the cut if its server knew that it was chosen, and otherwise the block is read, as any
//! client reads it. Then comes RELEASE, and held answers go out.
//!
//! So whatever was answered before RELEASE was chosen in the old epoch, stands in a shadow of every majority, and is in
//! the cut; and whatever begins after RELEASE is not. What was under way is in it or not, and its asker knew nothing.
//!
//! Bounds: three servers, two blocks with one coordinator each, one client that writes to them in turn. The two
//! other rules, that epochs spread with every message and that a value has to be known to be chosen, are followed here but
//! not shown to be needed: that takes servers who know of other homes' blocks what is chosen, and homes that are taken over.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::{Checker, HasDiscoveries, Model, Property};

use mcomp_quorum::{
    Asked, Ballot, Coordinator, Copy, Effect, Incarnation, Object, OpId, Outcome, Place, Register, Replica, Replied,
    answer,
};

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Number(u8);

impl Object for Number {
    type Op = u8;
    type Answer = ();

    fn apply(&mut self, value: &u8) {
        self.0 = *value;
    }
}

const SERVERS: u8 = 3;
const MAJORITY: usize = 2;
const BLOCKS: usize = 2;
/// Block 0 has its home on server 0, block 1 on server 1.
fn home(block: usize) -> u8 {
    block as u8
}

/// How many writes there are: one to each block.
const WRITES: usize = 2;
/// The ticket of a read of the master.
const LOOK: u64 = 100;

/// What a block held at the switch: its ballot, its value, and whether that was known to be chosen.
type Shadow = Vec<(Ballot, u8, bool)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Body {
    Ask(usize, u64, Asked<Number>),
    Reply(usize, u64, Replied<Number>),
    /// From the master.
    Switch,
    Look(usize),
    Release,
    /// To the master.
    Switched(Shadow),
    Looked(usize, u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    from: u8,
    to: u8,
    /// Whether its sender has switched.
    switched: bool,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server {
    copies: Vec<Copy<Register<Number>>>,
    /// Of the block whose home it is.
    coordinator: Option<Coordinator<Number>>,
    /// The ballot that the home knows to be chosen.
    chosen: Ballot,
    shadow: Option<Shadow>,
    released: bool,
    held: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Master {
    Idle,
    Switching(BTreeMap<u8, Shadow>),
    /// What is known of the cut.
    Looking(Vec<Option<u8>>),
    Done([u8; BLOCKS]),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    servers: Vec<Server>,
    net: BTreeMap<u64, Message>,
    master: Master,
    /// Writes that were begun, and answered.
    begun: usize,
    answered: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Write,
    Cut,
    Deliver(Message),
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    /// Answers wait for RELEASE.
    holds: bool,
    /// The block that is written first. The other one is written when that is answered.
    first: usize,
}

const RIGHT: Cluster = Cluster { first: 0, holds: true };
const MASTER: u8 = SERVERS;

impl State {
    fn send(&mut self, from: u8, to: u8, body: Body) {
        let switched = from == MASTER || self.servers[usize::from(from)].shadow.is_some();
        let message = Message { from, to, switched, body };
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        self.net.insert(hasher.finish(), message);
    }
}

impl Cluster {
    fn switch(&self, state: &mut State, me: u8) {
        let server = &mut state.servers[usize::from(me)];
        if server.shadow.is_none() {
            let is_known =
                |block: usize, ballot| ballot == Ballot::ZERO || home(block) == me && ballot == server.chosen;
            let shadow = server.copies.iter().enumerate().map(|(block, copy)| {
                let ballot = copy.accepted();
                (ballot, copy.value().object().0, is_known(block, ballot))
            });
            server.shadow = Some(shadow.collect());
        }
    }

    /// Does what the coordinator of a server says.
    fn drive(&self, state: &mut State, me: u8) {
        let at = usize::from(me);
        let block = at;
        for effect in state.servers[at].coordinator.as_mut().expect("a home has one").take_effects() {
            match effect {
                Effect::Send { to, attempt, ask } => {
                    for to in to.iter() {
                        state.send(me, to, Body::Ask(block, attempt, ask.clone()));
                    }
                }
                Effect::Done(LOOK, Outcome::Read(number)) => state.send(me, MASTER, Body::Looked(block, number.0)),
                Effect::Done(ticket, Outcome::Wrote { .. }) => {
                    let server = &mut state.servers[at];
                    server.chosen = server.copies[block].accepted();
                    if self.holds && server.shadow.is_some() && !server.released {
                        server.held.push(ticket);
                    } else {
                        state.answered += 1;
                    }
                }
                effect => panic!("one coordinator for a block: {effect:?}"),
            }
        }
    }

    fn deliver(&self, state: &mut State, message: &Message) {
        let me = message.to;
        if me == MASTER {
            return self.tell_master(state, message);
        }
        if message.switched {
            self.switch(state, me);
        }
        let server = &mut state.servers[usize::from(me)];
        match &message.body {
            Body::Ask(block, attempt, ask) => {
                if let Some(reply) = answer(&mut server.copies[*block], ask.clone()) {
                    state.send(me, message.from, Body::Reply(*block, *attempt, reply));
                }
            }
            Body::Reply(block, attempt, reply) => {
                let coordinator = server.coordinator.as_mut().expect("who has asked has one");
                coordinator.heard(&mut server.copies[*block], message.from, *attempt, reply.clone());
                self.drive(state, me);
            }
            Body::Switch => {
                let shadow = server.shadow.clone().expect("it has switched");
                state.send(me, MASTER, Body::Switched(shadow));
            }
            Body::Look(block) => {
                let coordinator = server.coordinator.as_mut().expect("a home is asked");
                coordinator.read(&mut server.copies[*block], LOOK);
                self.drive(state, me);
            }
            Body::Release => {
                server.released = true;
                let held = std::mem::take(&mut server.held).len();
                state.answered += held;
            }
            Body::Switched(_) | Body::Looked(..) => unreachable!("those are for the master"),
        }
    }

    fn tell_master(&self, state: &mut State, message: &Message) {
        match (&mut state.master, &message.body) {
            (Master::Switching(shadows), Body::Switched(shadow)) => {
                shadows.insert(message.from, shadow.clone());
                if shadows.len() == MAJORITY {
                    let shadows = std::mem::take(shadows);
                    self.look(state, &shadows);
                }
            }
            (Master::Looking(cut), Body::Looked(block, value)) => {
                cut[*block] = Some(*value);
                self.release(state);
            }
            _ => {}
        }
    }

    fn look(&self, state: &mut State, shadows: &BTreeMap<u8, Shadow>) {
        let newest = |block: usize| {
            let of_block = shadows.values().map(|shadow| shadow[block]);
            let ballot = of_block.clone().map(|(ballot, ..)| ballot).max().expect("a majority has switched");
            let known = of_block.clone().any(|(of, _, known)| of == ballot && known);
            let value = of_block.clone().find(|(of, ..)| *of == ballot).expect("it was found").1;
            known.then_some(value)
        };
        let cut: Vec<_> = (0..BLOCKS).map(newest).collect();
        for (block, _) in cut.iter().enumerate().filter(|(_, value)| value.is_none()) {
            state.send(MASTER, home(block), Body::Look(block));
        }
        state.master = Master::Looking(cut);
        self.release(state);
    }

    fn release(&self, state: &mut State) {
        let Master::Looking(cut) = &state.master else { return };
        if let &[Some(first), Some(second)] = &cut[..] {
            state.master = Master::Done([first, second]);
            (0..SERVERS).for_each(|server| state.send(MASTER, server, Body::Release));
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let server = |me: u8| {
            let place = Place { me, replicas: SERVERS, incarnation: Incarnation(u16::from(me) + 1) };
            Server {
                copies: (0..BLOCKS).map(|_| Copy::new(Register::new(Number(0)))).collect(),
                coordinator: (usize::from(me) < BLOCKS).then(|| Coordinator::new(place, 0)),
                chosen: Ballot::ZERO,
                shadow: None,
                released: false,
                held: Vec::new(),
            }
        };
        let servers = (0..SERVERS).map(server).collect();
        let mut state = State { servers, net: BTreeMap::new(), master: Master::Idle, begun: 0, answered: 0 };
        // The homes have their ballots already: what they say to get them would only make the model larger.
        for me in 0..BLOCKS {
            let server = &mut state.servers[me];
            let coordinator = server.coordinator.as_mut().expect("a home has one");
            coordinator.write(&mut server.copies[me], 0, OpId { session: 0, number: 1 }, 0);
            self.drive(&mut state, me as u8);
            while let Some((_, message)) = state.net.pop_first() {
                self.deliver(&mut state, &message);
            }
        }
        state.answered = 0;
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.begun == state.answered && state.begun < WRITES {
            actions.push(Action::Write);
        }
        if state.master == Master::Idle {
            actions.push(Action::Cut);
        }
        actions.extend(state.net.values().cloned().map(Action::Deliver));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut state = state.clone();
        match action {
            Action::Write => {
                let block = if state.begun == 0 { self.first } else { 1 - self.first };
                let id = OpId { session: 1, number: state.begun as u64 + 1 };
                let server = &mut state.servers[usize::from(home(block))];
                let coordinator = server.coordinator.as_mut().expect("a home has one");
                coordinator.write(&mut server.copies[block], state.begun as u64, id, 1);
                state.begun += 1;
                self.drive(&mut state, home(block));
            }
            Action::Cut => {
                state.master = Master::Switching(BTreeMap::new());
                (0..SERVERS).for_each(|server| state.send(MASTER, server, Body::Switch));
            }
            Action::Deliver(message) => {
                state.net.retain(|_, other| *other != message);
                self.deliver(&mut state, &message);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // The second write is in it only if the first one is.
            Property::always("exact", |model: &Cluster, state: &State| match state.master {
                Master::Done(cut) => cut[model.first] >= cut[1 - model.first],
                _ => true,
            }),
            Property::sometimes("a cut in the middle", |_, state: &State| state.master == Master::Done([1, 0])),
            Property::sometimes("all is answered", |_, state: &State| state.answered == WRITES),
        ]
    }
}

fn depth() -> usize {
    let depth = std::env::var("MCOMP_TEST_DEPTH").ok();
    depth.map_or(17, |text| text.parse().unwrap_or_else(|_| panic!("MCOMP_TEST_DEPTH={text} is no number")))
}

#[test]
fn a_cut_is_exact() {
    let checker = RIGHT.checker().threads(2).target_max_depth(depth() + 8).spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_no_discovery("exact");
    checker.assert_any_discovery("a cut in the middle");
}

#[test]
fn answers_that_are_not_held_are_found() {
    let model = Cluster { holds: false, ..RIGHT };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discovery("exact").expect("a cut that is not exact");
    println!("found after {} steps, {} states", found.into_actions().len(), checker.state_count());
}
