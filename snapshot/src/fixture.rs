//! What the tests of this crate share: a far side that shakes hands and then does as it is told.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mcomp_net::{Connection, Endpoint, Inbox, Listener, Stream, Timeouts, Trust, begin_frame, finish_frame};
use mcomp_wire::control::{self, Hello, Welcome};
use mcomp_wire::{Header, Role, flags, limits};
use uuid::Uuid;

/// Long enough for any machine; a test that waits for so long has found a deadlock.
const DEADLOCK: Duration = Duration::from_secs(60);

/// A server or snapshot process that serves one connection, and stays until it is dropped.
pub(crate) struct FarSide {
    endpoint: Endpoint,
    leave: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Its end of the connection.
pub(crate) struct Far {
    stream: Stream,
    inbox: Inbox,
}

impl FarSide {
    /// `serve` gets the first request after the handshake.
    pub(crate) fn start(serve: impl FnOnce(&mut Far, Header) + Send + 'static) -> FarSide {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let endpoint = Endpoint::Unix(format!("mcomp-snapshot-far.{}.{number}", std::process::id()));
        let listener = Listener::bind(&endpoint).expect("a name that nobody else has");
        let (leave, left) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let stream = listener.accept().expect("the test connects");
            let mut far = Far { stream, inbox: Inbox::new(limits::MAX_BODY) };
            let hello = far.receive();
            far.answer(hello, &control::encode(&welcome()));
            let request = far.receive();
            serve(&mut far, request);
            // The connection stays open for as long as the test likes.
            let _ = left.recv();
        });
        FarSide { endpoint, leave: Some(leave), thread: Some(thread) }
    }

    pub(crate) fn connect(&mut self) -> Connection {
        let (cluster, session, auth) = ("demo".to_owned(), Uuid::nil(), Vec::new());
        let hello = Hello { cluster, role: Role::Node, server: 0, k: 4096, n: 1, session, features: 0, auth };
        let timeouts = Timeouts { connect: DEADLOCK, request: DEADLOCK };
        Connection::open(&self.endpoint, &hello, timeouts, Trust::default()).expect("a far side that listens")
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        drop(self.leave.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(ended, Some(Err(_))), "the far side panicked");
    }
}

impl Far {
    /// Sends one frame of an answer; `header` has its kind and its flags beside those of an answer.
    pub(crate) fn answer(&mut self, header: Header, body: &[u8]) {
        let mut out = Vec::new();
        let at = begin_frame(&mut out);
        out.extend_from_slice(body);
        let Header { kind, request_id, .. } = header;
        let flags = (header.flags & flags::MORE) | flags::ANSWER;
        finish_frame(&mut out, at, Header { kind, request_id, flags, ..Header::default() }, true);
        self.stream.write_all(&out).expect("the test reads");
    }

    fn receive(&mut self) -> Header {
        loop {
            match self.inbox.take().expect("a frame") {
                Some(frame) => return frame.header,
                None => assert_ne!(self.inbox.fill(&mut self.stream).expect("bytes"), 0, "the test left early"),
            }
        }
    }
}

fn welcome() -> Welcome {
    Welcome {
        server: 0,
        block_size: 4096,
        config_epoch: 1,
        incarnation: 1,
        segment: Uuid::nil(),
        features: 0,
        resumed: false,
        auth: Vec::new(),
    }
}
