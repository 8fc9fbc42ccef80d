//! Stories that random histories meet too seldom: votes that were given to a life that is over, ballots that are used by
//! two lives of one coordinator, and operations that nobody waits for any more. The first two end well by a rule, and badly
//! without it.

use mcomp_quorum::mutant::{self, Mutant};
use mcomp_quorum::{
    Asked, Coordinator, Copy, Effect, Fate, Incarnation, Object, OpId, Outcome, Place, Refill, Register, Reply, Set,
    answer,
};

/// A block to which bits are added.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bits(u8);

impl Object for Bits {
    type Op = u8;
    type Answer = ();

    fn apply(&mut self, bit: &u8) {
        self.0 |= bit;
    }
}

type Value = Register<Bits>;

/// Replicas of one block, without a network: a test says who hears what.
struct Block {
    copies: Vec<Copy<Value>>,
}

/// What a coordinator has sent and said.
#[derive(Default)]
struct Said {
    asks: Vec<(Set, u64, Asked<Bits>)>,
    done: Vec<Outcome<Bits>>,
}

fn place(me: u8, replicas: u8) -> Place {
    Place { me, replicas, incarnation: Incarnation(u16::from(me) + 1) }
}

fn take(coordinator: &mut Coordinator<Bits>) -> Said {
    let mut said = Said::default();
    for effect in coordinator.take_effects() {
        match effect {
            Effect::Send { to, attempt, ask } => said.asks.push((to, attempt, ask)),
            Effect::Done(_, outcome) => said.done.push(outcome),
            Effect::BackOff => {}
        }
    }
    said
}

impl Block {
    fn new(replicas: u8) -> Block {
        Block { copies: (0..replicas).map(|_| Copy::new(Register::new(Bits(0)))).collect() }
    }

    fn write(&mut self, coordinator: &mut Coordinator<Bits>, me: u8, number: u64, bit: u8) {
        let id = OpId { session: u64::from(me), number };
        coordinator.write(&mut self.copies[usize::from(me)], number, id, bit);
    }

    /// Some replicas hear the question, and the coordinator hears their answers.
    fn hear(&mut self, coordinator: &mut Coordinator<Bits>, me: u8, by: &[u8], (attempt, ask): (u64, Asked<Bits>)) {
        for at in by {
            if let Some(reply) = answer(&mut self.copies[usize::from(*at)], ask.clone()) {
                coordinator.heard(&mut self.copies[usize::from(me)], *at, attempt, reply);
            }
        }
    }

    /// Does what waits at a coordinator with the help of these replicas, to its end.
    fn run(&mut self, coordinator: &mut Coordinator<Bits>, me: u8, by: &[u8]) -> Vec<Outcome<Bits>> {
        let mut done = Vec::new();
        for _ in 0..10 {
            coordinator.resend(&mut self.copies[usize::from(me)]);
            coordinator.retry(&mut self.copies[usize::from(me)]);
            let said = take(coordinator);
            done.extend(said.done);
            for (to, attempt, ask) in said.asks {
                let by: Vec<u8> = by.iter().copied().filter(|at| to.has(*at)).collect();
                self.hear(coordinator, me, &by, (attempt, ask));
            }
        }
        done.extend(take(coordinator).done);
        done
    }

    /// What a new coordinator reads.
    fn read(&mut self, me: u8, by: &[u8]) -> u8 {
        let mut coordinator = Coordinator::new(place(me, self.copies.len() as u8), 1000);
        coordinator.read(&mut self.copies[usize::from(me)], 1);
        match &self.run(&mut coordinator, me, by)[..] {
            [Outcome::Read(bits)] => bits.0,
            outcome => panic!("it reads {outcome:?}"),
        }
    }
}

