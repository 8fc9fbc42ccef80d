//! `mcomp.cfg`: the one file, the same on every machine, that names a cluster, the memory each
//! server lends, and the map of the network.
//!
//! It is read in two stages. What was typed, in the file, in `MCOMP_*` variables and in flags, is
//! laid over the defaults in the order flag, variable, file, default. What stands on top is then
//! checked, and only a [`Config`] that passed every check exists: whoever holds one need not check
//! again.
//!
//! Promises
//! - All that is wrong is reported, not the first of it, each with its file and line, variable or
//!   flag, the value, and the way out. An unknown name gets a "did you mean".
//! - Every value remembers where it came from ([`Origin`]), so that `config show` can tell.
//! - The world is touched in three places that say so: [`Config::load`] reads one file,
//!   [`Endpoint::resolve`] asks the resolver, [`is_local_ip`] binds a socket. [`Search::of_process`]
//!   and [`Overrides::of_process`] read the process environment; the rest works on strings.
//!
//! Leaves out
//! - Secrets. They never stand in this file.
//! - Reloading. A running server keeps what it started with.

mod check;
mod config;
mod duration;
mod endpoint;
mod error;
mod file;
mod identity;
mod keys;
mod origin;
mod quantity;
mod scalar;
mod search;
mod size;
mod suggest;
mod together;
mod written;

pub use config::{Checksum, Client, Config, Limits, Metadata, Placement, ServerEntry, Snapshot, Spin, TlsFiles};
pub use duration::{format_duration, parse_duration};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ConfigError, Place, Problem};
pub use identity::is_local_ip;
pub use origin::{Origin, Shown, Value};
pub use quantity::{Quantity, QuantityError};
pub use search::{Overrides, Search};
pub use size::{format_size, parse_address, parse_size};
