//! Known wrong versions of the rules of this crate and of `consensus`, kept so that the simulator can prove that it would
//! notice. Without the feature `mutants` the switch is the constant [`Mutant::None`].

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The rules as they are.
    None,
    /// A server without a log votes at once.
    AmnesiacVoter,
    /// No answer is remembered: a command that comes again is done again.
    NoMemory,
    /// A question is answered from the state that is there, without asking whoever leads.
    StaleRead,
    /// The clock of a leader goes on when it no longer leads, and counts again when it leads the next time.
    EndlessClock,
    /// A server that was moved is the same voter as before, on whatever machine.
    OneSeat,
    /// A server that is to be moved leads on.
    LeadsOn,
    /// Who was replaced joins again.
    AnySeat,
    /// Who has no log hears it from its first entry on, and takes it for one that began with the servers of its mcomp.cfg.
    LongMemory,
    /// A server that was added votes with the memory that it brings.
    EmptyVoter,
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Mutant> = const { std::cell::Cell::new(Mutant::None) };
}

/// Does `what` under a mistake that everything in this thread makes meanwhile.
#[cfg(feature = "mutants")]
pub fn with<T>(mutant: Mutant, what: impl FnOnce() -> T) -> T {
    ACTIVE.set(mutant);
    let done = what();
    ACTIVE.set(Mutant::None);
    done
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
