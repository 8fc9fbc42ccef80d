//! memcached, spoken to by hand in its text protocol.
//!
//! It listens on TCP or on a Unix socket and never on both, so each way has a process of its own.

use std::path::Path;

use anyhow::Context;

use crate::limits;
use crate::peer::{Conn, Op, Peer, Transport, Work};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::script::{Answer, Scripted};
use crate::socket::Address;

/// A server and the way to it.
#[derive(Debug)]
pub(crate) struct Memcached {
    process: Process,
    address: Address,
}

impl Memcached {
    /// Starts one server for each way.
    pub(crate) fn start(scratch: &Scratch, program: &Path) -> anyhow::Result<Vec<Box<dyn Peer>>> {
        let tcp = scratch.free_address()?;
        let socket = scratch.path(&format!("{}.sock", scratch.unique("memcached")));
        let on_tcp = ["-l".to_owned(), tcp.ip().to_string(), "-p".to_owned(), tcp.port().to_string()];
        let on_unix = ["-s".to_owned(), socket.to_string_lossy().into_owned()];
        let addresses = [(on_tcp.to_vec(), Address::Tcp(tcp)), (on_unix.to_vec(), Address::Path(socket))];
        addresses.into_iter().map(|(args, address)| Memcached::start_one(scratch, program, args, address)).collect()
    }

    fn start_one(
        scratch: &Scratch,
        program: &Path,
        mut args: Vec<String>,
        address: Address,
    ) -> anyhow::Result<Box<dyn Peer>> {
        // It does not start when it may not open so many files, and has a few of its own.
        let connections = limits::open_files().saturating_sub(128).clamp(1, limits::ADMITTED_CONNECTIONS as u64);
        // Room for a value of 1 MiB and its key, and for the widest case.
        args.extend(["-I", "2m", "-m", "256", "-c", &connections.to_string()].map(str::to_owned));
        if rustix::process::geteuid().is_root() {
            // It refuses to run as root unless told who it is.
            args.extend(["-u", "root"].map(str::to_owned));
        }
        let process = Process::start(scratch, "memcached", program, &args)?;
        process.await_connection(&address)?;
        Ok(Box::new(Memcached { process, address }))
    }
}

impl Peer for Memcached {
    fn name(&self) -> &str {
        "memcached"
    }

    fn transport(&self) -> Transport {
        self.address.transport()
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn does(&self, op: Op) -> bool {
        op != Op::Exchange
    }

    fn connect(&self, work: Work) -> anyhow::Result<Box<dyn Conn>> {
        let key = format!("key:{}", work.lane);
        let prepare = match work.op {
            Op::Get => Some(set(&key, &"v".repeat(work.size_bytes))),
            Op::Add => Some(set("counter", "0")),
            _ => None,
        };
        if let Some((request, answer)) = prepare {
            let mut once = Scripted::connect(&self.address, request, answer, None)?;
            once.run().context("cannot set the value to be used")?;
        }
        let (request, answer) = match work.op {
            Op::Get => get(&key, work.size_bytes),
            Op::Set => set(&key, &"v".repeat(work.size_bytes)),
            Op::Add | Op::Exchange => (b"incr counter 1\r\n".to_vec(), Answer::Lines(1)),
        };
        let answer = match answer {
            Answer::Bytes { count, begin } => Answer::Bytes { count: count * work.depth, begin },
            Answer::Lines(count) => Answer::Lines(count * work.depth),
        };
        Ok(Box::new(Scripted::connect(&self.address, request.repeat(work.depth), answer, None)?))
    }
}

fn set(key: &str, value: &str) -> (Vec<u8>, Answer) {
    let stored = b"STORED\r\n".to_vec();
    let request = format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()).into_bytes();
    (request, Answer::Bytes { count: stored.len(), begin: stored })
}

fn get(key: &str, size_bytes: usize) -> (Vec<u8>, Answer) {
    let begin = format!("VALUE {key} 0 {size_bytes}\r\n").into_bytes();
    let count = begin.len() + size_bytes + "\r\nEND\r\n".len();
    (format!("get {key}\r\n").into_bytes(), Answer::Bytes { count, begin })
}
