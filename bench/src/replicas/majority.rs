//! The least that a client of a majority has to do: three raw servers are asked, and two answers are waited for.
//!
//! A put sends the bytes to all of them, and has two acknowledgements. A get asks one for the bytes, another one each
//! time, and the other two for a word, such as the number of their latest write; it has the bytes and a word. What is
//! still to come is taken out of the way during the next call. Nothing is numbered, kept or compared, and one round is
//! enough for a put: a register with one writer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::bench::{Bench, System};
use crate::case::{Group, size_word};
use crate::measure;
use crate::peer::{Conn, Op};
use crate::placement::Placement;
use crate::raw::Raw;
use crate::raw_server::head;
use crate::replicas::{Case, Pair, REPLICATED, SIZE_BYTES, connect};
use crate::result::{CaseResult, Unit};
use crate::socket::Address;

/// The name of its rows.
pub(crate) const MAJORITY: &str = "raw majority";

const SERVERS: usize = super::SERVERS as usize;
/// What is answered where the bytes are not asked for.
const WORD_BYTES: usize = 8;
/// Servers that say nothing for so long are broken, and the case ends instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(bench: &mut Bench, pair: &Pair, case: &Case) -> anyhow::Result<()> {
    bench.cores.enter_client(Placement::Free)?;
    let (mut addresses, mut processes) = (Vec::new(), Vec::new());
    for _ in 0..SERVERS {
        let address = bench.scratch.free_address()?;
        processes.push(Raw::server(&bench.scratch, &[Address::Tcp(address)], None, None)?);
        addresses.push(address);
    }
    let pids: Vec<u32> = processes.iter().map(|process| process.pid()).collect();
    let mut majority = Majority::connect(&addresses, case.op)?;
    let measure = move |window| measure::trips(&mut majority, &pids, window);
    let mut systems: Vec<System<'_>> = vec![(MAJORITY.to_owned(), Box::new(measure))];
    if bench.wants_system(REPLICATED) {
        let servers = &pair.replicated;
        let mut conns = connect(servers, case.op, SIZE_BYTES, 1)?;
        let pids = servers.pids();
        let measure = move |window| measure::trips(conns[0].as_mut(), &pids, window);
        systems.push((REPLICATED.to_owned(), Box::new(measure)));
    }
    let rows = bench.interleave(case.id, systems)?;
    let title = format!("{} {} of a majority, 1 client, p50", case.op.word(), size_word(SIZE_BYTES));
    let (group, id, placement, unit) = (Group::Replicas, case.id.to_owned(), Placement::Free, Unit::Microseconds);
    let mut result = CaseResult { group, id, title, placement, unit, rows };
    result.compare(|_| Some(MAJORITY.to_owned()));
    bench.keep(result);
    Ok(())
}

/// A client with one connection to each server.
struct Majority {
    op: Op,
    sockets: Vec<TcpStream>,
    /// Bytes that each of them has yet to answer, those of earlier calls too.
    owed_bytes: [usize; SERVERS],
    /// Whom a get asks for the bytes.
    first: usize,
    /// Asks for the bytes, or brings them.
    long: Vec<u8>,
    /// Asks for a word.
    short: Vec<u8>,
    buffer: Vec<u8>,
}

impl Majority {
    fn connect(addresses: &[SocketAddr], op: Op) -> anyhow::Result<Majority> {
        let connect = |address: &SocketAddr| {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let sockets = addresses.iter().map(connect).collect::<anyhow::Result<_>>()?;
        let (long, short) = match op {
            Op::Get => (head(0, SIZE_BYTES).to_vec(), head(0, WORD_BYTES).to_vec()),
            _ => ([&head(SIZE_BYTES, WORD_BYTES)[..], &[0x5a; SIZE_BYTES]].concat(), Vec::new()),
        };
        Ok(Majority { op, sockets, owed_bytes: [0; SERVERS], first: 0, long, short, buffer: vec![0; SIZE_BYTES] })
    }

    fn has_majority(&self) -> bool {
        let answered = self.owed_bytes.iter().filter(|owed| **owed == 0).count();
        answered > SERVERS / 2 && (self.op != Op::Get || self.owed_bytes[self.first] == 0)
    }

    /// Takes what has come, once something has.
    fn receive(&mut self) -> anyhow::Result<()> {
        let patience = Timespec::try_from(PATIENCE)?;
        // A socket that owes nothing has nothing to say, and costs little to be asked.
        let mut fds: [PollFd<'_>; SERVERS] = std::array::from_fn(|at| PollFd::new(&self.sockets[at], PollFlags::IN));
        ensure!(poll(&mut fds, Some(&patience))? > 0, "the raw servers do not answer");
        let has_more = fds.map(|fd| !fd.revents().is_empty());
        for at in (0..SERVERS).filter(|at| has_more[*at]) {
            let room = self.owed_bytes[at].min(self.buffer.len());
            let received = (&self.sockets[at]).read(&mut self.buffer[..room])?;
            ensure!(received > 0, "a raw server closed the connection");
            self.owed_bytes[at] -= received;
        }
        Ok(())
    }
}

impl Conn for Majority {
    fn run(&mut self) -> anyhow::Result<()> {
        self.first = (self.first + 1) % SERVERS;
        for at in 0..SERVERS {
            let (request, answer_bytes) = match self.op {
                Op::Get if at == self.first => (&self.long, SIZE_BYTES),
                Op::Get => (&self.short, WORD_BYTES),
                _ => (&self.long, WORD_BYTES),
            };
            (&self.sockets[at]).write_all(request)?;
            self.owed_bytes[at] += answer_bytes;
        }
        while !self.has_majority() {
            self.receive()?;
        }
        Ok(())
    }
}
