//! The register, model-checked: every order of messages, also lost and doubled ones, between real coordinators and
//! acceptors, with clients that ask again elsewhere, a replica that loses its memory and one that is suspected without
//! reason. Each known wrong version of a rule is found by the model that leaves it out.
//!
//! Bounds: three replicas, two of which coordinate, a few operations, and ballots up to a number. What needs more of
//! anything, and the wrong versions that show only then, is for the simulator.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use stateright::{Checker, HasDiscoveries, Model, Property};

use mcomp_quorum::mutant::{self, Mutant};
use mcomp_quorum::{
    Asked, Coordinator, Copy, Effect, Incarnation, Object, OpId, Outcome, Place, Register, Replica, Replied, answer,
};

/// A block of two fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Block([u8; 2]);

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wish {
    Read,
    /// One field becomes this; the answer is what the block held before.
    Patch(u8, u8),
    /// The first field grows by one.
    Add,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Holds(Block),
    /// What the field held before.
    Was(u8),
    NotDone,
}

impl Object for Block {
    type Op = Wish;
    type Answer = Answer;

    fn apply(&mut self, wish: &Wish) -> Answer {
        match *wish {
            Wish::Read => Answer::Holds(self.clone()),
            Wish::Patch(field, value) => {
                let before = self.clone();
                self.0[usize::from(field)] = value;
                Answer::Holds(before)
            }
            Wish::Add => {
                self.0[0] += 1;
                Answer::Was(self.0[0] - 1)
            }
        }
    }
}

impl SequentialSpec for Block {
    type Op = Wish;
    type Ret = Answer;

    fn invoke(&mut self, wish: &Wish) -> Answer {
        self.apply(wish)
    }

    fn is_valid_step(&mut self, wish: &Wish, told: &Answer) -> bool {
        *told == Answer::NotDone || self.apply(wish) == *told
    }
}

