//! Many short histories. A failure prints the seed; `MCOMP_TEST_SEED` begins with it, `MCOMP_TEST_HISTORIES` says how
//! many there are.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mcomp_sim::{Mode, Tally, run};

#[test]
fn random_histories_keep_what_was_agreed_on() {
    let number = |name: &str, plain: u64| {
        let given = std::env::var(name).ok();
        given.map_or(plain, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let count = number("MCOMP_TEST_HISTORIES", 20_000);
    let first = number("MCOMP_TEST_SEED", 1);
    // Relaxed: it only hands out numbers.
    let next = AtomicU64::new(0);
    let total = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let mode = if at.is_multiple_of(2) { Mode::Safety } else { Mode::Liveness };
                    let tally = run(first + at / 2, mode).unwrap_or_else(|wrong| panic!("{wrong}"));
                    add(&mut total.lock().expect("no thread has failed"), tally);
                }
            });
        }
    });
    let total = total.into_inner().expect("no thread has failed");
    println!("{count} histories from seed {first}: {total:?}");
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
