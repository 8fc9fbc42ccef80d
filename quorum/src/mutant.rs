//! Known wrong versions of the rules, kept so that the tests can prove that they would notice. Without the feature
//! `mutants` the switch is the constant [`Mutant::None`].

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The rules as they are.
    None,
    /// A read takes the newest of what a majority reports, whether they agree or not.
    OneRoundRead,
    /// A majority of those who are not suspected to be dead is enough.
    ShrunkQuorum,
    /// A server that lost its memory votes at once.
    AmnesiacVoter,
    /// A write patches the newest value that a majority reports, and stores it under the next ballot, unasked.
    PatchByAbd,
    /// Results are not looked at: what is sent again is done again.
    NoOpId,
    /// What is not among the last results was never done.
    ShortMemory,
    /// A refused proposal is taken for one that had no effect.
    NackIsFail,
    /// A reply counts as often as it comes.
    CountTwice,
    /// What was promised to a coordinator counts on when a replica has lost its memory since.
    OldVotes,
    /// A replica that lost its memory takes what any one of the others holds.
    FillFromOne,
    /// A coordinator tells its own replica last.
    OthersFirst,
    /// Messages of another epoch count: those of a replica whose place another one took, and those to it.
    AnyEpoch,
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Mutant> = const { std::cell::Cell::new(Mutant::None) };
}

/// From now on this thread makes a mistake.
#[cfg(feature = "mutants")]
pub fn set(mutant: Mutant) {
    ACTIVE.set(mutant);
}

/// The mistake that this thread makes.
#[cfg(feature = "mutants")]
pub fn active() -> Mutant {
    ACTIVE.get()
}

/// The mistake that this thread makes: always none, because this build leaves the feature `mutants` out.
#[cfg(not(feature = "mutants"))]
pub const fn active() -> Mutant {
    Mutant::None
}
