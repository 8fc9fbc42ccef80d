//! Framed blocking sockets: TCP, and Unix sockets in the abstract namespace.
//!
//! Promises: a frame is handed out only when its header and body have been checked; no size that the
//! peer chose is allocated before it was compared with a limit; a peer that stops in the middle of a
//! frame, or does not take its answer, is cut off by the [`Watchdog`] without one system call on the
//! hot path; every wait on the client's side ends at a deadline; a process that accepts connections
//! lives through having too many of them, no descriptors and no threads. It leaves out what the messages
//! mean: servers, clients and snapshot processes decide that.

mod acceptor;
pub mod auth;
mod connection;
mod dial;
mod frame;
mod listener;
mod local;
mod peer;
mod places;
mod private;
mod refusals;
mod spinning;
mod stream;
pub mod tls;
mod trust;
mod watchdog;

pub use acceptor::{Host, Unserved, accept};
pub use connection::{CallError, ConnectError, Connection, Greeting, Timeouts};
pub use frame::{Around, Finish, Inbox, Received, begin_frame, error_frame, finish_frame};
pub use listener::Listener;
pub use local::{is_local, is_loopback, is_open_to_others, unix_name};
pub use peer::{PeerProcess, own_user};
pub use places::{NoPlace, Origin, Place, Places};
pub use refusals::{Cause, Refusals};
pub use spinning::Spinning;
pub use stream::{Endpoint, Glance, Stream};
pub use trust::Trust;
pub use watchdog::{Phase, Watch, Watchdog, WatchdogLimits};
