//! Where a value came from, and the flat list of all values that `config show` prints.

use std::fmt;

/// Which layer a value came from. Later layers of this list win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// `mcomp.cfg`.
    File,
    /// The environment variable of this name.
    Variable(String),
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One value of the configuration, ready to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The dotted key, such as `cluster.k` or `server.0.address`.
    pub key: String,
    /// The value in force.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// A checked value in the few types that a table and JSON both know. `Display` is the table's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word, an endpoint, a path, or a duration that [`crate::parse_duration`] reads back.
    String(String),
    /// A number.
    Integer(i64),
    /// A number of bytes: a plain number in JSON, a size with its unit in a table.
    Size(u64),
    /// Yes or no.
    Boolean(bool),
    /// An optional value that is not set.
    Null,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Size(bytes) => f.write_str(&crate::format_size(*bytes)),
            Self::Boolean(yes) => yes.fmt(f),
            Self::Null => f.write_str("-"),
        }
    }
}
