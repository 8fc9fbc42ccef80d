//! The end-to-end tests: one binary, real processes, real sockets, real kills.

/// Real clusters that clean up after themselves.
mod harness;

/// A peer that speaks the protocol by hand, well or badly.
mod raw;

/// The cut is exact, also while its processes are killed and frozen; the wrong versions are caught.
mod cut;

/// Replicated memory is one linearizable memory, whichever minority of servers is dead, frozen, cut off or empty.
mod replicas;

/// Every byte at and across the boundaries between servers, and none past the end.
mod boundaries;

/// Files survive the loss of all memory: write, snapshot, restore onto other shapes, export.
mod files;

/// Snapshots know what was allocated, and a restore brings it back and fences who had it before.
mod pages;

/// Whatever is done, in any order and by many threads, memory is what a plain vector would be.
mod model;

/// Blocks are never seen half-written, and no count is lost, under many writers.
mod uniform;

/// Killed servers keep their bytes, and no client is told of a success that was none.
mod crash;

/// Imports run downward only, and only shm has unsafe code.
mod layers;

/// A snapshot file that was damaged, cut short or mixed is refused before memory is touched; killed
/// masters leave nothing that could be taken for a snapshot.
mod damage;

/// A fault at every single call of the master to its disk: no half file, no wrong word, no harm.
mod sweep;

/// Memory that is not there is refused with the numbers; nobody dies of it.
mod room;

/// No name, whoever brings or plants it, leads out of the snapshot folder.
mod names;

/// A full or unwritable disk is reported, and the servers serve on.
mod full;

/// Any bytes at all on a socket get an error or a close, and harm nobody else.
mod garbage;

/// Who has no key, the wrong one, or somebody else's words gets nothing, changes nothing and is counted.
mod auth;

/// Under TLS nobody reads along, and who has no certificate that counts learns what to mend.
#[cfg(feature = "tls")]
mod tls;

/// A build without TLS does not pretend.
#[cfg(not(feature = "tls"))]
mod without_tls;

/// The keys of a cluster, from the command line: made, used, changed, taken away.
mod secret;

/// Snapshot files are signed where there is a secret, and those of strangers are refused.
mod signed;

/// Caps, deadlines and budgets hold against peers that are too many, too slow or too greedy.
mod limits;

/// Every command of the README does what it says.
mod readme;

/// Every exit code, flag, stream and number of the command line is as the contract says.
mod contract;

/// Every op of the shell and every way to get it wrong, and the shell goes on.
mod shell;

/// A person at a terminal and a script in a pipe: every command of the REPL, and every way to leave it.
mod repl;

/// All processes of a cluster as one command: they start together, end together, and leave nothing.
mod up;

/// The doctor finds what will fail on this machine before it does, and changes nothing.
mod doctor;

/// Monitors are told what is documented, and cannot hinder a server.
mod metrics;

/// The HTTP door: registers, bytes, and every way to get a request wrong.
mod gateway;

/// The bench counts what it says it counts, and touches only what was offered.
mod bench;

/// What the servers agree on survives them, and nobody steps on anybody's memory.
mod agree;
