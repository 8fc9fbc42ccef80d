//! One file for each subcommand that is not a program of its own: it takes its arguments, calls a
//! library, and prints.

pub(crate) mod agreed;
pub(crate) mod atomic;
pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod doctor;
mod exposed;
pub(crate) mod gateway;
mod interrupted;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod member;
mod place;
mod process;
pub(crate) mod purge;
pub(crate) mod range;
pub(crate) mod read;
pub(crate) mod restore;
pub(crate) mod secret;
pub(crate) mod server;
pub(crate) mod snapshot;
pub(crate) mod snapshotter;
pub(crate) mod status;
pub(crate) mod write;
