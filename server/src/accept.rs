//! Accepting connections, up to the cap.
//!
//! A connection beyond the cap, one without a thread, and one beyond the process's file descriptors
//! each get a `busy` answer and are closed; nobody else notices, and nothing spins.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use mcomp_net::{Listener, Phase, Stream, error_frame};
use mcomp_wire::{Kind, Status};

use crate::connection::Connection;
use crate::server::Shared;

/// Stack of a connection's thread. The deepest path copies one block through the stack.
pub const STACK_BYTES: usize = 256 << 10;

/// Refused sockets that are kept open for a moment, so that the peer can read why.
const LINGERING: usize = 64;

/// Pause when descriptors are used up and even the spare one is gone.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the listener is closed.
pub(crate) fn run(listener: &Listener, shared: &Arc<Shared>) {
    let mut acceptor = Acceptor { shared, spare: spare(), lingering: VecDeque::new() };
    while !shared.is_stopping() {
        match listener.accept() {
            Ok(stream) => acceptor.admit(stream),
            Err(error) => acceptor.failed(listener, &error),
        }
    }
}

struct Acceptor<'a> {
    shared: &'a Arc<Shared>,
    /// A descriptor to give up when there is no other, so that a peer can be accepted and told.
    spare: Option<File>,
    lingering: VecDeque<Stream>,
}

impl Acceptor<'_> {
    fn admit(&mut self, stream: Stream) {
        let Some(place) = self.shared.connections.enter() else {
            let most = self.shared.connections.most();
            return self.refuse(stream, &format!("all {most} connections of this server are taken: try again"));
        };
        let (handle, watch) = (stream.clone(), self.shared.watchdog.watch(&stream, Phase::Handshake));
        // A stop shuts down every connection that is watched by then; this one may have come a moment later.
        if self.shared.is_stopping() {
            return;
        }
        let name = format!("conn-{}", place.id);
        let connection = Connection::new(stream, place, watch, Arc::clone(self.shared));
        let spawned = std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(|| connection.run());
        if let Err(error) = spawned {
            self.refuse(handle, &format!("this server cannot start a thread: {error}"));
        }
    }

    fn failed(&mut self, listener: &Listener, error: &io::Error) {
        if self.shared.is_stopping() {
            return;
        }
        let exhausted = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
        if exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
            self.lingering.clear();
            match self.spare.take() {
                Some(spare) => {
                    drop(spare);
                    if let Ok(stream) = listener.accept() {
                        self.refuse(stream, "this server is out of file descriptors: try again");
                        self.lingering.clear();
                    }
                    self.spare = spare_or_pause(self.shared);
                }
                None => self.spare = spare_or_pause(self.shared),
            }
        } else {
            // The peer was gone before it was accepted, or memory is short: neither ends a server.
            tracing::debug!(%error, "accept failed");
            let short = [rustix::io::Errno::NOMEM, rustix::io::Errno::NOBUFS];
            if short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
                self.shared.pause(EXHAUSTED_PAUSE);
            }
        }
    }

    fn refuse(&mut self, mut stream: Stream, reason: &str) {
        self.shared.counters.refuse(Status::Busy);
        let mut out = Vec::new();
        error_frame(&mut out, Kind::Hello as u8, 0, Status::Busy, reason);
        // The answer fits into any socket buffer; a peer that is gone needs none.
        let _ = stream.write_all(&out);
        stream.finish_writing();
        self.lingering.push_back(stream);
        if self.lingering.len() > LINGERING {
            self.lingering.pop_front();
        }
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn spare_or_pause(shared: &Shared) -> Option<File> {
    let file = spare();
    if file.is_none() {
        shared.pause(EXHAUSTED_PAUSE);
    }
    file
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::fixture::Running;

    #[test]
    fn a_connection_that_comes_during_a_stop_is_not_served() {
        let mut running = Running::start();
        assert!(running.server.stop());
        let shared = &running.server.shared;
        let mut acceptor = Acceptor { shared, spare: None, lingering: VecDeque::new() };
        let (_peer, stream) = UnixStream::pair().unwrap();
        acceptor.admit(stream.into());
        assert_eq!(shared.connections.count(), 0);
    }
}
