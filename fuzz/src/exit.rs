//! The refusal of a command, reduced to what the parser of the shell knows of it.
//!
//! The parser is built from the sources of the command (see `shell`), and names this module. The real one also
//! judges the errors of every library, which has nothing to do with a line.

/// A code that a refusal of the shell may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The request is wrong.
    Usage,
}

impl Exit {
    /// The name under which the command has it.
    pub(crate) const USAGE: Exit = Exit::Usage;
}

/// Why a line is refused.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

impl Failure {
    /// As in the command.
    pub(crate) fn new(exit: Exit, kind: &'static str, text: impl Into<String>) -> Failure {
        Failure { exit, kind, text: text.into() }
    }

    /// As in the command.
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Exit::USAGE, "usage", text)
    }
}
