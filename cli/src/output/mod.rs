//! What commands print: data on stdout, for people or as JSON; messages and progress on stderr.
//!
//! Nothing here panics when a stream is closed: who prints gets an error, and one that says that the
//! reader of stdout left ([`ReaderGone`]) ends the command quietly.

mod hexdump;
pub(crate) mod logging;
pub(crate) mod progress;
mod replacement;
mod stdout;
mod table;
mod text;

pub(crate) use hexdump::Hexdump;
pub(crate) use replacement::Replacement;
pub(crate) use stdout::{Done, ReaderGone, Stdout, hush, json, line};
pub(crate) use table::table;
pub(crate) use text::Text;
