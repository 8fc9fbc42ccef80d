//! Every decoder of mcomp as a function of arbitrary bytes.
//!
//! A [`Target`] takes any bytes and returns. It panics when a decoder does, and when one breaks a promise
//! that is stated beside it: what was accepted is emitted as the same bytes where the form is canonical, and as
//! an equal value where it is not; nothing longer than its documented limit comes out.
//!
//! The same functions run in two ways. `cargo test -p mcomp-fuzz` gives each its seeds and a number of
//! mutations of them, on any toolchain and as part of every check. `scripts/fuzz` hands them to libFuzzer, which
//! looks for new paths (`libfuzzer/`, a package outside the workspace, because it needs a C++ compiler).
//!
//! Checksums would keep mutations from ever getting past the first check. Where a form has them, the first
//! byte of the input decides whether the rest is taken as it is, or with its checksums mended first.
//!
//! To add a target: a function and its seeds in the module of its kind, a line in [`TARGETS`], and
//! `libfuzzer/targets/NAME.rs` with its `[[bin]]`; the tests say what is missing. Then
//! `cargo run -p mcomp-fuzz` writes the seeds into `corpus/`.
//!
//! Leaves out: sequences of requests to a running server, which the end-to-end tests spoil (`tests/garbage.rs`).

// The tests of this package stand in tests/. With `--all-targets` this library would be built for tests too, and
// with it those of the parsers of the command, which need the rest of the command.
#![cfg(not(test))]

pub mod agreed;
pub mod bodies;
pub mod connection;
pub mod control;
pub mod frames;
pub mod gateway;
pub mod mutate;
pub mod replicas;
pub mod segment;
pub mod shell;
pub mod snapshots;
pub mod texts;

mod exit;

/// A named input of a target that reaches deep into its decoder.
pub type Seed = (&'static str, Vec<u8>);

/// A decoder and what it is tried with.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, that of its corpus and of its libFuzzer target.
    pub name: &'static str,
    /// Takes any bytes; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Makes its seeds, the same ones every time.
    pub seeds: fn() -> Vec<Seed>,
}

macro_rules! targets {
    ($($module:ident :: $name:ident, $seeds:ident;)*) => {
        /// All targets.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $module::$name, seeds: $module::$seeds },)*];
    };
}

targets! {
    frames::header, header_seeds;
    frames::inbox, inbox_seeds;
    bodies::request, request_seeds;
    bodies::batch_answer, batch_answer_seeds;
    bodies::atomic_answer, atomic_answer_seeds;
    bodies::chunk, chunk_seeds;
    control::hello, hello_seeds;
    control::welcome, welcome_seeds;
    control::message, message_seeds;
    agreed::agreed_word, agreed_word_seeds;
    agreed::fence, fence_seeds;
    replicas::replica_message, replica_message_seeds;
    agreed::peer_message, peer_message_seeds;
    agreed::agreed_entries, agreed_entries_seeds;
    agreed::agreed_image, agreed_image_seeds;
    connection::connection, connection_seeds;
    texts::config, config_seeds;
    texts::quantity, quantity_seeds;
    texts::endpoint, endpoint_seeds;
    texts::snapshot_name, snapshot_name_seeds;
    texts::secret, secret_seeds;
    snapshots::snapshot_file, snapshot_file_seeds;
    snapshots::snapshot_chain, snapshot_chain_seeds;
    segment::segment, segment_seeds;
    shell::shell_line, shell_line_seeds;
    gateway::gateway_head, gateway_head_seeds;
    gateway::gateway_range, gateway_range_seeds;
    gateway::gateway_register, gateway_register_seeds;
}
