//! mcomp as a peer: a real `mcomp server` process, and the client library as a program uses it.

use std::rc::Rc;

use mcomp_client::Cluster;

use crate::peer::{Conn, Op, Peer, Transport, Work};
use crate::scratch::Scratch;
use crate::servers::Servers;

/// The name of mcomp's rows.
pub(crate) const NAME: &str = "mcomp";

/// The name of its rows with a secret.
pub(crate) const SEALED_NAME: &str = "mcomp, sealed,";

/// Bytes of a server in cases that need no more.
const SMALL_K_BYTES: u64 = 64 << 20;

/// One way to one server.
#[derive(Debug)]
pub(crate) struct Mcomp {
    name: &'static str,
    servers: Rc<Servers>,
    transport: Transport,
}

impl Mcomp {
    /// Starts one server and gives both ways to it that go through a socket, and another one with a secret.
    pub(crate) fn start(scratch: &Scratch) -> anyhow::Result<Vec<Box<dyn Peer>>> {
        let open = Rc::new(Servers::start(scratch, 1, SMALL_K_BYTES)?);
        let sealed = Rc::new(Servers::start_sealed(scratch, SMALL_K_BYTES)?);
        let peer = |name, servers: &Rc<Servers>, transport| {
            Box::new(Mcomp { name, servers: Rc::clone(servers), transport }) as Box<dyn Peer>
        };
        Ok(vec![
            peer(NAME, &open, Transport::Tcp),
            peer(NAME, &open, Transport::Unix),
            peer(SEALED_NAME, &sealed, Transport::Tcp),
        ])
    }
}

impl Peer for Mcomp {
    fn name(&self) -> &str {
        self.name
    }

    fn transport(&self) -> Transport {
        self.transport
    }

    fn pid(&self) -> u32 {
        self.servers.pid(0)
    }

    fn does(&self, _: Op) -> bool {
        true
    }

    fn connect(&self, work: Work) -> anyhow::Result<Box<dyn Conn>> {
        let cluster = self.servers.client(self.transport, 1)?;
        Ok(Box::new(Link {
            cluster,
            work,
            addr: work.addr(),
            buffer: vec![0x5a; work.size_bytes * work.depth],
            value: 0,
        }))
    }
}

/// A client of its own with one connection.
#[derive(Debug)]
struct Link {
    cluster: Cluster,
    work: Work,
    addr: u64,
    buffer: Vec<u8>,
    /// What a compare-and-swap expects: what it put there last.
    value: u64,
}

impl Conn for Link {
    fn run(&mut self) -> anyhow::Result<()> {
        if self.work.depth > 1 {
            return self.run_batch();
        }
        match self.work.op {
            Op::Get => self.cluster.read_at(self.addr, &mut self.buffer)?,
            Op::Set => self.cluster.write_at(self.addr, &self.buffer)?,
            Op::Add => {
                self.cluster.fetch_add(self.addr, 1)?;
            }
            Op::Exchange => {
                let found = self.cluster.compare_exchange(self.addr, self.value, self.value + 1)?;
                self.value = if found.swapped { self.value + 1 } else { found.previous };
            }
        }
        Ok(())
    }
}

impl Link {
    fn run_batch(&mut self) -> anyhow::Result<()> {
        let size_bytes = self.work.size_bytes;
        let mut batch = self.cluster.batch();
        let addrs = (self.addr..).step_by(size_bytes);
        for (addr, bytes) in addrs.zip(self.buffer.chunks_exact_mut(size_bytes)) {
            match self.work.op {
                Op::Get => batch.read_into(addr, bytes),
                _ => batch.write(addr, &*bytes),
            };
        }
        for outcome in batch.run() {
            outcome?;
        }
        Ok(())
    }
}
