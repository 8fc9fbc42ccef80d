//! Who may speak, and that nobody else puts in a word.
//!
//! A peer with a key of its role proves it in the handshake, without showing it; so does the server. From then on every
//! frame carries a seal: a keyed hash over its number, its header and its body, with a key of each direction. A frame
//! that was changed, left out, repeated, re-ordered, or sent back to its sender does not fit, and ends the connection.
//!
//! It leaves out secrecy: frames travel in the open. Hashes are compared in constant time by `blake3`.

mod file;
mod handshake;
mod keyring;
mod seal;

pub use file::SecretError;
pub use handshake::{Challenged, Prover};
pub use keyring::{BadSecret, Key, Keyring, MOST_KEYS};
pub use seal::{Opener, SEAL_LEN, Sealer};
