//! Runs a history of each seed, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs as many histories as `MCOMP_TEST_HISTORIES` says. `history` gets a number that counts from 0, and the first seed.
/// Returns how many there were, and what they tell.
pub(crate) fn each<T: Send>(history: impl Fn(u64, u64) -> Result<T, String> + Sync) -> (u64, Vec<T>) {
    let number = |name: &str, plain: u64| {
        let given = std::env::var(name).ok();
        given.map_or(plain, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let count = number("MCOMP_TEST_HISTORIES", 20_000);
    let first = number("MCOMP_TEST_SEED", 1);
    // Relaxed: it only hands out numbers.
    let next = AtomicU64::new(0);
    let told = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let tally = history(at, first).unwrap_or_else(|wrong| panic!("{wrong}"));
                    told.lock().expect("no thread has failed").push(tally);
                }
            });
        }
    });
    (count, told.into_inner().expect("no thread has failed"))
}
