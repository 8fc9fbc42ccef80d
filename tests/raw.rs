//! A peer that speaks the protocol by hand, well or badly.
//!
//! What it sends is bytes; what it gets is every frame until the far side closes. Each wait ends: a
//! far side that neither answers nor closes fails the test. It leaves out sessions and retries.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use mcomp_net::auth::{Keyring, Prover};
use mcomp_net::{Endpoint, Finish, Glance, Inbox, Stream, begin_frame, unix_name};
use mcomp_wire::control::{self, Hello, Welcome};
use mcomp_wire::{HEADER_LEN, Header, Kind, Request, Role, Status, flags, limits};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use uuid::Uuid;

use crate::harness::{Cluster, PATIENCE};

/// Where server `id` of a cluster is reached over TCP.
pub(crate) fn tcp(cluster: &Cluster, id: u32) -> Endpoint {
    Endpoint::Tcp(cluster.address(id))
}

/// Where it is reached over its Unix socket.
pub(crate) fn unix(cluster: &Cluster, id: u32) -> Endpoint {
    Endpoint::Unix(unix_name(&cluster.name, id, &cluster.address(id)))
}

/// The handshake that process `id` of a cluster accepts.
pub(crate) fn hello(cluster: &Cluster, id: u32, role: Role) -> Hello {
    Hello {
        cluster: cluster.name.clone(),
        role,
        server: id,
        k: cluster.config().k(),
        n: cluster.n,
        session: Uuid::nil(),
        features: 0,
        auth: Vec::new(),
    }
}

/// A whole frame without a body checksum.
pub(crate) fn frame(kind: u8, request_id: u64, config_epoch: u64, body: &[u8]) -> Vec<u8> {
    let header = Header { kind, request_id, config_epoch, ..Header::default() }.for_body(body, false);
    [&header.emit(), body].concat()
}

/// The body of a data request.
pub(crate) fn body(request: &Request<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    request.emit(&mut body);
    body
}

/// What the far side sent.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn status(&self) -> Status {
        Status::from_wire(self.header.status)
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: Stream,
    inbox: Inbox,
    /// The epoch of the handshake; zero before it.
    epoch: u64,
    /// What seals frames, once a key is proved.
    finish: Finish,
}

impl Peer {
    /// Connects and says nothing.
    pub(crate) fn connect(endpoint: &Endpoint) -> Peer {
        Peer::over(Stream::connect(endpoint, PATIENCE).expect("the far side listens"))
    }

