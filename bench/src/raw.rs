//! The raw limit as a peer: the client's side of [`crate::raw_server`].

use std::rc::Rc;

use crate::peer::{Conn, Op, Peer, Transport, Work};
use crate::process::Process;
use crate::raw_server::head;
use crate::scratch::Scratch;
use crate::script::{Answer, Scripted};
use crate::socket::Address;

/// What a write is answered with.
const ACKNOWLEDGEMENT_BYTES: usize = 8;

/// The name of the rows that others are compared with.
pub(crate) const NAME: &str = "raw";

/// The name of the rows that show what small socket buffers do to bulk transfers.
pub(crate) const SMALL_BUFFERS_NAME: &str = "raw, 64 KiB buffers,";

/// Socket buffers on both sides: they decide bulk speed, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// As the kernel sizes them. mcomp leaves them so, which makes these the rows to compare it with.
    System,
    /// Small and fixed, so that what is sent stays in a core's cache.
    Small,
}

impl Buffers {
    fn bytes(self) -> Option<usize> {
        match self {
            Buffers::System => None,
            Buffers::Small => Some(64 << 10),
        }
    }
}

/// One way to the raw server.
#[derive(Debug)]
pub(crate) struct Raw {
    buffers: Buffers,
    process: Rc<Process>,
    address: Address,
}

impl Raw {
    /// Starts one server, and gives both ways to it.
    pub(crate) fn start(scratch: &Scratch, buffers: Buffers) -> anyhow::Result<Vec<Box<dyn Peer>>> {
        let addresses = [Address::Tcp(scratch.free_address()?), Address::Abstract(scratch.unique("raw"))];
        let process = Rc::new(Raw::server(scratch, &addresses, buffers.bytes(), None)?);
        let peer = |address| Box::new(Raw { buffers, process: Rc::clone(&process), address }) as Box<dyn Peer>;
        Ok(addresses.into_iter().map(peer).collect())
    }

    /// Starts a raw server on these addresses.
    pub(crate) fn server(
        scratch: &Scratch,
        addresses: &[Address],
        buffer_bytes: Option<usize>,
        memory_bytes: Option<u64>,
    ) -> anyhow::Result<Process> {
        let mut args = vec!["raw-server".to_owned()];
        for address in addresses {
            let (flag, value) = match address {
                Address::Tcp(address) => ("--tcp", address.to_string()),
                Address::Abstract(name) => ("--unix", name.clone()),
                Address::Path(path) => anyhow::bail!("the raw server has no socket file {}", path.display()),
            };
            args.extend([flag.to_owned(), value]);
        }
        if let Some(bytes) = buffer_bytes {
            args.extend(["--buffer-bytes".to_owned(), bytes.to_string()]);
        }
        if let Some(bytes) = memory_bytes {
            args.extend(["--memory-bytes".to_owned(), bytes.to_string()]);
        }
        Process::start_until_ready(scratch, "raw-server", &std::env::current_exe()?, &args)
    }
}

impl Peer for Raw {
    fn name(&self) -> &str {
        match self.buffers {
            Buffers::System => NAME,
            Buffers::Small => SMALL_BUFFERS_NAME,
        }
    }

    fn transport(&self) -> Transport {
        self.address.transport()
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn does(&self, op: Op) -> bool {
        matches!(op, Op::Get | Op::Set)
    }

    fn connect(&self, work: Work) -> anyhow::Result<Box<dyn Conn>> {
        let mut one = match work.op {
            Op::Set => head(work.size_bytes, ACKNOWLEDGEMENT_BYTES).to_vec(),
            _ => head(0, work.size_bytes).to_vec(),
        };
        let answer_bytes = if work.op == Op::Set { ACKNOWLEDGEMENT_BYTES } else { work.size_bytes };
        if work.op == Op::Set {
            one.resize(one.len() + work.size_bytes, 0x5a);
        }
        let answer = Answer::Bytes { count: answer_bytes * work.depth, begin: vec![0xa5] };
        Ok(Box::new(Scripted::connect(&self.address, one.repeat(work.depth), answer, self.buffers.bytes())?))
    }
}
