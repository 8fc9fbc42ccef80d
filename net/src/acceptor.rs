//! Accepting connections for a process that lives through everything: too many, one without a thread, and no
//! descriptors left.
//!
//! Whoever is not served is told BUSY, with a sentence that names what ran out, and is closed. Nothing spins,
//! and nobody who is being served notices. It leaves out who is served, and on what thread: the process says so
//! as a [`Host`].

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use mcomp_wire::{Kind, Status};
use rustix::io::Errno;

use crate::places::{NoPlace, Origin};
use crate::{Cause, Listener, Stream, error_frame};

/// Refused sockets that are kept open for a moment, so that the peer can read why: one that is closed with
/// unread bytes takes back what was sent.
const LINGERING: usize = 64;

/// Pause when descriptors are used up and even the spare one is gone, or the kernel is out of memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// The process that connections are accepted for.
pub trait Host {
    /// Serves a connection on a thread of its own, or says why not.
    fn serve(&self, stream: Stream, origin: Origin) -> Result<(), Unserved>;

    /// Notes that a connection was refused, and says why in one sentence.
    fn refused(&self, why: &Unserved) -> String;

    /// Whether to accept no more. The listener is closed then.
    fn is_stopping(&self) -> bool;

    /// Waits, unless the process stops.
    fn pause(&self, duration: Duration);
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub enum Unserved {
    /// All places are taken.
    #[error("all {most} connections of this process are taken: try again")]
    Full {
        /// So many there are.
        most: usize,
    },
    /// The peer has all the connections that one may have.
    #[error("{origin} has all the {most} connections to this process that one may have: close some, or try again")]
    FullForOne {
        /// Whose connections.
        origin: Origin,
        /// So many one may have.
        most: usize,
    },
    /// The process has no descriptors left.
    #[error("this process is out of file descriptors (ulimit -n): try again")]
    OpenFiles,
    /// There is no thread to serve it.
    #[error("this process cannot start another thread (ulimit -u, or a limit on tasks): {0}: try again")]
    Thread(#[source] io::Error),
}

impl Unserved {
    /// What it is counted under.
    pub fn cause(&self) -> Cause {
        match self {
            Unserved::Full { .. } => Cause::MaxConnections,
            Unserved::FullForOne { .. } => Cause::MaxConnectionsPerAddress,
            Unserved::OpenFiles => Cause::OpenFiles,
            Unserved::Thread(_) => Cause::Threads,
        }
    }
}

impl From<NoPlace> for Unserved {
    fn from(none: NoPlace) -> Unserved {
        match none {
            NoPlace::All { most } => Unserved::Full { most },
            NoPlace::OfOne { origin, most } => Unserved::FullForOne { origin, most },
        }
    }
}

/// Accepts until the host stops and the listener is closed.
pub fn accept(listener: &Listener, host: &impl Host) {
    let mut acceptor = Acceptor { host, spare: spare(), lingering: VecDeque::new() };
    while !host.is_stopping() {
        match listener.accept() {
            Ok(stream) => acceptor.admit(stream),
            Err(error) if !host.is_stopping() => acceptor.failed(listener, &error),
            Err(_) => {}
        }
    }
}

struct Acceptor<'a, H> {
    host: &'a H,
    /// A descriptor to give up when there is no other, so that a peer can be accepted and told.
    spare: Option<File>,
    lingering: VecDeque<Stream>,
}

impl<H: Host> Acceptor<'_, H> {
    fn admit(&mut self, stream: Stream) {
        // A peer that is gone already has no address, and needs no answer.
        let Ok(origin) = stream.origin() else { return };
        let socket = stream.handle();
        if let Err(why) = self.host.serve(stream, origin) {
            self.refuse(socket, &why);
        }
    }