/// Five replicas. The last one asks for obedience, and replica 1 promises it, and loses its memory. It is filled by those
/// who have not been asked yet. Then the first replica, under a lower ballot, writes with its help; and then the last one
/// goes on. What the block holds in the end.
fn a_promise_outlives_a_memory() -> u8 {
    let mut block = Block::new(5);
    // Its first ballot is too low for this story: that of an earlier life, of which nobody else has heard.
    block.write(&mut Coordinator::new(place(4, 5), 0), 4, 1, 0);
    let mut last = Coordinator::new(place(4, 5), 100);
    block.write(&mut last, 4, 2, 4);
    let (_, attempt, prepare) = take(&mut last).asks.remove(0);
    block.hear(&mut last, 4, &[1], (attempt, prepare));

    block.copies[1] = Copy::lost(Register::new(Bits(0)));
    last.start_over();
    let mut refill = Refill::new(place(1, 5));
    for from in [0, 2, 3] {
        let shown = answer(&mut block.copies[usize::from(from)], mcomp_quorum::Ask::Show).expect("it votes");
        assert!(matches!(shown, Reply::Shown(..)));
        let is_filled = refill.heard(&mut block.copies[1], from, shown);
        assert_eq!(is_filled, from == 3, "three of the other four are needed");
    }

    let mut first = Coordinator::new(place(0, 5), 0);
    block.write(&mut first, 0, 3, 1);
    assert_eq!(block.run(&mut first, 0, &[1, 2]).len(), 1, "three of five have it");
    assert_eq!(block.run(&mut last, 4, &[1, 3]).len(), 1, "and these three have that");
    block.read(4, &[1, 3])
}

/// Three replicas. The first one proposes a value, and starts anew before anybody has heard of that; its next life proposes
/// another one, and then the others hear both, each in another order. What two readers see.
fn a_ballot_in_two_lives() -> [u8; 2] {
    let mut block = Block::new(3);
    let mut former = Coordinator::new(place(0, 3), 0);
    block.write(&mut former, 0, 1, 1);
    let (_, attempt, prepare) = take(&mut former).asks.remove(0);
    block.hear(&mut former, 0, &[1, 2], (attempt, prepare));
    let (_, _, late) = take(&mut former).asks.remove(0);

    let mut latter = Coordinator::new(place(0, 3), 100);
    block.write(&mut latter, 0, 2, 2);
    let (_, attempt, prepare) = take(&mut latter).asks.remove(0);
    block.hear(&mut latter, 0, &[1, 2], (attempt, prepare));
    let (_, attempt, accept) = take(&mut latter).asks.remove(0);
    answer(&mut block.copies[1], late);
    block.hear(&mut latter, 0, &[1, 2], (attempt, accept));
    assert_eq!(take(&mut latter).done.len(), 1, "a majority says that it holds the second value");
    [block.read(1, &[0]), block.read(2, &[0])]
}

#[test]
fn votes_end_with_the_epoch() {
    mutant::set(Mutant::None);
    assert_eq!(a_promise_outlives_a_memory(), 1 | 4, "what was chosen is kept");
    mutant::set(Mutant::OldVotes);
    assert_eq!(a_promise_outlives_a_memory(), 4, "without the rule, a write is lost");
}

#[test]
fn no_ballot_is_used_by_two_lives() {
    mutant::set(Mutant::None);
    let [one, other] = a_ballot_in_two_lives();
    assert_eq!(one, other, "both see one value");
    assert!(one & 2 == 2, "which has what was answered: {one}");
    mutant::set(Mutant::OthersFirst);
    let [one, other] = a_ballot_in_two_lives();
    assert!(one != other || one & 2 == 0, "without the rule, one ballot has two values: {one}, {other}");
}

#[test]
fn what_nobody_waits_for_was_not_done_or_may_have_been() {
    mutant::set(Mutant::None);
    let mut block = Block::new(3);
    let mut home = Coordinator::new(place(0, 3), 0);
    block.write(&mut home, 0, 1, 1);
    assert_eq!(home.abandon(1), Fate::NotDone, "nobody has seen it: obedience is only asked for");
    block.write(&mut home, 0, 2, 2);
    let (_, attempt, prepare) = take(&mut home).asks.remove(0);
    block.hear(&mut home, 0, &[1], (attempt, prepare));
    assert_eq!(home.abandon(2), Fate::Unknown, "its value is on its way");
    assert!(block.run(&mut home, 0, &[1, 2]).is_empty(), "and nobody is told");
    assert_eq!(block.read(1, &[0, 2]), 2, "what was given up in time is not there, the rest may be");
}