    /// Connects from this address of the machine, and says nothing.
    pub(crate) fn connect_from(ip: Ipv4Addr, to: &str) -> Peer {
        let to: SocketAddr = to.parse().expect("an address");
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::from((ip, 0))).expect("an address of this machine");
        connect(&socket, &to).expect("the far side listens");
        Peer::over(TcpStream::from(socket).into())
    }

    /// Has the kernel take little for this side before it is read.
    pub(crate) fn take_little(&self) {
        const BYTES: usize = 16 << 10;
        match &self.stream {
            Stream::Tcp(socket) => set_socket_recv_buffer_size(socket, BYTES),
            Stream::Unix(socket) => set_socket_recv_buffer_size(socket, BYTES),
            Stream::Tls(_) => unreachable!("no peer by hand is under TLS"),
        }
        .expect("a socket has a buffer");
    }

    /// Whether the far side has closed, by now.
    pub(crate) fn is_closed(&self) -> bool {
        self.stream.glance() == Glance::End
    }

    fn over(stream: Stream) -> Peer {
        stream.set_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        Peer { stream, inbox: Inbox::new(limits::MAX_BODY), epoch: 0, finish: Finish::default() }
    }

    /// Connects and shakes hands, which must go well.
    pub(crate) fn greeted(endpoint: &Endpoint, hello: &Hello) -> Peer {
        Peer::try_greeted(endpoint, hello).unwrap_or_else(|answer| panic!("{endpoint} refused: {answer:?}"))
    }

    /// Connects and shakes hands; the refusal when the far side gave one.
    pub(crate) fn try_greeted(endpoint: &Endpoint, hello: &Hello) -> Result<Peer, Option<Frame>> {
        let mut peer = Peer::connect(endpoint);
        peer.shake_hands(hello)?;
        Ok(peer)
    }

    /// Shakes hands on a new connection; the refusal when the far side gave one.
    pub(crate) fn shake_hands(&mut self, hello: &Hello) -> Result<(), Option<Frame>> {
        self.send(&frame(Kind::Hello as u8, 1, 0, &control::encode(hello)));
        match self.next() {
            Some(answer) if answer.status() == Status::Ok => {
                let welcome: Welcome = control::decode(&answer.body).expect("a welcome");
                self.epoch = welcome.config_epoch;
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Connects and shakes hands, with a key where the far side wants one; all must go well.
    pub(crate) fn admitted(endpoint: &Endpoint, hello: &Hello, keyring: Option<&Keyring>) -> Peer {
        match keyring {
            None => Peer::greeted(endpoint, hello),
            Some(keyring) => Peer::connect(endpoint).proven(hello, keyring),
        }
    }

    /// Proves a key. From then on the answers are sealed, and [`Peer::seal`] seals what is sent.
    fn proven(mut self, hello: &Hello, keyring: &Keyring) -> Peer {
        let mut hello = hello.clone();
        let mut prover = Prover::new(keyring, &mut hello).expect("random numbers");
        let body = control::encode(&hello);
        let bytes = frame(Kind::Hello as u8, 1, 0, &body);
        prover.sent(&header_of(&bytes), &body);
        self.send(&bytes);
        let asked = self.next().expect("a challenge");
        let challenge = control::decode(&asked.body).unwrap_or_else(|_| panic!("no challenge: {asked:?}"));
        let (prove, sealer, opener) =
            prover.prove(&asked.header, &asked.body, &challenge).expect("a key that is known");
        self.send(&frame(Kind::Prove as u8, 2, 0, &control::encode(&prove)));
        self.inbox.set_opener(opener);
        self.finish.sealer = Some(sealer);
        let welcomed = self.next().expect("an answer");
        let welcome: Welcome = control::decode(&welcomed.body).unwrap_or_else(|_| panic!("not welcome: {welcomed:?}"));
        self.epoch = welcome.config_epoch;
        self
    }

    /// A whole frame as it goes over this connection: with its seal, if a key was proved.
    pub(crate) fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        if self.finish.sealer.is_none() {
            return frame.to_vec();
        }
        let mut out = Vec::new();
        let at = begin_frame(&mut out);
        out.extend_from_slice(&frame[HEADER_LEN..]);
        self.finish.frame(&mut out, at, header_of(frame));
        out
    }

    /// Whether a key was proved.
    pub(crate) fn is_sealed(&self) -> bool {
        self.finish.sealer.is_some()
    }

    /// The config epoch of the handshake.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sends bytes. A far side that has closed already takes none, and that is its right.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(is_closed(error.kind()), "the far side takes no bytes and does not close: {error}");
        }
    }

    /// Sends one request.
    pub(crate) fn request(&mut self, kind: u8, request_id: u64, body: &[u8]) {
        self.send(&frame(kind, request_id, self.epoch, body));
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn ask(&mut self, kind: u8, request_id: u64, body: &[u8]) -> Frame {
        self.request(kind, request_id, body);
        let answer = self.next().expect("an answer");
        assert_eq!((answer.header.kind, answer.header.request_id), (kind, request_id), "{answer:?}");
        answer
    }

    /// The next frame, or none when the far side has closed.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(received) = self.inbox.take().expect("whatever the far side sends is a frame") {
                assert_ne!(received.header.flags & flags::ANSWER, 0, "a request where an answer was due");
                return Some(Frame { header: received.header, body: self.inbox.body(&received).to_vec() });
            }
            match self.inbox.fill(&mut self.stream) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if is_closed(error.kind()) => return None,
                Err(error) => panic!("the far side neither answers nor closes: {error}"),
            }
        }
    }

    /// Ends its own direction, and takes every frame until the far side closes.
    pub(crate) fn finish(mut self) -> Vec<Frame> {
        self.stream.finish_writing();
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Waits a little while for any byte: whether the far side has closed.
    pub(crate) fn is_closed_within(&mut self, patience: std::time::Duration) -> bool {
        self.stream.set_timeout(Some(patience)).expect("a socket has timeouts");
        match self.stream.read(&mut [0; 4096]) {
            Ok(count) => count == 0,
            Err(error) => is_closed(error.kind()),
        }
    }
}

fn header_of(frame: &[u8]) -> Header {
    Header::parse(frame.first_chunk().expect("a whole header")).expect("a header")
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}
