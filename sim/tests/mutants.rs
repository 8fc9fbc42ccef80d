//! The simulator notices when a rule is broken: each known wrong version fails one of the first histories. That the
//! right one fails none is what `histories.rs` says, from the same seeds on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mcomp_meta::mutant::{Mutant, with};
use mcomp_sim::{Mode, run};

/// Seeds that may pass before one must fail. When this was written it was the 3rd, 1st, 1st and 639th.
const PATIENCE: u64 = 12_000;

/// The first seed that fails under a mutant, in either mode. A panic is a failure: the engine asserts, too.
fn first_failure(mutant: Mutant) -> Option<(u64, String)> {
    (1..=PATIENCE).find_map(|seed| {
        [Mode::Safety, Mode::Liveness].into_iter().find_map(|mode| {
            let ended = catch_unwind(AssertUnwindSafe(|| with(mutant, || run(seed, mode))));
            match ended {
                Ok(Ok(_)) => None,
                Ok(Err(wrong)) => Some((seed, wrong)),
                Err(_) => Some((seed, "it panicked".to_owned())),
            }
        })
    })
}

fn is_found(mutant: Mutant) {
    let (seed, wrong) = first_failure(mutant).unwrap_or_else(|| panic!("{mutant:?} passes {PATIENCE} seeds"));
    println!("{mutant:?}: seed {seed}: {}", wrong.chars().take(300).collect::<String>());
}

#[test]
fn a_server_that_votes_without_its_log_is_found() {
    is_found(Mutant::AmnesiacVoter);
}

#[test]
fn a_command_that_is_done_twice_is_found() {
    is_found(Mutant::NoMemory);
}

#[test]
fn a_read_of_an_old_state_is_found() {
    is_found(Mutant::StaleRead);
}

#[test]
fn a_clock_that_goes_on_without_leading_is_found() {
    is_found(Mutant::EndlessClock);
}
