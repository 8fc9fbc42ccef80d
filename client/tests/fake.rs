//! A server whose faults are scripted: it keeps plain memory and remembers the answers of sessions,
//! and before each data request it asks the test what to do with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mcomp_client::{Cluster, Options, Space};
use mcomp_net::{Inbox, Listener, Stream, begin_frame, error_frame, finish_frame};
use mcomp_wire::control::{self, Hello, Welcome};
use mcomp_wire::{AtomicAnswer, BLOCK_SIZE, Header, Kind, Request, Status, emit_answer_item, flags, limits};
use parking_lot::Mutex;
use uuid::Uuid;

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Do it and answer.
    Serve,
    /// Close the connection without doing it.
    CloseBefore,
    /// Do it, remember the answer, and close the connection.
    CloseAfter,
    /// Say that the server stops and nothing else was done, and close the connection. The next one knows no session.
    Part,
    /// Do it and never answer.
    Silence,
    /// Say no.
    Refuse(Status),
    /// Answer another request.
    WrongId,
    /// Do it, and leave the answer's last byte out.
    Short,
}

/// Where a frame says its kind.
const KIND_AT: usize = 5;

type Script = Box<dyn FnMut(&Header) -> Act + Send>;

/// The server. Dropping it closes everything and waits for its threads.
pub(crate) struct Fake {
    pub(crate) shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

pub(crate) struct Shared {
    listener: Listener,
    address: String,
    k: u64,
    stopping: AtomicBool,
    pub(crate) incarnation: AtomicU64,
    pub(crate) epoch: AtomicU64,
    pub(crate) hellos: AtomicU64,
    /// Guards everything below; each taken alone.
    memory: Mutex<Vec<u8>>,
    sessions: Mutex<HashMap<Uuid, HashMap<u64, Vec<u8>>>>,
    script: Mutex<Script>,
    streams: Mutex<Vec<Stream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Fake {
    /// A server of one block per `blocks` that serves everything until told otherwise.
    pub(crate) fn start(blocks: u64) -> Fake {
        let Ok(Listener::Tcp(socket)) = Listener::bind(&mcomp_net::Endpoint::Tcp("127.0.0.1:0".into())) else {
            panic!("a loopback port is to be had");
        };
        let address = socket.local_addr().unwrap().to_string();
        let k = blocks * BLOCK_SIZE;
        let shared = Arc::new(Shared {
            listener: Listener::Tcp(socket),
            address,
            k,
            stopping: AtomicBool::new(false),
            incarnation: AtomicU64::new(1),
            epoch: AtomicU64::new(1),
            hellos: AtomicU64::new(0),
            memory: Mutex::new(vec![0; k as usize]),
            sessions: Mutex::default(),
            script: Mutex::new(Box::new(|_| Act::Serve)),
            streams: Mutex::default(),
            threads: Mutex::default(),
        });
        let of_thread = Arc::clone(&shared);
        let accept = std::thread::spawn(move || of_thread.accept());
        Fake { shared, accept: Some(accept) }
    }

    /// Decides about data requests from now on.
    pub(crate) fn script(&self, script: impl FnMut(&Header) -> Act + Send + 'static) {
        *self.shared.script.lock() = Box::new(script);
    }

    /// Does `act` to the next data request, and serves the others.
    pub(crate) fn once(&self, act: Act) {
        let mut next = Some(act);
        self.script(move |_| next.take().unwrap_or(Act::Serve));
    }

    /// A restart: a new incarnation that knows no session; open connections are closed.
    pub(crate) fn restart(&self) {
        self.shared.incarnation.fetch_add(1, Ordering::Relaxed);
        self.shared.sessions.lock().clear();
        self.shared.streams.lock().drain(..).for_each(|stream| stream.shutdown());
    }

    /// Options for a client of this server alone.
    pub(crate) fn options(&self) -> Options {
        let space = Space::new(self.shared.k, 1).unwrap();
        let mut options = Options::new("fake", space, [self.shared.address.clone()]);
        options.timeout = Duration::from_millis(1500);
        options.unix = false;
        options
    }

    /// A client of this server alone.
    pub(crate) fn client(&self) -> Cluster {
        Cluster::with_options(self.options()).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.listener.close();
        self.accept.take().unwrap().join().unwrap();
        self.shared.streams.lock().drain(..).for_each(|stream| stream.shutdown());
        let threads = std::mem::take(&mut *self.shared.threads.lock());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // A script may know this server, or clients of it: nobody would free them.
        let script = std::mem::replace(&mut *self.shared.script.lock(), Box::new(|_| Act::Serve));
        drop(script);
    }
}

impl Shared {
    fn accept(self: Arc<Shared>) {
        while let Ok(stream) = self.listener.accept() {
            self.streams.lock().push(stream.handle());
            let shared = Arc::clone(&self);
            self.threads.lock().push(std::thread::spawn(move || shared.serve(stream)));
        }
    }

