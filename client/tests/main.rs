//! The client library against servers: real ones, and one that fails on purpose.

/// A server whose faults are scripted by the test.
mod fake;
/// What happens to a call when its connection breaks, its server restarts, or answers stay away.
mod faults;
/// Reads of this machine's segments, without asking the server.
mod local;
/// Everything that reads and writes, against real servers and a plain vector as the model.
mod memory;
/// A cluster of real servers inside the test process.
mod real;
/// Servers that stop in good order under load leave nobody in doubt.
mod restarts;
/// Many threads that share one cluster and its connections.
mod sharing;