    fn failed(&mut self, listener: &Listener, error: &io::Error) {
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => self.accept_without_descriptors(listener),
            // The peer was gone before it was accepted: the next one may be there already.
            Some(Errno::CONNABORTED | Errno::PROTO | Errno::INTR) => {}
            // Memory is short, or something that may last: neither ends a server.
            _ => {
                tracing::debug!(%error, "accept failed");
                self.host.pause(EXHAUSTED_PAUSE);
            }
        }
    }

    /// Gives up what is not needed, then the spare descriptor, to accept one connection and say why it is not
    /// served. It may have been long in coming: when there are descriptors again by then, it is served.
    fn accept_without_descriptors(&mut self, listener: &Listener) {
        self.lingering.clear();
        if self.spare.take().is_some()
            && let Ok(stream) = listener.accept()
        {
            self.spare = spare();
            match self.spare {
                Some(_) => self.admit(stream),
                None => self.refuse(stream.handle(), &Unserved::OpenFiles),
            }
            // Without a spare one, what was just refused holds the last descriptor.
            if self.spare.is_none() {
                self.lingering.clear();
            }
        }
        if self.spare.is_none() {
            self.spare = spare();
        }
        if self.spare.is_none() {
            self.host.pause(EXHAUSTED_PAUSE);
        }
    }

    /// Says why on the socket itself: nothing was agreed on with the peer, so also where there should be TLS this goes
    /// in the open, and nobody waits for a handshake.
    fn refuse(&mut self, mut socket: Stream, why: &Unserved) {
        let sentence = self.host.refused(why);
        let mut out = Vec::new();
        error_frame(&mut out, Kind::Hello as u8, 0, Status::Busy, &sentence);
        // The answer fits into any socket buffer; a peer that is gone needs none.
        let _ = socket.write_all(&out);
        socket.finish_writing();
        self.lingering.push_back(socket);
        if self.lingering.len() > LINGERING {
            self.lingering.pop_front();
        }
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{Endpoint, Inbox};

    /// Serves with the answers that it was given, the last one first.
    #[derive(Default)]
    struct Scripted {
        answers: Mutex<Vec<Result<(), Unserved>>>,
        served: Mutex<Vec<Stream>>,
    }

    impl Host for Scripted {
        fn serve(&self, stream: Stream, _: Origin) -> Result<(), Unserved> {
            self.served.lock().unwrap().push(stream);
            self.answers.lock().unwrap().pop().unwrap_or(Ok(()))
        }

        fn refused(&self, why: &Unserved) -> String {
            self.served.lock().unwrap().pop();
            why.to_string()
        }

        fn is_stopping(&self) -> bool {
            false
        }

        fn pause(&self, _: Duration) {}
    }

    fn listener() -> (Listener, Endpoint) {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let endpoint = Endpoint::Unix(format!("mcomp-net-acceptor.{}.{number}", std::process::id()));
        (Listener::bind(&endpoint).unwrap(), endpoint)
    }

    fn connect(endpoint: &Endpoint) -> Stream {
        let patience = Duration::from_secs(60);
        let stream = Stream::connect(endpoint, patience).unwrap();
        stream.set_timeout(Some(patience)).unwrap();
        stream
    }

    /// The sentence of the only frame before the end.
    fn reason(stream: &mut Stream) -> String {
        let mut inbox = Inbox::new(512);
        let frame = loop {
            match inbox.take().unwrap() {
                Some(frame) => break frame,
                None => assert_ne!(inbox.fill(stream).unwrap(), 0, "closed without a reason"),
            }
        };
        assert_eq!((frame.header.kind, frame.header.status), (Kind::Hello as u8, Status::Busy as u16));
        let sentence = String::from_utf8(inbox.body(&frame).to_vec()).unwrap();
        assert_eq!(inbox.fill(stream).unwrap(), 0, "closed after it");
        sentence
    }

    fn acceptor(host: &Scripted) -> Acceptor<'_, Scripted> {
        Acceptor { host, spare: spare(), lingering: VecDeque::new() }
    }

    #[test]
    fn who_is_not_served_is_told_why() {
        let (listener, endpoint) = listener();
        let host = Scripted::default();
        let mut acceptor = acceptor(&host);
        let origin = Origin::User(7);
        for (why, words) in [
            (Unserved::Full { most: 9 }, "all 9 connections"),
            (Unserved::FullForOne { origin, most: 5 }, "user 7 of this machine has all the 5 connections"),
            (Unserved::OpenFiles, "file descriptors"),
            (Unserved::Thread(io::ErrorKind::WouldBlock.into()), "thread"),
        ] {
            host.answers.lock().unwrap().push(Err(why));
            let mut peer = connect(&endpoint);
            acceptor.admit(listener.accept().unwrap());
            let sentence = reason(&mut peer);
            assert!(sentence.contains(words), "{sentence}");
        }
        let _peer = connect(&endpoint);
        acceptor.admit(listener.accept().unwrap());
        assert_eq!(host.served.lock().unwrap().len(), 1);
    }

    /// The kernel reserves the descriptor before it waits, so accept fails although nobody has come yet.
    #[test]
    fn the_first_one_after_a_shortage_is_served() {
        let (listener, endpoint) = listener();
        let host = Scripted::default();
        let mut acceptor = acceptor(&host);
        let _peer = connect(&endpoint);
        acceptor.failed(&listener, &Errno::MFILE.into());
        assert_eq!(host.served.lock().unwrap().len(), 1, "there were descriptors when it came");
        assert!(acceptor.spare.is_some());
    }

    #[test]
    fn refused_sockets_do_not_gather() {
        let (listener, endpoint) = listener();
        let host = Scripted::default();
        let mut acceptor = acceptor(&host);
        for _ in 0..LINGERING + 5 {
            host.answers.lock().unwrap().push(Err(Unserved::OpenFiles));
            let _peer = connect(&endpoint);
            acceptor.admit(listener.accept().unwrap());
        }
        assert_eq!(acceptor.lingering.len(), LINGERING);
    }
}