type Value = Register<Block>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Message {
    Ask { from: u8, to: u8, attempt: u64, ask: Asked<Block> },
    Reply { from: u8, to: u8, attempt: u64, reply: Replied<Block> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    copies: Vec<Copy<Value>>,
    coordinators: Vec<Coordinator<Block>>,
    backed_off: Vec<bool>,
    /// By their hashes, so that they always stand in the same order.
    net: BTreeMap<u64, Message>,
    /// What each client is at, and how often it has asked for that; not at all before it begins.
    clients: Vec<(usize, u8)>,
    history: LinearizabilityTester<usize, Block>,
    has_lost: bool,
    has_suspected: bool,
    restarts: u8,
}

impl Message {
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl State {
    fn send(&mut self, message: Message) {
        self.net.insert(message.key(), message);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// A client asks, for the first time or again.
    Ask {
        client: usize,
        of: u8,
    },
    Deliver(Message),
    Retry(u8),
    /// The last replica comes back without its memory.
    Lose,
    /// A coordinator takes the others for dead.
    Suspect(u8),
    /// A coordinator forgets what it was at; its replica keeps its memory.
    Restart(u8),
}

#[derive(Clone, Debug)]
struct Cluster {
    mutant: Mutant,
    /// What each client wants, one after the other, and which replica it asks first.
    clients: Vec<(u8, Vec<Wish>)>,
    /// How often a client asks for the same.
    tries: u8,
    loses: bool,
    suspects: bool,
    restarts: u8,
    doubles: bool,
    /// The greatest number of a ballot under which something is held.
    ballots: u64,
}

const REPLICAS: u8 = 3;
const COORDINATORS: u8 = 2;

fn place(me: u8) -> Place {
    Place { me, replicas: REPLICAS, incarnation: Incarnation(u16::from(me) + 1) }
}

impl Cluster {
    fn of(clients: &[(u8, &[Wish])]) -> Cluster {
        let clients = clients.iter().map(|(of, wishes)| (*of, wishes.to_vec())).collect();
        let mutant = Mutant::None;
        Cluster { mutant, clients, tries: 1, loses: false, suspects: false, restarts: 0, doubles: false, ballots: 0 }
    }

    /// Does what a coordinator says.
    fn drive(&self, state: &mut State, me: u8) {
        for effect in state.coordinators[usize::from(me)].take_effects() {
            match effect {
                Effect::Send { to, attempt, ask } => {
                    for to in to.iter() {
                        state.send(Message::Ask { from: me, to, attempt, ask: ask.clone() });
                    }
                }
                Effect::BackOff => state.backed_off[usize::from(me)] = true,
                Effect::Done(ticket, outcome) => self.tell(state, ticket, outcome),
            }
        }
    }

    fn tell(&self, state: &mut State, ticket: u64, outcome: Outcome<Block>) {
        let (client, at) = (ticket as usize / 16, ticket as usize % 16);
        // An answer to an earlier try may have come already.
        if state.clients[client].0 != at || state.clients[client].1 == 0 {
            return;
        }
        let answer = match outcome {
            Outcome::Wrote { answer, .. } => answer,
            Outcome::Read(block) => Answer::Holds(block),
            Outcome::NotDone if state.clients[client].1 == 1 => Answer::NotDone,
            // The client never learns it.
            Outcome::NotDone | Outcome::Forgotten { .. } => return,
        };
        state.clients[client] = (at + 1, 0);
        state.history.on_return(client, answer).expect("it has asked");
    }

    fn ask(&self, state: &mut State, client: usize, of: u8) {
        let (at, tries) = state.clients[client];
        let wish = self.clients[client].1[at];
        state.clients[client].1 += 1;
        if tries == 0 {
            state.history.on_invoke(client, wish).expect("it has its answer");
        }
        let ticket = (client * 16 + at) as u64;
        let (coordinator, copy) = (&mut state.coordinators[usize::from(of)], &mut state.copies[usize::from(of)]);
        if wish == Wish::Read {
            coordinator.read(copy, ticket);
        } else {
            let id = OpId { session: client as u64, number: at as u64 + 1 };
            coordinator.write(copy, ticket, id, wish);
        }
        self.drive(state, of);
    }

    fn deliver(&self, state: &mut State, message: Message) {
        if !self.doubles {
            state.net.remove(&message.key());
        }
        match message {
            Message::Ask { from, to, attempt, ask } => {
                if let Some(reply) = answer(&mut state.copies[usize::from(to)], ask) {
                    state.send(Message::Reply { from: to, to: from, attempt, reply });
                }
            }
            Message::Reply { from, to, attempt, reply } => {
                let at = usize::from(to);
                state.coordinators[at].heard(&mut state.copies[at], from, attempt, reply);
                self.drive(state, to);
            }
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let block = || Register::new(Block([0; 2]));
        vec![State {
            copies: (0..REPLICAS).map(|_| Copy::new(block())).collect(),
            coordinators: (0..COORDINATORS).map(|me| Coordinator::new(place(me), 0)).collect(),
            backed_off: vec![false; usize::from(COORDINATORS)],
            net: BTreeMap::new(),
            clients: vec![(0, 0); self.clients.len()],
            history: LinearizabilityTester::new(Block([0; 2])),
            has_lost: false,
            has_suspected: false,
            restarts: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (client, (first, wishes)) in self.clients.iter().enumerate() {
            let (at, tries) = state.clients[client];
            if at < wishes.len() && tries < self.tries {
                let of = (first + tries) % COORDINATORS;
                actions.push(Action::Ask { client, of });
            }
        }
        actions.extend(state.net.values().cloned().map(Action::Deliver));
        for me in 0..COORDINATORS {
            if state.backed_off[usize::from(me)] {
                actions.push(Action::Retry(me));
            }
            if self.suspects && !state.has_suspected {
                actions.push(Action::Suspect(me));
            }
            if state.restarts < self.restarts {
                actions.push(Action::Restart(me));
            }
        }
        if self.loses && !state.has_lost {
            actions.push(Action::Lose);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        mutant::set(self.mutant);
        let mut state = state.clone();
        match action {
            Action::Ask { client, of } => self.ask(&mut state, client, of),
            Action::Deliver(message) => self.deliver(&mut state, message),
            Action::Retry(me) => {
                let at = usize::from(me);
                state.backed_off[at] = false;
                state.coordinators[at].retry(&mut state.copies[at]);
                self.drive(&mut state, me);
            }
            Action::Lose => {
                state.has_lost = true;
                state.copies[usize::from(REPLICAS) - 1] = Copy::lost(Register::new(Block([0; 2])));
            }
            Action::Suspect(me) => {
                state.has_suspected = true;
                state.coordinators[usize::from(me)].suspect(place(me).others());
            }
            Action::Restart(me) => {
                let at = usize::from(me);
                state.restarts += 1;
                state.coordinators[at] = Coordinator::new(place(me), 100 * u64::from(state.restarts));
                state.backed_off[at] = false;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("linearizable", |_, state: &State| state.history.is_consistent()),
            Property::sometimes("everybody has an answer", |model: &Cluster, state: &State| {
                state.clients.iter().zip(&model.clients).all(|((at, _), (_, wishes))| *at == wishes.len())
            }),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        let is_near = |copy: &Copy<Value>| {
            copy.accepted().number() <= self.ballots && copy.promised().number() <= self.ballots + 1
        };
        state.copies.iter().all(is_near)
    }
}

/// Looks at every state that is at most so many steps away; `MCOMP_TEST_DEPTH` says how many. None is more than 40 away.
fn holds(model: Cluster) {
    let depth = std::env::var("MCOMP_TEST_DEPTH").ok();
    let depth =
        depth.map_or(17, |text| text.parse().unwrap_or_else(|_| panic!("MCOMP_TEST_DEPTH={text} is no number")));
    let checker = model.checker().threads(2).target_max_depth(depth).spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// Looks until the model is found to be wrong.
fn is_found(mutant: Mutant, model: Cluster) {
    let model = Cluster { mutant, ..model };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discovery("linearizable").unwrap_or_else(|| panic!("{mutant:?} was not noticed"));
    println!("{mutant:?} was noticed after {} steps, {} states", found.into_actions().len(), checker.state_count());
}

use Wish::{Add, Patch, Read};

/// Reads while somebody else writes, through another coordinator.
fn reads() -> Cluster {
    Cluster::of(&[(0, &[Patch(0, 1)]), (1, &[Read, Read])])
}

/// One reads while another writes.
fn read() -> Cluster {
    Cluster::of(&[(0, &[Patch(0, 1)]), (1, &[Read])])
}

/// Two write different fields of one block.
fn patches() -> Cluster {
    Cluster { ballots: 1, ..Cluster::of(&[(0, &[Patch(0, 1)]), (1, &[Patch(1, 1)])]) }
}

/// One asks two coordinators for the same.
fn retries() -> Cluster {
    Cluster { tries: 2, ballots: 1, ..Cluster::of(&[(0, &[Add])]) }
}

#[test]
fn reads_are_never_stale() {
    holds(reads());
}

#[test]
fn no_patch_loses_another() {
    holds(patches());
}

#[test]
fn what_is_sent_again_is_done_once() {
    holds(retries());
}

#[test]
fn a_lost_memory_loses_nothing() {
    holds(Cluster { loses: true, ..reads() });
}

#[test]
fn suspicion_is_harmless() {
    holds(Cluster { suspects: true, ..reads() });
}

#[test]
fn a_coordinator_may_restart_at_any_time() {
    holds(Cluster { restarts: 1, ..reads() });
}

#[test]
fn messages_may_come_twice() {
    holds(Cluster { doubles: true, ..read() });
}

#[test]
fn wrong_versions_are_found() {
    // A value that only its coordinator's replica holds, and a coordinator that has forgotten that.
    let two_reads = Cluster::of(&[(0, &[Patch(0, 1)]), (0, &[Read]), (1, &[Read])]);
    is_found(Mutant::OneRoundRead, Cluster { restarts: 1, ..two_reads });
    is_found(Mutant::ShrunkQuorum, Cluster { suspects: true, ..reads() });
    is_found(Mutant::AmnesiacVoter, Cluster { loses: true, ..reads() });
    is_found(Mutant::PatchByAbd, patches());
    is_found(Mutant::NoOpId, retries());
}
