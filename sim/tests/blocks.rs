//! Many short histories of one replicated block. A failure prints the seed; `MCOMP_TEST_SEED` begins with it,
//! `MCOMP_TEST_HISTORIES` says how many there are.

mod seeds;

use std::time::Duration;

use mcomp_sim::block::{Tally, run};

#[test]
fn random_histories_of_a_block_are_linearizable() {
    let (count, tallies) = seeds::each(|at, first| run(first + at, Duration::from_secs(60)));
    let mut total = Tally::default();
    for tally in tallies {
        total.answers += tally.answers;
        total.unknown += tally.unknown;
        total.lost_rounds += tally.lost_rounds;
        total.retries += tally.retries;
        total.crashes += tally.crashes;
        total.refills += tally.refills;
        total.cuts += tally.cuts;
        total.moves += tally.moves;
    }
    println!("{count} histories of a block: {total:?}");
    if count >= 1000 {
        let Tally { answers, unknown, lost_rounds, retries, crashes, refills, cuts, moves } = total;
        let happened = [answers, unknown, lost_rounds, retries, crashes, refills, cuts, moves];
        assert!(happened.iter().all(|times| *times > 0), "something never happened: {total:?}");
    }
}