    fn serve(&self, mut stream: Stream) {
        let mut inbox = Inbox::new(limits::MAX_BODY);
        let mut session = Uuid::nil();
        loop {
            let frame = match inbox.take().unwrap() {
                Some(frame) => frame,
                None => match inbox.fill(&mut stream) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => continue,
                },
            };
            let (header, body) = (frame.header, inbox.body(&frame));
            let answer = match Kind::from_wire(header.kind).unwrap() {
                Kind::Bye => return,
                Kind::Hello => self.greet(header, body, &mut session),
                _ => match self.answer(header, body, session) {
                    Some(answer) => answer,
                    None => return stream.shutdown(),
                },
            };
            if std::io::Write::write_all(&mut stream, &answer).is_err() {
                return;
            }
            // Behind the last word nothing follows.
            if answer.get(KIND_AT) == Some(&(Kind::Error as u8)) {
                return stream.shutdown();
            }
        }
    }

    fn greet(&self, header: Header, body: &[u8], session: &mut Uuid) -> Vec<u8> {
        self.hellos.fetch_add(1, Ordering::Relaxed);
        let hello: Hello = control::decode(body).unwrap();
        *session = hello.session;
        let welcome = Welcome {
            server: hello.server,
            block_size: BLOCK_SIZE as u32,
            config_epoch: self.epoch.load(Ordering::Relaxed),
            incarnation: self.incarnation.load(Ordering::Relaxed),
            segment: Uuid::nil(),
            features: hello.features,
            resumed: self.sessions.lock().contains_key(session),
            auth: Vec::new(),
        };
        frame(header, &control::encode(&welcome))
    }

    /// The bytes to send, or nothing when the connection is to be closed.
    fn answer(&self, header: Header, body: &[u8], session: Uuid) -> Option<Vec<u8>> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let act = (self.script.lock())(&header);
        let request = Request::parse(header.kind, body).unwrap();
        if header.config_epoch != epoch {
            return Some(refusal(header, Status::Fenced));
        }
        let known = self.sessions.lock().get(&session).and_then(|answers| answers.get(&header.request_id).cloned());
        match act {
            Act::CloseBefore => return None,
            Act::Refuse(status) => return Some(refusal(header, status)),
            Act::Part => {
                self.incarnation.fetch_add(1, Ordering::Relaxed);
                self.sessions.lock().clear();
                return Some(refusal(Header::default(), Status::Stopping));
            }
            _ => {}
        }
        let answer = known.unwrap_or_else(|| self.perform(&request));
        if request.modifies() {
            self.sessions.lock().entry(session).or_default().insert(header.request_id, answer.clone());
        }
        match act {
            Act::CloseAfter => None,
            Act::Silence => Some(Vec::new()),
            Act::WrongId => Some(frame(Header { request_id: header.request_id + 1, ..header }, &answer)),
            Act::Short => Some(frame(header, answer.split_last().map_or(&[], |(_, most)| most))),
            _ => Some(frame(header, &answer)),
        }
    }

    /// Addresses wrap around at k: so it can be any server of a cluster.
    fn at(&self, addr: u64) -> usize {
        (addr % self.k) as usize
    }

    fn perform(&self, request: &Request<'_>) -> Vec<u8> {
        let mut memory = self.memory.lock();
        match *request {
            Request::Read { addr, len } => memory[self.at(addr)..][..len as usize].to_vec(),
            Request::Write { addr, data } => {
                memory[self.at(addr)..][..data.len()].copy_from_slice(data);
                Vec::new()
            }
            Request::Fill { addr, len, byte } => {
                memory[self.at(addr)..][..len as usize].fill(byte);
                Vec::new()
            }
            Request::Atomic { addr, op, operand, expected } => {
                let word = &mut memory[self.at(addr)..][..8];
                let previous = u64::from_le_bytes((&*word).try_into().unwrap());
                let new = op.apply(previous, operand, expected);
                word.copy_from_slice(&new.unwrap_or(previous).to_le_bytes());
                AtomicAnswer { previous, applied: new.is_some() }.emit().to_vec()
            }
            Request::Batch(batch) => {
                drop(memory);
                let mut out = Vec::new();
                for request in batch.requests() {
                    emit_answer_item(request.kind(), &mut out, |out| {
                        out.extend(self.perform(&request));
                        Status::Ok
                    });
                }
                out
            }
            ref other => panic!("the fake server does not do {other:?}"),
        }
    }
}

fn frame(header: Header, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let at = begin_frame(&mut out);
    out.extend_from_slice(body);
    let answer = Header { flags: flags::ANSWER, ..header };
    finish_frame(&mut out, at, Header { body_crc: 0, ..answer }, false);
    out
}

fn refusal(header: Header, status: Status) -> Vec<u8> {
    let mut out = Vec::new();
    error_frame(&mut out, header.kind, header.request_id, status, "by script");
    out
}
