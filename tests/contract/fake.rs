//! A server that is none: it listens where one should and answers as it is told to, so that every
//! refusal of the protocol can be met on purpose.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mcomp_net::{Inbox, error_frame};
use mcomp_wire::control::{self, Hello, Welcome};
use mcomp_wire::{BLOCK_SIZE, Header, Kind, Status, flags, limits};

use crate::harness::{PATIENCE, wait_until};

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// With these bytes, whatever was asked.
    Bytes(Vec<u8>),
    /// With a refusal of the handshake.
    AtHandshake(Status),
    /// With a good handshake and a refusal of every request.
    AtRequest(Status),
}

/// It listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn listen(address: String, manner: Manner) -> Fake {
        let listener = bind(&address);
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                // A client that leaves in the middle has heard enough.
                let _ = stream.map(|stream| answer(stream, &manner));
            }
        });
        Fake { address, stop, thread: Some(thread) }
    }
}

/// Binds the test's own address. A child that another test starts at this moment may hold the socket
/// of an earlier fake until it has become its program.
fn bind(address: &str) -> TcpListener {
    let mut bound = None;
    wait_until("the address of the fake is free", || {
        bound = TcpListener::bind(address).ok();
        bound.is_some()
    });
    bound.expect("that was waited for")
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(mut stream: TcpStream, manner: &Manner) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut inbox = Inbox::new(limits::MAX_BODY);
    let Some((header, body)) = next(&mut stream, &mut inbox) else { return Ok(()) };
    match manner {
        Manner::Bytes(bytes) => return stream.write_all(bytes),
        Manner::AtHandshake(status) => return stream.write_all(&refusal(&header, *status)),
        Manner::AtRequest(_) => stream.write_all(&welcome(&header, &body))?,
    }
    let Manner::AtRequest(status) = manner else { unreachable!("the others have returned") };
    while let Some((header, _)) = next(&mut stream, &mut inbox) {
        stream.write_all(&refusal(&header, *status))?;
    }
    Ok(())
}

fn next(stream: &mut impl Read, inbox: &mut Inbox) -> Option<(Header, Vec<u8>)> {
    loop {
        if let Some(received) = inbox.take().ok()? {
            return Some((received.header, inbox.body(&received).to_vec()));
        }
        if inbox.fill(stream).ok()? == 0 {
            return None;
        }
    }
}

fn refusal(header: &Header, status: Status) -> Vec<u8> {
    let mut frame = Vec::new();
    error_frame(&mut frame, header.kind, header.request_id, status, "because the test says so");
    frame
}

fn welcome(header: &Header, hello: &[u8]) -> Vec<u8> {
    let hello: Hello = control::decode(hello).expect("a client begins with a hello");
    let body = control::encode(&Welcome {
        server: hello.server,
        block_size: BLOCK_SIZE as u32,
        config_epoch: 1,
        incarnation: 1,
        segment: Default::default(),
        features: 0,
        resumed: false,
        auth: Vec::new(),
    });
    let (request_id, flags) = (header.request_id, flags::ANSWER);
    let header = Header { kind: Kind::Hello as u8, flags, request_id, config_epoch: 1, ..Header::default() };
    [&header.for_body(&body, false).emit(), body.as_slice()].concat()
}
