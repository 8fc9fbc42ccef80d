//! Many short histories of the metadata. A failure prints the seed; `MCOMP_TEST_SEED` begins with it,
//! `MCOMP_TEST_HISTORIES` says how many there are.

mod seeds;

use mcomp_sim::{Mode, Tally, run};

#[test]
fn random_histories_keep_what_was_agreed_on() {
    let (count, tallies) = seeds::each(|at, first| {
        let mode = if at.is_multiple_of(2) { Mode::Safety } else { Mode::Liveness };
        run(first + at / 2, mode)
    });
    let mut total = Tally::default();
    tallies.into_iter().for_each(|tally| add(&mut total, tally));
    println!("{count} histories of the metadata: {total:?}");
    if count >= 1000 {
        let Tally { answers, crashes, lost_disks, reads, cuts, leaders, images } = total;
        let happened = [answers, crashes, lost_disks, reads, cuts, leaders, images];
        assert!(happened.iter().all(|times| *times > 0), "something never happened: {total:?}");
    }
}

fn add(total: &mut Tally, tally: Tally) {
    total.answers += tally.answers;
    total.crashes += tally.crashes;
    total.lost_disks += tally.lost_disks;
    total.reads += tally.reads;
    total.cuts += tally.cuts;
    total.leaders += tally.leaders;
    total.images += tally.images;
}
