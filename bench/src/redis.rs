//! Redis and Valkey, spoken to by hand (RESP): plain keys, and ranges of one big value.
//!
//! A plain GET or SET names a key for each value, which is how they are mostly used. GETRANGE and
//! SETRANGE on one value are what mcomp does: bytes at an address.

use std::path::Path;
use std::rc::Rc;

use anyhow::Context;

use crate::limits::ADMITTED_CONNECTIONS;
use crate::peer::{Conn, Op, Peer, Transport, Work};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::script::{Answer, Scripted};
use crate::socket::Address;

/// The size of the value that ranges are taken of: room for all connections of the widest case.
const BIG_BYTES: usize = 16 << 20;

/// The key of that value.
const BIG: &str = "big";

/// One way to a server, and one way to use it.
#[derive(Debug)]
pub(crate) struct Redis {
    name: String,
    process: Rc<Process>,
    address: Address,
    ranges: bool,
}

impl Redis {
    /// Starts the server and gives all ways to use it. `name` is what tables call it.
    pub(crate) fn start(scratch: &Scratch, name: &str, program: &Path) -> anyhow::Result<Vec<Box<dyn Peer>>> {
        let tcp = scratch.free_address()?;
        let path = scratch.path(&format!("{}.sock", scratch.unique(name)));
        let args = [
            ("--bind", tcp.ip().to_string()),
            ("--port", tcp.port().to_string()),
            ("--unixsocket", path.to_string_lossy().into_owned()),
            ("--save", String::new()),
            ("--appendonly", "no".to_owned()),
            // It takes fewer by itself where it may not open so many files.
            ("--maxclients", ADMITTED_CONNECTIONS.to_string()),
            ("--dir", scratch.folder().to_string_lossy().into_owned()),
        ];
        let args: Vec<String> = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let process = Rc::new(Process::start(scratch, name, program, &args)?);
        let addresses = [Address::Tcp(tcp), Address::Path(path)];
        for address in &addresses {
            process.await_connection(address)?;
        }
        make_big_value(&addresses[0])?;
        let peer = |(address, ranges): (&Address, bool)| {
            let name = if ranges { format!("{name} range") } else { name.to_owned() };
            Box::new(Redis { name, process: Rc::clone(&process), address: address.clone(), ranges }) as Box<dyn Peer>
        };
        Ok(addresses.iter().flat_map(|address| [(address, false), (address, true)]).map(peer).collect())
    }

    fn script(&self, work: Work) -> (Vec<u8>, Answer) {
        let value = "v".repeat(work.size_bytes);
        let key = format!("key:{}", work.lane);
        let (from, to) = (work.addr().to_string(), (work.addr() + work.size_bytes as u64 - 1).to_string());
        let bulk = || {
            let begin = format!("${}\r\n", work.size_bytes);
            (begin.len() + work.size_bytes + 2, begin)
        };
        let (request, (count, begin)) = match (work.op, self.ranges) {
            (Op::Get, false) => (resp(&["GET", &key]), bulk()),
            (Op::Get, true) => (resp(&["GETRANGE", BIG, &from, &to]), bulk()),
            (Op::Set, false) => (resp(&["SET", &key, &value]), whole("+OK\r\n".to_owned())),
            (Op::Set, true) => (resp(&["SETRANGE", BIG, &from, &value]), whole(format!(":{BIG_BYTES}\r\n"))),
            (Op::Add | Op::Exchange, _) => {
                return (resp(&["INCR", "counter"]).repeat(work.depth), Answer::Lines(work.depth));
            }
        };
        (request.repeat(work.depth), Answer::Bytes { count: count * work.depth, begin: begin.into_bytes() })
    }
}

impl Peer for Redis {
    fn name(&self) -> &str {
        &self.name
    }

    fn transport(&self) -> Transport {
        self.address.transport()
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn does(&self, op: Op) -> bool {
        match op {
            Op::Get | Op::Set => true,
            Op::Add => !self.ranges,
            Op::Exchange => false,
        }
    }

    fn connect(&self, work: Work) -> anyhow::Result<Box<dyn Conn>> {
        let (request, answer) = self.script(work);
        if work.op == Op::Get && !self.ranges {
            // There must be something to get.
            let (set, done) = self.script(Work { op: Op::Set, depth: 1, ..work });
            Scripted::connect(&self.address, set, done, None)?.run().context("cannot set the value to be read")?;
        }
        Ok(Box::new(Scripted::connect(&self.address, request, answer, None)?))
    }
}

/// An answer that is known to its last byte.
fn whole(answer: String) -> (usize, String) {
    (answer.len(), answer)
}

/// A value of [`BIG_BYTES`]: setting its last byte makes all of it.
fn make_big_value(address: &Address) -> anyhow::Result<()> {
    let request = resp(&["SETRANGE", BIG, &(BIG_BYTES - 1).to_string(), "v"]);
    let (count, begin) = whole(format!(":{BIG_BYTES}\r\n"));
    let answer = Answer::Bytes { count, begin: begin.into_bytes() };
    Scripted::connect(address, request, answer, None)?.run().context("cannot make the value for ranges")
}

/// A command in the protocol of Redis.
pub(crate) fn resp(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_counted_words() {
        assert_eq!(resp(&["GET", "key:0"]), b"*2\r\n$3\r\nGET\r\n$5\r\nkey:0\r\n");
    }
}
