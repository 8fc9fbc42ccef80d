//! The raw limit as a process of its own: what a thread per connection and blocking sockets can do
//! at best.
//!
//! A request is eight bytes, the length of its payload and the length of its answer (`u32`, little
//! endian), and then the payload. The server swallows the payload and answers that many bytes. The
//! requests of one receive are answered in one write, so that pipelining is as cheap as it can be.
//!
//! It keeps nothing, checks nothing and never allocates by a length that a peer names. It is started
//! by `mcomp-bench` alone and listens on loopback only.
//!
//! With a memory of its own, answers come from it and payloads go into it, from one end to the other and
//! again: the limit of a server whose bytes are somewhere, and not the same hot megabyte each time.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Context;

use crate::socket::{Address, Listening, Socket};

/// Bytes of a request before its payload.
pub(crate) const HEAD_BYTES: usize = 8;

/// One receive takes a whole request of the largest size that is measured.
const RECEIVE_BYTES: usize = (1 << 20) + HEAD_BYTES;

/// What answers are made of. One write takes no more.
const ANSWER_BYTES: usize = 1 << 20;

/// The head of a request.
pub(crate) fn head(payload_bytes: usize, answer_bytes: usize) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    head[4..].copy_from_slice(&(answer_bytes as u32).to_le_bytes());
    head
}

/// What is answered, and where payloads go.
#[derive(Clone)]
enum Store {
    /// The same bytes each time, and nowhere.
    Nothing(Arc<[u8]>),
    /// Taken for as long as a connection lasts, so there should be one at a time.
    Memory(Arc<Mutex<Vec<u8>>>),
}

/// Serves on all addresses until the process is ended.
pub(crate) fn run(
    addresses: &[Address],
    buffer_bytes: Option<usize>,
    memory_bytes: Option<usize>,
) -> anyhow::Result<()> {
    let listening: Vec<Listening> = addresses
        .iter()
        .map(|address| Listening::bind(address).with_context(|| format!("cannot listen on {address}")))
        .collect::<anyhow::Result<_>>()?;
    // Not zeros: those would come from one page that the kernel shares, and be faster than memory is.
    let store = match memory_bytes {
        None => Store::Nothing(vec![0xa5; ANSWER_BYTES].into()),
        Some(bytes) => Store::Memory(Arc::new(Mutex::new(vec![0xa5; bytes.max(ANSWER_BYTES)]))),
    };
    println!("ready");
    let acceptors: Vec<_> = listening
        .into_iter()
        .map(|listening| {
            let store = store.clone();
            thread::spawn(move || accept(listening, buffer_bytes, &store))
        })
        .collect();
    for acceptor in acceptors {
        let ended = acceptor.join().map_err(|_| anyhow::anyhow!("an accepting thread panicked"))?;
        // Out of descriptors or threads: who is connected is served on, and who comes is refused.
        eprintln!("accepts no more: {:?}", ended.err());
    }
    loop {
        thread::park();
    }
}

/// Accepts until that fails. The socket is closed then.
fn accept(listening: Listening, buffer_bytes: Option<usize>, store: &Store) -> io::Result<()> {
    loop {
        let socket = listening.accept(buffer_bytes)?;
        let store = store.clone();
        let serve = move || match store {
            Store::Nothing(answer) => serve(socket, &answer),
            Store::Memory(memory) => serve_memory(socket, &mut memory.lock().expect("no connection has panicked")),
        };
        // A client that leaves is no error.
        thread::Builder::new().stack_size(64 << 10).spawn(serve)?;
    }
}

/// Serves requests that come one at a time.
fn serve_memory(mut socket: Socket, memory: &mut [u8]) -> io::Result<()> {
    let mut request = [0; HEAD_BYTES];
    let mut at = 0;
    loop {
        if let Err(error) = socket.read_exact(&mut request) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) };
        }
        let word = |at: usize| u32::from_le_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        let (mut payload_left, mut owed_left) = (word(0) as usize, word(4) as usize);
        while payload_left > 0 {
            let end = memory.len().min(at + payload_left);
            let received = socket.read(&mut memory[at..end])?;
            if received == 0 {
                return Ok(());
            }
            payload_left -= received;
            at = (at + received) % memory.len();
        }
        while owed_left > 0 {
            let end = memory.len().min(at + owed_left.min(ANSWER_BYTES));
            socket.write_all(&memory[at..end])?;
            owed_left -= end - at;
            at = end % memory.len();
        }
    }
}

fn serve(mut socket: Socket, answer: &[u8]) -> io::Result<()> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut requests = Requests::default();
    let mut kept = 0;
    loop {
        let received = socket.read(&mut buffer[kept..])?;
        if received == 0 {
            return Ok(());
        }
        let end = kept + received;
        let (used, mut owed_bytes) = requests.take(&buffer[..end]);
        buffer.copy_within(used..end, 0);
        kept = end - used;
        while owed_bytes > 0 {
            let part = owed_bytes.min(answer.len() as u64);
            socket.write_all(&answer[..part as usize])?;
            owed_bytes -= part;
        }
    }
}

/// How much of the request in progress is still to come.
#[derive(Debug, Default)]
struct Requests {
    payload_left: u64,
    answer_bytes: u64,
}

impl Requests {
    /// Goes through received bytes. Returns how many it has used, and the answers that are owed now;
    /// fewer than [`HEAD_BYTES`] are left.
    fn take(&mut self, received: &[u8]) -> (usize, u64) {
        let (mut at, mut owed_bytes) = (0, 0);
        loop {
            let payload = self.payload_left.min((received.len() - at) as u64);
            self.payload_left -= payload;
            at += payload as usize;
            if self.payload_left > 0 {
                return (at, owed_bytes);
            }
            owed_bytes += std::mem::take(&mut self.answer_bytes);
            let Some((head, _)) = received[at..].split_first_chunk::<HEAD_BYTES>() else { return (at, owed_bytes) };
            let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            (self.payload_left, self.answer_bytes) = (u64::from(word(0)), u64::from(word(4)));
            at += HEAD_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_answered_as_a_whole() {
        let mut burst = Vec::new();
        for _ in 0..3 {
            burst.extend_from_slice(&head(5, 8));
            burst.extend_from_slice(b"hello");
        }
        assert_eq!(Requests::default().take(&burst), (burst.len(), 24));
    }

    #[test]
    fn a_request_may_come_in_pieces() {
        let mut request = head(4, 100).to_vec();
        request.extend_from_slice(b"data");
        for cut in 0..request.len() {
            let mut requests = Requests::default();
            let (used, owed) = requests.take(&request[..cut]);
            assert_eq!(owed, 0, "cut at {cut}");
            assert_eq!(requests.take(&request[used..]), (request.len() - used, 100), "cut at {cut}");
        }
    }
}
